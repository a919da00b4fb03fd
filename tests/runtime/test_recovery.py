"""What the next process makes of runs that one left behind: it says so, and takes none up unasked."""

from pathlib import Path
from typing import Any

import pytest

from palyra_trio.core.commands import Accepted, CancelRun, DecideApproval
from palyra_trio.core.errors import AlreadyDecided
from palyra_trio.core.messages import ToolCall
from palyra_trio.core.run import RunState
from palyra_trio.core.tape import (
    ApprovalRequested,
    CancelRequested,
    ContextAssembled,
    ProviderRequest,
    RunFinished,
    RunInterrupted,
    StatusChange,
    TapeEvent,
    run_stream,
)
from palyra_trio.journal.store import entry
from tests.fakes import (
    ME,
    FakeProvider,
    Runtime,
    Tape,
    assert_journal,
    echo,
    fake_tool,
    in_session,
    open_fake_runtime,
    says,
    scripted,
)

LEFT = frozenset({RunState.WAITING, RunState.QUEUED})
WRITES = fake_tool("fake.write", echo, read_only=False)


async def _left(folder: Path, *events: TapeEvent, **fields: Any) -> Accepted:
    """Return a run that a process left RUNNING when it died, with `events` as the last on its tape."""
    async with open_fake_runtime(folder, scripted({"text": "thinking", "hang": True}), left=LEFT) as runtime:
        accepted = await runtime.start("the old one", **fields)
        await runtime.until(accepted.run_id, ProviderRequest)
    async with open_fake_runtime(folder, left=[*LEFT, RunState.RUNNING], boot_id="boot-died") as runtime:
        back = StatusChange(RunState.WAITING, RunState.RUNNING, boot_id="boot-died")
        stream = run_stream(accepted.run_id)
        await runtime.state.journal.append([entry(stream, event) for event in (back, *events)])
    return accepted


def _tape(folder: Path, accepted: Accepted) -> Tape:
    return assert_journal(folder / "state", LEFT)[accepted.run_id]


async def test_a_run_that_a_dead_process_left_is_interrupted_at_the_next_boot_once(tmp_path: Path) -> None:
    accepted = await _left(tmp_path)
    for boot in (2, 3):
        async with open_fake_runtime(tmp_path, left=LEFT, boot_id=f"boot-{boot}") as runtime:
            run = await runtime.gateway.run(accepted.run_id, ME)
        assert (run.state, run.reason, run.boot_id) == (RunState.WAITING, "interrupted", "boot-died")
    found = _tape(tmp_path, accepted).of(RunInterrupted)[-1]
    assert found == RunInterrupted("boot-2", "process boot-died ended while it was running")
    assert len(_tape(tmp_path, accepted).of(RunInterrupted)) == 2


async def test_a_run_that_waited_for_a_person_in_a_dead_process_is_interrupted_too(tmp_path: Path) -> None:
    waits = StatusChange(RunState.RUNNING, RunState.WAITING, "approval")
    accepted = await _left(tmp_path, waits)
    async with open_fake_runtime(tmp_path, left=LEFT, boot_id="boot-2") as runtime:
        run = await runtime.gateway.run(accepted.run_id, ME)
        assert (run.state, run.reason) == (RunState.WAITING, "interrupted")
        assert (await runtime.run("next", session=in_session(accepted))).end == (RunState.DONE, "final_answer")


async def test_a_run_whose_cancel_was_acknowledged_is_not_left_to_be_taken_up(tmp_path: Path) -> None:
    accepted = await _left(tmp_path, CancelRequested(ME.principal, "stop"))
    async with open_fake_runtime(tmp_path, boot_id="boot-2"):
        pass
    assert _tape(tmp_path, accepted).end == (RunState.CANCELLED, "cancelled")


async def test_an_interrupted_run_makes_way_for_the_next_one_of_its_session(tmp_path: Path) -> None:
    accepted = await _left(tmp_path)
    provider = FakeProvider(says("done"))
    async with open_fake_runtime(tmp_path, provider, boot_id="boot-2") as runtime:
        tape = await runtime.run("the new one", session=in_session(accepted))
    old = _tape(tmp_path, accepted)
    assert old.end == (RunState.FAILED, "interrupted")
    assert old.one(RunFinished).detail.endswith("took its place")
    assert tape.one(ContextAssembled).runs == (accepted.run_id,)
    assert [each.text for each in provider.requests[0].messages[1:]] == ["the old one", "the new one"]


async def test_an_interrupted_run_can_be_cancelled(tmp_path: Path) -> None:
    accepted = await _left(tmp_path)
    async with open_fake_runtime(tmp_path, boot_id="boot-2") as runtime:
        await runtime.do(CancelRun(accepted.run_id, "no longer wanted"))
        tape = await runtime.ended(accepted.run_id)
    assert tape.end == (RunState.CANCELLED, "cancelled")


async def test_an_interrupted_runs_id_still_attaches(tmp_path: Path) -> None:
    accepted = await _left(tmp_path)
    async with open_fake_runtime(tmp_path, left=LEFT, boot_id="boot-2") as runtime:
        again = await runtime.start("the old one", run_id=accepted.run_id)
    assert again.attached
    assert again.session_id == accepted.session_id


async def test_an_approval_of_a_dead_process_cannot_be_decided(tmp_path: Path) -> None:
    provider = FakeProvider(says("", ToolCall("w", "fake.write")))

    async def asked(runtime: Runtime) -> tuple[Accepted, str]:
        accepted = await runtime.start()
        return accepted, (await runtime.until(accepted.run_id, ApprovalRequested)).approval_id

    async with open_fake_runtime(tmp_path, provider, tools=[WRITES], left=LEFT) as runtime:
        accepted, approval_id = await asked(runtime)
    async with open_fake_runtime(tmp_path, left=LEFT, boot_id="boot-2") as runtime:
        with pytest.raises(AlreadyDecided):
            await runtime.do(DecideApproval(approval_id, granted=True))
    tape = _tape(tmp_path, accepted)
    assert tape.kinds[-2:] == ["RunInterrupted", "StatusChange"]
    assert tape.of(StatusChange)[-1].before is RunState.WAITING
