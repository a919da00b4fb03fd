"""When things happened in a run, as a picture: an item a model turn or call, its stretches of time as bars on one scale.

Long gaps in which nobody worked are drawn short, or what was done around a night's wait for a person could not be seen.
Pure: lengths are percent of the width, so the picture fits wherever it is put.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Literal

import attrs

from palyra_trio.core.words import ahead, duration, elapsed

Doing = Literal["model", "tool", "asked"]

GAP_MS = 2000  # a shorter wait is never cut short
GAP_SHARE = 0.5  # of the time that was worked: a longer gap is
GAP_WIDTH = 7.0
GAPS_WIDTH = 35.0  # of all gaps together, at most
LEAST_WIDTH = 0.4  # of a bar
OPEN_WIDTH = 8.0  # by which what goes on reaches beyond the last event
TICKS = 5
TICK_DISTANCE = 9.0


@attrs.define
class Stretch:
    """What was done from when to when (Unix milliseconds); `ended_ms` is None while it goes on."""

    doing: Doing
    began_ms: int
    ended_ms: int | None = None


@attrs.define
class Item:
    """A model turn or a tool call. `seq` is the row that it began with, `outcome` how it came out, in a word or two."""

    seq: int
    name: str
    began_ms: int
    stretches: list[Stretch] = attrs.Factory(list)
    outcome: str = ""
    failed: bool = False

    def begin(self, doing: Doing, at_ms: int) -> None:
        self.end(at_ms)
        self.stretches.append(Stretch(doing, at_ms))

    def end(self, at_ms: int, outcome: str = "", *, failed: bool = False) -> None:
        """End what is going on, if anything is. An outcome that is told stays."""
        if self.stretches and self.stretches[-1].ended_ms is None:
            self.stretches[-1].ended_ms = at_ms
        self.outcome, self.failed = outcome or self.outcome, failed or self.failed

    @property
    def going_on(self) -> bool:
        return bool(self.stretches) and self.stretches[-1].ended_ms is None

    def took_ms(self, doing: Doing, now_ms: int) -> int:
        found = (each for each in self.stretches if each.doing == doing)
        return sum((now_ms if each.ended_ms is None else each.ended_ms) - each.began_ms for each in found)


@attrs.frozen
class Bar:
    """A stretch as it is drawn. One that had not ended reaches to the right edge."""

    doing: str
    left: float
    width: float
    said: str


@attrs.frozen
class Line:
    """An item as it is drawn. `beside_left` says that its words stand on the left of its bars, where there is more room."""

    item: Item
    bars: tuple[Bar, ...]
    said: str
    beside: float
    beside_left: bool


@attrs.frozen
class Mark:
    """A moment on the axis, or, with a width, a gap that is drawn short."""

    left: float
    said: str
    width: float = 0.0


@attrs.frozen
class Chart:
    """The picture. `omitted` items before the first are not in it."""

    lines: tuple[Line, ...]
    ticks: tuple[Mark, ...]
    gaps: tuple[Mark, ...]
    took_ms: int
    omitted: int


def draw(items: Sequence[Item], began_ms: int, now_ms: int, most: int) -> Chart:
    """Return the picture of the last `most` items of a run that began at `began_ms`; what goes on is drawn up to `now_ms`."""
    shown = items[-most:]
    omitted = len(items) - len(shown)
    first_ms = shown[0].began_ms if omitted else began_ms
    scale = _Scale(shown, first_ms, max(now_ms, first_ms + 1))
    return Chart(
        tuple(_line(each, scale, now_ms) for each in shown),
        tuple(_ticks(scale, began_ms)),
        tuple(Mark(p.left, ahead(p.ended_ms, p.began_ms), p.width) for p in scale.pieces if p.idle),
        now_ms - began_ms,
        omitted,
    )


def _line(item: Item, scale: "_Scale", now_ms: int) -> Line:
    bars = []
    for each in item.stretches:
        ended_ms = now_ms if each.ended_ms is None else each.ended_ms
        left, right = scale.at(each.began_ms), scale.at(ended_ms) if each.ended_ms is not None else 100.0
        kind = "failed" if item.failed and each is item.stretches[-1] else each.doing
        words = {"model": "asks the model", "tool": "runs", "asked": "waits for a person"}[each.doing]
        said = f"{item.name} {words}: {duration(ended_ms - each.began_ms)}"
        bars.append(Bar(kind, left, round(max(LEAST_WIDTH, right - left), 2), said))
    left = bars[0].left if bars else scale.at(item.began_ms)
    right = bars[-1].left + bars[-1].width if bars else left
    worked_ms = sum(item.took_ms(doing, now_ms) for doing in ("model", "tool"))
    took = duration(worked_ms) if any(each.doing != "asked" for each in item.stretches) else ""
    said = ", ".join(filter(None, (took, item.outcome if item.failed or not took else "")))
    beside_left = right > 80 and left > 20
    return Line(item, tuple(bars), said, left if beside_left else min(right, 100.0), beside_left)


@attrs.frozen
class _Piece:
    """A stretch of time on the scale."""

    began_ms: int
    ended_ms: int
    left: float
    width: float
    idle: bool


class _Scale:
    """Where each moment lies: time in equal lengths, but for the long gaps."""

    def __init__(self, items: Sequence[Item], began_ms: int, ended_ms: int) -> None:
        room = 100.0 - OPEN_WIDTH * any(each.going_on for each in items)
        cuts = [*_stretches_apart(_worked(items, ended_ms), began_ms, ended_ms)]
        gaps = sum(idle for _, _, idle in cuts)
        gap_width = min(GAP_WIDTH, GAPS_WIDTH / gaps) if gaps else 0.0
        self.even_ms = sum(end - begin for begin, end, idle in cuts if not idle) or 1
        per_ms = (room - gaps * gap_width) / self.even_ms
        left, pieces = 0.0, list[_Piece]()
        for begin, end, idle in cuts:
            width = gap_width if idle else (end - begin) * per_ms
            pieces.append(_Piece(begin, end, left, width, idle))
            left += width
        self.pieces = tuple(pieces)

    def at(self, ms: int) -> float:
        """Return where a moment lies, 0 to 100."""
        for each in self.pieces:
            if ms <= each.ended_ms:
                share = max(0, ms - each.began_ms) / max(1, each.ended_ms - each.began_ms)
                return round(each.left + share * each.width, 2)
        return self.pieces[-1].left + self.pieces[-1].width


def _worked(items: Iterable[Item], now_ms: int) -> Iterator[tuple[int, int]]:
    """Yield when somebody worked, without overlaps, in order."""
    spans = sorted(
        (each.began_ms, now_ms if each.ended_ms is None else each.ended_ms)
        for item in items
        for each in item.stretches
        if each.doing != "asked"
    )
    begin, end = spans[0] if spans else (now_ms, now_ms)
    for next_begin, next_end in spans[1:]:
        if next_begin > end:
            yield begin, end
            begin = next_begin
        end = max(end, next_end)
    yield begin, end


def _stretches_apart(
    worked: Iterable[tuple[int, int]], began_ms: int, ended_ms: int
) -> Iterator[tuple[int, int, bool]]:
    """Yield the time in order, cut where a gap begins or ends that is to be drawn short."""
    worked = [*worked, (ended_ms, ended_ms)]
    long_ms = max(GAP_MS, GAP_SHARE * sum(end - begin for begin, end in worked))
    since, at = began_ms, began_ms
    for begin, end in worked:
        if begin - at > long_ms:
            if at > since:
                yield since, at, False
            yield at, begin, True
            since = begin
        at = max(at, end)
    if ended_ms > since:
        yield since, ended_ms, False


def _ticks(scale: _Scale, began_ms: int) -> Iterator[Mark]:
    step = _step_ms(scale.even_ms)
    last = -TICK_DISTANCE
    for piece in scale.pieces:
        if piece.idle:
            last = piece.left + piece.width - TICK_DISTANCE / 2
            continue
        for ms in range(-(-(piece.began_ms - began_ms) // step) * step, piece.ended_ms - began_ms + 1, step):
            left = scale.at(began_ms + ms)
            if left - last >= TICK_DISTANCE:
                yield Mark(left, f"{ms} ms" if step < 100 and ms < 1000 else elapsed(ms).replace(".00 s", " s"))
                last = left


def _step_ms(length_ms: int) -> int:
    """Return the least of 1, 2, 5, 10, … (seconds and minutes: 15, 30, 60 too) that divides a length into TICKS at most."""
    return (
        next(step for step in _STEPS_MS if length_ms / step <= TICKS)
        if length_ms <= TICKS * _STEPS_MS[-1]
        else length_ms
    )


_STEPS_MS = (
    *(step * 10**power for power in range(4) for step in (1, 2, 5)),
    *(seconds * 1000 for seconds in (10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14_400, 28_800, 86_400)),
)
