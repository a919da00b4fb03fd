"""Following a tape: every row after a seq, once, in order, until the run has ended or was interrupted.

A follower keeps its own place.
"""

import attrs

from palyra_trio.core.codec import TapeRow
from palyra_trio.core.commands import Accepted
from palyra_trio.core.errors import Interrupted, OffsetAhead, OffsetPruned
from palyra_trio.core.identity import Principal
from palyra_trio.core.run import TERMINAL
from palyra_trio.core.tape import RunFinished, StatusChange, run_stream
from palyra_trio.journal.feed import Feed
from palyra_trio.journal.queries import PAGE_ROWS, Reader, RunSummary
from palyra_trio.journal.reader_pool import ReaderPool
from palyra_trio.runtime.runs import INTERRUPTED


@attrs.frozen
class Place:
    """A place on a run's tape: behind row `after_seq`. `last_seq` is the newest row when the place was looked up."""

    run: RunSummary
    after_seq: int
    last_seq: int

    @property
    def stream(self) -> str:
        return run_stream(self.run.run_id)

    @property
    def at_end(self) -> bool:
        """Whether nothing follows, now or later. (A state is read before the tape: a final one has a last row.)"""
        return self.run.state in TERMINAL and self.after_seq == self.last_seq


def find_place(reader: Reader, run_id: str, after_seq: int, principal: Principal) -> Place:
    """Return the place behind row `after_seq` (0: before the first) of a principal's run.

    Raises NotFound, Ambiguous, OffsetAhead when the tape has no row `after_seq` yet, and OffsetPruned when the row
    after it was erased. A row that was erased further on is a row without a body.
    """
    run = reader.find_run(run_id, principal)
    place = Place(run, after_seq, reader.last_seq(run_stream(run.run_id)))
    if after_seq > place.last_seq:
        raise OffsetAhead(
            f"run {run.run_id} has {place.last_seq} rows, not {after_seq}", remedy="follow from the last row you have"
        )
    if after_seq < place.last_seq and (whole := reader.whole_after(place.stream, after_seq)) != after_seq + 1:
        raise OffsetPruned(
            f"row {after_seq + 1} of run {run.run_id} was erased",
            remedy=f"the next row that is whole follows after_seq {whole - 1 if whole else place.last_seq}",
        )
    return place


class Follower:
    """A place on a run's tape. Nothing is queued for it: a slow follower costs nothing, and an abandoned one leaves nothing."""

    def __init__(self, feed: Feed, readers: ReaderPool, run: Accepted, place: Place | None = None) -> None:
        """Follow `run` from `place` on, or from its first row: a run that was accepted just now needs no looking up."""
        self._feed = feed
        self._readers = readers
        self._stream = run_stream(run.run_id)
        self.run_id = run.run_id
        self.session_id = run.session_id
        self.seq = place.after_seq if place is not None else 0
        self.ended = place is not None and place.at_end
        self._interrupted = place is not None and place.run.reason == INTERRUPTED

    async def next_rows(self, most: int = PAGE_ROWS) -> tuple[TapeRow, ...]:
        """Return the rows after the last ones that were returned: at least one, or none once the run has ended.

        Waits while there are none, unless the run was interrupted: nothing follows then until somebody acts, and
        Interrupted is raised after the last row. A cancel loses nothing: the next call returns the same rows.
        """
        while not self.ended:
            seen = self._feed.g
            rows = self._feed.recent(self._stream, self.seq, most)
            if rows is None:
                rows = await self._readers.ask(lambda reader: reader.page(self._stream, self.seq, most))
            if rows:
                self.seq = rows[-1].seq
                self.ended = rows[-1].kind == RunFinished.kind
                self._interrupted = _interrupts(rows[-1])
                return rows
            if self._interrupted:
                raise Interrupted(
                    f"run {self.run_id} was interrupted, and nobody goes on with it",
                    remedy=f"start another one in session {self.session_id}, or cancel this one",
                )
            await self._feed.wait_past(self._stream, seen)
        return ()


def _interrupts(row: TapeRow) -> bool:
    event = row.event() if row.kind == StatusChange.kind else None
    return isinstance(event, StatusChange) and event.reason == INTERRUPTED
