"""An HTTP/2 connection on a Trio stream, either end: h2 decides, two tasks read and write, a third asks a silent peer.

Windows follow consumption: bytes are handed back as calls read them. Calls queue output on their streams; the one
writer puts as much of it into frames as the windows take, a stream after the other, and writes that at once. What a
new stream means is the business of the two ends, `h2_server` and `h2_client`.
"""

import logging
from collections.abc import Generator
from contextlib import contextmanager

import h2.events
import trio
from grpclib.const import Status
from grpclib.exceptions import GRPCError
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.exceptions import ProtocolError
from h2.frame_buffer import FrameBuffer
from h2.settings import SettingCodes, Settings
from hyperframe.frame import Frame, GoAwayFrame

from palyra_trio.core.identity import Peer
from palyra_trio.wire.call import ConnectionLost
from palyra_trio.wire.call_stream import CallStream
from palyra_trio.wire.limits import Bucket, Limits
from palyra_trio.wire.metadata import Headers

WRITE_BYTES = 256 * 1024  # of DATA in one write: the other streams' turn comes after it
DEFAULT_WINDOW_BYTES = 65_535  # RFC 9113, section 6.9.2
DEFAULT_FRAME_BYTES = 16_384  # RFC 9113, section 4.2
TABLE_BYTES = 4096  # of headers that are kept for compression, also when the peer would have us keep more

_log = logging.getLogger(__name__)
logging.getLogger("hpack").setLevel(logging.INFO)  # its debug lines hold the values of headers, tokens among them

# What a reset says of the call (gRPC over HTTP/2, "Errors").
_OF_RESET = {
    ErrorCodes.REFUSED_STREAM: Status.UNAVAILABLE,
    ErrorCodes.CANCEL: Status.CANCELLED,
    ErrorCodes.ENHANCE_YOUR_CALM: Status.RESOURCE_EXHAUSTED,
    ErrorCodes.INADEQUATE_SECURITY: Status.PERMISSION_DENIED,
}
_COSTLY = (
    h2.events.PingReceived,
    h2.events.RemoteSettingsChanged,
    h2.events.UnknownFrameReceived,
    h2.events.PriorityUpdated,
    h2.events.ConnectionTerminated,
)


class Machine(H2Connection):
    """h2, but the streams that a GOAWAY names as accepted live on: RFC 9113, section 6.8. h2 closes them all."""

    def _receive_goaway_frame(self, frame: GoAwayFrame) -> tuple[list[Frame], list[h2.events.Event]]:
        event = h2.events.ConnectionTerminated()
        event.error_code = frame.error_code
        event.last_stream_id = frame.last_stream_id
        event.additional_data = frame.additional_data or None
        return [], [event]


class _Frames(FrameBuffer):
    """h2's, but a frame over the limit is refused by its header. h2 first waits for all of it, which may be 16 MiB."""

    def __next__(self) -> Frame:
        if len(self._data) >= 9:
            self._validate_frame_length(int.from_bytes(self._data[:3], "big"))
        return super().__next__()


