"""One live run a session: the line, the busy modes, the mailbox, cancelling in line, and draining."""

import threading
from functools import partial
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from palyra_trio.core.commands import Accepted, CancelRun
from palyra_trio.core.errors import Busy, Draining, NotFound, PalyraError, RunConflict, SessionBusy, SessionConflict
from palyra_trio.core.identity import RunId
from palyra_trio.core.run import RunState
from palyra_trio.core.session import SessionRef, WhenBusy
from palyra_trio.core.tape import CancelRequested, Input, ProviderRequest, RunInterrupted, StatusChange
from palyra_trio.journal.store import Outcome, SqliteStore
from palyra_trio.runtime.recovery import Left
from tests.fakes import (
    CONFIG,
    ME,
    OTHER,
    FakeProvider,
    Runtime,
    assert_journal,
    in_session,
    open_fake_runtime,
    says,
    scripted,
)

RUN_ID = RunId("01JZZZZZZZZZZZZZZZZZZZZZZZ")


def _until(gate: trio.Event) -> FakeProvider:
    return FakeProvider([gate.wait, *says("done")])


async def _hung(runtime: Runtime) -> Accepted:
    """Return a run that waits in its model's stream for ever."""
    accepted = await runtime.start("hang", scripted({"text": "thinking", "hang": True}))
    await runtime.until(accepted.run_id, ProviderRequest)
    return accepted


# --- the line ---


async def test_two_runs_at_once_in_one_session_run_one_after_the_other(tmp_path: Path) -> None:
    gate, replies = trio.Event(), []
    async with open_fake_runtime(tmp_path, _until(gate)) as runtime:
        opened = await runtime.start("open", FakeProvider(says("open")))
        await runtime.ended(opened.run_id)

        async def start(text: str) -> None:
            replies.append(await runtime.start(text, session=in_session(opened)))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(start, "a")
            nursery.start_soon(start, "b")
        first, second = sorted(
            replies, key=lambda each: each.run_id != runtime.gateway.sessions._live()[0].order.run_id
        )
        await runtime.until(first.run_id, ProviderRequest)
        states = {run.run_id: run.state for run in await runtime.gateway.ask(lambda r: r.runs(ME.principal))}
        assert (states[first.run_id], states[second.run_id]) == (RunState.RUNNING, RunState.QUEUED)
        gate.set()
        one, two = await runtime.ended(first.run_id), await runtime.ended(second.run_id)
    assert one.end == two.end == (RunState.DONE, "final_answer")
    assert one.rows[-1].g < two.rows[1].g


async def test_followups_run_in_the_order_in_which_they_came(tmp_path: Path) -> None:
    gate, provider = trio.Event(), FakeProvider(says("done"))
    async with open_fake_runtime(tmp_path, provider) as runtime:
        first = await runtime.start("0", _until(gate))
        rest = [await runtime.start(str(number), session=in_session(first)) for number in (1, 2, 3)]
        gate.set()
        await runtime.ended(rest[-1].run_id)
    assert [request.messages[-1].text for request in provider.requests] == ["1", "2", "3"]


async def test_runs_of_different_sessions_do_not_wait_for_one_another(tmp_path: Path) -> None:
    gate = trio.Event()
    async with open_fake_runtime(tmp_path) as runtime:
        first = await runtime.start("slow", _until(gate))
        assert (await runtime.run("quick")).end == (RunState.DONE, "final_answer")
        gate.set()
        await runtime.ended(first.run_id)


# --- the busy modes ---


async def test_interrupt_cancels_the_live_run_and_starts_next_before_the_line(tmp_path: Path) -> None:
    async with open_fake_runtime(tmp_path) as runtime:
        first = await _hung(runtime)
        queued = await runtime.start("queued", session=in_session(first))
        urgent = await runtime.start("urgent", session=in_session(first), when_busy=WhenBusy.INTERRUPT)
        old, new, last = [await runtime.ended(each.run_id) for each in (first, urgent, queued)]
    assert old.end == (RunState.CANCELLED, "cancelled")
    assert old.one(CancelRequested).reason == f"interrupted by run {urgent.run_id}"
    assert old.rows[-1].g < new.rows[1].g
    assert new.rows[-1].g < last.rows[1].g


