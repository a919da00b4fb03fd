"""What a running call says of itself on the tape."""

from collections.abc import Awaitable, Callable
from pathlib import Path

import attrs
import trio
from trio.testing import wait_all_tasks_blocked

from palyra_trio.core.chain import digest
from palyra_trio.core.commands import CancelRun
from palyra_trio.core.file_events import FilesChanged
from palyra_trio.core.messages import ToolCall
from palyra_trio.core.outputs import OutputKept
from palyra_trio.core.run import RunState
from palyra_trio.core.tape import FileChange, HostContacted, KillReceipt, ToolFinished, ToolOutput, ToolStarted
from palyra_trio.runtime.call_output import PIECE_BYTES, WATCHED_CHARACTERS
from palyra_trio.tools import job
from palyra_trio.tools.registry import Plan, Tool, ToolContext, ToolResult
from tests.fakes import SECRET, FakeArguments, FakeProvider, Runtime, Tape, echo, fake_tool, open_fake_runtime, says


def _tool(*chunks: tuple[job.Stream, bytes], receipt: job.KillReceipt | None = None) -> Tool:
    """A tool that writes `chunks`; with a `receipt` it then hangs until it is cancelled, and hands that in."""
    made = fake_tool("fake.read", echo)

    async def run(_arguments: FakeArguments, context: ToolContext, _plan: Plan) -> ToolResult:
        for stream, data in chunks:
            context.output(stream, data)
        try:
            if receipt is not None:
                await trio.sleep_forever()
        finally:
            if receipt is not None:
                context.killed(receipt)
        return ToolResult("done")

    return attrs.evolve(made, run=run)


async def _run(folder: Path, tool: Tool) -> Tape:
    provider = FakeProvider(says("", ToolCall("a", "fake.read")), says("done"))
    async with open_fake_runtime(folder, provider, tools=[tool]) as runtime:
        return await runtime.run()


def _told(tape: Tape, stream: str) -> str:
    return "".join(each.text for each in tape.of(ToolOutput) if each.stream == stream)


async def test_output_is_on_the_tape_between_the_start_and_the_result_of_its_call(tmp_path: Path) -> None:
    tape = await _run(tmp_path, _tool(("stdout", b"one\n"), ("stderr", b"two\n"), ("stdout", b"three\n")))
    assert _told(tape, "stdout") == "one\nthree\n"
    assert _told(tape, "stderr") == "two\n"
    kinds = [kind for kind in tape.kinds if kind.startswith("Tool")]
    assert kinds[:2] == ["ToolProposed", "ToolStarted"]
    assert set(kinds[2:-1]) == {"ToolOutput"}
    assert kinds[-1] == "ToolFinished"


async def test_characters_and_secrets_that_come_in_pieces_are_put_together_first(tmp_path: Path) -> None:
    word = "é".encode()
    secret = SECRET.encode()
    pieces = [("stdout", each) for each in (word[:1], word[1:], b" ", secret[:9], secret[9:], b"\n")]
    tape = await _run(tmp_path, _tool(*pieces))  # type: ignore[arg-type]
    told = _told(tape, "stdout")
    assert told.startswith("é ")
    assert "redacted" in told
    assert SECRET not in told


async def test_a_flood_is_on_the_tape_only_so_far(tmp_path: Path) -> None:
    tape = await _run(tmp_path, _tool(*[("stdout", b"x" * 50_000)] * 20))
    assert len(_told(tape, "stdout")) == WATCHED_CHARACTERS


async def test_a_receipt_is_recorded_though_the_run_is_being_cancelled(tmp_path: Path) -> None:
    provider = FakeProvider(says("", ToolCall("a", "fake.read")), says("never"))
    tool = _tool(("stdout", b"begun\n"), receipt=job.KillReceipt(3, 0, 1.6))
    async with open_fake_runtime(tmp_path, provider, tools=[tool]) as runtime:
        accepted = await runtime.start()
        await runtime.until(accepted.run_id, ToolStarted)
        await runtime.do(CancelRun(accepted.run_id))
        tape = await runtime.ended(accepted.run_id)
    assert tape.end == (RunState.CANCELLED, "cancelled")
    assert tape.one(KillReceipt) == KillReceipt("a", 3, 0, 2)
    assert tape.kinds.index("KillReceipt") < tape.kinds.index("ToolFinished")
    assert tape.one(ToolFinished).error == "stopped"


async def test_what_a_program_wrote_is_recorded_without_the_secrets_that_are_kept_here(tmp_path: Path) -> None:
    secret, plain = b"\0token=the value in the vault", b"plain"
    changes = (
        FileChange("the value in the vault", None, digest(plain)),
        FileChange("conf", None, digest(secret)),
        FileChange("notes", None, digest(plain)),
    )

    async def run(_arguments: FakeArguments, context: ToolContext, _plan: Plan) -> ToolResult:
        await context.changed(FilesChanged("a", changes, "one more"), {digest(data): data for data in (secret, plain)})
        return ToolResult("done")

    provider = FakeProvider(says("", ToolCall("a", "fake.read")), says("done"))
    tool = attrs.evolve(fake_tool("fake.read", echo), run=run)
    async with open_fake_runtime(tmp_path, provider, tools=[tool]) as runtime:
        runtime.state.redactor.know(["the value in the vault"])
        tape = await runtime.run()
        blobs = await runtime.gateway.ask(lambda reader: [data for _, data in reader.blobs()])
    told = tape.one(FilesChanged)
    assert told.changes == (attrs.evolve(changes[1], kept=False), changes[2])
    assert told.missed == "one more; 1 changes of what has a secret in its name"
    assert plain in blobs
    assert secret not in blobs
    assert not any(b"the value in the vault" in (row.body or b"") for row in tape.rows)


