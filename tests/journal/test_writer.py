"""Group commit, order, back-pressure, fail-stop, and a writer that a busy loop cannot starve."""

import threading
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from statistics import median

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from palyra_trio.core.codec import TapeRow
from palyra_trio.core.errors import JournalStopped, PalyraError, StateConflict
from palyra_trio.core.run import RunState
from palyra_trio.core.tape import run_stream
from palyra_trio.journal import writer
from palyra_trio.journal.feed import Feed
from palyra_trio.journal.guards import RunIn
from palyra_trio.journal.store import Batchable, Outcome, SqliteStore
from palyra_trio.journal.writer import Journal, Ticket, open_journal
from tests.journal.tickets import delta, entries, for_run, read, run_id, verified

QUEUE_BYTES = 64 * 1024 * 1024
REFUSED = (RunIn(run_id(9), frozenset({RunState.RUNNING})),)


class MemoryStore:
    """A store whose commits wait until they are let go, and fail when told to. Remembers the batches it was given."""

    def __init__(self) -> None:
        self.batches: list[list[Batchable]] = []
        self.begun = threading.Semaphore(0)
        self.gate = threading.Semaphore(0)
        self.error: Exception | None = None
        self.ended = ""
        self._seqs: dict[str, int] = defaultdict(int)
        self._g = 0

    def append_batch(self, tickets: Sequence[Batchable], at_ms: int) -> list[Outcome]:
        self.batches.append(list(tickets))
        self.begun.release()
        self.gate.acquire()
        if self.error is not None:
            raise self.error
        return [tuple([self._row(each.stream, each.body, at_ms) for each in one.entries]) for one in tickets]

    def _row(self, stream: str, body: bytes, at_ms: int) -> TapeRow:
        self._g += 1
        self._seqs[stream] += 1
        return TapeRow(self._g, stream, self._seqs[stream], 19, at_ms, body, bytes(32))

    def let_go(self, commits: int = 1000) -> None:
        self.gate.release(commits)

    async def wait_begun(self) -> None:
        await trio.to_thread.run_sync(self.begun.acquire)

    def close(self) -> None:
        self.ended = "closed"

    def abandon(self) -> None:
        self.ended = "abandoned"


@pytest.fixture
async def journal(tmp_path: Path) -> AsyncIterator[Journal]:
    async with open_journal(SqliteStore(tmp_path), Feed(), QUEUE_BYTES, lambda: 1000) as journal:
        yield journal


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


def over(store: MemoryStore, queue_bytes: int = QUEUE_BYTES) -> AbstractAsyncContextManager[Journal]:
    return open_journal(store, Feed(), queue_bytes, lambda: 1000)


def of_bytes(size: int) -> Ticket:
    """Return a ticket that takes `size` bytes of the queue."""
    return for_run(1, blobs=[bytes(size)])


# --- commits ---


async def test_an_append_returns_its_rows_once_they_are_durable(journal: Journal, tmp_path: Path) -> None:
    rows = await journal.append(entries(1, delta("a"), delta("b")))
    assert [(row.seq, row.at_ms, row.event()) for row in rows] == [(1, 1000, delta("a")), (2, 1000, delta("b"))]
    with read(tmp_path) as reader:
        assert reader.page(run_stream(run_id(1)), 0) == rows
    assert journal.feed.recent(run_stream(run_id(1)), 0, 10) == rows


async def test_what_arrives_during_a_commit_goes_into_the_next_one_together(store: MemoryStore) -> None:
    async with over(store) as journal:
        first = journal.submit(for_run(1, delta()))
        await store.wait_begun()
        rest = [journal.submit(for_run(number % 3, delta())) for number in range(5)]
        store.let_go()
        await rest[-1].wait()
        assert store.batches == [[first], rest]


async def test_a_batch_is_bounded(store: MemoryStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "BATCH_EVENTS", 4)
    async with over(store) as journal:
        first = journal.submit(for_run(1, delta()))
        await store.wait_begun()
        rest = [journal.submit(for_run(1, delta(), delta(), delta())) for _ in range(4)]
        store.let_go()
        await rest[-1].wait()
        assert store.batches == [[first], rest[:2], rest[2:]]


