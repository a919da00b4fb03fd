"""Runs that wait for a person: no task, no clock, and whatever happens to them while they wait or are brought back."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from palyra_trio.core.commands import Accepted, CancelRun, DecideApproval
from palyra_trio.core.errors import AlreadyDecided, SessionBusy, StateConflict
from palyra_trio.core.identity import RunId
from palyra_trio.core.messages import ToolCall
from palyra_trio.core.run import RunState
from palyra_trio.core.session import WhenBusy
from palyra_trio.core.tape import (
    ApprovalDecided,
    ApprovalRequested,
    CancelRequested,
    ProviderRequest,
    RunInterrupted,
    StatusChange,
    ToolStarted,
)
from palyra_trio.providers.choose import Choice
from tests.fakes import (
    CONFIG,
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
)

WRITES = fake_tool("fake.write", echo, read_only=False)
DONE, CANCELLED = (RunState.DONE, "final_answer"), (RunState.CANCELLED, "cancelled")
LEFT = [RunState.WAITING]


def _asks(*names: str) -> FakeProvider:
    return FakeProvider(
        says("", *(ToolCall(name, "fake.write", {"value": name}) for name in names or "w")), says("done")
    )


async def _waiting(runtime: Runtime, *names: str, **fields: Any) -> tuple[Accepted, list[ApprovalRequested]]:
    """Return a run of which nothing is left but its questions."""
    accepted = await runtime.start(provider=_asks(*names), **fields)
    await runtime.until(accepted.run_id, ApprovalRequested, len(names) or 1)
    await runtime.gateway.sessions.idle()
    rows = await runtime.gateway.ask(lambda reader: [*reader.tape(f"run:{accepted.run_id}")])
    return accepted, [event for row in rows if isinstance(event := row.event(), ApprovalRequested)]


async def _ended(runtime: Runtime, run_id: RunId) -> Tape:
    with trio.fail_after(10):
        return await runtime.ended(run_id)


class Slow:
    """A choice of a model that waits, from the second time on, until it is let go: a run that is being brought back."""

    def __init__(self, *providers: FakeProvider) -> None:
        self.providers = list(providers)
        self.entered, self.go = trio.Event(), trio.Event()
        self.chosen = 0

    async def __call__(self, model: str, base_url: str) -> Choice:
        self.chosen += 1
        if self.chosen > 1:
            self.entered.set()
            await self.go.wait()
        return Choice(self.providers[min(self.chosen, len(self.providers)) - 1], "m", "the test says so")


@asynccontextmanager
async def _brought_back(
    folder: Path, slow: Slow, *names: str, **options: Any
) -> AsyncGenerator[tuple[Runtime, RunId, list[ApprovalRequested]], None]:
    """Open a runtime in which a run is on its way back, since its first question was granted."""
    async with open_fake_runtime(folder, tools=[WRITES], choose=slow, **options) as runtime:
        accepted = await runtime.start()
        await runtime.until(accepted.run_id, ApprovalRequested, len(names) or 1)
        await runtime.gateway.sessions.idle()
        rows = await runtime.gateway.ask(lambda reader: [*reader.tape(f"run:{accepted.run_id}")])
        asks = [event for row in rows if isinstance(event := row.event(), ApprovalRequested)]
        await runtime.do(DecideApproval(asks[0].approval_id, granted=True))
        await slow.entered.wait()
        yield runtime, accepted.run_id, asks


# --- while it waits ---


async def test_a_run_that_waits_has_no_task_and_is_none_of_the_live_ones(tmp_path: Path) -> None:
    async with open_fake_runtime(tmp_path, tools=[WRITES], left=LEFT) as runtime:
        await runtime.run()
        await runtime.gateway.sessions.idle()
        before = len(runtime.gateway._nursery.child_tasks)
        for _ in range(20):
            await _waiting(runtime)
        assert len(runtime.gateway._nursery.child_tasks) == before
        assert runtime.gateway.sessions.live_runs == 0


async def test_a_run_that_was_answered_leaves_nothing_in_memory(tmp_path: Path) -> None:
    async with open_fake_runtime(tmp_path, tools=[WRITES]) as runtime:
        accepted, (asked,) = await _waiting(runtime)
        assert list(runtime.gateway.sessions._sessions) == [accepted.session_id]
        await runtime.do(DecideApproval(asked.approval_id, granted=True))
        assert (await _ended(runtime, accepted.run_id)).end == DONE
        await runtime.gateway.sessions.idle()
        assert runtime.gateway.sessions._sessions == {}


@pytest.mark.parametrize("granted", [True, False])
@pytest.mark.parametrize("checkpoints", range(0, 24, 3))
async def test_a_decision_at_any_moment_after_the_question_wakes_the_run(
    tmp_path: Path, granted: bool, checkpoints: int
) -> None:
    async with open_fake_runtime(tmp_path, tools=[WRITES]) as runtime:
        accepted = await runtime.start(provider=_asks())
        asked = await runtime.until(accepted.run_id, ApprovalRequested)
        for _ in range(checkpoints):
            await trio.lowlevel.checkpoint()
        await runtime.do(DecideApproval(asked.approval_id, granted))
        tape = await _ended(runtime, accepted.run_id)
    assert tape.end == DONE
    assert len(tape.of(ToolStarted)) == granted


@pytest.mark.parametrize("checkpoints", range(0, 36, 3))
async def test_a_cancel_at_any_moment_after_the_question_ends_the_run(tmp_path: Path, checkpoints: int) -> None:
    async with open_fake_runtime(tmp_path, tools=[WRITES]) as runtime:
        accepted = await runtime.start(provider=_asks())
        asked = await runtime.until(accepted.run_id, ApprovalRequested)
        for _ in range(checkpoints):
            await trio.lowlevel.checkpoint()
        await runtime.do(CancelRun(accepted.run_id, "never mind"))
        tape = await _ended(runtime, accepted.run_id)
        with pytest.raises(AlreadyDecided):
            await runtime.do(DecideApproval(asked.approval_id, granted=True))
    assert tape.end == CANCELLED
    assert tape.one(ApprovalDecided).outcome == "withdrawn"
    assert tape.one(CancelRequested).reason == "never mind"


@pytest.mark.parametrize("checkpoints", range(0, 24, 3))
async def test_a_decision_and_a_cancel_at_once_leave_one_whole_tape(tmp_path: Path, checkpoints: int) -> None:
    async with open_fake_runtime(tmp_path, tools=[WRITES]) as runtime:
        accepted, (asked,) = await _waiting(runtime)

        async def cancel() -> None:
            for _ in range(checkpoints):
                await trio.lowlevel.checkpoint()
            try:
                await runtime.do(CancelRun(accepted.run_id))
            except StateConflict:
                ended_first.append(True)

        async def decide() -> None:
            try:
                await runtime.do(DecideApproval(asked.approval_id, granted=True))
            except AlreadyDecided:
                withdrawn_first.append(True)

        ended_first, withdrawn_first = list[bool](), list[bool]()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(cancel)
            nursery.start_soon(decide)
        tape = await _ended(runtime, accepted.run_id)
    assert tape.end == (DONE if ended_first else CANCELLED)
    assert tape.one(ApprovalDecided).outcome == ("withdrawn" if withdrawn_first else "granted")


async def test_an_interrupt_ends_the_run_that_waits_and_takes_its_place(tmp_path: Path) -> None:
    async with open_fake_runtime(tmp_path, tools=[WRITES]) as runtime:
        accepted, _ = await _waiting(runtime)
        urgent = await runtime.start("urgent", session=in_session(accepted), when_busy=WhenBusy.INTERRUPT)
        old, new = await _ended(runtime, accepted.run_id), await _ended(runtime, urgent.run_id)
    assert (old.end, new.end) == (CANCELLED, DONE)
    assert old.one(CancelRequested).reason == f"interrupted by run {urgent.run_id}"
    assert old.one(ApprovalDecided).outcome == "withdrawn"
    assert old.rows[-1].g < new.rows[1].g


async def test_a_session_whose_run_waits_is_busy_and_its_line_waits_too(tmp_path: Path) -> None:
    async with open_fake_runtime(tmp_path, tools=[WRITES]) as runtime:
        accepted, (asked,) = await _waiting(runtime)
        with pytest.raises(SessionBusy):
            await runtime.start("no", session=in_session(accepted), when_busy=WhenBusy.REJECT)
        behind = await runtime.start("behind", session=in_session(accepted))
        await runtime.gateway.sessions.idle()
        assert (await runtime.gateway.run(behind.run_id, ME)).state is RunState.QUEUED
        await runtime.do(DecideApproval(asked.approval_id, granted=False))
        first, second = await _ended(runtime, accepted.run_id), await _ended(runtime, behind.run_id)
    assert first.end == second.end == DONE
    assert first.rows[-1].g < second.rows[1].g


async def test_a_drain_leaves_what_waits_as_it_is(tmp_path: Path) -> None:
    config = attrs.evolve(CONFIG, daemon=attrs.evolve(CONFIG.daemon, drain_s=1000))
    with trio.fail_after(10):
        async with open_fake_runtime(tmp_path, tools=[WRITES], left=LEFT, config=config) as runtime:
            accepted, _ = await _waiting(runtime)
    tape = assert_journal(tmp_path / "state", frozenset(LEFT))[accepted.run_id]
    assert (tape.view.state, tape.view.reason) == (RunState.WAITING, "approval")
    assert tape.of(RunInterrupted) == []


async def test_a_decision_in_a_process_that_drains_is_durable_and_acted_on_by_the_next(tmp_path: Path) -> None:
    async with open_fake_runtime(tmp_path, tools=[WRITES], left=LEFT) as runtime:
        accepted, (asked,) = await _waiting(runtime)
        runtime.gateway.sessions.close()
        await runtime.do(DecideApproval(asked.approval_id, granted=True))
    assert assert_journal(tmp_path / "state", frozenset(LEFT))[accepted.run_id].of(ToolStarted) == []
    async with open_fake_runtime(tmp_path, tools=[WRITES], choose=Slow(FakeProvider(says("done")))) as runtime:
        tape = await _ended(runtime, accepted.run_id)
    assert len(tape.of(ToolStarted)) == 1
    assert tape.end == DONE


@pytest.mark.parametrize("granted", [True, False])
async def test_one_of_two_answers_given_before_a_restart_is_worth_as_much_as_after_it(
    tmp_path: Path, granted: bool
) -> None:
    async with open_fake_runtime(tmp_path, tools=[WRITES], left=LEFT) as runtime:
        accepted, asks = await _waiting(runtime, "a", "b")
        runtime.gateway.sessions.close()
        await runtime.do(DecideApproval(asks[0].approval_id, granted))
    slow = Slow(FakeProvider(says("done")))
    slow.go.set()
    async with open_fake_runtime(tmp_path, tools=[WRITES], choose=slow, boot_id="boot-2") as runtime:
        if granted:
            assert (await runtime.until(accepted.run_id, ToolStarted)).call_id == "a"
        await runtime.gateway.sessions.idle()
        await runtime.do(DecideApproval(asks[1].approval_id, granted=True))
        tape = await _ended(runtime, accepted.run_id)
    assert [each.call_id for each in tape.of(ToolStarted)] == (["a", "b"] if granted else ["b"])
    assert tape.end == DONE


# --- while it is brought back ---


async def test_a_cancel_while_a_run_is_brought_back_ends_it_before_anything_starts(tmp_path: Path) -> None:
    slow = Slow(_asks())
    async with _brought_back(tmp_path, slow) as (runtime, run_id, _):
        await runtime.do(CancelRun(run_id))
        slow.go.set()
        tape = await _ended(runtime, run_id)
    assert tape.end == CANCELLED
    assert tape.of(ToolStarted) == []


async def test_a_decision_while_a_run_is_brought_back_counts(tmp_path: Path) -> None:
    slow = Slow(_asks("a", "b"))
    async with _brought_back(tmp_path, slow, "a", "b") as (runtime, run_id, asks):
        await runtime.do(DecideApproval(asks[1].approval_id, granted=True))
        with pytest.raises(AlreadyDecided):
            await runtime.do(DecideApproval(asks[1].approval_id, granted=False))
        slow.go.set()
        tape = await _ended(runtime, run_id)
    assert [each.call_id for each in tape.of(ToolStarted)] == ["a", "b"]
    assert len([each for each in tape.of(StatusChange) if each.after is RunState.WAITING]) == 1
    assert tape.end == DONE


async def test_a_decision_of_one_question_runs_its_call_and_waits_again_for_the_other(tmp_path: Path) -> None:
    slow = Slow(_asks("a", "b"))
    async with _brought_back(tmp_path, slow, "a", "b") as (runtime, run_id, asks):
        slow.go.set()
        await runtime.until(run_id, StatusChange, 4)
        await runtime.gateway.sessions.idle()
        await runtime.do(DecideApproval(asks[1].approval_id, granted=False))
        tape = await _ended(runtime, run_id)
    assert [each.call_id for each in tape.of(ToolStarted)] == ["a"]
    assert [each.after for each in tape.of(StatusChange)] == [
        RunState.RUNNING,
        RunState.WAITING,
        RunState.RUNNING,
        RunState.WAITING,
        RunState.RUNNING,
    ]


async def test_an_interrupt_while_a_run_is_brought_back_takes_its_place(tmp_path: Path) -> None:
    slow = Slow(_asks(), FakeProvider(says("urgent")))
    async with _brought_back(tmp_path, slow) as (runtime, run_id, _):
        session_id = (await runtime.gateway.run(run_id, ME)).session_id
        urgent: list[Accepted] = []

        async def start() -> None:
            ref = in_session(Accepted(run_id, session_id))
            urgent.append(await runtime.start("urgent", session=ref, when_busy=WhenBusy.INTERRUPT))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(start)
            slow.go.set()
        old, new = await _ended(runtime, run_id), await _ended(runtime, urgent[0].run_id)
    assert new.end == DONE
    assert old.rows[-1].g < new.rows[1].g


async def test_a_drain_that_meets_a_run_on_its_way_back_does_not_wait_for_its_model(tmp_path: Path) -> None:
    slow = Slow(_asks(), FakeProvider([trio.sleep_forever]))

    async def let_go(runtime: Runtime) -> None:
        await wait_all_tasks_blocked(0.05)
        assert runtime.gateway.sessions.draining
        slow.go.set()

    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            async with _brought_back(tmp_path, slow, left=LEFT) as (runtime, run_id, _):
                nursery.start_soon(let_go, runtime)
    tape = assert_journal(tmp_path / "state", frozenset(LEFT))[run_id]
    assert tape.view.state is RunState.WAITING
    assert len(tape.of(ProviderRequest)) == 1


async def test_a_drain_does_not_wait_for_a_run_that_cannot_be_brought_back_for_a_disk_that_does_not_answer(
    tmp_path: Path,
) -> None:
    with trio.fail_after(10):
        async with _brought_back(tmp_path, Slow(_asks()), left=LEFT) as (_, run_id, _asked):
            pass  # the model is chosen from a file that nobody delivers, and the process is to end
    tape = assert_journal(tmp_path / "state", frozenset(LEFT))[run_id]
    assert tape.view.state is RunState.WAITING


async def test_a_run_that_breaks_when_it_is_brought_back_fails_alone(tmp_path: Path) -> None:
    class Breaks(Slow):
        async def __call__(self, model: str, base_url: str) -> Choice:
            if self.chosen == 1:
                self.chosen = 2
                raise RuntimeError("a loop of links")
            return await super().__call__(model, base_url)

    breaks = Breaks(_asks(), FakeProvider(says("done")))
    breaks.go.set()
    async with open_fake_runtime(tmp_path, tools=[WRITES], choose=breaks) as runtime:
        accepted = await runtime.start()
        asked = await runtime.until(accepted.run_id, ApprovalRequested)
        await runtime.gateway.sessions.idle()
        await runtime.do(DecideApproval(asked.approval_id, granted=True))
        tape = await _ended(runtime, accepted.run_id)
        assert (await runtime.run()).end == DONE
    assert tape.end == (RunState.FAILED, "internal")
    assert "a loop of links" in tape.view.finished.detail  # type: ignore[union-attr]
