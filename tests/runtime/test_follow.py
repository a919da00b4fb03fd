"""Following: each row once and in order, from any seq that is there, at any pace, from memory or from the journal."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from palyra_trio.core.codec import TapeRow
from palyra_trio.core.commands import CancelRun
from palyra_trio.core.errors import Interrupted, NotFound, OffsetAhead, OffsetPruned
from palyra_trio.core.identity import RunId
from palyra_trio.core.run import RunState
from palyra_trio.core.tape import ModelDelta, ProviderRequest, RunFinished, StatusChange, run_stream
from palyra_trio.journal.feed import Feed
from palyra_trio.journal.store import FILE_NAME
from palyra_trio.runtime.follow import Follower
from tests.fakes import ME, OTHER, FakeProvider, Runtime, Tape, open_fake_runtime, says, scripted
from tests.journal.tickets import tampering

WORDS = [f"word {number} " for number in range(300)]


async def _follow(runtime: Runtime, run_id: RunId, after_seq: int, most: int = 1000) -> list[TapeRow]:
    follower = await runtime.gateway.follow(run_id, after_seq, ME)
    rows: list[TapeRow] = []
    while page := await follower.next_rows(most):
        assert len(page) <= most
        rows += page
    assert follower.ended
    assert await follower.next_rows() == ()
    return rows


@pytest.mark.parametrize("ring_rows", [1, 7, 8192])
async def test_every_follower_sees_each_row_once_from_where_it_starts(tmp_path: Path, ring_rows: int) -> None:
    got: dict[int, list[TapeRow]] = {}
    async with open_fake_runtime(tmp_path, scripted({"deltas": WORDS}), feed=Feed(ring_rows=ring_rows)) as runtime:
        accepted = await runtime.start()

        async def follow(after_seq: int, most: int) -> None:
            got[most] = await _follow(runtime, accepted.run_id, after_seq, most)

        async with trio.open_nursery() as nursery:
            for after_seq, most in ((0, 1000), (0, 1), (0, 3), (1, 5), (1, 2)):
                nursery.start_soon(follow, after_seq, most)
        tape = await runtime.ended(accepted.run_id)
        for after_seq in range(len(tape.rows)):
            assert await _follow(runtime, accepted.run_id, after_seq, 4) == [*tape.rows[after_seq:]]
    assert [len(tape.rows) - len(got[most]) for most in (1000, 1, 3, 5, 2)] == [0, 0, 0, 1, 1]
    for rows in got.values():
        assert rows == [*tape.rows[-len(rows) :]]


async def test_a_slow_follower_falls_off_the_ring_and_misses_nothing(tmp_path: Path) -> None:
    gate = trio.Event()
    provider = FakeProvider([*WORDS[:150], gate.wait, *says("".join(WORDS))])
    async with open_fake_runtime(tmp_path, provider, feed=Feed(ring_rows=4)) as runtime:
        accepted = await runtime.start()
        follower = await runtime.gateway.follow(accepted.run_id, 0, ME)
        rows = [*await follower.next_rows(2)]
        gate.set()
        await runtime.ended(accepted.run_id)
        while page := await follower.next_rows(3):
            rows += page
        tape = await runtime.ended(accepted.run_id)
    assert rows == [*tape.rows]


async def test_a_follower_that_was_cancelled_loses_nothing(tmp_path: Path) -> None:
    gate = trio.Event()
    async with open_fake_runtime(tmp_path, FakeProvider(["x y", gate.wait, *says("z")])) as runtime:
        accepted = await runtime.start()
        await runtime.until(accepted.run_id, ModelDelta)
        follower = await runtime.gateway.follow(accepted.run_id, 0, ME)
        rows: list[TapeRow] = []
        while not gate.is_set():
            with trio.move_on_after(0.02) as scope:
                rows += await follower.next_rows()
            if scope.cancelled_caught:
                gate.set()
        while page := await follower.next_rows():
            rows += page
        tape = await runtime.ended(accepted.run_id)
    assert rows == [*tape.rows]


async def test_leaving_a_run_does_not_end_it_and_coming_back_continues(tmp_path: Path) -> None:
    gate = trio.Event()
    async with open_fake_runtime(tmp_path, FakeProvider([gate.wait, *says("done")])) as runtime:
        accepted = await runtime.start()
        await runtime.until(accepted.run_id, ProviderRequest)
        first = await runtime.gateway.follow(accepted.run_id, 0, ME)
        seen = [*await first.next_rows()]
        del first
        gate.set()
        seen += await _follow(runtime, accepted.run_id, seen[-1].seq)
        tape = await runtime.ended(accepted.run_id)
    assert seen == [*tape.rows]


async def test_an_abandoned_follower_leaves_nothing_in_the_feed(tmp_path: Path) -> None:
    feed = Feed()
    async with open_fake_runtime(tmp_path, scripted({"hang": True}), feed=feed, left=[RunState.WAITING]) as runtime:
        accepted = await runtime.start()
        await runtime.until(accepted.run_id, ProviderRequest)

        async def follow() -> None:
            follower = await runtime.gateway.follow(accepted.run_id, 0, ME)
            while await follower.next_rows():
                pass

        async with trio.open_nursery() as nursery:
            for _ in range(100):
                nursery.start_soon(follow)
            await wait_all_tasks_blocked(0.05)
            assert len(feed._waiting) == 1
            nursery.cancel_scope.cancel()
        assert len(feed._waiting) == 0


# --- runs that were interrupted ---


async def _interrupt(folder: Path) -> RunId:
    """Leave a run behind, as a process does that is told to stop."""
    async with open_fake_runtime(folder, scripted({"hang": True}), left=[RunState.WAITING]) as runtime:
        accepted = await runtime.start()
        await runtime.until(accepted.run_id, ProviderRequest)
    return accepted.run_id


async def test_behind_the_last_row_of_an_interrupted_run_there_is_nothing_to_wait_for(tmp_path: Path) -> None:
    run_id = await _interrupt(tmp_path)
    async with open_fake_runtime(tmp_path, left=[RunState.WAITING], boot_id="boot-2") as runtime:
        follower = await runtime.gateway.follow(run_id, 0, ME)
        rows: list[TapeRow] = []
        with pytest.raises(Interrupted, match=f"run {run_id} was interrupted") as told, trio.fail_after(20):
            while page := await follower.next_rows(2):
                rows += page
        assert follower.session_id in told.value.remedy
        assert rows == await runtime.gateway.ask(lambda reader: list(reader.tape(run_stream(run_id))))
        assert rows[-1].kind == StatusChange.kind
        behind = await runtime.gateway.follow(run_id, rows[-1].seq, ME)
        with pytest.raises(Interrupted), trio.fail_after(20):
            await behind.next_rows()


async def test_an_interrupted_run_that_was_cancelled_later_is_followed_to_its_end(tmp_path: Path) -> None:
    run_id = await _interrupt(tmp_path)
    async with open_fake_runtime(tmp_path, boot_id="boot-2") as runtime:
        follower = await runtime.gateway.follow(run_id, 0, ME)
        await runtime.do(CancelRun(run_id))
        rows = [row async for page in _pages(follower) for row in page]
        assert rows[-1].kind == RunFinished.kind


async def _pages(follower: Follower) -> AsyncIterator[tuple[TapeRow, ...]]:
    while page := await follower.next_rows(1):
        yield page


# --- places ---


async def whole(runtime: Runtime) -> tuple[RunId, Tape]:
    accepted = await runtime.start()
    return accepted.run_id, await runtime.ended(accepted.run_id)


async def test_behind_the_last_row_of_a_finished_tape_there_is_the_end(tmp_path: Path) -> None:
    async with open_fake_runtime(tmp_path) as runtime:
        run_id, tape = await whole(runtime)
        assert await _follow(runtime, run_id, len(tape.rows)) == []


async def test_behind_the_last_row_of_a_live_run_a_follower_waits_for_the_next(tmp_path: Path) -> None:
    go_on = trio.Event()
    async with open_fake_runtime(tmp_path, FakeProvider([go_on.wait, *says("done")])) as runtime:
        accepted = await runtime.start()
        await wait_all_tasks_blocked(0.01)
        last = await runtime.gateway.ask(lambda reader: reader.last_seq(run_stream(accepted.run_id)))
        follower = await runtime.gateway.follow(accepted.run_id, last, ME)
        assert not follower.ended
        go_on.set()
        rows = await follower.next_rows()
        assert rows[0].seq == last + 1
        await runtime.ended(accepted.run_id)


async def test_the_beginning_of_an_id_and_last_are_followed_as_the_run_that_they_mean(tmp_path: Path) -> None:
    async with open_fake_runtime(tmp_path) as runtime:
        run_id, tape = await whole(runtime)
        for name in ("last", run_id[:20], run_id.lower()):
            assert (await runtime.gateway.follow(RunId(name), 0, ME)).run_id == run_id
            assert await _follow(runtime, RunId(name), 0) == [*tape.rows]


async def test_a_place_that_is_not_there_is_refused(tmp_path: Path) -> None:
    async with open_fake_runtime(tmp_path) as runtime:
        run_id, tape = await whole(runtime)
        with pytest.raises(OffsetAhead, match=f"has {len(tape.rows)} rows, not {len(tape.rows) + 1}"):
            await runtime.gateway.follow(run_id, len(tape.rows) + 1, ME)
        with pytest.raises(NotFound):
            await runtime.gateway.follow(run_id, 0, OTHER)
        with pytest.raises(NotFound):
            await runtime.gateway.follow(RunId("01ARZ3NDEKTSV4RRFFQ69G5FAV"), 0, ME)


async def test_a_place_before_an_erased_row_is_refused_and_the_next_whole_one_is_named(tmp_path: Path) -> None:
    async with open_fake_runtime(tmp_path, checked=False) as runtime:
        run_id, tape = await whole(runtime)
        erase(runtime, run_id, "seq IN (1, 2, 4)")
        for after_seq, place in ((0, 2), (1, 2), (3, 4)):
            with pytest.raises(OffsetPruned) as refused:
                await runtime.gateway.follow(run_id, after_seq, ME)
            assert refused.value.remedy.endswith(f"follows after_seq {place}")
        runtime.state.journal.feed._streams.clear()
        rows = await _follow(runtime, run_id, 2)
        assert [(row.seq, row.body is None) for row in rows[:2]] == [(3, False), (4, True)]
        erase(runtime, run_id, "TRUE")
        with pytest.raises(OffsetPruned) as refused:
            await runtime.gateway.follow(run_id, 0, ME)
        assert refused.value.remedy.endswith(f"follows after_seq {len(tape.rows)}")
        assert await _follow(runtime, run_id, len(tape.rows)) == []


def erase(runtime: Runtime, run_id: str, where: str) -> None:
    with tampering(runtime.state_dir / FILE_NAME) as db:
        db.execute(
            f"UPDATE ev SET body = NULL, salt = NULL WHERE {where} AND stream = (SELECT id FROM stream WHERE name = ?)",
            (run_stream(run_id),),
        )
