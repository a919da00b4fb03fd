"""aioquic's state machine of one connection, sans-IO, with what it lacks: windows that follow what was read, and bounds.

It reaches into aioquic's private parts, and so works with the one version that it was written for; nothing else does.
"""

import hmac
import logging
import math
from collections.abc import Callable
from typing import Any

import aioquic
from aioquic import tls
from aioquic._buffer import Buffer
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.congestion.base import K_GRANULARITY
from aioquic.quic.connection import (
    QuicConnection,
    QuicConnectionError,
    QuicConnectionId,
    QuicConnectionState,
    QuicReceiveContext,
)
from aioquic.quic.events import ConnectionTerminated
from aioquic.quic.packet import QuicErrorCode, QuicFrameType
from aioquic.quic.packet_builder import QuicPacketBuilder
from aioquic.quic.recovery import QuicPacketSpace
from aioquic.quic.stream import QuicStream
from cryptography import x509

from palyra_trio.core.words import one_line
from palyra_trio.wire.limits import Limits, QuicLimits
from palyra_trio.wire.quic_config import SAFE_DATAGRAM_BYTES
from palyra_trio.wire.quic_pacer import BurstPacer

logging.getLogger("quic").setLevel(logging.ERROR)  # what a peer does wrong is told by `end`, and no warning of ours

WRITTEN_FOR = "1.7.2"
RESET_TOKEN_BYTES = 16
UNIDIRECTIONAL_STREAMS = 16  # that a peer may open: HTTP/3 has three, and some send grease on others
HANDSHAKE_BYTES = 64 * 1024  # of TLS, at each level of encryption: a chain of certificates has a few thousand
GAPS = 256  # in what has arrived of a stream: half of the datagrams of a window, lost one by one, make a hundred
_WINDOW_STEPS = 4  # a window is told anew when a quarter of it was read
_BLACK_HOLE_PROBES = 2  # questions in a row without an answer, after which large datagrams are suspected
_VARINT_BYTES = 8
_REASON = 200  # characters of it that are told
_ROUNDING_S = 1e-6  # a timer that rings when it should may else find that it is too early, and be set for now

ResetToken = Callable[[bytes], bytes]  # of a connection id