# --- what is kept ---


def _writer(*pieces: bytes, then: Callable[[], Awaitable[object]] = trio.lowlevel.checkpoint) -> Tool:
    """A tool that writes pieces as a program does, waiting for room, and shows the excerpt."""
    made = fake_tool("fake.read", echo)

    async def run(_arguments: FakeArguments, context: ToolContext, _plan: Plan) -> ToolResult:
        for piece in pieces:
            context.output("stdout", piece)
            await context.room()
        await then()
        return ToolResult(f"exit code 0\n{context.excerpt()}")

    return attrs.evolve(made, run=run)


async def _kept(runtime: Runtime, tape: Tape) -> str:
    digests = [each.output for each in tape.of(OutputKept)]
    return b"".join(
        [await runtime.gateway.ask(lambda reader, name=each: reader.blob(name)) for each in digests]
    ).decode()


async def test_a_long_output_is_kept_in_pieces_and_the_model_is_shown_its_edges(tmp_path: Path) -> None:
    lines = b"".join(b"line %06d\n" % number for number in range(250_000))
    provider = FakeProvider(says("", ToolCall("a", "fake.read")), says("done"))
    cuts = [lines[at : at + 65_536] for at in range(0, len(lines), 65_536)]
    async with open_fake_runtime(tmp_path, provider, tools=[_writer(*cuts)]) as runtime:
        tape = await runtime.run()
        assert await _kept(runtime, tape) == f"[stdout]\n{lines.decode()}"
    kept, finished = tape.of(OutputKept), tape.one(ToolFinished)
    assert len(kept) > 1
    assert all(PIECE_BYTES <= each.size_bytes < PIECE_BYTES + 65_600 for each in kept[:-1])
    assert finished.size_bytes == sum(each.size_bytes for each in kept)
    assert finished.output is None
    assert finished.text.startswith("exit code 0\n[stdout]\nline 000000\n")
    assert finished.text.endswith("line 249999")
    assert "characters left out" in finished.text
    assert len(finished.text) <= 64 * 1024


async def test_a_short_output_is_told_whole_and_not_kept_besides(tmp_path: Path) -> None:
    tape = await _run(tmp_path, _writer(b"one\n", b"two\n"))
    assert tape.of(OutputKept) == []
    assert tape.one(ToolFinished).text == "exit code 0\n[stdout]\none\ntwo"


async def test_no_secret_is_kept_though_a_piece_ends_within_it(tmp_path: Path) -> None:
    secret = SECRET.encode()
    provider = FakeProvider(says("", ToolCall("a", "fake.read")), says("done"))
    cuts = (b"." * PIECE_BYTES + secret[:11], secret[11:] + b"\n" + b"." * PIECE_BYTES)
    async with open_fake_runtime(tmp_path, provider, tools=[_writer(*cuts)]) as runtime:
        tape = await runtime.run()
        whole = await _kept(runtime, tape)
    assert len(tape.of(OutputKept)) == 2
    assert whole.count("redacted") == 1
    assert SECRET[:14] not in whole


async def test_what_was_kept_of_a_call_that_is_cancelled_is_all_that_it_wrote(tmp_path: Path) -> None:
    provider = FakeProvider(says("", ToolCall("a", "fake.read")), says("never"))
    tool = _writer(b"." * PIECE_BYTES, b"the rest\n", then=trio.sleep_forever)
    async with open_fake_runtime(tmp_path, provider, tools=[tool]) as runtime:
        accepted = await runtime.start()
        await runtime.until(accepted.run_id, OutputKept)
        await wait_all_tasks_blocked()
        await runtime.do(CancelRun(accepted.run_id))
        tape = await runtime.ended(accepted.run_id)
        assert (await _kept(runtime, tape)).endswith("..the rest\n")


async def test_a_disk_that_fills_ends_the_call_and_not_the_run(tmp_path: Path) -> None:
    free = iter([2**40] * 3)  # for the run to be accepted, and so many pieces
    provider = FakeProvider(says("", ToolCall("a", "fake.read")), says("done"))
    tool = _writer(*[b"." * PIECE_BYTES] * 9)
    async with open_fake_runtime(tmp_path, provider, tools=[tool], free_bytes=lambda: next(free, 0)) as runtime:
        tape = await runtime.run()
    assert tape.end == (RunState.DONE, "final_answer")
    assert tape.one(ToolFinished).error == "disk_low"
    assert len(tape.of(OutputKept)) <= 4


async def test_whom_a_program_talked_to_is_recorded_and_no_secret_in_a_hosts_name(tmp_path: Path) -> None:
    async def run(_arguments: FakeArguments, context: ToolContext, _plan: Plan) -> ToolResult:
        context.contacted(job.HostUse("index.example", 443, True, 2, 10, 20))
        context.contacted(job.HostUse(f"{SECRET}.evil.example", 443, False, 1))
        return ToolResult("done")

    tape = await _run(tmp_path, attrs.evolve(fake_tool("fake.read", echo), run=run))
    reached, refused = tape.of(HostContacted)
    assert reached == HostContacted("a", "index.example", 443, True, 2, 10, 20)
    assert refused.host.startswith("[redacted:")
    assert (refused.allowed, refused.connections) == (False, 1)
    assert tape.kinds.index("HostContacted") < tape.kinds.index("ToolFinished")
