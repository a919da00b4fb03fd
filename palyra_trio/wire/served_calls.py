"""The calls that one connection is served, on any transport: who takes a request, what refuses it, and what ends it.

The connection opens and closes the streams; a stream whose request is no call is given back to it as NotGrpc.
"""

from collections.abc import Container, Iterable, Mapping
from typing import TYPE_CHECKING

import attrs
import trio
from grpclib.const import Handler, Status
from grpclib.exceptions import GRPCError

from palyra_trio.wire.call import Call, Translate
from palyra_trio.wire.call_stream import CallStream
from palyra_trio.wire.limits import Limits
from palyra_trio.wire.metadata import RawHeaders, parse_request, response_headers, trailers

if TYPE_CHECKING:
    from grpclib._typing import IServable

Handlers = Mapping[str, Handler]

_CANCELLED = 2  # times the limit of streams: calls that were cancelled may still be cleaning up beside new ones


def handlers_of(services: "Iterable[IServable]") -> dict[str, Handler]:
    """Return the handlers of generated services by their path."""
    return {path: handler for service in services for path, handler in service.__mapping__().items()}


@attrs.frozen
class Service:
    """What is served. `translate` says what an error of ours is called on the wire.

    `unproven` are the methods that read a message before they know who asks; they take small ones only.
    """

    handlers: Handlers
    translate: Translate
    limits: Limits
    unproven: Container[str] = ()


class ServedCalls:
    """The calls of one connection, by the id of their stream."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._calls: dict[int, Call] = {}

    @property
    def are_too_many(self) -> bool:
        """Whether so many are still being cleaned up that no other is taken."""
        return len(self._calls) >= _CANCELLED * self._service.limits.streams

    def accept(self, stream: CallStream, headers: RawHeaders, nursery: trio.Nursery) -> None:
        """Start the handler of a request in `nursery`, or end its stream with the status that says why not.

        Raises NotGrpc, with the stream untouched.
        """
        try:
            request = parse_request(headers)
            handler = self._service.handlers.get(request.method)
            if handler is None:
                raise GRPCError(Status.UNIMPLEMENTED, f"there is no method {request.method[:200]}")
        except GRPCError as error:
            stream.end(response_headers() + trailers(error.status, error.message), drop=True)
        else:
            if request.method in self._service.unproven:
                stream.limit_messages(self._service.limits.unproven_message_bytes)
            call = self._calls[stream.id] = Call(stream, handler, request, trio.current_time())
            nursery.start_soon(self._answer, stream.id, call)

    async def _answer(self, stream_id: int, call: Call) -> None:
        try:
            await call.answer(self._service.translate)
        finally:
            del self._calls[stream_id]

    def closed(self, stream: CallStream) -> None:
        """Cancel the handler of a stream that was closed before its answer was complete."""
        call = self._calls.get(stream.id)
        if call is not None and not stream.local_ended:
            call.scope.cancel()

    def cut(self, streams: Iterable[CallStream]) -> None:
        """End the calls on these streams as UNAVAILABLE, and drop the streams that carry none."""
        for stream in list(streams):
            if call := self._calls.get(stream.id):
                call.stop(GRPCError(Status.UNAVAILABLE, "the server is shutting down"))
            else:
                stream.reset()
