"""One RPC on any transport, with the interface of grpclib's server Stream, so that its generated bases are served as they are.

The transport moves bytes and windows behind `Carrier`; here is what a call means: messages, statuses, deadline, and what a
handler's end says to the client. What an error of ours is called on the wire is told by a callback.
"""

import logging
import math
from collections.abc import AsyncIterator, Callable, Iterable
from typing import Any, Protocol

import attrs
import trio
from google.protobuf.message import DecodeError
from grpclib.const import Handler, Status
from grpclib.exceptions import GRPCError, ProtocolError

from palyra_trio.core.errors import PalyraError
from palyra_trio.core.identity import Peer
from palyra_trio.wire.framing import encode_messages
from palyra_trio.wire.metadata import Headers, MetadataLike, Request, response_headers, trailers

_log = logging.getLogger(__name__)

INTERNAL = GRPCError(Status.INTERNAL, "internal error")
STATUS_WAIT_S = 1.0  # a failure's status waits so long behind what is queued: the client's window may never open

Translate = Callable[[PalyraError], GRPCError]


class ConnectionLost(GRPCError):
    """The connection went away under the call, or does not take it any more: it may be tried again on another one."""

    def __init__(self, message: str) -> None:
        super().__init__(Status.UNAVAILABLE, message)


class Carrier(Protocol):
    """One stream of a transport. The waiting methods raise GRPCError when the stream is gone."""

    @property
    def peer(self) -> Peer: ...

    async def receive(self) -> bytes | None:
        """Return the next message, or None when the peer has sent its last. Hands the window back for what is read."""

    async def send(self, data: bytes) -> None:
        """Queue framed bytes, as soon as there is room. If cancelled, nothing is queued."""

    def send_headers(self, headers: Headers) -> None:
        """Begin the response."""

    def end(self, headers: Headers, *, drop: bool) -> None:
        """End the response after what is queued, or at once and without it. Replaces an end that was not sent yet."""

    async def drained(self) -> None:
        """Wait until the end was sent, or the stream is gone."""

    def reset(self) -> None:
        """Drop the stream in both directions; the peer is told that it was cancelled."""


@attrs.frozen
class Deadline:
    """When a call ends at the latest, on Trio's clock."""

    at: float

    def time_remaining(self) -> float:
        """Return the seconds that are left, never less than 0."""
        return max(0.0, self.at - trio.current_time())


