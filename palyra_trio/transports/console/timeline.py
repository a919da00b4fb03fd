"""A tape as a page shows it: an event a line, of all kinds or of one, a page at a time. Pure.

Pages are cut by how many events there were before, so that one that is full stays as it is; the newest one grows.
"""

from collections.abc import Iterable
from typing import Self

import attrs

from palyra_trio.core.codec import KIND_NAMES, TapeRow
from palyra_trio.core.errors import InvalidArgument
from palyra_trio.core.event_words import words
from palyra_trio.core.tape import ApprovalDecided, ApprovalRequested, ModelDelta
from palyra_trio.core.words import elapsed, one_line

PAGE_ROWS = 200
WORDS_CHARACTERS = 240
WHOLE = ""  # every kind but streamed pieces of text
EVERYTHING = "everything"
_PEOPLE = frozenset({ApprovalRequested.kind, ApprovalDecided.kind})


@attrs.frozen
class Line:
    """An event as a line. `after` is when it was, counted from the run's beginning; `group` the colour that its kind has."""

    seq: int
    at_ms: int
    after: str
    kind: str
    group: str
    said: str


@attrs.frozen
class Filter:
    """Which events are shown: `kind` is WHOLE, EVERYTHING, or the name of one."""

    kind: str = WHOLE

    @classmethod
    def named(cls, kind: str) -> "Filter":
        """Return the filter of that name. Raises InvalidArgument."""
        if kind not in (WHOLE, EVERYTHING, *KIND_NAMES.values()):
            raise InvalidArgument(f"there are no events of kind {kind!r}", remedy="choose one from the list")
        return cls(kind)

    @property
    def deltas(self) -> bool:
        """Whether streamed pieces of text are among them."""
        return self.kind in (EVERYTHING, ModelDelta.__name__)

    def lets_through(self, row: TapeRow) -> bool:
        if self.kind == WHOLE:
            return row.kind != ModelDelta.kind
        return self.kind == EVERYTHING or KIND_NAMES.get(row.kind) == self.kind


class Timeline:
    """One page of a tape: page `wanted` (from 1), or, with 0, the newest as rows come."""

    def __init__(self, shows: Filter, wanted: int = 0) -> None:
        self.filter = shows
        self._wanted = wanted
        self._began_ms = 0
        self._rows: list[TapeRow] = []
        self.counts: dict[str, int] = {}
        self.total = 0

    def add(self, rows: Iterable[TapeRow]) -> Self:
        for row in rows:
            self._began_ms = self._began_ms or row.at_ms
            name = KIND_NAMES.get(row.kind, str(row.kind))
            self.counts[name] = self.counts.get(name, 0) + 1
            if self.filter.lets_through(row):
                self.total += 1
                if self._wanted in (0, self.pages):
                    if not (self.total - 1) % PAGE_ROWS:
                        self._rows.clear()
                    self._rows.append(row)
        return self

    @property
    def pages(self) -> int:
        return max(1, -(-self.total // PAGE_ROWS))

    @property
    def page(self) -> int:
        return self._wanted or self.pages

    @property
    def last(self) -> int:
        """Return the seq of the last event on the page, 0 where there is none."""
        return self._rows[-1].seq if self._rows else 0

    def lines(self, after: int = 0) -> tuple[Line, ...]:
        """Return the lines of the page behind row `after`."""
        return tuple(self._line(row) for row in self._rows if row.seq > after)

    def _line(self, row: TapeRow) -> Line:
        return Line(
            row.seq,
            row.at_ms,
            elapsed(max(0, row.at_ms - self._began_ms)),
            KIND_NAMES.get(row.kind, str(row.kind)),
            _group(row.kind),
            one_line(words(row, row.event())[: 2 * WORDS_CHARACTERS], WORDS_CHARACTERS),
        )


def page_with(shows: Filter, rows: Iterable[TapeRow], seq: int) -> tuple[int, int]:
    """Return the page on which row `seq` is, or the next one that is shown, or the last; and which row that is."""
    page, found = 1, 0
    for count, row in enumerate(filter(shows.lets_through, rows), 1):
        page, found = -(-count // PAGE_ROWS), row.seq
        if row.seq >= seq:
            break
    return page, found


def _group(kind: int) -> str:
    if kind in _PEOPLE:
        return "people"
    return "life" if kind < 16 else "model" if kind < 32 else "tool"
