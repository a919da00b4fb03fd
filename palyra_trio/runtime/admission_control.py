"""Whether new runs are taken. A person closes this door and opens it again; runs that were accepted go on either way.

It stays closed over a restart: who stopped a daemon's work must not find it working because the machine came back.

It also closes by itself under load: to refuse at once is better than to be late for everybody. A burst is let in whole. But
once a run has waited for longer than the budget to begin, one may be starting at a time, until nobody has had to be refused
for a while. That keeps the loop as busy as more of them would, and each begins sooner, however many stand at the door.
"""

import math
from collections.abc import Generator
from contextlib import contextmanager

from palyra_trio.core.errors import Busy, PalyraError
from palyra_trio.core.system_events import AdmissionPaused, AdmissionResumed
from palyra_trio.core.tape import SYSTEM_STREAM
from palyra_trio.journal.store import entry
from palyra_trio.journal.writer import Ticket
from palyra_trio.runtime.runs import Settle
from palyra_trio.runtime.state import RuntimeState

CALM_S = 1.0


class AdmissionControl:
    """The door that a StartRun passes. Sync."""

    def __init__(self, state: RuntimeState, paused: AdmissionPaused | None) -> None:
        self._state = state
        self._entering: dict[object, float] = {}  # since when
        self._refused_s = -math.inf
        self.paused = paused

    def check(self) -> None:
        """Return if new runs are taken at all. Raises Busy."""
        if self.paused is not None:
            why = f": {self.paused.reason}" if self.paused.reason else ""
            raise Busy(
                f"new runs are not taken, {self.paused.by} paused that{why}",
                remedy="`palyra-trio resume` ends the pause",
            )

    @contextmanager
    def entering(self, now_s: float) -> Generator[None]:
        """Let a run in, at a moment of Trio's clock. The block ends when it was accepted or refused. Raises Busy."""
        self.check()
        self._check_load(now_s)
        self._entering[this := object()] = now_s
        try:
            yield
        finally:
            del self._entering[this]

    def _check_load(self, now_s: float) -> None:
        starting, limit_ms = self._state.latencies.starting, self._state.config.latency.first_event_ms
        waits_ms = max(now_s - next(iter(self._entering.values()), now_s), starting.longest_s(now_s)) * 1000
        strained = now_s - self._refused_s < CALM_S
        if waits_ms > limit_ms or (strained and (self._entering or starting.count)):
            self._refused_s = now_s
            raise Busy(
                f"there are more new runs than this daemon can begin within {limit_ms} ms",
                remedy="start fewer at a time, or try again in a second",
            )

    def change(self, event: AdmissionPaused | AdmissionResumed, settle: Settle) -> None:
        """Pause or resume, at once, so that no run is recorded after a pause that came before it. Raises JournalStopped."""
        before, self.paused = self.paused, event if isinstance(event, AdmissionPaused) else None

        def refused(error: PalyraError) -> None:
            self.paused = before
            settle(error)

        ticket = Ticket((entry(SYSTEM_STREAM, event),), on_commit=lambda _rows: settle(None), on_refusal=refused)
        self._state.journal.submit(ticket)
