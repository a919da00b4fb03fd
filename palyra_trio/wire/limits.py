"""What a connection may cost, as numbers, and the bucket that counts what a peer does too often. Plain data and a sync rule."""

import attrs

from palyra_trio.core.errors import Busy


@attrs.frozen
class Limits:
    """Bounds of a connection and of the calls on it; a peer that goes over one is refused or cut off."""

    message_bytes: int = 4 * 1024 * 1024
    unproven_message_bytes: int = 64 * 1024  # where anybody may ask, before it is known who does
    unread_bytes: int = 16 * 1024 * 1024  # of requests on a connection, whole or begun: what four large ones take
    streams: int = 100  # calls at a time on a connection
    connections: int = 1024
    header_bytes: int = 32 * 1024
    frame_bytes: int = 64 * 1024  # of a frame of DATA that is sent, and that a client takes
    stream_window_bytes: int = 256 * 1024  # what a call may be sent ahead of its reader
    connection_window_bytes: int = 4 * 1024 * 1024  # 16 calls that nobody reads do not hold up the others
    send_buffer_bytes: int = 128 * 1024  # what a call may queue before its sender waits
    control_backlog_bytes: int = 1024 * 1024  # answers to a peer that asks and does not read
    preface_s: float = 10  # until TLS and the first SETTINGS are done
    keepalive_idle_s: float = 60  # silence after which the peer is asked
    keepalive_timeout_s: float = 20  # until it must have answered
    flush_s: float = 1  # for the last bytes of a connection that is being closed
    resets: int = 400  # calls that a peer may cancel in a burst, and then
    resets_per_s: float = 50
    control_frames: int = 1000  # PING, SETTINGS, PRIORITY, GOAWAY, empty DATA: frames that cost us and carry nothing
    control_frames_per_s: float = 100

    def check_unread(self, unread_bytes: int) -> None:
        """Return if a connection may have so many bytes of requests that nobody has read. Raises Busy."""
        if unread_bytes > self.unread_bytes:
            raise Busy(
                f"over {self.unread_bytes} bytes of requests on this connection are not read yet",
                remedy="send fewer large requests at a time",
            )


@attrs.frozen
class QuicLimits:
    """Bounds of a UDP endpoint, of its handshakes and of the silence on its connections."""

    always_retry: bool = False  # have every client show that it is where it says it is, not only under load
    retry_above: int = 32  # handshakes in flight of clients that have not shown it, beyond which every client has to
    handshakes: int = 256  # in flight of clients that have shown it; the oldest makes room for one more
    address_share: int = 4  # the part of these, and of all connections, that one address may have: a fourth
    address_handshakes: int = 64  # of one address in a burst, before it has to show that it is there, and then
    address_handshakes_per_s: float = 16
    addresses: int = 4096  # that are counted once they were shown; the one that was not seen for longest is forgotten
    kept_bytes: int = 256 * 1024 * 1024  # unread or not acknowledged, of all connections; then the heaviest one ends
    weighed_bytes: int = 64 * 1024  # that a connection takes and gives before it is weighed again
    resets_per_s: float = 100  # stateless resets, which cost us a packet and no state
    datagram_bytes: int = 1452  # an Ethernet frame's worth; falls back to what every path carries
    window_datagrams: int = 64  # that are read before anybody else has a turn
    backlog_datagrams: int = 1024  # that wait for the socket; more are lost, as the network may lose them
    idle_s: float = 60  # silence after which a connection is over (RFC 9000, section 10.1)
    keepalive_s: float = (
        20  # silence after which the peer is asked, where there are calls; NATs forget after 30 (RFC 9308)
    )
    probe_s: float = 3  # between questions to a peer that does not answer: a path that comes back is found so soon


class Bucket:
    """Allows a burst, and then a rate."""

    def __init__(self, burst: float, per_s: float, now: float) -> None:
        self._burst = burst
        self._per_s = per_s
        self._left = burst
        self._at = now

    def has(self, now: float) -> bool:
        """Return whether one more is not too many."""
        self._left = min(self._burst, self._left + (now - self._at) * self._per_s)
        self._at = now
        return self._left >= 1

    def take(self, now: float) -> bool:
        """Count one. Return False when it is one too many."""
        if not self.has(now):
            return False
        self._left -= 1
        return True
