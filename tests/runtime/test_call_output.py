"""What a running call says of itself on the tape."""

from pathlib import Path

import attrs
import trio

from palyra_trio.core.commands import CancelRun
from palyra_trio.core.messages import ToolCall
from palyra_trio.core.run import RunState
from palyra_trio.core.tape import KillReceipt, ToolFinished, ToolOutput, ToolStarted
from palyra_trio.runtime.call_output import WATCHED_CHARACTERS
from palyra_trio.tools import job
from palyra_trio.tools.registry import Plan, Tool, ToolContext, ToolResult
from tests.fakes import SECRET, FakeArguments, FakeProvider, Tape, echo, fake_tool, open_fake_runtime, says


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