async def test_interrupt_in_an_idle_session_just_starts(tmp_path: Path) -> None:
    async with open_fake_runtime(tmp_path) as runtime:
        tape = await runtime.run(when_busy=WhenBusy.INTERRUPT)
    assert tape.end == (RunState.DONE, "final_answer")


async def test_an_interrupt_finds_a_run_that_is_only_just_starting(tmp_path: Path) -> None:
    async with open_fake_runtime(tmp_path) as runtime:
        opened = await runtime.start()
        await runtime.ended(opened.run_id)
        starting = await runtime.start("a", scripted({"hang": True}), session=in_session(opened))
        urgent = await runtime.start("b", session=in_session(opened), when_busy=WhenBusy.INTERRUPT)
        old, new = await runtime.ended(starting.run_id), await runtime.ended(urgent.run_id)
    assert old.end == (RunState.CANCELLED, "cancelled")
    assert new.end == (RunState.DONE, "final_answer")


async def test_reject_refuses_a_message_for_a_busy_session_and_writes_nothing(tmp_path: Path) -> None:
    async with open_fake_runtime(tmp_path) as runtime:
        first = await _hung(runtime)
        with pytest.raises(SessionBusy):
            await runtime.start("no", session=in_session(first), when_busy=WhenBusy.REJECT)
        await runtime.do(CancelRun(first.run_id))
        await runtime.ended(first.run_id)
        await runtime.run("yes", session=in_session(first), when_busy=WhenBusy.REJECT)
    assert [tape.one(Input).text for tape in assert_journal(tmp_path / "state").values()] == ["hang", "yes"]


async def test_the_configured_mode_holds_where_the_message_names_none(tmp_path: Path) -> None:
    config = attrs.evolve(CONFIG, session=attrs.evolve(CONFIG.session, when_busy=WhenBusy.REJECT))
    async with open_fake_runtime(tmp_path, config=config) as runtime:
        first = await _hung(runtime)
        with pytest.raises(SessionBusy):
            await runtime.start("no", session=in_session(first))
        await runtime.do(CancelRun(first.run_id))


async def test_a_full_mailbox_is_busy_and_takes_more_when_it_has_emptied(tmp_path: Path) -> None:
    gate = trio.Event()
    async with open_fake_runtime(tmp_path) as runtime:
        first = await runtime.start("0", _until(gate))
        rest = [await runtime.start(str(number), session=in_session(first)) for number in range(CONFIG.session.mailbox)]
        with pytest.raises(Busy, match=r"4 runs in line"):
            await runtime.start("too many", session=in_session(first))
        gate.set()
        await runtime.ended(rest[-1].run_id)
        await runtime.run("again", session=in_session(first))


# --- the same run id again ---


async def test_the_same_run_id_attaches_while_the_run_is_live_and_after_it_ended(tmp_path: Path) -> None:
    gate = trio.Event()
    async with open_fake_runtime(tmp_path, _until(gate)) as runtime:
        first = await runtime.start("a", run_id=RUN_ID)
        live = await runtime.start("a", run_id=RUN_ID)
        gate.set()
        tape = await runtime.ended(RUN_ID)
        over = await runtime.start("a", run_id=RUN_ID)
    assert live == over == attrs.evolve(first, attached=True)
    assert len(tape.of(Input)) == 1


async def test_the_same_run_id_many_times_at_once_starts_one_run(tmp_path: Path) -> None:
    replies: list[Accepted] = []
    async with open_fake_runtime(tmp_path) as runtime:

        async def start() -> None:
            replies.append(await runtime.start("a", run_id=RUN_ID))

        async with trio.open_nursery() as nursery:
            for _ in range(10):
                nursery.start_soon(start)
        await runtime.ended(RUN_ID)
    assert sorted(reply.attached for reply in replies) == [False] + [True] * 9
    assert len({reply.session_id for reply in replies}) == 1
    assert list(assert_journal(tmp_path / "state")) == [RUN_ID]


