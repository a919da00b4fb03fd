"""The calling side of a call on any transport, with the interface that grpclib's generated stubs expect of a channel.

The connection opens streams behind `Calling`; here is what a call means: statuses, deadline, and what leaving it drops.
"""

import math
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from types import TracebackType
from typing import Any, Self, TypeVar

import trio
from google.protobuf.message import DecodeError
from grpclib.const import Cardinality, Status
from grpclib.exceptions import GRPCError, ProtocolError
from multidict import MultiDict

from palyra_trio import __version__
from palyra_trio.core.identity import Peer
from palyra_trio.wire.call import Deadline
from palyra_trio.wire.call_stream import CallStream
from palyra_trio.wire.framing import encode_messages
from palyra_trio.wire.metadata import Metadata, MetadataLike, RawHeaders, decode_metadata, status_of

USER_AGENT = f"palyra-trio/{__version__}"

T = TypeVar("T")


class Calling:
    """What the generated stubs call a channel. `metadata` goes with every call; a subclass opens the streams."""

    def __init__(self, metadata: MetadataLike) -> None:
        self._metadata: Metadata = MultiDict(metadata)

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

    async def open(self, method: str, deadline: float, metadata: Metadata) -> CallStream:
        """Send a request's headers as soon as the server allows one more stream. Raises ConnectionLost."""
        raise NotImplementedError


class ClientCall:
    """One call. Leaving its block drops it unless it has ended; a single reply's status is waited for.

    A status other than OK is raised as GRPCError where the call's end is met, ConnectionLost among them, and
    DEADLINE_EXCEEDED also when the deadline passes here.
    """

    def __init__(
        self,
        channel: "Calling",
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
        self._stream: CallStream | None = None
        self._sent_end = False

    @property
    def peer(self) -> Peer:
        return self._opened().peer

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

    def _opened(self) -> CallStream:
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


def _too_late() -> GRPCError:
    return GRPCError(Status.DEADLINE_EXCEEDED, "the call's deadline has passed")