class H2Pump:
    """The part that both ends share. A subclass says what to do with `received`, and with a stream that `closed`."""

    def __init__(self, stream: trio.abc.Stream, peer: Peer, limits: Limits, *, client: bool) -> None:
        now = trio.current_time()
        self.peer = peer
        self.limits = limits
        self.streams: dict[int, CallStream] = {}
        self.unread_bytes = 0  # of messages, on all streams
        self._stream = stream
        self._h2 = _machine(limits, client=client)
        self._heard_at = now
        self._greeted = False
        self._stopping = False
        self._queued = bytearray()  # frames for the socket, in order
        self._ready: dict[int, CallStream] = {}  # with output that a window may take, in the order of their turns
        self._writer = trio.lowlevel.ParkingLot()
        self._control = Bucket(limits.control_frames, limits.control_frames_per_s, now)
        self._sent_data = False
        self._nursery: trio.Nursery

    async def run(self) -> None:
        """Serve the connection until the peer or `stop` ends it; all tasks of it end here.

        Malformed bytes end the connection with GOAWAY; a lost connection just ends it. Nothing is raised but Cancelled. The
        stream stays open for its owner to close, and no call's stream is usable any more.
        """
        async with trio.open_nursery() as self._nursery:
            self._nursery.start_soon(self._write)
            self._nursery.start_soon(self._keep_alive)
            try:
                await self._read()
            finally:
                self._lose(ConnectionLost("the connection was lost"))
            self._nursery.cancel_scope.cancel()

    def stop(self, code: ErrorCodes = ErrorCodes.NO_ERROR, why: str = "") -> None:
        """Write what is queued, and end the connection: after `flush_s` at the latest. A code other than NO_ERROR is told."""
        if self._stopping:
            return
        if code is not ErrorCodes.NO_ERROR:
            self.go_away(code, why)
        self._begin_stop()

    def go_away(self, code: ErrorCodes = ErrorCodes.NO_ERROR, why: str = "") -> None:
        """Tell the peer that no stream is taken after those that were. The streams live on."""
        # Not h2's close_connection: it would forbid all that is still to be sent on them.
        self._collect_control()
        frame = GoAwayFrame(0, self._h2.highest_inbound_stream_id, code, why.encode())
        self._queued += frame.serialize()
        self._writer.unpark_all()

    # --- for streams ---

    def has_output(self, stream: CallStream) -> None:
        self._ready[stream.id] = stream
        self._writer.unpark_all()

    def send_headers(self, stream: CallStream, headers: Headers) -> None:
        with self._touching(stream):
            self._h2.send_headers(stream.id, headers)
        self._writer.unpark_all()

    def check_unread(self) -> None:
        """Return if what has arrived and is not read may stay. Raises Busy."""

    def hand_back(self, stream: CallStream, flow_bytes: int) -> None:
        if not self._stopping:
            self._h2.acknowledge_received_data(flow_bytes, stream.id)
            self._collect_control()

    def reset(self, stream: CallStream, code: int | None = None, why: GRPCError | None = None) -> None:
        """Drop a stream; whoever still uses it is told `why`."""
        self.close(stream, why or GRPCError(Status.CANCELLED, "the call was cancelled"))
        with self._touching(stream):
            self._h2.reset_stream(stream.id, ErrorCodes.CANCEL if code is None else code)
        self._writer.unpark_all()

    def close(self, stream: CallStream, why: GRPCError) -> None:
        """Forget a stream that is over in both directions."""
        if self.streams.pop(stream.id, None) is not None:
            self._ready.pop(stream.id, None)
            stream.is_gone(why)
            self.closed(stream)

    @contextmanager
    def _touching(self, stream: CallStream) -> Generator[None]:
        """A stream may be closed in h2 already, by an event that was received with this one and has its turn yet."""
        try:
            yield
        except ProtocolError:
            self.close(stream, GRPCError(Status.CANCELLED, "the peer has closed the stream"))

    # --- for the two ends ---

    def received(self, event: h2.events.Event) -> None:
        """Take headers of either kind, and GOAWAY."""
        raise NotImplementedError

    def closed(self, stream: CallStream) -> None:
        """A stream is over."""
        raise NotImplementedError

    def half_closed(self, stream: CallStream) -> None:
        """One side of a stream has ended, and the other goes on."""

    def wasted(self) -> None:
        """The peer has made work for nothing: it dropped a stream."""

    # --- reading ---

    async def _read(self) -> None:
        while True:
            try:
                data = await self._stream.receive_some()
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                return
            if not data:
                return
            self._heard_at = trio.current_time()
            if not self._stopping:
                self._receive(data)

    def _receive(self, data: bytes | bytearray) -> None:
        try:
            events = self._h2.receive_data(data)
        except ProtocolError as error:  # h2 has queued a GOAWAY that says which
            _log.debug("%s broke the protocol: %s", self.peer.address, error)
            self._begin_stop()
            return
        except Exception as error:
            _log.warning("%s sent what h2 cannot take: %r", self.peer.address, error)
            self.stop(ErrorCodes.INTERNAL_ERROR)
            return
        for event in events:
            if self._stopping:
                return
            self._take(event)
        self._collect_control()
        if self._ready:
            self._writer.unpark_all()
        if len(self._queued) > self.limits.control_backlog_bytes:
            self.stop(ErrorCodes.ENHANCE_YOUR_CALM, "answers are not read")

    def _take(self, event: h2.events.Event) -> None:
        match event:
            case h2.events.DataReceived():
                if stream := self.streams.get(event.stream_id):
                    stream.has_arrived(event.data, event.flow_controlled_length)
                else:
                    self._h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
                if not event.data and event.stream_ended is None:
                    self._count_costly()
            case h2.events.StreamEnded():
                if stream := self.streams.get(event.stream_id):
                    stream.has_ended()
                    if stream.local_ended:
                        self.close(stream, GRPCError(Status.OK))
                    else:
                        self.half_closed(stream)
            case h2.events.WindowUpdated():
                self._reopen(event.stream_id)
            case h2.events.StreamReset():
                self._was_reset(event)
            case _:
                if isinstance(event, _COSTLY):
                    self._count_costly()
                if isinstance(event, h2.events.RemoteSettingsChanged):
                    self._greeted = True
                    self._h2.encoder.header_table_size = min(self._h2.encoder.header_table_size, TABLE_BYTES)
                    self._reopen(0)
                self.received(event)

    def _count_costly(self) -> None:
        if self._sent_data:  # clients measure the path by a PING for what they are sent
            self._sent_data = False
        elif not self._control.take(trio.current_time()):
            self.stop(ErrorCodes.ENHANCE_YOUR_CALM, "too many control frames")

    def _was_reset(self, event: h2.events.StreamReset) -> None:
        code = event.error_code
        status = _OF_RESET.get(code, Status.INTERNAL) if isinstance(code, ErrorCodes) else Status.INTERNAL
        why = f"the peer reset the stream: {getattr(code, 'name', code)}"
        if stream := self.streams.get(event.stream_id):
            self.close(stream, ConnectionLost(why) if status is Status.UNAVAILABLE else GRPCError(status, why))
        self.wasted()

    def _reopen(self, stream_id: int) -> None:
        for stream in self.streams.values() if stream_id == 0 else filter(None, [self.streams.get(stream_id)]):
            if stream.queued_bytes or stream.last is not None:
                self._ready[stream.id] = stream

    def _begin_stop(self) -> None:
        self._stopping = True
        self._nursery.cancel_scope.deadline = trio.current_time() + self.limits.flush_s
        self._collect_control()
        self._lose(ConnectionLost("the connection was closed"))
        self._writer.unpark_all()

    def _lose(self, why: GRPCError) -> None:
        self._stopping = True
        for stream in list(self.streams.values()):
            self.close(stream, why)

    # --- writing ---

    async def _write(self) -> None:
        try:
            while True:
                if data := self._collect():
                    await self._stream.send_all(data)
                elif self._stopping:
                    break
                else:
                    await self._writer.park()
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass
        self._nursery.cancel_scope.cancel()

    def _collect(self) -> bytes:
        """Return the next bytes for the socket: queued frames, and DATA as far as the windows allow."""
        left = WRITE_BYTES
        while self._ready and left > 0 and not self._stopping:
            stream = self._ready.pop(next(iter(self._ready)))
            with self._touching(stream):
                left -= self._frame(stream)
        self._collect_control()
        data = bytes(self._queued)
        self._queued.clear()
        return data

    def _frame(self, stream: CallStream) -> int:
        """Turn a stream's output into one frame, and its end when nothing is left. Return the bytes of DATA."""
        window = self._h2.local_flow_control_window(stream.id)
        most = min(stream.queued_bytes, window, self._h2.max_outbound_frame_size, self.limits.frame_bytes)
        last = stream.last
        ends = last is not None and most == stream.queued_bytes
        if most > 0 or (ends and not last):
            self._sent_data = True
            self._h2.send_data(stream.id, stream.take(most), end_stream=ends and not last)
        if ends and last:
            self._h2.send_headers(stream.id, last, end_stream=True)
        if ends:
            stream.has_sent_all()
            if stream.remote_ended:
                self.close(stream, GRPCError(Status.OK))
            else:
                self.half_closed(stream)
        elif 0 < most < window and stream.queued_bytes:
            self._ready[stream.id] = stream  # its next turn
        return max(most, 0)

    def _collect_control(self) -> None:
        if data := self._h2.data_to_send():
            self._queued += data
            self._writer.unpark_all()

    # --- silence ---

    async def _keep_alive(self) -> None:
        await trio.sleep(self.limits.preface_s)
        if not self._greeted:
            self.stop(ErrorCodes.SETTINGS_TIMEOUT, "no SETTINGS arrived")
            return
        while True:
            await trio.sleep_until(self._heard_at + self.limits.keepalive_idle_s)
            asked_at = trio.current_time()
            if self._stopping:
                return
            if asked_at - self._heard_at < self.limits.keepalive_idle_s:
                continue
            self._h2.ping(b"palyra!?")
            self._collect_control()
            await trio.sleep(self.limits.keepalive_timeout_s)
            if self._heard_at < asked_at:
                self.stop()
                return


