"""Following a tape: every row after a seq, once, in order, until the run has ended. A follower keeps its own place."""

from palyra_trio.core.codec import TapeRow
from palyra_trio.core.tape import RunFinished
from palyra_trio.journal.feed import Feed
from palyra_trio.journal.queries import PAGE_ROWS, ReaderPool


class Follower:
    """A place on a run's tape. Nothing is queued for it: a slow follower costs nothing, and an abandoned one leaves nothing."""

    def __init__(self, feed: Feed, readers: ReaderPool, stream: str, after_seq: int) -> None:
        self._feed = feed
        self._readers = readers
        self._stream = stream
        self.seq = after_seq
        self.ended = False

    async def next_rows(self, most: int = PAGE_ROWS) -> tuple[TapeRow, ...]:
        """Return the rows after the last ones that were returned: at least one, or none once the run has ended.

        Waits while there are none. A cancel loses nothing: the next call returns the same rows.
        """
        while not self.ended:
            seen = self._feed.g
            rows = self._feed.recent(self._stream, self.seq, most)
            if rows is None:
                rows = await self._readers.ask(lambda reader: reader.page(self._stream, self.seq, most))
            if rows:
                self.seq = rows[-1].seq
                self.ended = rows[-1].kind == RunFinished.kind
                return rows
            await self._feed.wait_past(self._stream, seen)
        return ()
