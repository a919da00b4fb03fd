"""The newest rows in memory, and a way to wait for the next ones. Followers keep their own place; nothing is queued for them.

A follower asks for the rows of a stream after its seq. `recent` answers from memory while the ring still holds them;
when it has fallen off, the follower reads a page from the journal and comes back.
"""

from collections import deque
from collections.abc import Callable, Collection

import trio

from palyra_trio.core.codec import TapeRow

RING_ROWS = 8192  # a few seconds of a busy daemon; a follower that is further behind reads pages
RING_BYTES = 16 * 1024 * 1024


class Feed:
    """Rows in the order of their commit. Lives on the Trio thread; `publish` is called by the journal only.

    `watch` is told of all rows before anybody is woken; it must be quick and must not raise. `g` is the global position of the newest row that was published, 0 before the first.
    """

    def __init__(
        self,
        ring_rows: int = RING_ROWS,
        ring_bytes: int = RING_BYTES,
        watch: Callable[[Collection[TapeRow]], None] = lambda _: None,
    ) -> None:
        self.g = 0
        self._watch = watch
        self._ring_rows = ring_rows
        self._ring_bytes = ring_bytes
        self._bytes = 0
        self._ring: deque[TapeRow] = deque()
        self._streams: dict[str, deque[TapeRow]] = {}
        self._waiting: dict[str, trio.lowlevel.ParkingLot] = {}
        self._newest: dict[int, int] = {}
        self._of_kind: dict[int, trio.lowlevel.ParkingLot] = {}

    def publish(self, rows: Collection[TapeRow]) -> None:
        """Add durable rows, drop the oldest beyond the bounds, and wake whoever waits for one of the streams."""
        self._watch(rows)
        for row in rows:
            stream = row.stream
            held = self._streams.get(stream)
            if held is None:
                held = self._streams[stream] = deque()
            held.append(row)
            self._ring.append(row)
            self._bytes += len(row.body or b"")
            self.g = self._newest[row.kind] = row.g
            if stream in self._waiting:
                self._waiting.pop(stream).unpark_all()
            if row.kind in self._of_kind:
                self._of_kind[row.kind].unpark_all()
        while len(self._ring) > self._ring_rows or self._bytes > self._ring_bytes:
            self._drop_oldest()

    def _drop_oldest(self) -> None:
        row = self._ring.popleft()
        self._bytes -= len(row.body or b"")
        held = self._streams[row.stream]
        held.popleft()
        if not held:
            del self._streams[row.stream]

    def forget(self, erased: Collection[int]) -> None:
        """Let rows (by their `g`) have no body any more, as the journal has it since they were erased."""
        gone = frozenset(erased)
        for held in (self._ring, *self._streams.values()):
            for index, row in enumerate(held):
                if row.g in gone:
                    held[index] = row._replace(body=None)
        self._bytes = sum(len(row.body or b"") for row in self._ring)

    def recent(self, stream: str, after_seq: int, most: int) -> tuple[TapeRow, ...] | None:
        """Return up to `most` rows after `after_seq`, or None when memory cannot tell and the journal must be read."""
        held = self._streams.get(stream)
        if held is None or held[0].seq > after_seq + 1:
            return None
        skip = after_seq + 1 - held[0].seq
        return tuple([held[index] for index in range(skip, min(len(held), skip + most))])

    async def wait_past(self, stream: str, g: int) -> None:
        """Return once the stream may have a row beyond the global position `g`; at once if it may have one already.

        Note `Feed.g` first, look for rows then, and wait past it last: no row is missed. May return without a row.
        """
        held = self._streams.get(stream)
        if self.g > g and (not self._ring or self._ring[0].g > g + 1 or (held is not None and held[-1].g > g)):
            await trio.lowlevel.checkpoint()
            return
        lot = self._waiting.get(stream)
        if lot is None:
            lot = self._waiting[stream] = trio.lowlevel.ParkingLot()
        try:
            await lot.park()
        finally:
            if not lot and self._waiting.get(stream) is lot:
                del self._waiting[stream]

    async def wait_for_kind(self, kind: int, g: int) -> None:
        """Return once a row of this kind was published beyond the global position `g`, on whichever stream.

        Note `Feed.g` first, look for rows then, and wait past it last, as with `wait_past`.
        """
        if self._newest.get(kind, 0) > g:
            await trio.lowlevel.checkpoint()
            return
        await self._of_kind.setdefault(kind, trio.lowlevel.ParkingLot()).park()
