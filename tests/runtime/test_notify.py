"""Who is told that something waits, of what, how often, and that nothing ever waits for the telling."""

import hmac
import json
import os
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from palyra_trio.core.approvals import Approval, ApprovalState
from palyra_trio.core.commands import DecideApproval
from palyra_trio.core.config import Config, NotifyConfig
from palyra_trio.core.identity import Principal, RunId, SessionId
from palyra_trio.core.messages import ToolCall
from palyra_trio.core.run import RunState
from palyra_trio.core.tape import ApprovalRequested
from palyra_trio.runtime.notify import AT_A_TIME, PATIENCE_S, PROMPT_CHARACTERS, SIGNATURE, Notification
from tests.fakes import CONFIG, FakeProvider, Runtime, echo, fake_tool, open_fake_runtime, says

WRITES = fake_tool("fake.write", echo, read_only=False)
KEY = "a key of the person's"


def asking(*values: str) -> FakeProvider:
    """A model that wants to write these, which asks, and then is done."""
    return FakeProvider(says("", *(ToolCall(value, "fake.write", {"value": value}) for value in values)), says("done"))


waiting_runtime = partial(open_fake_runtime, tools=[WRITES], left=[RunState.WAITING])


def notifying(**notify: Any) -> Config:
    return attrs.evolve(CONFIG, notify=NotifyConfig(**notify))


@attrs.frozen
class Pipe:
    """Where a command of these tests writes what it was told: each of its runs is one opening of the pipe."""

    path: Path

    @classmethod
    def in_(cls, folder: Path) -> "Pipe":
        os.mkfifo(folder / "told")
        return cls(folder / "told")

    async def next(self) -> str:
        with trio.fail_after(20):
            return await trio.to_thread.run_sync(self.path.read_text, abandon_on_cancel=True)

    def command(self, script: str = "") -> tuple[str, ...]:
        """Return a command that writes its stdin to the pipe, or runs a shell script in which `$0` is the pipe."""
        return ("sh", "-c", script or 'cat > "$0"', str(self.path))


# --- what is told ---


async def test_a_command_is_told_of_all_that_a_run_asks_at_once_as_one_json_object_on_its_stdin(tmp_path: Path) -> None:
    pipe = Pipe.in_(tmp_path)
    async with waiting_runtime(tmp_path, config=notifying(command=pipe.command())) as runtime:
        accepted = await runtime.start("write two things", asking("a", "b"))
        told = json.loads(await pipe.next())
        asked = [event async for event in _asked(runtime, accepted.run_id, 2)]
    assert told == {
        "run_id": accepted.run_id,
        "session_id": accepted.session_id,
        "principal": "user:me",
        "title": "write two things",
        "workspace": str(tmp_path / "work"),
        "waiting": [
            {
                "what": "approval",
                "approval_id": each.approval_id,
                "tool": "fake.write",
                "prompt": each.prompt,
                "expires_at_ms": each.expires_at_ms,
            }
            for each in asked
        ],
    }


async def _asked(runtime: Runtime, run_id: RunId, count: int) -> AsyncGenerator[ApprovalRequested]:
    for number in range(1, count + 1):
        yield await runtime.until(run_id, ApprovalRequested, number)


async def test_a_question_is_told_as_one_and_names_no_expiry_where_it_waits_for_ever(tmp_path: Path) -> None:
    pipe = Pipe.in_(tmp_path)
    question = FakeProvider(says("", ToolCall("q", "ask_user", {"question": "Which?", "choices": ["red", "blue"]})))
    async with waiting_runtime(tmp_path, config=notifying(command=pipe.command())) as runtime:
        await runtime.start("choose", question, detached=True)
        (waiting,) = json.loads(await pipe.next())["waiting"]
    assert (waiting["what"], waiting["tool"], waiting["expires_at_ms"]) == ("question", "ask_user", 0)
    assert "  | Which?\n  | 1. red\n  | 2. blue" in waiting["prompt"]


