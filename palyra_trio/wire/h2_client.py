"""The calling end of HTTP/2: a channel on one connection, on which grpclib's generated stubs work as they are.

One connection, no reconnecting and no name resolution: who calls decides whether to try again, and where.
"""

import math
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Any, Self, TypeVar

import h2.events
import trio
from google.protobuf.message import DecodeError
from grpclib.const import Cardinality, Status
from grpclib.exceptions import GRPCError, ProtocolError
from h2.errors import ErrorCodes
from multidict import MultiDict

from palyra_trio import __version__
from palyra_trio.core.errors import PeerError
from palyra_trio.core.identity import Peer
from palyra_trio.wire.call import ConnectionLost, Deadline
from palyra_trio.wire.framing import encode_messages
from palyra_trio.wire.h2_connection import H2Pump
from palyra_trio.wire.h2_stream import H2Stream
from palyra_trio.wire.limits import Limits
from palyra_trio.wire.metadata import Metadata, MetadataLike, RawHeaders, decode_metadata, request_headers, status_of
from palyra_trio.wire.peer import peer_of
from palyra_trio.wire.tls import handshake

USER_AGENT = f"palyra-trio/{__version__}"
UNTOLD_STREAMS = 100  # until the server has said how many: what every one should allow (RFC 9113, section 6.5.2)

T = TypeVar("T")


@asynccontextmanager
async def connect(
    stream: trio.abc.Stream,
    *,
    authority: str = "localhost",
    metadata: MetadataLike = (),
    limits: Limits | None = None,
) -> AsyncGenerator["Channel", None]:
    """Speak gRPC on a connected stream; `metadata` goes with every call. Leaving the block drops all calls and the stream.

    Raises PeerError when the TLS handshake fails. A lost connection is told by its calls, as ConnectionLost. What the
    block raises leaves it as it is, not in a group.
    """
    failure: Exception | None = None
    try:
        limits = limits or Limits()
        with trio.move_on_after(limits.preface_s) as shaking:
            await handshake(stream)
        if shaking.cancelled_caught:
            raise PeerError(f"the TLS handshake took longer than {limits.preface_s:g} s", remedy="check the address")
        channel = Channel(stream, authority, metadata, limits)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(channel.run)
            try:
                yield channel
            except Exception as error:
                failure = error
            nursery.cancel_scope.cancel()
    finally:
        await trio.aclose_forcefully(stream)
    if failure is not None:
        raise failure


class Channel(H2Pump):
    """Calls on one connection. Beyond the streams that the server allows, they wait for their turn."""

    def __init__(self, stream: trio.abc.Stream, authority: str, metadata: MetadataLike, limits: Limits) -> None:
        super().__init__(stream, peer_of(stream), limits, client=True)
        self._authority = authority
        self._scheme = "https" if isinstance(stream, trio.SSLStream) else "http"
        self._metadata: Metadata = MultiDict(metadata)
        self._turns = trio.lowlevel.ParkingLot()
        self._refusing = False
        self._farewell = "the connection is closed"
        self.ended = trio.Event()

    @property
    def usable(self) -> bool:
        """Whether the connection still takes calls."""
        return not self._refusing and not self._stopping

    async def run(self) -> None:
        """Read and write until the connection ends."""
        try:
            await super().run()
        finally:
            self._refusing = True
            self._turns.unpark_all()
            self.ended.set()

    def request(
        self,
        name: str,
        cardinality: Cardinality,
        request_type: Any,
        reply_type: Any,
        *,
        timeout: float | None = None,
        deadline: Deadline | None = None,
        metadata: MetadataLike | None = None,
    ) -> "ClientCall":
        """Return a call of the method with the path `name`, to be used in an `async with`. The earlier deadline holds."""
        at = min(math.inf if timeout is None else trio.current_time() + timeout, deadline.at if deadline else math.inf)
        sent: Metadata = MultiDict(self._metadata)
        sent.update(MultiDict(metadata or ()))
        return ClientCall(self, name, cardinality, reply_type, at, sent)

    async def open(self, method: str, deadline: float, metadata: Metadata) -> H2Stream:
        """Send a request's headers as soon as the server allows one more stream. Raises ConnectionLost."""
        while not self._refusing and len(self.streams) >= self._most_streams():
            await self._turns.park()
        if not self.usable:
            raise ConnectionLost(self._farewell)
        timeout_s = max(0.0, deadline - trio.current_time())
        headers = request_headers(method, self._authority, self._scheme, timeout_s, USER_AGENT, metadata)
        stream = H2Stream(self, self._h2.get_next_available_stream_id())
        self.streams[stream.id] = stream
        self.send_headers(stream, headers)
        return stream

    def _most_streams(self) -> int:
        return self._h2.remote_settings.max_concurrent_streams if self._greeted else UNTOLD_STREAMS

    def received(self, event: h2.events.Event) -> None:
        match event:
            case h2.events.ResponseReceived() | h2.events.TrailersReceived():
                if stream := self.streams.get(event.stream_id):
                    stream.has_headers(event.headers)
                    if isinstance(event, h2.events.ResponseReceived) and not _is_grpc(event.headers):
                        self.reset(stream, ErrorCodes.CANCEL, status_of(event.headers))
            case h2.events.RemoteSettingsChanged():
                self._turns.unpark_all()
            case h2.events.ConnectionTerminated():
                self._refusing = True
                self._farewell = "the server takes no more calls on this connection"
                if event.additional_data:
                    self._farewell += f": {event.additional_data[:200].decode('utf-8', 'replace')}"
                self._turns.unpark_all()
                for stream in [each for each in self.streams.values() if each.id > (event.last_stream_id or 0)]:
                    self.close(stream, ConnectionLost(self._farewell))

    def closed(self, stream: H2Stream) -> None:
        if self._stopping:
            self._refusing = True
        self._turns.unpark(count=math.inf if self._refusing else 1)

    def half_closed(self, stream: H2Stream) -> None:
        if stream.remote_ended:  # the server has answered and reads no more
            self.reset(stream, ErrorCodes.CANCEL)


