"""HTTP/3 on a QUIC connection, either end: what arrives goes to the streams of calls, and what they queue goes out.

Windows follow consumption: the peer may send as much as was read. Output is framed when datagrams are about to be made,
so that many small messages share a frame, and only as far as the connection has room for what is not acknowledged yet.
What a new request means is the business of the two ends, `h3_server` and `h3_client`.
"""

import logging

import trio
from aioquic.quic import events
from grpclib.const import Status
from grpclib.exceptions import GRPCError

from palyra_trio.wire.call import ConnectionLost
from palyra_trio.wire.call_stream import CallStream
from palyra_trio.wire.h3_frames import (
    Code,
    Frame,
    Http3Error,
    StreamKind,
    check_settings,
    control_reader,
    decode_number,
    encode_frame,
    encode_number,
    encode_settings,
    parse_goaway,
    request_reader,
)
from palyra_trio.wire.h3_headers import HeaderCodec
from palyra_trio.wire.limits import Bucket, Limits
from palyra_trio.wire.metadata import Headers
from palyra_trio.wire.quic_connection import QuicPump, Sender
from palyra_trio.wire.quic_machine import Machine
from palyra_trio.wire.udp_port import Address

_log = logging.getLogger(__name__)

# What a reset says of the call (as gRPC over HTTP/2 has it, "Errors", with the codes of RFC 9114).
_OF_RESET = {
    Code.REQUEST_REJECTED: Status.UNAVAILABLE,
    Code.REQUEST_CANCELLED: Status.CANCELLED,
    Code.EXCESSIVE_LOAD: Status.RESOURCE_EXHAUSTED,
}
_REFILL = 4  # of the room for output: it is filled when so much of it is free, not after every acknowledgement
_CRITICAL = (StreamKind.CONTROL, StreamKind.QPACK_ENCODER, StreamKind.QPACK_DECODER)


class H3Stream(CallStream):
    """A stream of a request, and where its frames stand."""

    def __init__(self, pump: "H3Pump", stream_id: int) -> None:
        super().__init__(pump, stream_id)
        self.reader = request_reader(pump.limits.header_bytes)
        self.sections = 0  # of headers that have arrived: the first, and the trailers
        self.plain = False  # whether the answer is to be any of HTTP, not gRPC's only
        self.left_bytes: int | None = None  # of DATA that are still to come, where the headers say how many