@pytest.mark.parametrize("when_busy", WhenBusy)
async def test_the_same_run_id_attaches_whatever_was_to_happen_if_busy(tmp_path: Path, when_busy: WhenBusy) -> None:
    gate = trio.Event()
    ref = SessionRef(key="k")
    async with open_fake_runtime(tmp_path, _until(gate)) as runtime:
        await runtime.start("a", run_id=RUN_ID, session=ref, when_busy=when_busy)
        again = await runtime.start("a", run_id=RUN_ID, session=ref, when_busy=when_busy)
        assert again.attached
        gate.set()
        tape = await runtime.ended(RUN_ID)
    assert tape.end == (RunState.DONE, "final_answer")


async def test_the_same_run_id_attaches_though_the_mailbox_is_full(tmp_path: Path) -> None:
    async with open_fake_runtime(tmp_path) as runtime:
        first = await _hung(runtime)
        rest = [await runtime.start(str(n), session=in_session(first)) for n in range(CONFIG.session.mailbox)]
        again = await runtime.start("3", session=in_session(first), run_id=rest[3].run_id)
        assert again.attached
        for each in (*rest, first):
            await runtime.do(CancelRun(each.run_id))


@pytest.mark.parametrize("change", [{"text": "b"}, {"session": SessionRef(key="k")}, {"model": "other"}])
async def test_the_same_run_id_with_another_payload_is_refused(tmp_path: Path, change: dict[str, Any]) -> None:
    async with open_fake_runtime(tmp_path) as runtime:
        runtime.models["other"] = FakeProvider(says("x"))
        await runtime.run(text="a", run_id=RUN_ID)
        with pytest.raises(RunConflict):
            await runtime.start(**{"text": "a", "run_id": RUN_ID} | change)


async def test_the_same_run_id_of_another_principal_is_refused(tmp_path: Path) -> None:
    async with open_fake_runtime(tmp_path) as runtime:
        await runtime.run("a", run_id=RUN_ID)
        with pytest.raises(RunConflict):
            await runtime.start("a", context=OTHER, run_id=RUN_ID)


async def test_a_new_key_used_by_many_at_once_makes_one_session(tmp_path: Path) -> None:
    replies: list[Accepted] = []
    async with open_fake_runtime(tmp_path) as runtime:

        async def start(number: int) -> None:
            replies.append(await runtime.start(str(number), session=SessionRef(key="k")))

        async with trio.open_nursery() as nursery:
            for number in range(4):
                nursery.start_soon(start, number)
        for reply in replies:
            await runtime.ended(reply.run_id)
    assert len({reply.session_id for reply in replies}) == 1
    assert not any(reply.attached for reply in replies)


async def test_a_key_is_its_principals_own(tmp_path: Path) -> None:
    async with open_fake_runtime(tmp_path) as runtime:
        mine = await runtime.start(session=SessionRef(key="k"))
        theirs = await runtime.start(session=SessionRef(key="k"), context=OTHER)
        assert mine.session_id != theirs.session_id
        with pytest.raises(SessionConflict):
            await runtime.start(session=SessionRef(session_id=mine.session_id, key="j"))
        await runtime.ended(mine.run_id)
        await runtime.ended(theirs.run_id, OTHER)


# --- cancelling in line ---


async def test_a_run_in_line_is_cancelled_without_ever_running(tmp_path: Path) -> None:
    provider = FakeProvider(says("never"))
    async with open_fake_runtime(tmp_path) as runtime:
        first = await _hung(runtime)
        queued = await runtime.start("queued", provider, session=in_session(first))
        await runtime.do(CancelRun(queued.run_id, "changed my mind"))
        tape = await runtime.ended(queued.run_id)
        await runtime.do(CancelRun(first.run_id))
    assert tape.kinds == ["Input", "CancelRequested", "RunFinished"]
    assert tape.end == (RunState.CANCELLED, "cancelled")
    assert provider.requests == []


