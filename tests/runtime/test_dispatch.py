"""What two commands that come at once contradict in: one of them is carried out, the other is refused."""

from pathlib import Path

import pytest
import trio

from palyra_trio.core.agents import AgentSpec
from palyra_trio.core.commands import ArchiveSession, CancelRun, DefineAgent, OpenSession
from palyra_trio.core.errors import StateConflict
from palyra_trio.core.run import RunState
from palyra_trio.core.session import SessionRef
from palyra_trio.core.system_events import AgentDefined
from palyra_trio.core.tape import SYSTEM_STREAM
from tests.fakes import ME, FakeProvider, in_session, open_fake_runtime, says, scripted


async def test_of_two_who_define_an_agent_at_once_without_replacing_one_is_refused(tmp_path: Path) -> None:
    refused = list[str]()
    async with open_fake_runtime(tmp_path) as runtime:

        async def define(model: str) -> None:
            try:
                await runtime.do(DefineAgent(AgentSpec("a", model=model), replace=False))
            except StateConflict as error:
                refused.append(str(error))

        async with trio.open_nursery() as nursery:
            for number in range(5):
                nursery.start_soon(define, f"x/{number}")
        rows = await runtime.gateway.ask(lambda reader: reader.page(SYSTEM_STREAM, 0))
        defined = [event for row in rows if isinstance(event := row.event(), AgentDefined)]
        assert len(defined) == 1
        assert (await runtime.gateway.agent("a")).spec == defined[0].spec
    assert refused == ["there is an agent 'a' already (replace it, or take another name)"] * 4


async def leave_in_line(folder: Path) -> tuple[SessionRef, ArchiveSession, CancelRun]:
    """Leave behind a session with a run in line; return how it is named, what archives it and what ends the run."""
    async with open_fake_runtime(folder, scripted({"hang": True}), left=[RunState.QUEUED]) as runtime:
        live = await runtime.start()
        in_line = await runtime.start(session=in_session(live))
        runtime.gateway.sessions.close()
        await runtime.do(CancelRun(live.run_id))
        await runtime.ended(live.run_id)
    return in_session(live), ArchiveSession(live.session_id), CancelRun(in_line.run_id)


@pytest.mark.parametrize("reset", [False, True])
async def test_a_session_with_a_run_that_an_earlier_process_left_in_line_is_not_archived(
    tmp_path: Path, reset: bool
) -> None:
    session, archive, cancel = await leave_in_line(tmp_path)
    command = OpenSession(session, reset=True) if reset else archive
    async with open_fake_runtime(tmp_path, boot_id="boot-2", recovers=False) as runtime:
        with pytest.raises(StateConflict, match="has a live run"):
            await runtime.gateway.submit(command, ME)
        await runtime.do(cancel)
        await runtime.gateway.submit(command, ME)
        with pytest.raises(StateConflict, match="archived"):
            await runtime.start(session=session)


@pytest.mark.parametrize("archive_first", [False, True])
async def test_a_session_is_archived_or_takes_the_run_that_comes_at_once_with_that(
    tmp_path: Path, archive_first: bool
) -> None:
    done = list[str]()
    gate = trio.Event()
    async with open_fake_runtime(tmp_path, FakeProvider(says("a"), [gate.wait, *says("b")])) as runtime:
        opened = await runtime.start()
        await runtime.ended(opened.run_id)

        async def archive() -> None:
            try:
                await runtime.do(ArchiveSession(opened.session_id))
                done.append("archived")
            except StateConflict:
                done.append("not archived")

        async def start() -> None:
            try:
                await runtime.start(session=in_session(opened))
                done.append("started")
            except StateConflict:
                done.append("not started")

        async with trio.open_nursery() as nursery:
            for attempt in (archive, start) if archive_first else (start, archive):
                nursery.start_soon(attempt)
        gate.set()
        await runtime.gateway.sessions.idle()
    assert sorted(done) in (["archived", "not started"], ["not archived", "started"])
