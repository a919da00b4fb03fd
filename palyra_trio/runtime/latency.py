"""How long what people wait for takes, as histograms, each against the budget that it is to stay within (DESIGN, limits).

Observing is sync and costs a microsecond. A budget that is exceeded is an event on the system's tape, at most one in
REPORT_S for each, which tells how often and by how much.
"""

import math
from bisect import bisect_left
from collections.abc import Callable

import attrs
import trio

from palyra_trio.core.config import LatencyConfig
from palyra_trio.core.system_events import LatencyBreach
from palyra_trio.core.tape import SYSTEM_STREAM
from palyra_trio.journal.store import entry
from palyra_trio.journal.writer import Journal

BOUNDS_MS = (0.5, 1, 2.5, 5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000)
REPORT_S = 60.0


@attrs.define
class Latency:
    """One of them. `counts[i]` are the observations of at most `BOUNDS_MS[i]` and more than the bound before; the last, of more."""

    name: str
    budget_ms: int
    counts: list[int] = attrs.Factory(lambda: [0] * (len(BOUNDS_MS) + 1))
    sum_s: float = 0.0
    breaches: int = 0
    unreported: int = 0
    worst_ms: float = 0.0
    _exceeded: Callable[[], None] = attrs.field(default=lambda: None, repr=False)

    def observe(self, took_s: float) -> None:
        """Count one, in seconds."""
        took_ms = took_s * 1000
        self.counts[bisect_left(BOUNDS_MS, took_ms)] += 1
        self.sum_s += took_s
        if took_ms > self.budget_ms:
            self.breaches += 1
            self.unreported += 1
            self.worst_ms = max(self.worst_ms, took_ms)
            self._exceeded()

    @property
    def count(self) -> int:
        return sum(self.counts)

    def quantile_ms(self, share: float) -> float:
        """Return the bound below which `share` (0 to 1) of the observations lie; infinite beyond the last, 0 before any."""
        left = share * self.count
        for bound, count in zip(BOUNDS_MS, self.counts, strict=False):
            left -= count
            if left <= 0:
                return bound if self.count else 0.0
        return float("inf")

    def report(self) -> LatencyBreach | None:
        """Return what was exceeded since the last report, if anything was."""
        if not self.unreported:
            return None
        breach = LatencyBreach(self.name, self.budget_ms, math.ceil(self.worst_ms), self.unreported)
        self.unreported, self.worst_ms = 0, 0.0
        return breach


class Starting:
    """The runs that were let in and have not begun, in the order in which they were."""

    def __init__(self, latency: Latency) -> None:
        self._latency = latency
        self._since: dict[str, float] = {}

    def admitted(self, run_id: str, now_s: float) -> None:
        self._since[run_id] = now_s

    def begun(self, run_id: str, now_s: float) -> None:
        """The run's first event after its Input is durable."""
        if (since := self._since.pop(run_id, None)) is not None:
            self._latency.observe(now_s - since)

    def gone(self, run_id: str) -> None:
        """The run ended, or was refused, before it began."""
        self._since.pop(run_id, None)

    @property
    def count(self) -> int:
        return len(self._since)

    def longest_s(self, now_s: float) -> float:
        """Return for how long the oldest of them waits, 0 without any."""
        return now_s - next(iter(self._since.values()), now_s)


class Latencies:
    """The latencies of a process: a commit of the journal, a judgement of a call, and the first event of a run."""

    def __init__(self, config: LatencyConfig) -> None:
        self._breached = trio.Event()
        self.journal_write = self._latency("journal_write", config.journal_write_ms)
        self.gate = self._latency("gate", config.gate_ms)
        self.first_event = self._latency("first_event", config.first_event_ms)
        self.starting = Starting(self.first_event)
        self.all = (self.journal_write, self.gate, self.first_event)

    def _latency(self, name: str, budget_ms: int) -> Latency:
        return Latency(name, budget_ms, exceeded=lambda: self._breached.set())

    async def report(self, journal: Journal) -> None:
        """Record breaches as they come, at most once in REPORT_S, until cancelled. Raises JournalStopped."""
        while True:
            await self._breached.wait()
            self._breached = trio.Event()
            breaches = [breach for each in self.all if (breach := each.report()) is not None]
            if breaches:
                await journal.append([entry(SYSTEM_STREAM, breach) for breach in breaches])
            await trio.sleep(REPORT_S)