@pytest.mark.parametrize("checkpoints", range(0, 24, 2))
async def test_a_run_that_is_only_just_starting_is_cancelled_at_any_moment(tmp_path: Path, checkpoints: int) -> None:
    async with open_fake_runtime(tmp_path) as runtime:
        opened = await runtime.start()
        await runtime.ended(opened.run_id)
        accepted = await runtime.start("a", scripted({"hang": True}), session=in_session(opened))
        for _ in range(checkpoints):
            await trio.lowlevel.checkpoint()
        await runtime.do(CancelRun(accepted.run_id))
        tape = await runtime.ended(accepted.run_id)
        assert (await runtime.run("b", session=in_session(opened))).end == (RunState.DONE, "final_answer")
    assert tape.end == (RunState.CANCELLED, "cancelled")


async def test_a_cancel_between_the_commit_of_an_input_and_its_place_in_line_stops_the_run(tmp_path: Path) -> None:
    provider = FakeProvider(says("never"))
    async with open_fake_runtime(tmp_path) as runtime:
        sessions = runtime.gateway.sessions
        accepted_now = sessions._accepted

        def cancelled_first(session: object, admission: object, submission: object) -> None:
            run = runtime.state.readers._ask(lambda reader: reader.run(RUN_ID))
            assert run is not None
            sessions.cancel(Left(run), ME.principal, "at once", lambda _error: None)
            accepted_now(session, admission, submission)  # type: ignore[arg-type]

        sessions._accepted = cancelled_first  # type: ignore[method-assign]
        await runtime.start("a", provider, run_id=RUN_ID)
        tape = await runtime.ended(RUN_ID)
        sessions._accepted = accepted_now  # type: ignore[method-assign]
        assert (await runtime.run("b")).end == (RunState.DONE, "final_answer")
    assert tape.end == (RunState.CANCELLED, "cancelled")
    assert provider.requests == []


# --- draining ---


async def test_a_drain_gives_live_runs_their_time(tmp_path: Path) -> None:
    gate = trio.Event()
    config = attrs.evolve(CONFIG, daemon=attrs.evolve(CONFIG.daemon, drain_s=10))
    async with trio.open_nursery() as nursery, open_fake_runtime(tmp_path, _until(gate), config=config) as runtime:
        accepted = await runtime.start()
        await runtime.until(accepted.run_id, ProviderRequest)
        nursery.start_soon(_set_when_blocked, gate)
    (tape,) = assert_journal(tmp_path / "state").values()
    assert tape.end == (RunState.DONE, "final_answer")


async def _set_when_blocked(gate: trio.Event) -> None:
    await wait_all_tasks_blocked(0.05)
    gate.set()


async def test_after_its_time_a_drain_leaves_live_runs_interrupted_and_the_line_queued(
    tmp_path: Path, mock_clock: MockClock
) -> None:
    config = attrs.evolve(CONFIG, daemon=attrs.evolve(CONFIG.daemon, drain_s=10))

    async def late() -> None:
        await wait_all_tasks_blocked(0.05)
        mock_clock.jump(10)

    async with trio.open_nursery() as nursery:
        left = [RunState.WAITING, RunState.QUEUED]
        async with open_fake_runtime(tmp_path, config=config, left=left) as runtime:
            live = await _hung(runtime)
            queued = await runtime.start("queued", session=in_session(live))
            nursery.start_soon(late)
    tapes = assert_journal(tmp_path / "state", frozenset(left))
    assert tapes[live.run_id].kinds[-2:] == ["RunInterrupted", "StatusChange"]
    assert tapes[live.run_id].one(RunInterrupted).boot_id == "boot-1"
    assert tapes[live.run_id].of(StatusChange)[-1].reason == "interrupted"
    assert tapes[queued.run_id].kinds == ["Input"]