class Call:
    """A call as its handler sees it.

    `metadata` is what the client sent, `deadline` None when it set none. Statuses are raised as GRPCError, or sent with
    `send_trailing_metadata`; a handler that returns has sent OK.
    """

    def __init__(self, carrier: Carrier, handler: Handler, request: Request, now: float) -> None:
        self.metadata = request.metadata
        self.user_agent = request.user_agent
        self.method = request.method
        self.peer = carrier.peer
        self.deadline = Deadline(now + request.timeout_s) if request.timeout_s < math.inf else None
        self.scope = trio.CancelScope(deadline=now + request.timeout_s)
        self._carrier = carrier
        self._handler = handler
        self._begun = False
        self._answered = False
        self._outcome: GRPCError | None = None  # of the call, once it is queued or sent

    async def recv_message(self) -> Any:
        """Return the next request, or None after the last. Raises GRPCError when it cannot be read or the client is gone."""
        body = await self._carrier.receive()
        if body is None:
            return None
        try:
            return self._handler.request_type.FromString(body)
        except DecodeError as error:
            raise GRPCError(Status.INTERNAL, f"not a {self._handler.request_type.__name__}") from error

    def __aiter__(self) -> AsyncIterator[Any]:
        return self

    async def __anext__(self) -> Any:
        message = await self.recv_message()
        if message is None:
            raise StopAsyncIteration
        return message

    async def send_initial_metadata(self, *, metadata: MetadataLike | None = None) -> None:
        """Begin the response with this metadata. Without a call of this, it begins with the first message."""
        self._begin(metadata or ())

    async def send_message(self, message: Any) -> None:
        """Queue a response, as soon as the call has room for it. If cancelled, it is not sent."""
        await self.send_encoded([message.SerializeToString()])

    async def send_encoded(self, bodies: Iterable[bytes]) -> None:
        """Queue responses that are serialised already. If cancelled, none of them is sent."""
        if not self._begun:
            self._begin(())
        await self._carrier.send(encode_messages(bodies))
        self._answered = True

    async def send_trailing_metadata(
        self,
        *,
        status: Status = Status.OK,
        status_message: str | None = None,
        status_details: Any = None,
        metadata: MetadataLike | None = None,
    ) -> None:
        """End the response with a status, after the messages that are queued. What the handler does next reaches nobody."""
        if self._outcome is not None:
            raise ProtocolError("the call has its status already")
        self._end(GRPCError(status, status_message, status_details), metadata or ())

    async def cancel(self) -> None:
        """Drop the call without a status."""
        self._outcome = GRPCError(Status.CANCELLED)
        self._carrier.reset()

    def stop(self, why: GRPCError) -> None:
        """Cancel the handler. The client is told `why` at once, in place of what is still queued for it."""
        self._end(why, drop=True)
        self.scope.cancel()

    async def answer(self, translate: Translate) -> None:
        """Run the handler and end the call with its status. Returns when that was sent, or nobody is there to take it.

        Raises nothing but Cancelled, which leaves the call to its transport.
        """
        failure: Exception | None = None
        try:
            with self.scope:
                await self._handler.func(self)
        except Exception as error:
            failure = error
        except BaseExceptionGroup as group:  # the transport is leaving, and what failed beside that has nobody to tell
            leaving = group.split(Exception)[1]
            assert leaving is not None
            raise leaving from None
        if self.scope.cancelled_caught:
            self._cut()
            return
        try:
            self._finish(failure, translate)
        except Exception as error:  # a status that cannot be told
            self._end(self._unexpected(error))
        if failure is not None:
            failure.__traceback__ = None  # else all of it would be left to the collector
        wait_s = math.inf if self._outcome is None or self._outcome.status is Status.OK else STATUS_WAIT_S
        with trio.CancelScope(deadline=min(self.scope.deadline, trio.current_time() + wait_s)) as self.scope:
            await self._carrier.drained()
        if self.scope.cancelled_caught:
            self._cut()

    def _begin(self, metadata: MetadataLike) -> None:
        self._carrier.send_headers(response_headers(metadata))
        self._begun = True

    def _end(self, outcome: GRPCError, metadata: MetadataLike = (), *, drop: bool = False) -> None:
        headers = trailers(outcome.status, outcome.message, outcome.details, metadata)
        self._carrier.end(headers if self._begun else response_headers() + headers, drop=drop)
        # Not the error itself: the frames that it came from lead back here.
        self._outcome = GRPCError(outcome.status, outcome.message, outcome.details)

    def _cut(self) -> None:
        """Tell at once what is to be told: a failure that waits already, or that it is too late for what does."""
        if self._outcome is None or self._outcome.status is Status.OK:
            self._outcome = GRPCError(Status.DEADLINE_EXCEEDED, "the call's deadline has passed")
        self._end(self._outcome, drop=True)

    def _finish(self, failure: Exception | None, translate: Translate) -> None:
        outcome = self._status_of_return() if failure is None else self._status_of(failure, translate)
        if self._outcome is None:
            self._end(outcome)

    def _status_of_return(self) -> GRPCError:
        if self._answered or self._outcome is not None or self._handler.cardinality.server_streaming:
            return GRPCError(Status.OK)
        _log.error("%s returned without a response", self.method)
        return INTERNAL

    def _status_of(self, error: BaseException, translate: Translate) -> GRPCError:
        while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
            error = error.exceptions[0]
        if isinstance(error, GRPCError):
            return error
        if isinstance(error, PalyraError):
            return translate(error)
        return self._unexpected(error)

    def _unexpected(self, error: BaseException) -> GRPCError:
        _log.error("%s failed", self.method, exc_info=error)
        return INTERNAL