async def test_a_command_sees_a_desktops_variables_and_no_secret(tmp_path: Path) -> None:
    pipe = Pipe.in_(tmp_path)
    environ = {"PATH": os.environ["PATH"], "DISPLAY": ":7", "OPENAI_API_KEY": "sk", "LD_PRELOAD": "x"}
    config = notifying(command=(sys.executable, "-c", _PRINTS_ENVIRONMENT, str(pipe.path)))
    async with waiting_runtime(tmp_path, config=config, environ=environ) as runtime:
        await runtime.start("write", asking("a"))
        seen = json.loads(await pipe.next())
    assert {name: value for name, value in seen["environ"].items() if name != "LC_CTYPE"} == {
        "PATH": environ["PATH"],
        "DISPLAY": ":7",
    }
    assert seen["cwd"] == "/"


_PRINTS_ENVIRONMENT = (
    "import json, os, sys; open(sys.argv[1], 'w').write(json.dumps({'environ': dict(os.environ), 'cwd': os.getcwd()}))"
)


def test_a_prompt_that_is_too_long_is_cut_and_says_where_the_rest_is() -> None:
    approval = Approval(
        "A1", RunId("r"), "c", SessionId("s"), Principal("user:me"), "/w", "t", False, None, ApprovalState.PENDING, 1, 2
    )
    for length, cut in (
        (PROMPT_CHARACTERS, ""),
        (PROMPT_CHARACTERS + 7, "7 more characters: palyra-trio approvals show A1"),
    ):
        (waiting,) = json.loads(Notification("", ((approval, "x" * length),)).body())["waiting"]
        assert waiting["prompt"].startswith("x" * PROMPT_CHARACTERS)
        assert waiting["prompt"][PROMPT_CHARACTERS:] == (f"\n[… {cut}]" if cut else "")


# --- webhooks ---


@attrs.define
class Hook:
    """A server on loopback that keeps the requests it is sent, and answers each with `status` once it may."""

    status: str
    may_answer: trio.Semaphore
    url: str = ""
    requests: list[tuple[dict[str, str], bytes]] = attrs.Factory(list)
    _came: trio.Event = attrs.Factory(trio.Event)

    async def until(self, count: int) -> list[str]:
        """Wait until there were so many requests; return the titles of the runs that they tell of."""
        with trio.fail_after(20):
            while len(self.requests) < count:
                self._came = trio.Event()
                await self._came.wait()
        return [json.loads(body)["title"] for _, body in self.requests]

    async def serve(self, stream: trio.SocketStream) -> None:
        async with stream:
            received = b""
            while b"\r\n\r\n" not in received:
                received += await stream.receive_some()
            head, _, body = received.partition(b"\r\n\r\n")
            first, *lines = head.decode().split("\r\n")
            headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
            while len(body) < int(headers["content-length"]):
                body += await stream.receive_some()
            assert first == "POST /hook HTTP/1.1"
            self.requests.append((headers, body))
            self._came.set()
            await self.may_answer.acquire()
            answer = f"HTTP/1.1 {self.status}\r\nlocation: {self.url}\r\nconnection: close\r\n\r\n"
            await stream.send_all(answer.encode())


@asynccontextmanager
async def hook(status: str = "204 No Content", *, answers: int = 100) -> AsyncGenerator[Hook]:
    async with trio.open_nursery() as nursery:
        hook = Hook(status, trio.Semaphore(answers))
        (listener,) = await nursery.start(partial(trio.serve_tcp, hook.serve, 0, host="127.0.0.1"))
        hook.url = f"http://127.0.0.1:{listener.socket.getsockname()[1]}/hook"
        yield hook
        nursery.cancel_scope.cancel()