@pytest.mark.parametrize("checkpoints", range(0, 24, 2))
async def test_a_drain_that_meets_a_run_at_its_start_leaves_the_tape_whole(tmp_path: Path, checkpoints: int) -> None:
    left = frozenset({RunState.WAITING, RunState.QUEUED})
    async with open_fake_runtime(tmp_path, scripted({"hang": True}), left=left) as runtime:
        opened = await runtime.start("a", FakeProvider(says("a")))
        await runtime.ended(opened.run_id)
        await runtime.start("b", session=in_session(opened))
        await runtime.start("c")
        for _ in range(checkpoints):
            await trio.lowlevel.checkpoint()


class _Slow(SqliteStore):
    """A store whose commits wait while `open` is clear."""

    def __init__(self, state_dir: Path) -> None:
        super().__init__(state_dir)
        self.open = threading.Event()
        self.open.set()

    def append_batch(self, tickets: Any, at_ms: int) -> list[Outcome]:
        self.open.wait()
        return super().append_batch(tickets, at_ms)


async def _pending(runtime: Runtime, tickets: int) -> None:
    with trio.fail_after(5):
        while len(runtime.state.journal._pending) < tickets:
            await wait_all_tasks_blocked(0.01)


async def test_an_interrupt_does_not_wait_behind_a_run_that_was_accepted_in_the_same_commit(tmp_path: Path) -> None:
    store, replies = _Slow(tmp_path / "state"), dict[str, Accepted]()

    async def start(text: str, **fields: Any) -> None:
        replies[text] = await runtime.start(text, session=in_session(opened), **fields)

    async with open_fake_runtime(tmp_path, store=store) as runtime:
        opened = await runtime.start()
        await runtime.ended(opened.run_id)
        await runtime.gateway.sessions.idle()
        async with trio.open_nursery() as nursery:
            store.open.clear()
            nursery.start_soon(runtime.state.journal.settled)
            await wait_all_tasks_blocked(0.05)
            nursery.start_soon(partial(start, "a", provider=scripted({"hang": True})))
            await _pending(runtime, 2)
            nursery.start_soon(partial(start, "b", when_busy=WhenBusy.INTERRUPT))
            await _pending(runtime, 3)
            store.open.set()
        with trio.fail_after(5):
            tape = await runtime.ended(replies["b"].run_id)
        await runtime.do(CancelRun(replies["a"].run_id))
    assert tape.end == (RunState.DONE, "final_answer")


async def test_a_run_that_another_was_put_before_in_the_same_commit_does_not_close_the_door(tmp_path: Path) -> None:
    store, replies = _Slow(tmp_path / "state"), dict[str, Accepted]()

    async def start(text: str, **fields: Any) -> None:
        replies[text] = await runtime.start(text, session=in_session(opened), **fields)

    async with open_fake_runtime(tmp_path, store=store) as runtime:
        opened = await runtime.start()
        await runtime.ended(opened.run_id)
        await runtime.gateway.sessions.idle()
        async with trio.open_nursery() as nursery:
            store.open.clear()
            nursery.start_soon(runtime.state.journal.settled)
            await wait_all_tasks_blocked(0.05)
            nursery.start_soon(partial(start, "a"))
            await _pending(runtime, 2)
            nursery.start_soon(partial(start, "b", provider=scripted({"hang": True}), when_busy=WhenBusy.INTERRUPT))
            await _pending(runtime, 3)
            store.open.set()
        await runtime.until(replies["b"].run_id, ProviderRequest)
        assert runtime.state.latencies.starting.longest_s(trio.current_time()) == 0
        await runtime.do(CancelRun(replies["b"].run_id))
        assert (await runtime.ended(replies["a"].run_id)).end == (RunState.DONE, "final_answer")