async def test_commits_are_told_in_tape_order_before_anyone_is_woken(store: MemoryStore) -> None:
    log: list[tuple[str, int]] = []

    async def follow(one: Ticket) -> None:
        (row,) = await one.wait()
        log.append(("woke", row.seq))

    async with over(store) as journal, trio.open_nursery() as nursery:
        for _ in range(8):
            one = for_run(1, delta(), on_commit=lambda rows: log.append(("folded", rows[0].seq)))
            journal.submit(one)
            nursery.start_soon(follow, one)
        await wait_all_tasks_blocked()
        store.let_go()
    assert [seq for what, seq in log if what == "folded"] == list(range(1, 9))
    first = 1
    for batch in store.batches:
        batch_seqs = range(first, first + len(batch))
        first += len(batch)
        assert max(log.index(("folded", seq)) for seq in batch_seqs) < min(
            log.index(("woke", seq)) for seq in batch_seqs
        )


async def test_the_feed_knows_the_rows_before_anyone_is_told(journal: Journal) -> None:
    known: list[tuple[TapeRow, ...] | None] = []
    one = for_run(1, delta(), on_commit=lambda _rows: known.append(journal.feed.recent(run_stream(run_id(1)), 0, 10)))
    rows = await journal.submit(one).wait()
    assert known == [rows]


async def test_settled_waits_for_all_that_was_submitted_before(journal: Journal) -> None:
    told: list[int] = []
    for _ in range(50):
        journal.submit(for_run(1, delta(), on_commit=lambda rows: told.append(rows[0].seq)))
    await journal.settled()
    assert told == list(range(1, 51))


async def test_a_ticket_can_be_waited_for_after_it_was_settled(journal: Journal) -> None:
    one = journal.submit(for_run(1, delta()))
    await journal.settled()
    assert [row.seq for row in await one.wait()] == [1]


async def test_a_waiter_that_is_cancelled_leaves_its_ticket_to_commit_and_fold(store: MemoryStore) -> None:
    folded: list[TapeRow] = []
    async with over(store) as journal:
        one = journal.submit(for_run(1, delta("kept"), on_commit=folded.extend))
        with trio.CancelScope() as scope:
            scope.cancel()
            await one.wait()
        assert scope.cancelled_caught
        store.let_go()
        await journal.settled()
        assert [row.event() for row in folded] == [delta("kept")]
        assert [row.event() for row in await one.wait()] == [delta("kept")]


# --- refusals ---


async def test_a_refusal_reaches_its_ticket_alone(journal: Journal) -> None:
    refused: list[PalyraError] = []
    before = journal.submit(for_run(1, delta()))
    bad = journal.submit(for_run(9, delta(), guards=REFUSED, on_refusal=refused.append, on_commit=refused.extend))
    after = journal.submit(for_run(1, delta()))
    with pytest.raises(StateConflict, match="is unknown"):
        await bad.wait()
    assert [type(error) for error in refused] == [StateConflict]
    assert [row.seq for one in (before, after) for row in await one.wait()] == [1, 2]
    assert not journal.failed.is_set()


async def test_append_raises_the_refusal(journal: Journal) -> None:
    with pytest.raises(StateConflict):
        await journal.append(entries(9, delta()), REFUSED)
    assert [row.seq for row in await journal.append(entries(9, delta()))] == [1]


# --- back-pressure ---


async def test_an_appender_waits_for_room_and_goes_on_when_there_is(store: MemoryStore) -> None:
    async with over(store, queue_bytes=100) as journal, trio.open_nursery() as nursery:
        journal.submit(of_bytes(60))
        assert not journal.full(of_bytes(40))
        assert journal.full(of_bytes(41))
        done: list[int] = []

        async def append(size: int) -> None:
            one = of_bytes(size)
            await journal.room_for(one)
            assert journal._pending_bytes + size <= 100
            await journal.submit(one).wait()
            done.append(size)

        for size in (50, 60, 70, 41, 99):
            nursery.start_soon(append, size)
        await wait_all_tasks_blocked()
        assert sum(map(len, store.batches)) <= 1
        store.let_go()
    assert sorted(done) == [41, 50, 60, 70, 99]
    assert journal._pending_bytes == 0


