"""Whether new runs are taken. A person closes this door and opens it again; runs that were accepted go on either way.

It also closes by itself while runs that were let in take too long to begin: to refuse at once is better than to be late
for everybody.

It stays closed over a restart: who stopped a daemon's work must not find it working because the machine came back.
"""

from palyra_trio.core.errors import Busy, PalyraError
from palyra_trio.core.system_events import AdmissionPaused, AdmissionResumed
from palyra_trio.core.tape import SYSTEM_STREAM
from palyra_trio.journal.store import entry
from palyra_trio.journal.writer import Ticket
from palyra_trio.runtime.runs import Settle
from palyra_trio.runtime.state import RuntimeState


class AdmissionControl:
    """The door that a StartRun passes. Sync: the bus calls it."""

    def __init__(self, state: RuntimeState, paused: AdmissionPaused | None) -> None:
        self._state = state
        self.paused = paused

    def check(self, now_s: float) -> None:
        """Return if new runs are taken, at a moment of Trio's clock. Raises Busy."""
        if self.paused is not None:
            why = f": {self.paused.reason}" if self.paused.reason else ""
            raise Busy(
                f"new runs are not taken, {self.paused.by} paused that{why}",
                remedy="`palyra-trio resume` ends the pause",
            )
        limit_ms = self._state.config.latency.first_event_ms
        if (waits_s := self._state.latencies.starting.longest_s(now_s)) * 1000 > limit_ms:
            raise Busy(
                f"a run that was let in {waits_s * 1000:.0f} ms ago has not begun yet, and {limit_ms} ms are the limit",
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
