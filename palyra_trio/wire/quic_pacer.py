"""When what is to be sent may be sent: aioquic's pacing, in bursts, so that not every datagram costs a wake-up.

A quiet connection may send a quarter of its window at once, and at most 16 datagrams. Once that is used up it waits until
half of it is there again: at most eight datagrams, where RFC 9002, section 7.7, lets ten be sent in a burst.
"""

import math

from aioquic.quic.recovery import QuicPacketPacer

_WHOLE = 16  # datagrams


class BurstPacer(QuicPacketPacer):
    """Holds datagrams back once the allowance is used up, until there is one for a burst. Times are the connection's."""

    def __init__(self, *, max_datagram_size: int) -> None:
        super().__init__(max_datagram_size=max_datagram_size)
        self._holds = False

    def next_send_time(self, now: float) -> float | None:  # type: ignore[override]  # aioquic's returns None too
        """Return when a datagram may be sent that may not be now."""
        if self.packet_time is None:
            return None
        self.update_bucket(now=now)
        if self.bucket_time <= 0:
            self._holds = True
        missing_s = self.bucket_max / 2 - self.bucket_time
        self._holds = self._holds and missing_s > 0
        return max(now + missing_s, math.nextafter(now, math.inf)) if self._holds else None

    def update_rate(self, congestion_window: int, smoothed_rtt: float) -> None:
        """aioquic lets no datagram take less than a microsecond, but a burst: on a fast path that would be one datagram."""
        super().update_rate(congestion_window, smoothed_rtt)
        datagrams = min(congestion_window // 4 // self._max_datagram_size, _WHOLE)
        self.bucket_max = max(self.bucket_max, datagrams * (self.packet_time or 0.0))