def _machine(limits: Limits, *, client: bool) -> H2Connection:
    frame_bytes = limits.frame_bytes if client else DEFAULT_FRAME_BYTES  # it is answers that are large
    config = H2Configuration(client_side=client, header_encoding=None, validate_inbound_headers=True)
    machine = Machine(config)
    machine.incoming_buffer = _Frames(server=not client)

    def settings(streams: int) -> Settings:
        values = {
            SettingCodes.MAX_CONCURRENT_STREAMS: streams,
            SettingCodes.MAX_HEADER_LIST_SIZE: limits.header_bytes,
            SettingCodes.INITIAL_WINDOW_SIZE: limits.stream_window_bytes,
            SettingCodes.MAX_FRAME_SIZE: frame_bytes,
            SettingCodes.ENABLE_PUSH: 0,
        }
        return Settings(client=client, initial_values=values)

    machine.local_settings = settings(limits.streams)
    machine.decoder.max_header_list_size = limits.header_bytes
    machine.max_inbound_frame_size = frame_bytes
    machine.initiate_connection()
    # h2 ends the connection over one stream too many; the server wants to refuse just that stream.
    machine.local_settings = settings(2 * limits.streams + limits.resets)
    machine.increment_flow_control_window(limits.connection_window_bytes - DEFAULT_WINDOW_BYTES)
    return machine