async def test_a_run_that_is_cancelled_in_line_before_its_session_takes_it_up_does_not_close_the_door(
    tmp_path: Path,
) -> None:
    async with open_fake_runtime(tmp_path) as runtime:
        sessions = runtime.gateway.sessions
        accepted_now = sessions._accepted

        def cancelled_then(session: object, admission: object, submission: object) -> None:
            accepted_now(session, admission, submission)  # type: ignore[arg-type]
            run = runtime.state.readers._ask(lambda reader: reader.run(RUN_ID))
            assert run is not None
            sessions.cancel(Left(run), ME.principal, "at once", lambda _error: None)

        sessions._accepted = cancelled_then  # type: ignore[method-assign]
        await runtime.start("a", run_id=RUN_ID)
        assert (await runtime.ended(RUN_ID)).end == (RunState.CANCELLED, "cancelled")
        assert runtime.state.latencies.starting.longest_s(trio.current_time()) == 0


async def test_a_run_that_is_accepted_after_the_runtime_has_closed_stays_in_line(tmp_path: Path) -> None:
    store, replies = _Slow(tmp_path / "state"), list[Accepted]()

    async def start() -> None:
        replies.append(await runtime.start("a"))

    async def thaw() -> None:
        await wait_all_tasks_blocked(0.1)
        store.open.set()

    async with (
        trio.open_nursery() as nursery,
        open_fake_runtime(tmp_path, store=store, left=[RunState.QUEUED]) as runtime,
    ):
        store.open.clear()
        nursery.start_soon(start)
        await wait_all_tasks_blocked(0.05)
        assert runtime.state.journal._pending
        nursery.start_soon(thaw)
    assert list(assert_journal(tmp_path / "state", frozenset({RunState.QUEUED}))) == [replies[0].run_id]


async def test_a_run_that_has_not_begun_when_its_time_is_up_stays_in_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def never(*_: object) -> None:
        await trio.sleep_forever()

    monkeypatch.setattr("palyra_trio.runtime.sessions.end_interrupted", never)
    async with open_fake_runtime(tmp_path, left=[RunState.QUEUED]) as runtime:
        await runtime.start("a")
        await wait_all_tasks_blocked(0.05)
    (tape,) = assert_journal(tmp_path / "state", frozenset({RunState.QUEUED})).values()
    assert tape.kinds == ["Input"]


@pytest.mark.parametrize("cancel_first", [True, False])
async def test_a_cancel_beats_a_drain_whichever_comes_first(tmp_path: Path, cancel_first: bool) -> None:
    told: list[PalyraError | None] = []
    async with open_fake_runtime(tmp_path) as runtime:
        accepted = await _hung(runtime)
        sessions = runtime.gateway.sessions
        (run,) = sessions._live()
        if not cancel_first:
            sessions.stop("the process was shut down")
        run.cancel(CancelRequested(ME.principal), told.append)
        sessions.stop("the process was shut down")
        tape = await runtime.ended(accepted.run_id)
    assert told == [None]
    assert tape.end == (RunState.CANCELLED, "cancelled")


async def test_a_draining_runtime_takes_no_more(tmp_path: Path) -> None:
    async with open_fake_runtime(tmp_path) as runtime:
        pass
    with pytest.raises((Draining, PalyraError)):
        await runtime.start("late")


async def test_a_runtime_that_is_cancelled_from_outside_still_records_how_its_runs_ended(tmp_path: Path) -> None:
    with trio.fail_after(20), trio.CancelScope() as scope:
        async with open_fake_runtime(tmp_path, checked=False) as runtime:
            await _hung(runtime)
            scope.cancel()
            await trio.sleep_forever()
    assert scope.cancelled_caught
    (tape,) = assert_journal(tmp_path / "state", frozenset({RunState.WAITING})).values()
    assert tape.kinds[-2:] == ["RunInterrupted", "StatusChange"]


async def test_an_error_in_the_block_still_drains(tmp_path: Path) -> None:
    with trio.fail_after(20), pytest.RaisesGroup(NotFound, allow_unwrapped=True, flatten_subgroups=True):
        async with open_fake_runtime(tmp_path, checked=False) as runtime:
            await _hung(runtime)
            raise NotFound("the block failed")
    (tape,) = assert_journal(tmp_path / "state", frozenset({RunState.WAITING})).values()
    assert "RunInterrupted" in tape.kinds