async def test_a_webhook_is_posted_the_same_object_signed_with_the_key_that_the_environment_holds(
    tmp_path: Path,
) -> None:
    async with hook() as server:
        config = notifying(webhook_url=server.url, webhook_secret_env="HOOK_KEY")
        environ = {"HOOK_KEY": KEY}
        async with waiting_runtime(tmp_path, config=config, environ=environ) as runtime:
            accepted = await runtime.start("write", asking("a"))
            await server.until(1)
    ((headers, body),) = server.requests
    assert headers[SIGNATURE] == "sha256=" + hmac.digest(KEY.encode(), body, "sha256").hex()
    assert headers["content-type"] == "application/json"
    assert json.loads(body)["run_id"] == accepted.run_id


async def test_nothing_is_sent_unsigned_where_a_key_is_named(tmp_path: Path, failures: "Failures") -> None:
    async with hook() as server:
        config = notifying(webhook_url=server.url, webhook_secret_env="HOOK_KEY")
        async with waiting_runtime(tmp_path, config=config) as runtime:
            await runtime.start("write", asking("a"))
            assert "HOOK_KEY is not set" in await failures.next()
    assert server.requests == []


@pytest.mark.parametrize("status", ["302 Found", "500 Internal Server Error"])
async def test_a_webhook_that_answers_otherwise_has_failed_and_is_not_followed(
    tmp_path: Path, failures: "Failures", status: str
) -> None:
    async with hook(status) as server:
        config = notifying(webhook_url=server.url)
        async with waiting_runtime(tmp_path, config=config) as runtime:
            await runtime.start("write", asking("a"))
            assert f"webhook at 127.0.0.1: PeerError: it answered with status {status[:3]}" == await failures.next()
    assert len(server.requests) == 1


# --- failing, and bounds ---


@attrs.define
class Failures:
    """What the log says of notifications that failed, in order."""

    _send: trio.MemorySendChannel[str]
    _receive: trio.MemoryReceiveChannel[str]

    async def next(self) -> str:
        with trio.fail_after(20):
            return await self._receive.receive()


@pytest.fixture
def failures(monkeypatch: pytest.MonkeyPatch) -> Failures:
    failures = Failures(*trio.open_memory_channel[str](100))

    def warning(_message: str, extra: dict[str, str]) -> None:
        failures._send.send_nowait(f"{extra['way']}: {extra['why']}")

    monkeypatch.setattr("palyra_trio.runtime.notify._log.warning", warning)
    return failures


@pytest.mark.parametrize(
    ("command", "why"),
    [
        (("no-such-program-here",), "command no-such-program-here: FileNotFoundError: "),
        (("sh", "-c", "exit 3"), "command sh: PeerError: it ended with status 3"),
        (("sh", "-c", "kill -9 $$"), "command sh: PeerError: it ended with status -9"),
    ],
)
async def test_a_command_that_fails_is_logged_and_the_run_goes_on_when_it_is_answered(
    tmp_path: Path, failures: Failures, command: tuple[str, ...], why: str
) -> None:
    async with waiting_runtime(tmp_path, config=notifying(command=command)) as runtime:
        accepted = await runtime.start("write", asking("a"))
        assert (await failures.next()).startswith(why)
        asked = await runtime.until(accepted.run_id, ApprovalRequested)
        await runtime.do(DecideApproval(asked.approval_id, granted=True))
        assert (await runtime.ended(accepted.run_id)).end == (RunState.DONE, "final_answer")


async def test_a_command_that_hangs_is_killed_with_what_it_started(
    tmp_path: Path, failures: Failures, mock_clock: MockClock
) -> None:
    pipe = Pipe.in_(tmp_path)
    command = pipe.command('sleep 1000 & echo $$ $! > "$0"; wait')
    async with waiting_runtime(tmp_path, config=notifying(command=command)) as runtime:
        await runtime.start("write", asking("a"))
        leader, child = map(int, (await _unclocked(pipe.path)).split())
        mock_clock.jump(PATIENCE_S)
        assert await failures.next() == f"command sh: it took longer than {PATIENCE_S:g} s"
    assert not _runs(leader)
    assert not _runs(child)


