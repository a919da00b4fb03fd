"""Spans from the rows as they are published, whatever the runs do: nothing in a run knows that it is traced.

A span is told once, by the process that sees it end. Nothing is kept of a run that waits. When one comes of which nothing
is known, for it waited, or an earlier process began it, what came before is read from the journal first.
"""

import logging
from collections.abc import Awaitable, Callable, Iterable

import trio

from palyra_trio.core.codec import TapeRow
from palyra_trio.core.tape import RUN_STREAM
from palyra_trio.runtime.tracing import KINDS, RunTrace, Span

_log = logging.getLogger(__name__)

Read = Callable[[str], Awaitable[tuple[TapeRow, ...]]]
"""Read the rows of a run from the journal."""


class TraceFeed:
    """Tells `ended` of each span. `take` is for `Feed(watch=…)`; what it cannot know yet waits for `read_behind`."""

    def __init__(self, ended: Callable[[Span], None], *, content: bool) -> None:
        self._ended = ended
        self._content = content
        self._runs: dict[str, RunTrace] = {}
        self._behind: dict[str, tuple[int, int]] = {}
        self._fell_behind = trio.Event()

    def take(self, rows: Iterable[TapeRow]) -> None:
        """Fold rows that have just become durable, whatever their streams."""
        for row in rows:
            if row.kind not in KINDS:
                continue
            run_id = row.stream.removeprefix(RUN_STREAM)
            if row.seq == 1:
                self._runs[run_id] = RunTrace(run_id, content=self._content)
            if (trace := self._runs.get(run_id)) is not None:
                self._fold(run_id, trace, row)
            else:
                first, _ = self._behind.get(run_id, (row.seq, 0))
                self._behind[run_id] = (first, row.seq)
                self._fell_behind.set()

    async def catch_up(self, read: Read) -> None:
        """Read what came before, of each run for which that is wanted, for ever."""
        while True:
            await self._fell_behind.wait()
            await self.read_behind(read)

    async def read_behind(self, read: Read) -> None:
        """Read what came before, of each run for which that is wanted now."""
        self._fell_behind = trio.Event()
        while self._behind:
            run_id = next(iter(self._behind))
            try:
                rows = await read(run_id)
                newest = rows[-1].seq
            except Exception:
                _log.exception("the spans of run %s are not told", run_id)
                del self._behind[run_id]
                continue
            first, last = self._behind[run_id]
            if newest < last:
                continue  # there are newer ones meanwhile, which the next reading has
            del self._behind[run_id]
            trace = RunTrace(run_id, content=self._content)
            for row in rows:
                if row.seq <= last and row.kind in KINDS:
                    self._fold(run_id, trace, row, told=row.seq >= first)

    def _fold(self, run_id: str, trace: RunTrace, row: TapeRow, *, told: bool = True) -> None:
        """Fold the next row of a run, tell of what it ends if it is to be `told`, and forget a run that waits or has ended."""
        try:
            for span in trace.take(row):
                if told:
                    self._ended(span)
        except Exception:
            _log.exception("row %d of run %s is in no span", row.seq, run_id)
        if trace.idle:
            self._runs.pop(run_id, None)
        else:
            self._runs[run_id] = trace
