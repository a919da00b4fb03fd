"""The one writer: tickets in, group commits out, waiters woken after the commit.

Appenders push tickets on a queue and park. A dedicated thread takes all that are there, commits them in one
transaction, and hops back to the Trio thread once a batch. There, in the order of the tape and before anyone is
woken, each ticket's `on_commit` runs (a run folds its events in it) and the feed learns of the rows.

A commit that fails ends the journal: every waiter gets JournalStopped, and so does whoever comes later (fail-stop:
after a failed sync nobody knows what the disk holds). Nothing here decides what is written.
"""

import queue
import threading
import time
from collections import deque
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, TypeVar, cast

import attrs
import outcome
import trio

from palyra_trio.core.codec import TapeRow
from palyra_trio.core.errors import JournalStopped, PalyraError
from palyra_trio.core.system_events import BodiesErased
from palyra_trio.journal.feed import Feed
from palyra_trio.journal.guards import Guard
from palyra_trio.journal.store import Entry, Outcome, Store

BATCH_EVENTS = 1000  # a batch of this size commits in about 7 ms, so nobody waits long behind one
QUEUE_TICKETS = 100_000  # about 50 MB of small tickets: reached only when the disk has stopped
DONATE_AFTER_S = 0.002  # a loop that never idles keeps the GIL from the writer; give it up once a ticket is this old
DONATE_FOR_S = 0.002

T = TypeVar("T")


@attrs.define(eq=False)
class Ticket:
    """Entries that commit together, the guards that they depend on, and who waits.

    `on_commit(rows)` or `on_refusal(error)` runs on the Trio thread, in the order of the tape, exactly once. Both
    must be quick and must not raise.
    """

    entries: tuple[Entry, ...]
    guards: tuple[Guard, ...] = ()
    blobs: tuple[tuple[str, bytes], ...] = ()
    on_commit: Callable[[tuple[TapeRow, ...]], None] | None = None
    on_refusal: Callable[[PalyraError], None] | None = None
    queued_s: float = 0.0
    size_bytes: int = attrs.field(init=False)
    _result: Outcome | None = None
    _waiter: trio.lowlevel.Task | None = None

    def __attrs_post_init__(self) -> None:
        size_bytes = 0
        for each in self.entries:
            size_bytes += len(each.body)
        for _, body in self.blobs:
            size_bytes += len(body)
        self.size_bytes = size_bytes

    async def wait(self) -> tuple[TapeRow, ...]:
        """Return the ticket's rows once they are durable. Raises the refusal, or JournalStopped.

        A cancel leaves the ticket where it is: it still commits, or does not, as a whole, and `on_commit` still runs.
        """
        if self._result is None:
            self._waiter = trio.lowlevel.current_task()

            def abort(_raise_cancel: Any) -> trio.lowlevel.Abort:
                self._waiter = None
                return trio.lowlevel.Abort.SUCCEEDED

            await trio.lowlevel.wait_task_rescheduled(abort)
        if isinstance(self._result, PalyraError):
            raise self._result
        assert self._result is not None
        return self._result

    def settle(self, result: Outcome) -> None:
        """Tell whoever waits, or will. Called on the Trio thread only."""
        self._result = result
        if isinstance(result, tuple):
            if self.on_commit is not None:
                self.on_commit(result)
        elif self.on_refusal is not None:
            self.on_refusal(result)
        if self._waiter is not None:
            trio.lowlevel.reschedule(self._waiter, outcome.Value(None))
            self._waiter = None


@attrs.define(eq=False)
class _Upkeep:
    """Work on the store itself, and who waits for it."""

    work: Callable[[Store], tuple[Any, tuple[TapeRow, ...]]]
    done: trio.Event = attrs.Factory(trio.Event)
    result: Any = None
    rows: tuple[TapeRow, ...] = ()


