"""A latency as a picture: how many observations fell into each step of its histogram, and where its budget is. Pure."""

from bisect import bisect_left

import attrs

from palyra_trio.core.words import duration
from palyra_trio.runtime.latency import BOUNDS_MS, Latency

STEPS = len(BOUNDS_MS) + 1
HEIGHT = 64.0
LEAST_HEIGHT = 2.0  # of a step in which there was one at all
MARKED = (1, 3, 6, 9, 11)  # the bounds that have room for their number


@attrs.frozen
class Step:
    """A column: percent of the width from the left, and its height in units of the picture, the highest HEIGHT."""

    left: float
    height: float
    over: bool
    said: str


@attrs.frozen
class Picture:
    """A histogram as it is drawn. `budget` and the places of `marks` are percent of the width."""

    name: str
    count: int
    breaches: int
    budget_ms: int
    typical: str
    slow: str
    steps: tuple[Step, ...]
    budget: float
    marks: tuple[tuple[float, str], ...]

    @property
    def within(self) -> bool:
        return not self.breaches


def picture_of(latency: Latency) -> Picture:
    """Return the picture of what was observed so far."""
    highest = max(latency.counts) or 1
    return Picture(
        latency.name.replace("_", " "),
        latency.count,
        latency.breaches,
        latency.budget_ms,
        _at_most(latency.quantile_ms(0.5)) if latency.count else "",
        _at_most(latency.quantile_ms(0.99)) if latency.count else "",
        tuple(_step(index, count, highest, latency.budget_ms) for index, count in enumerate(latency.counts)),
        _place(latency.budget_ms),
        tuple((_percent(index + 1), _short(BOUNDS_MS[index])) for index in MARKED),
    )


def _step(index: int, count: int, highest: int, budget_ms: int) -> Step:
    height = max(LEAST_HEIGHT, HEIGHT * count / highest) if count else 0.0
    below = BOUNDS_MS[index - 1] if index else 0
    upto = f"at most {_short(BOUNDS_MS[index])}" if index < len(BOUNDS_MS) else f"more than {_short(below)}"
    return Step(_percent(index), round(height, 1), below >= budget_ms, f"{upto}: {count}")


def _place(budget_ms: float) -> float:
    """Return where a time lies among the steps, which are of one width."""
    index = bisect_left(BOUNDS_MS, budget_ms)
    if index == len(BOUNDS_MS):
        return 100.0
    below = BOUNDS_MS[index - 1] if index else 0
    return _percent(index + (budget_ms - below) / (BOUNDS_MS[index] - below))


def _percent(steps: float) -> float:
    return round(100 * steps / STEPS, 2)


def _at_most(ms: float) -> str:
    return f"≤ {_short(ms)}" if ms != float("inf") else f"> {_short(BOUNDS_MS[-1])}"


def _short(ms: float) -> str:
    return duration(int(ms)).replace(".0 s", " s") if ms >= 1000 else f"{ms:g} ms"
