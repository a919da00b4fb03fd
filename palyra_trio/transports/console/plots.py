"""Stacked bars as geometry: where each bar, line and label of a picture goes, in its own units. What it looks like is CSS's."""

from collections.abc import Sequence

import attrs

from palyra_trio.core.words import compact

HEIGHT = 190.0
LEFT, RIGHT, TOP, BOTTOM = 44.0, 20.0, 8.0, 22.0
LABEL = 58.0  # the least between two labels of the axis below
LINES = 4  # of the axis to the left, about
GAP = 0.25  # of a column that is left free


@attrs.frozen
class Column:
    """One column: its label on the axis, what is said of it as a whole, and its parts, each series' in order."""

    label: str
    words: str
    parts: tuple[int, ...]


@attrs.frozen
class Bar:
    x: float
    y: float
    width: float
    height: float
    series: int


@attrs.frozen
class Mark:
    """A label of an axis, and where it stands."""

    at: float
    text: str


@attrs.frozen
class Hit:
    """The whole height of a column, for a pointer to find its words."""

    x: float
    width: float
    words: str


@attrs.frozen
class Plot:
    """A picture. `lines` are across, each at its height; `marks` below, each at its place."""

    width: float
    bars: tuple[Bar, ...]
    lines: tuple[Mark, ...]
    marks: tuple[Mark, ...]
    hits: tuple[Hit, ...]
    height: float = HEIGHT
    left: float = LEFT
    floor: float = HEIGHT - BOTTOM


def stacked(columns: Sequence[Column], width: float) -> Plot:
    """Return the picture of columns side by side, `width` wide."""
    step = (width - LEFT - RIGHT) / max(1, len(columns))
    ticks = scale(max((sum(each.parts) for each in columns), default=0))
    floor, room = HEIGHT - BOTTOM, HEIGHT - BOTTOM - TOP
    bars, hits = [], []
    for index, column in enumerate(columns):
        x, y = LEFT + index * step, floor
        for series, value in enumerate(column.parts):
            if value:
                height = room * value / ticks[-1]
                y -= height
                bars.append(
                    Bar(_round(x + step * GAP / 2), _round(y), _round(step * (1 - GAP)), _round(height), series)
                )
        hits.append(Hit(_round(x), _round(step), column.words))
    lines = tuple(Mark(_round(floor - room * tick / ticks[-1]), compact(tick)) for tick in ticks)
    every = max(1, -int(-LABEL // step))
    marks = tuple(
        Mark(_round(LEFT + (index + 0.5) * step), columns[index].label)
        for index in range(len(columns) - 1, -1, -every)
        if LEFT + (index + 0.5) * step >= LABEL / 2
    )
    return Plot(width, tuple(bars), lines, marks, tuple(hits))


def scale(highest: int) -> tuple[int, ...]:
    """Return round numbers from 0 to at least `highest`, in even steps of 1, 2 or 5 times a power of ten."""
    step, factors = 1, (2, 5, 10)
    power = 1
    while step * LINES < highest:
        for factor in factors:
            step = power * factor
            if step * LINES >= highest:
                break
        else:
            power *= 10
    return tuple(range(0, max(1, -(-highest // step)) * step + 1, step))


def _round(value: float) -> float:
    return round(value, 1)