class Machine(QuicConnection):
    """One connection. Takes datagrams and gives events and datagrams, with `now` from one monotonic clock.

    `reset_token` makes the secret by which this end may later end the connection without knowing of it; a client has none.
    """

    def __init__(
        self,
        configuration: QuicConfiguration,
        limits: Limits,
        quic: QuicLimits,
        *,
        original_id: bytes | None = None,
        retried_id: bytes | None = None,
        reset_token: ResetToken | None = None,
    ) -> None:
        super().__init__(
            configuration=configuration,
            original_destination_connection_id=original_id,
            retry_source_connection_id=retried_id,
        )
        self.exporter_secret = b""  # RFC 8446, section 7.5: exporter_master_secret; empty until the handshake is done
        self._limits = limits
        self._quic = quic
        self._reset_token = reset_token
        self._window_step_bytes = limits.connection_window_bytes // _WINDOW_STEPS
        self._stream_window_step_bytes = limits.stream_window_bytes // _WINDOW_STEPS
        self._keepalive_sent_at = -math.inf
        self._answering = False  # stream data is to be sent: an acknowledgement goes with it
        self._written_bytes = 0
        requests = 0 if configuration.is_client else limits.streams
        self._local_max_streams_bidi.value = self._local_max_streams_bidi.sent = requests
        self._local_max_streams_uni.value = self._local_max_streams_uni.sent = UNIDIRECTIONAL_STREAMS
        self._mark(self._host_cids[0])
        self._loss._pacer = BurstPacer(max_datagram_size=quic.datagram_bytes)

    # --- for the connection ---

    @property
    def has_begun(self) -> bool:
        """Whether a datagram has arrived that could be read."""
        return self._state is not QuicConnectionState.FIRSTFLIGHT

    @property
    def is_over(self) -> bool:
        """Whether nothing is to be sent any more, and nothing is taken."""
        return self._state is QuicConnectionState.TERMINATED

    @property
    def is_closing(self) -> bool:
        """Whether a close was asked for by either end."""
        return self._close_event is not None

    @property
    def end(self) -> str:
        """Why it is closing or over, or ""."""
        event = self._close_event
        if event is None:
            return ""
        return one_line(event.reason_phrase, _REASON) or f"it was closed with the code {event.error_code:#x}"

    @property
    def is_distrusted(self) -> bool:
        """Whether TLS has ended it: one end does not take what the other one shows (RFC 9001, section 4.8)."""
        event = self._close_event
        return event is not None and event.error_code & ~0xFF == QuicErrorCode.CRYPTO_ERROR

    @property
    def keepalive_at(self) -> float:
        """When the peer has been silent for so long that it is to be asked, and was not asked just now."""
        idle_s = self._idle_timeout()
        silence_s = min(self._quic.keepalive_s, idle_s / 2)
        quiet_since = math.inf if self._close_at is None else self._close_at - idle_s
        return max(quiet_since, self._keepalive_sent_at) + silence_s

    @property
    def ids(self) -> list[bytes]:
        """The connection ids that the peer may send to."""
        return [each.cid for each in self._host_cids]

    @property
    def peer_certificate(self) -> x509.Certificate | None:
        return self.tls._peer_certificate

    @property
    def subject(self) -> str:
        """Whom the peer's certificate names, where this end has asked for one; else ""."""
        return ""

    @property
    def lacks_certificate(self) -> bool:
        """Whether the server asks for a certificate, and this client has none."""
        return self.tls._certificate_request is not None and self.tls.certificate is None

    @property
    def awaits_verdict(self) -> bool:
        """Whether the server has yet to say what it makes of the certificate that it asked this client for."""
        return self.tls._certificate_request is not None and not self._handshake_confirmed

    @property
    def peer_max_streams(self) -> int:
        """How many request streams the peer has let us open so far, since the beginning."""
        return self._remote_max_streams_bidi

    def send_keepalive(self, now: float) -> None:
        """Have the peer answer; the question is repeated until it does, or it is over."""
        self._keepalive_sent_at = now
        self.send_ping(0)

    def credit(self, stream_id: int, count: int) -> bool:
        """Let the peer send `count` bytes more, on the stream and in all. Return whether it is to be told now."""
        self._local_max_data.value += count
        due = self._local_max_data.value - self._local_max_data.sent >= self._window_step_bytes
        if (stream := self._streams.get(stream_id)) is not None:
            stream.max_stream_data_local += count
            due |= self._window_is_due(stream)
        return due

    def credit_reset(self, stream_id: int) -> None:
        """Let the peer send as much more as it had counted on a stream that it has now reset and we have not received."""
        if (stream := self._streams.get(stream_id)) is not None:
            self._local_max_data.value += stream.receiver.highest_offset - stream.receiver.starting_offset()

    @property
    def moved_bytes(self) -> int:
        """How much has arrived and was written since the beginning: what is kept grows by no more."""
        return self._local_max_data.used + self._written_bytes

    @property
    def kept_bytes(self) -> int:
        """How much is kept here: what arrived before what it follows, with the gaps, and what is not acknowledged."""
        return sum(len(each.receiver._buffer) + len(each.sender._buffer) for each in self._streams.values())

    def held_bytes(self, stream_id: int) -> int:
        """Return how much of a stream's output is kept here: not sent yet, or not acknowledged."""
        stream = self._streams.get(stream_id)
        return 0 if stream is None else stream.sender._buffer_stop - stream.sender._buffer_start

    def has_output(self) -> bool:
        """Return whether the peer has not acknowledged all of what was sent on streams that have their end."""
        senders = [each.sender for each in self._streams.values()]
        return any(each._buffer_fin is not None and not each.is_finished for each in senders)

    def write(self, stream_id: int, data: bytes, *, end: bool = False) -> None:
        """Send on a stream. What the peer does not want any more is dropped."""
        if self._stream_is_discarded(stream_id):
            return
        stream = self._get_or_create_stream_for_send(stream_id)
        if stream.sender._reset_error_code is None:
            self._answering = True
            self._written_bytes += len(data)
            stream.sender.write(data, end_stream=end)

    def drop(self, stream_id: int, code: int) -> None:
        """End both directions of a stream that is still open in them. Nothing is said where they have ended."""
        self.reset_stream(stream_id, code)
        self.refuse(stream_id, code)

    def refuse(self, stream_id: int, code: int) -> None:
        """Have the peer send no more on a stream."""
        stream = self._streams.get(stream_id)
        if stream is not None and not stream.receiver.is_finished:
            stream.receiver.stop(code)

    def export(self, label: bytes, length: int) -> bytes:
        """Return keying material that both ends have, and no other connection (RFC 8446, section 7.5; empty context)."""
        schedule: Any = self.tls.key_schedule
        hashed, nothing = schedule.algorithm, schedule.hash_empty_value
        secret = tls.hkdf_expand_label(hashed, self.exporter_secret, label, nothing, hashed.digest_size)
        return tls.hkdf_expand_label(hashed, secret, b"exporter", nothing, length)

    def settle(self) -> None:
        """The handshake is done: let go of what only it needed, and use datagrams of full size."""
        self._crypto_buffers.pop(tls.Epoch.INITIAL, None)
        self._crypto_buffers.pop(tls.Epoch.HANDSHAKE, None)
        self._max_datagram_size = self._quic.datagram_bytes

    def forget(self, why: str) -> None:
        """Say nothing, and be over."""
        if not self.is_over:
            self._close_event = self._close_event or _ended(why)
            self._close_end()

    def release(self) -> None:
        """Hold nothing any more but how it ended. What aioquic holds points back at it, and would wait for the collector."""
        ending = {name: vars(self)[name] for name in ("_state", "_close_event")}
        vars(self).clear()
        vars(self).update(ending)

    # --- for aioquic ---

    def receive_datagram(self, data: bytes, addr: Any, now: float) -> None:
        if self._is_client and self._is_reset(data):
            self.forget("the other end does not know the connection any more")
            return
        super().receive_datagram(data, addr, now)

    def datagrams_to_send(self, now: float) -> list[tuple[bytes, Any]]:
        space = self._spaces.get(tls.Epoch.ONE_RTT)
        if space is not None and space.ack_at is not None and (self._answering or space.ack_at <= now):
            # With data it saves a datagram of its own and the timer for it; and it is not to wait for data that is paced.
            space.ack_at = now - K_GRANULARITY
        self._answering = False
        return super().datagrams_to_send(now)

    def handle_timer(self, now: float) -> None:
        super().handle_timer(now + _ROUNDING_S)
        loss = self._loss
        if loss._pto_count >= _BLACK_HOLE_PROBES:
            self._max_datagram_size = SAFE_DATAGRAM_BYTES  # RFC 8899, section 4.4: a black hole for large ones
        while loss._pto_count > 1 and loss.get_probe_timeout() * 2**loss._pto_count > self._quic.probe_s:
            loss._pto_count -= 1

    def _handle_crypto_frame(self, context: QuicReceiveContext, frame_type: int, buf: Buffer) -> None:
        """No window holds for TLS (RFC 9000, section 7.5), and aioquic keeps what a message of 16 MB was begun with."""
        place = buf.tell()
        end = buf.pull_uint_var() + buf.pull_uint_var()
        self._check_gaps(self._crypto_streams[context.epoch], frame_type)
        if end > HANDSHAKE_BYTES:
            why = f"TLS has more than {HANDSHAKE_BYTES} bytes"
            raise QuicConnectionError(QuicErrorCode.CRYPTO_BUFFER_EXCEEDED, frame_type, why)
        buf.seek(place)
        super()._handle_crypto_frame(context, frame_type, buf)

    def _get_or_create_stream(self, frame_type: int, stream_id: int) -> QuicStream:
        stream = super()._get_or_create_stream(frame_type, stream_id)
        self._check_gaps(stream, frame_type)
        return stream

    def _check_gaps(self, stream: QuicStream, frame_type: int) -> None:
        """aioquic looks at every gap for each frame, so that bytes with gaps between them cost the square of their number."""
        if len(stream.receiver._ranges) > GAPS:
            why = f"a stream has more than {GAPS} gaps"
            raise QuicConnectionError(QuicErrorCode.INTERNAL_ERROR, frame_type, why)

    def _is_reset(self, data: bytes) -> bool:
        """RFC 9000, section 10.3.1."""
        if len(data) <= RESET_TOKEN_BYTES or data[0] & 0x80 or data[1:9] == self.host_cid:
            return False
        known = [self._peer_cid, *self._peer_cid_available]
        return any(
            each.stateless_reset_token and hmac.compare_digest(each.stateless_reset_token, data[-RESET_TOKEN_BYTES:])
            for each in known
        )

    def _update_traffic_key(
        self, direction: tls.Direction, epoch: tls.Epoch, cipher_suite: tls.CipherSuite, secret: bytes
    ) -> None:
        server_writes = direction is (tls.Direction.DECRYPT if self._is_client else tls.Direction.ENCRYPT)
        if epoch is tls.Epoch.ONE_RTT and server_writes:
            schedule: Any = self.tls.key_schedule
            self.exporter_secret = schedule.derive_secret(b"exp master")
        super()._update_traffic_key(direction, epoch, cipher_suite, secret)

    def _replenish_connection_ids(self) -> None:
        known = len(self._host_cids)
        super()._replenish_connection_ids()
        for each in self._host_cids[known:]:
            self._mark(each)

    def _mark(self, each: QuicConnectionId) -> None:
        if self._reset_token is not None:
            each.stateless_reset_token = self._reset_token(each.cid)

    def _write_connection_limits(self, builder: QuicPacketBuilder, space: QuicPacketSpace) -> None:
        for limit, step in (
            (self._local_max_data, self._window_step_bytes),
            (self._local_max_streams_bidi, self._limits.streams // _WINDOW_STEPS),
            (self._local_max_streams_uni, 1),
        ):
            if limit.value - limit.sent >= max(step, 1):
                buffer = builder.start_frame(
                    limit.frame_type,
                    capacity=1 + _VARINT_BYTES,
                    handler=self._on_connection_limit_delivery,
                    handler_args=(limit,),
                )
                buffer.push_uint_var(limit.value)
                limit.sent = limit.value

    def _write_stream_limits(self, builder: QuicPacketBuilder, space: QuicPacketSpace, stream: QuicStream) -> None:
        if self._window_is_due(stream):
            buffer = builder.start_frame(
                QuicFrameType.MAX_STREAM_DATA,
                capacity=1 + 2 * _VARINT_BYTES,
                handler=self._on_max_stream_data_delivery,
                handler_args=(stream,),
            )
            buffer.push_uint_var(stream.stream_id or 0)
            buffer.push_uint_var(stream.max_stream_data_local)
            stream.max_stream_data_local_sent = stream.max_stream_data_local

    def _window_is_due(self, stream: QuicStream) -> bool:
        return (
            stream.max_stream_data_local - stream.max_stream_data_local_sent >= self._stream_window_step_bytes
            and stream.receiver._final_size is None
        )


def check_version() -> None:
    """Raise RuntimeError when aioquic is not the one that this was written for."""
    if aioquic.__version__ != WRITTEN_FOR:
        raise RuntimeError(f"aioquic is {aioquic.__version__}; this works with {WRITTEN_FOR} and was not tried with it")


def _ended(why: str) -> ConnectionTerminated:
    return ConnectionTerminated(error_code=QuicErrorCode.NO_ERROR, frame_type=QuicFrameType.PADDING, reason_phrase=why)