async def test_the_queue_is_bounded_in_tickets_too(store: MemoryStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "QUEUE_TICKETS", 3)
    async with over(store) as journal:
        for _ in range(3):
            assert not journal.full(for_run(1, delta()))
            journal.submit(for_run(1, delta()))
        assert journal.full(for_run(1, delta()))
        store.let_go()
        await journal.room_for(for_run(1, delta()))
        assert not journal.full(for_run(1, delta()))


async def test_a_ticket_larger_than_the_queue_passes_alone(store: MemoryStore) -> None:
    async with over(store, queue_bytes=100) as journal:
        small, large = journal.submit(of_bytes(1)), of_bytes(500)
        assert journal.full(large)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(journal.room_for, large)
            await wait_all_tasks_blocked()
            store.let_go()
        await small.wait()
        assert not journal.full(large)
        await journal.submit(large).wait()
        assert store.batches == [[small], [large]]


async def test_an_append_that_is_cancelled_while_it_waits_for_room_leaves_nothing(store: MemoryStore) -> None:
    async with over(store, queue_bytes=100) as journal:
        first = journal.submit(of_bytes(100))
        with trio.CancelScope() as scope:
            scope.cancel()
            await journal.append(entries(1, delta()))
        assert scope.cancelled_caught
        store.let_go()
        await journal.settled()
        assert [one for batch in store.batches for one in batch if one.entries or one.blobs] == [first]


# --- fail-stop ---


async def test_a_failed_commit_fails_everyone_now_and_later(store: MemoryStore) -> None:
    store.error = OSError(28, "No space left on device")
    heard: list[str] = []

    async def fails(one: Ticket) -> None:
        with pytest.raises(JournalStopped, match="No space left") as stopped:
            await one.wait()
        assert stopped.value.__cause__ is store.error
        heard.append("stopped")

    async def no_room(journal: Journal) -> None:
        with pytest.raises(JournalStopped):
            await journal.append(entries(1, delta()))
        heard.append("no room")

    async with over(store, queue_bytes=100) as journal:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(fails, journal.submit(of_bytes(50)))
            await store.wait_begun()
            nursery.start_soon(fails, journal.submit(of_bytes(50)))
            nursery.start_soon(no_room, journal)
            await wait_all_tasks_blocked()
            unwatched = journal.submit(for_run(1, on_refusal=lambda error: heard.append(error.code)))
            assert not journal.failed.is_set()
            store.let_go()
        await journal.failed.wait()
        assert sorted(heard) == ["journal_stopped", "no room", "stopped", "stopped"]
        with pytest.raises(JournalStopped):
            await unwatched.wait()
        with pytest.raises(JournalStopped):
            journal.submit(for_run(1, delta()))
        with pytest.raises(JournalStopped):
            await journal.append(entries(1, delta()))
        with pytest.raises(JournalStopped):
            await journal.settled()
        await journal.room_for(of_bytes(1000))
    assert len(store.batches) == 1
    assert store.ended == "abandoned"


# --- the end ---


async def test_leaving_commits_what_was_submitted(tmp_path: Path) -> None:
    folded: list[int] = []
    async with open_journal(SqliteStore(tmp_path), Feed(), QUEUE_BYTES) as journal:
        for _ in range(3000):
            journal.submit(for_run(1, delta(), on_commit=lambda rows: folded.append(rows[0].seq)))
    assert folded == list(range(1, 3001))
    assert verified(tmp_path).rows == 3000


async def test_leaving_by_a_cancel_commits_what_was_submitted(tmp_path: Path) -> None:
    with trio.CancelScope() as scope:
        async with open_journal(SqliteStore(tmp_path), Feed(), QUEUE_BYTES) as journal:
            journal.submit(for_run(1, delta()))
            scope.cancel()
            await trio.sleep_forever()
    assert verified(tmp_path).rows == 1


async def test_nothing_can_be_submitted_once_the_journal_is_closed(store: MemoryStore) -> None:
    store.let_go()
    async with over(store) as journal:
        await journal.append(entries(1, delta()))
    assert store.ended == "closed"
    assert not journal.failed.is_set()
    with pytest.raises(JournalStopped, match="the journal is closed"):
        journal.submit(for_run(1, delta()))


async def test_the_writers_thread_ends_with_the_block(store: MemoryStore) -> None:
    def writers() -> list[threading.Thread]:
        return [thread for thread in threading.enumerate() if thread.name == "palyra-journal"]

    store.let_go()
    async with over(store):
        assert len(writers()) == 1
    assert writers() == []


