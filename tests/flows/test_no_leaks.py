"""Secrets planted wherever they can come in, through the real daemon: they are in no file, on no stream, in no log."""

import json
import random
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncGenerator, Generator, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio
from ahocorasick_rs import BytesAhoCorasick
from grpclib.exceptions import GRPCError

from palyra_trio.core import tape as events
from palyra_trio.core.codec import decode
from palyra_trio.guard.redactor import MARKER
from palyra_trio.pb import runs_pb2 as pb
from palyra_trio.pb.gateway_grpc import GatewayServiceStub
from palyra_trio.wire.h2_client import connect
from tests.flows.planting import MASK, Planter, Secret, vault_values
from tests.processes import PATIENCE_S, Shell, shell_for_programs

EMIT = """
import json, sys
for piece in json.load(open("pieces.json")):
    sys.stdout.buffer.write(bytes.fromhex(piece)); sys.stdout.flush()
"""
CHANNELS = ("prompt", "answer", "arguments", "file", "program")


class Tap(trio.abc.Stream):
    """A stream that keeps all that was received on it."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self.received = bytearray()
        self._stream = stream

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        data = bytes(await self._stream.receive_some(max_bytes))
        self.received += data
        return data

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await self._stream.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        await self._stream.wait_send_all_might_not_block()

    async def aclose(self) -> None:
        await self._stream.aclose()


@attrs.define
class Daemon:
    """A sabotaged daemon: what it was told, and all that it said to anybody."""

    shell: Shell
    process: "subprocess.Popen[bytes]"
    planted: list[tuple[str, Secret]] = attrs.Factory(list)
    heard: bytearray = attrs.Factory(bytearray)

    @property
    def log(self) -> bytes:
        return (self.shell.root / "log").read_bytes()

    @asynccontextmanager
    async def stub(self) -> AsyncGenerator[GatewayServiceStub, None]:
        tap = Tap(await trio.open_unix_socket(str(self.shell.state_dir / "socket")))
        async with connect(tap) as channel:
            yield GatewayServiceStub(channel)  # type: ignore[arg-type]
        self.heard += tap.received

    def leaks(self) -> Counter[str]:
        """Return where, by place and channel, a piece of a secret can be read."""
        needles = {each.encode(): channel for channel, secret in self.planted for each in secret.needles}
        patterns = list(needles)
        finder = BytesAhoCorasick(patterns)
        found: Counter[str] = Counter()
        texts = [("stream", bytes(self.heard)), ("log", self.log)]
        texts += [(path.name, path.read_bytes()) for path in self.shell.state_dir.rglob("*") if path.is_file()]
        for place, text in texts:
            for index, _, _ in finder.find_matches_as_indexes(text):
                found[f"{needles[patterns[index]]} in {place}"] += 1
        return found


@contextmanager
def serving(seed: int, kept: int) -> Generator[tuple[Daemon, list[str]]]:
    """Serve in a new folder, with a vault of so many values, its log at the level debug."""
    with shell_for_programs('[log]\nlevel = "debug"\n') as shell:
        vault = list(vault_values(random.Random(seed), kept))
        for number, value in enumerate(vault):
            assert shell.run("secrets", "set", f"kept-{number}", "--stdin", stdin=value.encode()).returncode == 0
        with open(shell.root / "log", "wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "tests.flows.sabotaged", "serve", "--port", "0"],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                cwd=shell.folder,
                env=shell.environment(),
            )
        try:
            assert process.stdout is not None
            assert process.stdout.readline().startswith(b"ready"), (shell.root / "log").read_text()
            yield Daemon(shell, process), vault
        finally:
            process.kill()
            process.wait()
            process.stdout.close()


async def plant(daemon: Daemon, planter: Planter, count: int) -> None:
    """Let a run hear, say, read and print `count` secrets, and look at what was recorded of every other word."""
    per_channel = -(-count // len(CHANNELS))
    texts: dict[str, str] = {}
    expected: dict[str, str] = {}
    for channel in CHANNELS:
        secrets = [planter.any() for _ in range(per_channel)]
        if channel == "arguments":
            secrets = [each if each.kind != "pem" else planter.provider() for each in secrets]
        daemon.planted += [(channel, each) for each in secrets]
        texts[channel], expected[channel] = planter.text(secrets)
    more = [planter.within_base64() for _ in range(2)]
    daemon.planted += [("program", each) for each in more]
    shell = daemon.shell
    shell.folder.joinpath("notes.txt").write_text(texts["file"])
    shell.folder.joinpath("emit.py").write_text(EMIT)
    printed = texts["program"] + " ".join(each.written for each in more)
    pieces = [each.encode().hex() for each in planter.chunks(printed)]
    shell.folder.joinpath("pieces.json").write_text(json.dumps(pieces))
    model = shell.script(
        {
            "deltas": ["I shall look."],
            "calls": [
                {"tool": "files.search", "arguments": {"pattern": texts["arguments"]}},
                {"tool": "files.read", "arguments": {"path": "notes.txt"}},
                {"tool": "process.run", "arguments": {"argv": ["python3", "emit.py"]}},
            ],
        },
        {"deltas": planter.chunks(texts["answer"])},
    )
    rows = await _run(
        daemon, pb.StartRun(text=texts["prompt"], workspace=str(shell.folder), model=model, attended=True)
    )
    asked = _one(rows, events.Input)
    assert _masked(asked.text) == expected["prompt"]
    call = next(each for each in rows if isinstance(each, events.ToolProposed) and each.call.tool == "files.search")
    assert _masked(call.call.arguments["pattern"]) == expected["arguments"]
    denied = next(
        each for each in rows if isinstance(each, events.PolicyDecision) and each.call_id == call.call.call_id
    )
    assert (denied.outcome, "redacted" in denied.reason) == ("deny", True)
    answer = _one(rows, events.FinalAnswer)
    assert _masked(answer.text) == expected["answer"]
    deltas = "".join(each.text for each in rows if isinstance(each, events.ModelDelta) and each.turn == 2)
    assert _masked(deltas) == expected["answer"]
    read, ran = (each for each in rows if isinstance(each, events.ToolFinished))
    assert len(MARKER.findall(read.text)) >= per_channel
    assert ran.text.startswith("exit code 0"), ran.text
    assert expected["program"].strip() in _masked(ran.text)
    told = "".join(each.text for each in rows if isinstance(each, events.ToolOutput))
    assert _masked(told).startswith(expected["program"])


async def _run(daemon: Daemon, start: pb.StartRun) -> list[events.TapeEvent]:
    """Start a run, allow what it asks, and return what was told of it."""
    rows: list[events.TapeEvent] = []
    with trio.fail_after(6 * PATIENCE_S):
        async with daemon.stub() as stub, stub.RunStream.open() as stream:
            await stream.send_message(pb.RunStreamRequest(start=start))
            async for response in stream:
                daemon.heard += response.SerializeToString()
                for item in response.batch.items:
                    event = decode(item.kind_number, item.body)
                    assert event is not None
                    rows.append(event)
                    if isinstance(event, events.ApprovalRequested):
                        decision = pb.Decision(approval_id=event.approval_id, granted=True)
                        await stream.send_message(pb.RunStreamRequest(decision=decision))
                if response.HasField("ended"):
                    await stream.end()
    return rows


def _one(rows: Sequence[events.TapeEvent], kind: type[Any]) -> Any:
    (found,) = (each for each in rows if isinstance(each, kind))
    return found


def _masked(text: str) -> str:
    return MARKER.sub(MASK, text)


async def crash(daemon: Daemon, secret: Secret, how: str) -> None:
    """Let what serves a request fail, with the secret in a local variable and in the words of the error."""
    daemon.planted.append((how, secret))
    with pytest.raises((GRPCError, Exception)) as failed:
        async with daemon.stub() as stub:
            await stub.GetRun(pb.GetRunRequest(run_id=f"{how}:{secret.written}"))
    daemon.heard += str(failed.value).encode()


async def told_everywhere(seed: int, runs: int, each: int) -> None:
    with serving(seed, kept=8) as (daemon, vault):
        planter = Planter(seed, vault)
        for number in range(runs):
            await plant(daemon, planter, each)
            if number % 10 == 0:
                for how in ("crash", "thread"):
                    await crash(daemon, planter.provider(), how)
                    await crash(daemon, planter.kept(), how)
        assert daemon.leaks() == {}  # while the -wal is there, too
        limits = Path(f"/proc/{daemon.process.pid}/limits").read_text()
        assert next(line.split()[4:6] for line in limits.splitlines() if "core" in line) == ["0", "0"]
        last = planter.kept()
        await crash(daemon, last, "die")
        assert await trio.to_thread.run_sync(daemon.process.wait) == 1
        log = daemon.log
        assert log.count(b"it failed with [redacted:") == 4 * -(-runs // 10)
        for words in (b"a thread failed with [redacted:", b"cannot be caught: [redacted:", b"the end: [redacted:"):
            assert words in log
        assert b'"event": "crashed"' in log
        assert daemon.leaks() == {}
        daemon.shell.assert_verifies()
        kinds = Counter(secret.kind for _, secret in daemon.planted)
        print(f"{sum(kinds.values())} secrets planted: {dict(kinds)}; none leaked")


async def test_no_secret_is_anywhere() -> None:
    await told_everywhere(seed=1, runs=2, each=60)


@pytest.mark.slow
async def test_four_thousand_secrets_are_nowhere() -> None:
    await told_everywhere(seed=random.randrange(2**32), runs=60, each=70)
