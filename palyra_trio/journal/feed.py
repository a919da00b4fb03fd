"""The newest rows in memory, and a way to wait for the next ones. Followers keep their own place; nothing is queued for them.

A follower asks for the rows of a stream after its seq. `recent` answers from memory while the ring still holds them;
when it has fallen off, the follower reads a page from the journal and comes back.
"""

from collections import deque
from collections.abc import Iterable
from weakref import WeakValueDictionary

import trio

from palyra_trio.core.codec import TapeRow

RING_ROWS = 8192  # a few seconds of a busy daemon; a follower that is further behind reads pages
RING_BYTES = 16 * 1024 * 1024


class Feed:
    """Rows in the order of their commit. Lives on the Trio thread; `publish` is called by the journal only."""

    def __init__(self, ring_rows: int = RING_ROWS, ring_bytes: int = RING_BYTES) -> None:
        self._ring_rows = ring_rows
        self._ring_bytes = ring_bytes
        self._bytes = 0
        self._ring: deque[TapeRow] = deque()
        self._streams: dict[str, deque[TapeRow]] = {}
        self._waiting: WeakValueDictionary[str, trio.Event] = WeakValueDictionary()

    def publish(self, rows: Iterable[TapeRow]) -> None:
        """Add durable rows, drop the oldest beyond the bounds, and wake whoever waits for one of the streams."""
        woken = set()
        for row in rows:
            self._ring.append(row)
            self._streams.setdefault(row.stream, deque()).append(row)
            self._bytes += len(row.body or b"")
            woken.add(row.stream)
        while len(self._ring) > self._ring_rows or self._bytes > self._ring_bytes:
            self._drop_oldest()
        if self._waiting:
            for stream in woken:
                if (event := self._waiting.pop(stream, None)) is not None:
                    event.set()

    def _drop_oldest(self) -> None:
        row = self._ring.popleft()
        self._bytes -= len(row.body or b"")
        held = self._streams[row.stream]
        held.popleft()
        if not held:
            del self._streams[row.stream]

    def recent(self, stream: str, after_seq: int, most: int) -> tuple[TapeRow, ...] | None:
        """Return up to `most` rows after `after_seq`, or None when memory cannot tell and the journal must be read."""
        held = self._streams.get(stream)
        if held is None or held[0].seq > after_seq + 1:
            return None
        skip = after_seq + 1 - held[0].seq
        return tuple(held[index] for index in range(skip, min(len(held), skip + most)))

    def next_of(self, stream: str) -> trio.Event:
        """Return the event that the stream's next row sets. Take it first, read then, wait last: no row is missed.

        It is kept for as long as a caller keeps it.
        """
        return self._waiting.setdefault(stream, trio.Event())
