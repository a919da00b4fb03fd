"""What the next process makes of runs that one left behind: which it goes on with, and what it says of the others."""

from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from palyra_trio.core.commands import Accepted, CancelRun, DecideApproval, TakeUpRun
from palyra_trio.core.errors import AlreadyDecided, ConfigInvalid
from palyra_trio.core.messages import ToolCall
from palyra_trio.core.run import RunState
from palyra_trio.core.tape import (
    ApprovalDecided,
    ApprovalRequested,
    CancelRequested,
    ContextAssembled,
    ProviderRequest,
    RunFinished,
    RunInterrupted,
    StatusChange,
    TapeEvent,
    ToolFinished,
    run_stream,
)
from palyra_trio.journal.store import entry
from tests.fakes import (
    ME,
    FakeProvider,
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


async def _asked(folder: Path, **options: Any) -> tuple[Accepted, str]:
    """Return a run that a process left WAITING for a person, and the approval that it waits for."""
    provider = FakeProvider(says("", ToolCall("w", "fake.write", {"value": "w"})), says("done"))
    async with open_fake_runtime(folder, provider, tools=[WRITES], left=LEFT, **options) as runtime:
        accepted = await runtime.start()
        return accepted, (await runtime.until(accepted.run_id, ApprovalRequested)).approval_id


DONE = FakeProvider(says("done"))


async def test_a_run_goes_on_waiting_for_a_person_after_its_process_and_goes_on_when_answered(tmp_path: Path) -> None:
    accepted, approval_id = await _asked(tmp_path)
    for boot in (2, 3):
        async with open_fake_runtime(tmp_path, DONE, tools=[WRITES], left=LEFT, boot_id=f"boot-{boot}") as runtime:
            run = await runtime.gateway.run(accepted.run_id, ME)
            assert (run.state, run.reason) == (RunState.WAITING, "approval")
    async with open_fake_runtime(tmp_path, DONE, tools=[WRITES], boot_id="boot-4") as runtime:
        await runtime.do(DecideApproval(approval_id, granted=True))
        tape = await runtime.ended(accepted.run_id)
    assert tape.end == (RunState.DONE, "final_answer")
    assert tape.one(ToolFinished).text == "w"
    assert tape.of(RunInterrupted) == []


async def test_a_decision_that_was_durable_when_its_process_died_is_acted_on_at_the_next_boot(tmp_path: Path) -> None:
    accepted, approval_id = await _asked(tmp_path)
    decision = ApprovalDecided(approval_id, "w", "granted", ME.principal)
    async with open_fake_runtime(tmp_path, left=LEFT, boot_id="boot-2", recovers=False) as runtime:
        await runtime.state.journal.append([entry(run_stream(accepted.run_id), decision)])
    async with open_fake_runtime(tmp_path, DONE, tools=[WRITES], boot_id="boot-3") as runtime:
        assert (await runtime.ended(accepted.run_id)).end == (RunState.DONE, "final_answer")


async def test_a_process_that_does_not_recover_goes_on_with_a_run_only_when_asked_to(tmp_path: Path) -> None:
    accepted, approval_id = await _asked(tmp_path)
    async with open_fake_runtime(tmp_path, DONE, tools=[WRITES], boot_id="boot-2", recovers=False) as runtime:
        await runtime.do(DecideApproval(approval_id, granted=True))
        await wait_all_tasks_blocked(0.01)
        assert (await runtime.gateway.run(accepted.run_id, ME)).state is RunState.WAITING
        await runtime.do(TakeUpRun(accepted.run_id))
        assert (await runtime.ended(accepted.run_id)).end == (RunState.DONE, "final_answer")


async def test_a_waiting_run_of_an_earlier_process_is_cancelled_and_its_question_withdrawn(tmp_path: Path) -> None:
    accepted, approval_id = await _asked(tmp_path)
    async with open_fake_runtime(tmp_path, DONE, tools=[WRITES], boot_id="boot-2") as runtime:
        await runtime.do(CancelRun(accepted.run_id))
        tape = await runtime.ended(accepted.run_id)
        with pytest.raises(AlreadyDecided):
            await runtime.do(DecideApproval(approval_id, granted=True))
    assert tape.end == (RunState.CANCELLED, "cancelled")
    assert tape.one(ApprovalDecided).outcome == "withdrawn"


async def test_a_run_that_waits_holds_up_its_session_across_processes(tmp_path: Path) -> None:
    accepted, approval_id = await _asked(tmp_path)
    async with open_fake_runtime(tmp_path, DONE, tools=[WRITES], boot_id="boot-2") as runtime:
        following = await runtime.start("next", session=in_session(accepted))
        await wait_all_tasks_blocked(0.01)
        assert (await runtime.gateway.run(following.run_id, ME)).state is RunState.QUEUED
        await runtime.do(DecideApproval(approval_id, granted=False, reason="not now"))
        assert (await runtime.ended(accepted.run_id)).end == (RunState.DONE, "final_answer")
        assert (await runtime.ended(following.run_id)).end == (RunState.DONE, "final_answer")


async def test_a_run_that_was_left_in_line_runs_at_the_next_boot(tmp_path: Path) -> None:
    async with open_fake_runtime(tmp_path, scripted({"text": "thinking", "hang": True}), left=LEFT) as runtime:
        first = await runtime.start("first")
        await runtime.until(first.run_id, ProviderRequest)
        second = await runtime.start("second", session=in_session(first))
    async with open_fake_runtime(tmp_path, DONE, left=LEFT, boot_id="boot-2", recovers=False) as runtime:
        assert (await runtime.gateway.run(second.run_id, ME)).state is RunState.QUEUED
    async with open_fake_runtime(tmp_path, DONE, boot_id="boot-3") as runtime:
        assert (await runtime.ended(second.run_id)).end == (RunState.DONE, "final_answer")
    assert _tape(tmp_path, first).end == (RunState.FAILED, "interrupted")


async def test_a_waiting_run_whose_model_is_no_more_fails_and_says_so(tmp_path: Path) -> None:
    accepted, approval_id = await _asked(tmp_path)

    async def choose(_model: str, _base_url: str) -> Any:
        raise ConfigInvalid("there is no such model any more")

    async with open_fake_runtime(tmp_path, DONE, tools=[WRITES], boot_id="boot-2", choose=choose) as runtime:
        await runtime.do(DecideApproval(approval_id, granted=True))
        tape = await runtime.ended(accepted.run_id)
    assert tape.end == (RunState.FAILED, "config_invalid")


async def _hang(_arguments: object) -> str:
    await trio.sleep_forever()
    raise AssertionError("unreachable")


async def test_what_an_interrupted_run_had_asked_is_withdrawn(tmp_path: Path) -> None:
    hangs = fake_tool("fake.read", _hang)
    calls = (ToolCall("r", "fake.read"), ToolCall("w", "fake.write", {"value": "w"}))
    async with open_fake_runtime(tmp_path, FakeProvider(says("", *calls)), tools=[WRITES, hangs], left=LEFT) as runtime:
        accepted = await runtime.start()
        asked = await runtime.until(accepted.run_id, ApprovalRequested)
    async with open_fake_runtime(tmp_path, DONE, tools=[WRITES], boot_id="boot-2") as runtime:
        assert await runtime.gateway.ask(lambda reader: reader.approvals.listed(ME.principal, pending=True)) == ()
        with pytest.raises(AlreadyDecided):
            await runtime.do(DecideApproval(asked.approval_id, granted=True))
        await runtime.do(CancelRun(accepted.run_id))
        assert (await runtime.ended(accepted.run_id)).end == (RunState.CANCELLED, "cancelled")