async def _unclocked(path: Path) -> str:
    return await trio.to_thread.run_sync(path.read_text)


def _runs(pid: int) -> bool:
    """Return whether a process is there and not merely waits to be buried."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except FileNotFoundError:
        return False


async def test_closing_the_runtime_does_not_wait_for_a_command_but_kills_it(tmp_path: Path) -> None:
    pipe = Pipe.in_(tmp_path)
    command = pipe.command('echo $$ > "$0"; sleep 1000')
    async with waiting_runtime(tmp_path, config=notifying(command=command)) as runtime:
        await runtime.start("write", asking("a"))
        leader = int(await pipe.next())
        began = trio.current_time()
    assert trio.current_time() - began < PATIENCE_S / 2
    assert not _runs(leader)


async def test_only_so_many_are_told_at_a_time_and_what_is_answered_meanwhile_is_told_to_nobody(tmp_path: Path) -> None:
    early = [f"run {number}" for number in range(AT_A_TIME + 1)]
    async with (
        hook(answers=0) as server,
        waiting_runtime(tmp_path, config=notifying(webhook_url=server.url)) as runtime,
    ):
        for title in early:  # the last one is read, and there is no room for it
            await runtime.until((await runtime.start(title, asking("a"))).run_id, ApprovalRequested)
        assert sorted(await server.until(AT_A_TIME)) == early[:-1]
        await _nothing_is_read(runtime)
        answered = await runtime.start("answered", asking("a"))
        asked = await runtime.until(answered.run_id, ApprovalRequested)
        await runtime.do(DecideApproval(asked.approval_id, granted=True))
        await runtime.ended(answered.run_id)
        await runtime.until((await runtime.start("last", asking("a"))).run_id, ApprovalRequested)
        for count, title in ((AT_A_TIME + 1, early[-1]), (AT_A_TIME + 2, "last")):
            assert len(server.requests) == count - 1
            server.may_answer.release()
            assert (await server.until(count))[-1] == title


async def _nothing_is_read(runtime: Runtime) -> None:
    """Wait until whoever follows the journal waits for something else."""
    with trio.fail_after(20):
        await wait_all_tasks_blocked()
        while runtime.state.readers._limiter.borrowed_tokens:
            await wait_all_tasks_blocked(0.01)


# --- when ---


async def test_what_waits_since_an_earlier_process_is_not_told_again(tmp_path: Path) -> None:
    pipe = Pipe.in_(tmp_path)
    config = notifying(command=pipe.command())
    async with waiting_runtime(tmp_path, config=config) as runtime:
        await runtime.start("before", asking("a"))
        assert json.loads(await pipe.next())["title"] == "before"
    async with waiting_runtime(tmp_path, config=config, boot_id="boot-2") as runtime:
        await runtime.start("after", asking("a"))
        assert json.loads(await pipe.next())["title"] == "after"


async def test_a_reload_says_how_to_tell_from_now_on_and_what_waits_is_told_with_the_next(tmp_path: Path) -> None:
    async with hook() as server, waiting_runtime(tmp_path) as runtime:
        await runtime.until((await runtime.start("first", asking("a"))).run_id, ApprovalRequested)
        await _nothing_is_read(runtime)
        runtime.gateway.reload(notifying(webhook_url=server.url), runtime.state.config_in)
        assert server.requests == []
        await runtime.start("second", asking("a"))
        assert sorted(await server.until(2)) == ["first", "second"]


async def test_nobody_is_told_of_a_run_that_nobody_attends(tmp_path: Path) -> None:
    pipe = Pipe.in_(tmp_path)
    config = notifying(command=pipe.command())
    async with waiting_runtime(tmp_path, config=config) as runtime:
        tape = await runtime.run("unattended", asking("a"), attended=False)
        assert tape.end == (RunState.FAILED, "approval_expired")
        await runtime.start("attended", asking("a"))
        assert json.loads(await pipe.next())["title"] == "attended"