class Journal(trio.abc.Instrument):
    """The journal as the runtime sees it: `submit`, `append`, and the feed. Made by `open_journal`."""

    def __init__(
        self,
        store: Store,
        feed: Feed,
        queue_bytes: int,
        clock_ms: Callable[[], int],
        took: Callable[[float], None],
    ) -> None:
        self.feed = feed
        self._store = store
        self._clock_ms = clock_ms
        self._took = took
        self._queue_bytes = queue_bytes
        self._queue: queue.SimpleQueue[Ticket | _Upkeep | None] = queue.SimpleQueue()
        self._taken: deque[_Upkeep | None] = deque()  # from the queue, and not done yet
        self._pending: deque[Ticket] = deque()
        self._pending_bytes = 0
        self._upkeep: deque[_Upkeep] = deque()
        self._room = trio.lowlevel.ParkingLot()
        self._turnstile = trio.StrictFIFOLock()
        self._announced: deque[tuple[list[Ticket], list[Outcome] | JournalStopped]] = deque()
        self._batch_done = threading.Lock()
        self._batch_done.acquire()
        self._token = trio.lowlevel.current_trio_token()
        self._gave_way_s = 0.0
        self._stopped: JournalStopped | None = None
        self.failed = trio.Event()

    # --- appending ---

    def submit(self, ticket: Ticket) -> Ticket:
        """Queue a ticket and return it at once. Tickets commit in the order of their submission.

        Does not look at the bounds: whoever adds more than a few bytes asks `full` or waits for `room_for` first.
        Raises JournalStopped when nothing can be recorded any more.
        """
        self.check()
        ticket.queued_s = time.monotonic()
        self._pending.append(ticket)
        self._pending_bytes += ticket.size_bytes
        self._queue.put(ticket)
        return ticket

    def check(self) -> None:
        """Raise JournalStopped if nothing can be recorded any more."""
        if self._stopped is not None:
            raise self._stopped

    def full(self, ticket: Ticket) -> bool:
        """Return whether `ticket` must wait its turn: there is no room for it, or others wait already."""
        return self._turnstile.locked() or self._over(ticket)

    def _over(self, ticket: Ticket) -> bool:
        if not self._pending or self._stopped is not None:
            return False  # one that is larger than the whole queue still gets in, alone
        return self._pending_bytes + ticket.size_bytes > self._queue_bytes or len(self._pending) >= QUEUE_TICKETS

    async def room_for(self, ticket: Ticket) -> None:
        """Wait, in line, until the queue has room for `ticket` or the journal has stopped.

        Submit right after it returns: who waits next is not let in before.
        """
        async with self._turnstile:
            while self._over(ticket):
                await self._room.park()

    async def append(
        self, entries: Sequence[Entry], guards: tuple[Guard, ...] = (), blobs: tuple[tuple[str, bytes], ...] = ()
    ) -> tuple[TapeRow, ...]:
        """Commit `entries` as a whole and return their rows.

        Waits for room when the queue is full. Raises the guard's refusal or JournalStopped. If cancelled while it
        waits for room, nothing was queued; later, the entries may still commit, never in part.
        """
        ticket = Ticket(tuple(entries), guards, blobs)
        if self.full(ticket):
            await self.room_for(ticket)
        return await self.submit(ticket).wait()

    async def settled(self) -> None:
        """Wait until all that was submitted so far is durable, or refused."""
        await self.submit(Ticket(())).wait()

    async def upkeep(self, work: Callable[[Store], tuple[T, tuple[TapeRow, ...]]]) -> T:
        """Let `work` have the store to itself, on the writer's thread between two batches, and return its result.

        It also returns the rows that it appended. Nothing is committed meanwhile. A PalyraError of it is raised here;
        any other error stops the journal. If cancelled, the work is still done.
        """
        self.check()
        asked = _Upkeep(work)
        self._upkeep.append(asked)
        self._queue.put(asked)
        await asked.done.wait()
        if isinstance(asked.result, PalyraError):
            raise asked.result
        return cast("T", asked.result)

    # --- the Trio side of a commit ---

    def _announce(self) -> None:
        """Settle a batch: runs on the Trio thread, once a batch, in the order of the tape."""
        tickets, results = self._announced.popleft()
        now_s = time.monotonic()
        for ticket in tickets:
            self._pending_bytes -= self._pending.popleft().size_bytes
            self._took(now_s - ticket.queued_s)
        if isinstance(results, JournalStopped):
            self._stop(tickets, results)
            return
        self.feed.publish([row for result in results if isinstance(result, tuple) for row in result])
        for ticket, result in zip(tickets, results, strict=True):
            ticket.settle(result)
        if self._room:
            self._room.unpark_all()

    def _announce_upkeep(self) -> None:
        asked = self._upkeep.popleft()
        for row in asked.rows:
            if isinstance(event := row.event(), BodiesErased):
                self.feed.forget(event.rows)
        self.feed.publish(asked.rows)
        asked.done.set()

    def _stop(self, tickets: list[Ticket], reason: JournalStopped) -> None:
        self._stopped = reason
        for asked in self._upkeep:
            asked.result = reason
            asked.done.set()
        self._upkeep.clear()
        for ticket in (*tickets, *self._pending):
            ticket.settle(reason)
        self._pending.clear()
        self._pending_bytes = 0
        self._room.unpark_all()
        self.failed.set()

    def before_io_wait(self, timeout: float) -> None:
        """Block the loop for a moment when it is saturated and a ticket has waited too long (Trio's Instrument API).

        A loop that never idles takes the GIL back before the writer's thread can ask for it: measured, an
        acknowledgement then takes a second; with this, about 5 ms.
        """
        if timeout > 0:
            self._gave_way_s = time.monotonic()  # an idle loop gives way by itself
        elif self._pending and self._waits_since() > DONATE_AFTER_S:
            self._batch_done.acquire(timeout=DONATE_FOR_S)
            self._gave_way_s = time.monotonic()

    def _waits_since(self) -> float:
        """Return for how long the oldest ticket has waited while the loop did not give way, in seconds."""
        return time.monotonic() - max(self._pending[0].queued_s, self._gave_way_s)

    # --- the writer's thread ---

    def _write(self) -> None:
        """Commit batch after batch until told to end or a commit fails."""
        while (item := self._taken.popleft() if self._taken else self._queue.get()) is not None:
            if isinstance(item, _Upkeep):
                failure, announce = self._maintain(item), self._announce_upkeep
            else:
                failure, announce = self._commit(self._gather(item)), self._announce
            if failure is not None:
                self._announced.append(([], failure))
                announce = self._announce
            if self._batch_done.locked():
                self._batch_done.release()
            try:
                self._token.run_sync_soon(announce)
            except trio.RunFinishedError:
                return
            if failure is not None:
                return

    def _commit(self, tickets: list[Ticket]) -> JournalStopped | None:
        try:
            self._announced.append((tickets, self._store.append_batch(tickets, self._clock_ms())))
        except Exception as error:
            return _stopped(error)
        return None

    def _maintain(self, asked: _Upkeep) -> JournalStopped | None:
        try:
            asked.result, asked.rows = asked.work(self._store)
        except PalyraError as refusal:
            asked.result = refusal
        except Exception as error:
            return _stopped(error)
        return None

    def _gather(self, first: Ticket) -> list[Ticket]:
        """Return `first` and what else is queued, up to a batch, or to what is no ticket."""
        tickets, events = [first], len(first.entries)
        while events < BATCH_EVENTS:
            try:
                item = self._queue.get_nowait()
            except queue.Empty:
                break
            if not isinstance(item, Ticket):
                self._taken.append(item)
                break
            tickets.append(item)
            events += len(item.entries)
        return tickets

    def _end(self) -> None:
        self._stopped = self._stopped or JournalStopped("the journal is closed")
        self._queue.put(None)