# --- many at once ---


async def test_four_that_record_at_once_fold_in_seq_order_in_ten_thousand_trials(
    journal: Journal, tmp_path: Path
) -> None:
    streams, trials, tasks = 100, 100, 4
    folded: dict[int, list[int]] = defaultdict(list)

    async def record(number: int) -> None:
        one = for_run(number, delta(), on_commit=lambda rows: folded[number].append(rows[0].seq))
        (row,) = await journal.submit(one).wait()
        assert folded[number][row.seq - 1] == row.seq

    async def trial_after_trial(number: int) -> None:
        for _ in range(trials):
            async with trio.open_nursery() as nursery:
                for _ in range(tasks):
                    nursery.start_soon(record, number)

    async with trio.open_nursery() as nursery:
        for number in range(streams):
            nursery.start_soon(trial_after_trial, number)
    assert len(folded) == streams
    assert all(each == list(range(1, trials * tasks + 1)) for each in folded.values())
    found = verified(tmp_path)
    assert (found.rows, found.fault) == (streams * trials * tasks, "")


async def test_a_loop_that_never_idles_does_not_starve_the_writer(journal: Journal) -> None:
    took_s: list[float] = []
    from_s = time.monotonic()
    for _ in range(1000):
        began = time.monotonic()
        journal.submit(for_run(1, delta(), on_commit=lambda _, began=began: took_s.append(time.monotonic() - began)))
        while time.monotonic() < began + 0.001:
            pass
        await trio.lowlevel.checkpoint()
    saturated_s = time.monotonic() - from_s
    await journal.settled()
    assert median(took_s) < saturated_s / 10  # a writer that is starved writes when the loop idles: half of that, then


# --- upkeep ---


async def test_upkeep_has_the_store_to_itself_in_its_turn(store: MemoryStore) -> None:
    async with over(store) as journal, trio.open_nursery() as nursery:
        nursery.start_soon(journal.append, for_run(1, delta()).entries)
        await store.wait_begun()
        seen: list[int] = []

        def work(_store: object) -> tuple[str, tuple[TapeRow, ...]]:
            seen.append(len(store.batches))
            return "done", ()

        async def ask() -> None:
            assert await journal.upkeep(work) == "done"
            seen.append(-1)

        nursery.start_soon(ask)
        await wait_all_tasks_blocked()
        nursery.start_soon(journal.append, for_run(1, delta()).entries)
        await wait_all_tasks_blocked()
        assert seen == []
        store.let_go()
    assert seen == [1, -1]
    assert len(store.batches) == 2


async def test_a_refusal_of_upkeep_is_its_caller_s_and_the_journal_goes_on(store: MemoryStore) -> None:
    store.let_go()

    def work(_store: object) -> tuple[None, tuple[TapeRow, ...]]:
        raise StateConflict("not now")

    async with over(store) as journal:
        with pytest.raises(StateConflict, match="not now"):
            await journal.upkeep(work)
        await journal.append(for_run(1, delta()).entries)


async def test_upkeep_that_breaks_stops_the_journal(store: MemoryStore) -> None:
    store.let_go()

    def work(_store: object) -> tuple[None, tuple[TapeRow, ...]]:
        raise OSError("the disk is gone")

    async with over(store) as journal:
        with pytest.raises(JournalStopped, match="the disk is gone"):
            await journal.upkeep(work)
        with pytest.raises(JournalStopped):
            await journal.append(for_run(1, delta()).entries)
        with pytest.raises(JournalStopped):
            await journal.upkeep(work)
        assert journal.failed.is_set()
    assert store.ended == "abandoned"


async def test_upkeep_that_waits_behind_a_failed_commit_is_told(store: MemoryStore) -> None:
    store.error = OSError("full")
    async with over(store) as journal, trio.open_nursery() as nursery:

        async def ask() -> None:
            with pytest.raises(JournalStopped, match="full"):
                await journal.upkeep(lambda _store: (None, ()))

        journal.submit(for_run(1, delta()))
        await store.wait_begun()
        nursery.start_soon(ask)
        await wait_all_tasks_blocked()
        store.let_go()
