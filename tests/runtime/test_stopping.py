"""Many runs are cancelled side by side: live ones, those in line, those that wait for a person."""

from pathlib import Path

import trio

from palyra_trio.core.commands import CancelRun, StopJob
from palyra_trio.core.errors import JournalStopped, StateConflict
from palyra_trio.core.identity import RunId
from palyra_trio.core.messages import ToolCall
from palyra_trio.core.run import RunState
from palyra_trio.core.tape import ApprovalRequested, CancelRequested
from palyra_trio.runtime.stopping import Stop, Stopped, stop_all
from tests.fakes import ME, OTHER, FakeProvider, echo, fake_tool, in_session, open_fake_runtime, says

CANCELLED = (RunState.CANCELLED, "cancelled")


async def test_everything_of_the_callers_stops_wherever_it_is_and_nothing_of_anybody_elses(tmp_path: Path) -> None:
    release = trio.Event()
    held = FakeProvider([release.wait, *says("late")])
    asks = FakeProvider(says("", ToolCall("c", "fake.write", {"value": "x"})))
    async with open_fake_runtime(tmp_path, held, tools=[fake_tool("fake.write", echo, read_only=False)]) as runtime:
        live = await runtime.start()
        in_line = await runtime.start(session=in_session(live))
        waiting = await runtime.start(provider=asks, attended=True)
        others = await runtime.start(context=OTHER)
        await runtime.until(waiting.run_id, ApprovalRequested)
        stopped = await runtime.gateway.stop_all("enough", ME)
        mine = (live.run_id, in_line.run_id, waiting.run_id)
        assert stopped == Stopped(tuple(sorted(mine)))
        for run_id in mine:
            tape = await runtime.ended(run_id)
            assert tape.end == CANCELLED
            assert tape.one(CancelRequested).reason == "enough"
        release.set()
        assert (await runtime.ended(others.run_id, OTHER)).end == (RunState.DONE, "final_answer")


async def test_what_cannot_be_stopped_is_told_and_what_ended_by_itself_is_not() -> None:
    outcomes = {"a": None, "b": StateConflict("it is done already"), "c": JournalStopped("the disk is gone"), "j": None}

    async def submit(command: Stop) -> None:
        await trio.lowlevel.checkpoint()
        if (error := outcomes[command.run_id if isinstance(command, CancelRun) else command.job_id]) is not None:
            raise error

    stopped = await stop_all([*(CancelRun(RunId(each)) for each in "abc"), StopJob("j")], submit)
    assert stopped == Stopped(("a",), ("j",), (("c", "the disk is gone"),))