class H3Pump(QuicPump):
    """The part that both ends share. A subclass says what to do with `headers`, and with a stream that `closed`."""

    def __init__(self, endpoint: Sender, machine: Machine, limits: Limits, address: Address) -> None:
        super().__init__(endpoint, machine, limits, address)
        self.streams: dict[int, H3Stream] = {}
        self.unread_bytes = 0  # of messages, on all streams
        self._queued_bytes = 0  # in all; what waits counts anew whenever more comes
        self.codec = HeaderCodec(limits.header_bytes)
        self._ready: dict[int, H3Stream] = {}  # with output, in the order of their turns
        self._full: dict[int, H3Stream] = {}  # with output, and no room for it
        self._control_id = -1
        self._settings = False  # whether the peer's have arrived
        self._kinds: dict[int, StreamKind | None] = {}  # of the peer's unidirectional streams; None: whatever it is
        self._begun: dict[int, bytes] = {}  # of those whose kind is not here yet
        self._control = control_reader()
        self._costly = Bucket(limits.control_frames, limits.control_frames_per_s, trio.current_time())

    @property
    def moved_bytes(self) -> int:
        """How much has come and gone since the beginning, at least: what is kept grows by no more."""
        return self.machine.moved_bytes + self._queued_bytes

    @property
    def kept_bytes(self) -> int:
        of_streams = sum(each.reader.kept_bytes + each.queued_bytes for each in self.streams.values())
        return super().kept_bytes + self.unread_bytes + of_streams

    def go_away(self, first_id: int) -> None:
        """Tell the peer that no request with this id or a later one is taken. The streams live on (RFC 9114, section 5.2)."""
        self.machine.write(self._control_id, encode_frame(Frame.GOAWAY, encode_number(first_id)))
        self._endpoint.send_soon(self)

    # --- for streams ---

    def has_output(self, stream: CallStream) -> None:
        self._ready[stream.id] = self.streams[stream.id]
        self._queued_bytes += stream.queued_bytes
        if stream.last is not None and len(self.streams) == 1:
            self._endpoint.send_now(self)  # it has said all, and nobody else could
        else:
            self._endpoint.send_soon(self)

    def send_headers(self, stream: CallStream, headers: Headers) -> None:
        self.machine.write(stream.id, self.codec.encode(headers))
        self._endpoint.send_soon(self)

    def check_unread(self) -> None:
        """Return if what has arrived and is not read may stay. Raises Busy."""

    def hand_back(self, stream: CallStream, flow_bytes: int) -> None:
        if self.machine.credit(stream.id, flow_bytes):
            self._endpoint.send_soon(self)

    def reset(self, stream: CallStream, code: int | None = None, why: GRPCError | None = None) -> None:
        """Drop a stream; whoever still uses it is told `why`."""
        self.close(stream, why or GRPCError(Status.CANCELLED, "the call was cancelled"))
        self.machine.drop(stream.id, Code.REQUEST_CANCELLED if code is None else code)
        self._endpoint.send_soon(self)

    def close(self, stream: CallStream, why: GRPCError) -> None:
        """Forget a stream that is over in both directions."""
        if self.streams.pop(stream.id, None) is not None:
            self._ready.pop(stream.id, None)
            self._full.pop(stream.id, None)
            stream.is_gone(why)
            self.closed(stream)

    # --- for the two ends ---

    def opened(self, stream_id: int) -> H3Stream | None:
        """Return a new stream for the peer's request, or None when it is no new one, or not taken."""
        raise NotImplementedError

    def headers(self, stream: H3Stream, block: bytes) -> bool:
        """Take headers of either kind. Return False when others of the same kind are to follow. Raises Http3Error."""
        raise NotImplementedError

    def going_away(self, first_id: int) -> None:
        """The peer takes no request with this id or a later one."""

    def closed(self, stream: CallStream) -> None:
        """A stream is over."""
        raise NotImplementedError

    def half_closed(self, stream: H3Stream) -> None:
        """One side of a stream has ended, and the other goes on."""

    def stopped(self, stream: H3Stream, code: int) -> None:
        """The peer reads no more on a stream."""
        raise NotImplementedError

    def wasted(self) -> None:
        """The peer has made work for nothing: it dropped a stream."""

    # --- for the connection ---

    def handshake_done(self) -> None:
        def begin(kind: StreamKind, data: bytes = b"") -> int:
            stream_id = self.machine.get_next_available_stream_id(is_unidirectional=True)
            self.machine.write(stream_id, encode_number(kind) + data)
            return stream_id

        self._control_id = begin(StreamKind.CONTROL, encode_settings(self.limits.header_bytes))
        begin(StreamKind.QPACK_ENCODER)
        begin(StreamKind.QPACK_DECODER)

    def take(self, event: events.StreamDataReceived | events.StreamReset | events.StopSendingReceived) -> None:
        try:
            match event:
                case events.StreamDataReceived(data, ended, stream_id):
                    left_bytes = 0
                    if stream_id & 2:
                        self._take_control(stream_id, data, ended)
                    else:
                        left_bytes = self._take_data(stream_id, data, ended)
                    self.machine.credit(stream_id, len(data) - left_bytes)
                case events.StreamReset(code, stream_id):
                    self.machine.credit_reset(stream_id)
                    self._was_reset(stream_id, code)
                case events.StopSendingReceived(code, stream_id):
                    if stream_id & 2:
                        raise Http3Error(Code.CLOSED_CRITICAL_STREAM, "our control streams are needed")
                    if stream := self.streams.get(stream_id):
                        self._ready.pop(stream_id, None)
                        self._full.pop(stream_id, None)
                        self.stopped(stream, code)
        except Http3Error as error:
            _log.debug("%s broke the protocol: %s", self.peer.address, error)
            self.abort(error.code, str(error))

    def flush(self) -> None:
        if self._full:
            self._ready.update(self._full)
            self._full.clear()
        while self._ready:
            stream = self._ready.pop(next(iter(self._ready)))
            self._frame(stream)

    def lost(self, why: str) -> None:
        for stream in list(self.streams.values()):
            self.close(stream, ConnectionLost(why or "the connection was closed"))

    def is_wanted(self) -> bool:
        return bool(self.streams)

    # --- reading ---

    def _take_data(self, stream_id: int, data: bytes, ended: bool) -> int:
        """Take what arrived on a request's stream. Return how many bytes of it are for the call to read."""
        stream = self.streams.get(stream_id) or self.opened(stream_id)
        if stream is None:
            return 0
        body_bytes = 0
        for kind, piece in stream.reader.feed(data):
            if kind == Frame.DATA:
                if stream.sections != 1:
                    raise Http3Error(Code.FRAME_UNEXPECTED, "DATA is out of its place")
                if not piece:
                    self._count_costly()
                elif stream.gone is None:
                    if stream.left_bytes is not None:
                        stream.left_bytes -= len(piece)
                        if stream.left_bytes < 0:
                            raise Http3Error(Code.MESSAGE_ERROR, "a body is longer than its content-length")
                    body_bytes += len(piece)
                    stream.has_arrived(piece, len(piece))
            elif kind == Frame.HEADERS:
                if stream.sections == 2:
                    raise Http3Error(Code.FRAME_UNEXPECTED, "HEADERS are out of their place")
                if stream.gone is None:
                    stream.sections += self.headers(stream, piece)
            else:
                self._count_costly()
        if ended:
            if stream.reader.unfinished:
                raise Http3Error(Code.FRAME_ERROR, "a frame is cut short")
            self._has_ended(stream)
        return body_bytes

    def _has_ended(self, stream: H3Stream) -> None:
        if stream.gone is not None:
            return
        if stream.left_bytes:
            raise Http3Error(Code.MESSAGE_ERROR, "a body is shorter than its content-length")
        stream.has_ended()
        if stream.local_ended:
            self.close(stream, GRPCError(Status.OK))
        else:
            self.half_closed(stream)

    def _was_reset(self, stream_id: int, code: int) -> None:
        if stream_id & 2:
            if self._kinds.pop(stream_id, None) is not None:
                raise Http3Error(Code.CLOSED_CRITICAL_STREAM, "the peer's control streams are needed")
            self._begun.pop(stream_id, None)
        elif stream := self.streams.get(stream_id) or self.opened(stream_id):
            known = code in Code._value2member_map_
            why = f"the peer reset the stream: {Code(code).name if known else hex(code)}"
            status = _OF_RESET.get(Code(code), Status.INTERNAL) if known else Status.INTERNAL
            lost = ConnectionLost(why) if status is Status.UNAVAILABLE else GRPCError(status, why)
            self.reset(stream, Code.REQUEST_CANCELLED, lost)
            self.wasted()

    def _take_control(self, stream_id: int, data: bytes, ended: bool) -> None:
        """Take what arrived on a unidirectional stream."""
        if stream_id not in self._kinds:
            data = self._begun.pop(stream_id, b"") + data
            if (number := decode_number(data, 0)) is None:
                if not ended:
                    self._begun[stream_id] = data
                return
            self._kinds[stream_id] = self._opened_control(stream_id, number[0])
            data = data[number[1] :]
        kind = self._kinds[stream_id]
        if kind is StreamKind.CONTROL:
            for each, payload in self._control.feed(data):
                self._take_control_frame(each, payload)
        elif kind is not None and data:
            self.codec.feed(kind, data)
        if ended:
            if kind is not None:
                raise Http3Error(Code.CLOSED_CRITICAL_STREAM, "the peer's control streams are needed")
            del self._kinds[stream_id]

    def _opened_control(self, stream_id: int, number: int) -> StreamKind | None:
        if number not in _CRITICAL:
            if number == StreamKind.PUSH:
                raise Http3Error(Code.STREAM_CREATION_ERROR, "nothing is to be pushed here")
            self._count_costly()
            self.machine.refuse(stream_id, Code.STREAM_CREATION_ERROR)
            return None
        if number in self._kinds.values():
            raise Http3Error(Code.STREAM_CREATION_ERROR, "a second control stream")
        return StreamKind(number)

    def _take_control_frame(self, kind: int, payload: bytes) -> None:
        if kind == Frame.SETTINGS:
            if self._settings:
                raise Http3Error(Code.FRAME_UNEXPECTED, "SETTINGS came twice")
            check_settings(payload)
            self._settings = True
        elif not self._settings:
            raise Http3Error(Code.MISSING_SETTINGS, "SETTINGS did not come first")
        else:
            self._count_costly()
            if kind == Frame.GOAWAY:
                self.going_away(parse_goaway(payload))

    def _count_costly(self) -> None:
        if not self._costly.take(trio.current_time()):
            raise Http3Error(Code.EXCESSIVE_LOAD, "too many frames that carry nothing")

    # --- writing ---

    def _frame(self, stream: H3Stream) -> None:
        """Give the machine as much of a stream's output as there is room for, and its end when nothing is left."""
        window = self.limits.stream_window_bytes
        queued = stream.queued_bytes
        room = max(0, window - self.machine.held_bytes(stream.id))
        if room < min(queued, window // _REFILL):
            self._full[stream.id] = stream
            return
        last = stream.last
        ends = last is not None and queued <= room
        if queued:
            self.machine.write(
                stream.id, encode_frame(Frame.DATA, stream.take(min(queued, room))), end=ends and not last
            )
        if ends:
            if last or not queued:
                self.machine.write(stream.id, self.codec.encode(last) if last else b"", end=True)
            stream.has_sent_all()
            if stream.remote_ended:
                self.close(stream, GRPCError(Status.OK))
            else:
                self.half_closed(stream)
        elif stream.queued_bytes:
            self._full[stream.id] = stream