class ClientCall:
    """One call. Leaving its block drops it (RST_STREAM) unless it has ended; a single reply's status is waited for.

    A status other than OK is raised as GRPCError where the call's end is met, ConnectionLost among them, and
    DEADLINE_EXCEEDED also when the deadline passes here.
    """

    def __init__(
        self,
        channel: Channel,
        method: str,
        cardinality: Cardinality,
        reply_type: Any,
        deadline: float,
        metadata: Metadata,
    ) -> None:
        self.initial_metadata: Metadata | None = None
        self.trailing_metadata: Metadata | None = None
        self._channel = channel
        self._method = method
        self._cardinality = cardinality
        self._reply_type = reply_type
        self._deadline = deadline
        self._metadata = metadata
        self._stream: H2Stream | None = None
        self._sent_end = False

    @property
    def peer(self) -> Peer:
        return self._channel.peer

    async def __aenter__(self) -> Self:
        return self

    def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> Coroutine[None, None, None]:
        return self._leave(error)

    async def _leave(self, error: BaseException | None) -> None:
        try:
            if error is None and self._stream is not None and self._sent_end and not self._cardinality.server_streaming:
                await self.recv_trailing_metadata()
        finally:
            if self._stream is not None:
                self._stream.reset()

    async def send_request(self, *, end: bool = False) -> None:
        """Send the request's headers, before any message."""
        if self._stream is not None:
            raise ProtocolError("the request was sent already")
        with trio.CancelScope(deadline=self._deadline) as scope:
            self._stream = await self._channel.open(self._method, self._deadline, self._metadata)
        if scope.cancelled_caught:
            raise _too_late()
        if end:
            await self.end()

    async def send_message(self, message: Any, *, end: bool = False) -> None:
        """Queue a request as soon as there is room. If cancelled, it is not sent."""
        if self._stream is None:
            await self.send_request()
        stream = self._opened()
        await self._in_time(lambda: stream.send(encode_messages([message.SerializeToString()])))
        if end:
            await self.end()

    async def end(self) -> None:
        """Say that no more requests come."""
        self._opened().end([])
        self._sent_end = True

    async def recv_initial_metadata(self) -> None:
        """Wait for the response's headers, and set `initial_metadata`."""
        stream = self._opened()
        if await self._in_time(stream.begin) is None and stream.gone is not None:
            raise stream.gone
        self._read_headers()

    async def recv_message(self) -> Any:
        """Return the next reply, or None after the last."""
        body = await self._in_time(self._opened().receive)
        self._read_headers()
        if body is None:
            self._read_end()
            return None
        try:
            return self._reply_type.FromString(body)
        except DecodeError as error:
            raise GRPCError(Status.INTERNAL, f"not a {self._reply_type.__name__}") from error

    async def recv_trailing_metadata(self) -> None:
        """Wait for the call's end, dropping replies before it, and set `trailing_metadata`."""
        stream = self._opened()
        while await self._in_time(stream.receive) is not None:
            pass
        self._read_headers()
        self._read_end()

    async def cancel(self) -> None:
        """Drop the call. One that has ended stays as it is."""
        if self._stream is not None:
            self._stream.reset()

    def __aiter__(self) -> AsyncIterator[Any]:
        return self

    async def __anext__(self) -> Any:
        message = await self.recv_message()
        if message is None:
            raise StopAsyncIteration
        return message

    def _opened(self) -> H2Stream:
        if self._stream is None:
            raise ProtocolError("the request was not sent yet")
        return self._stream

    async def _in_time(self, wait: Callable[[], Awaitable[T]]) -> T:
        with trio.CancelScope(deadline=self._deadline):
            try:
                return await wait()
            except GRPCError:
                if self._opened().remote_ended:
                    self._read_end()  # the server's own words, where it has ended the call
                raise
        await self.cancel()
        raise _too_late()

    def _read_headers(self) -> None:
        response = self._opened().response
        if self.initial_metadata is None and response is not None:
            self.initial_metadata = _metadata(response)

    def _read_end(self) -> None:
        stream = self._opened()
        response = stream.response or ()
        ended = stream.trailers if stream.trailers is not None else response
        self.trailing_metadata = _metadata(ended)
        status = status_of(ended, response)
        if status.status is not Status.OK:
            raise status


def _metadata(headers: RawHeaders) -> Metadata:
    try:
        return decode_metadata((name.decode("latin-1"), value.decode("latin-1")) for name, value in headers)
    except ValueError as error:
        raise GRPCError(Status.INTERNAL, f"the server's metadata is malformed: {error}") from error


def _is_grpc(headers: RawHeaders) -> bool:
    fields = dict(headers)
    return fields.get(b":status") == b"200" and fields.get(b"content-type", b"").startswith(b"application/grpc")


def _too_late() -> GRPCError:
    return GRPCError(Status.DEADLINE_EXCEEDED, "the call's deadline has passed")