def _stopped(error: Exception) -> JournalStopped:
    stopped = JournalStopped(f"a commit failed: {error}", remedy="check the disk, then start again")
    stopped.__cause__ = error
    return stopped


def wall_clock_ms() -> int:
    """Return Unix time in milliseconds."""
    return time.time_ns() // 1_000_000


@asynccontextmanager
async def open_journal(
    store: Store,
    feed: Feed,
    queue_bytes: int,
    clock_ms: Callable[[], int] = wall_clock_ms,
    took: Callable[[float], None] = lambda _: None,
) -> AsyncGenerator[Journal, None]:
    """Run the writer's thread for the length of the block. Leaving it commits what was submitted, then closes the store.

    `queue_bytes` bounds the bodies that wait to be committed; appenders wait for room. `took` is told of each ticket how
    many seconds it took from its submission to its commit; it must not raise.
    """
    journal = Journal(store, feed, queue_bytes, clock_ms, took)
    thread = threading.Thread(target=journal._write, name="palyra-journal", daemon=True)
    trio.lowlevel.add_instrument(journal)
    thread.start()
    try:
        yield journal
    finally:
        journal._end()
        with trio.CancelScope(shield=True):
            await trio.to_thread.run_sync(thread.join)
            await trio.lowlevel.checkpoint()
        trio.lowlevel.remove_instrument(journal)
        if journal.failed.is_set():
            store.abandon()
        else:
            store.close()
