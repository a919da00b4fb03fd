"""The serving end of HTTP/2: connections from listeners, a task per call, refusals, and the drain.

A connection that fails, in whatever way, ends alone. What is not gRPC gets an HTTP answer in words.
"""

import logging
from collections.abc import Container, Iterable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

import h2.events
import trio
from grpclib.const import Handler, Status
from grpclib.exceptions import GRPCError
from h2.errors import ErrorCodes
from hyperframe.frame import GoAwayFrame, SettingsFrame

from palyra_trio.core.errors import Busy, PeerError
from palyra_trio.wire.call import Call, Translate
from palyra_trio.wire.h2_connection import H2Pump
from palyra_trio.wire.h2_stream import H2Stream
from palyra_trio.wire.limits import Bucket, Limits
from palyra_trio.wire.metadata import NotGrpc, parse_request, response_headers, trailers
from palyra_trio.wire.peer import peer_of
from palyra_trio.wire.tls import handshake

if TYPE_CHECKING:
    from grpclib._typing import IServable

Handlers = Mapping[str, Handler]

_FULL = (
    SettingsFrame(0).serialize() + GoAwayFrame(0, 0, ErrorCodes.ENHANCE_YOUR_CALM, b"too many connections").serialize()
)
_CANCELLED_STREAMS = 2  # times the limit: calls that were cancelled may still be cleaning up beside new ones

_log = logging.getLogger(__name__)


def handlers_of(services: "Iterable[IServable]") -> dict[str, Handler]:
    """Return the handlers of generated services by their path."""
    return {path: handler for service in services for path, handler in service.__mapping__().items()}


class H2Server:
    """Serves calls on any number of listeners. `translate` says what an error of ours is called on the wire.

    Connections over a Unix socket are counted apart from the others, so that strangers do not keep this user out.
    `unproven` are the methods that read a message before they know who asks; they take small ones only.
    """

    def __init__(
        self,
        handlers: Handlers,
        translate: Translate,
        limits: Limits | None = None,
        unproven: Container[str] = (),
    ) -> None:
        self._handlers = handlers
        self._unproven = unproven
        self._translate = translate
        self._limits = limits or Limits()
        self._connections: set[_ServerConnection] = set()
        self._count = {True: 0, False: 0}  # by whether the peer is on this machine's Unix socket
        self._accepting = trio.CancelScope()
        self._shaking: set[trio.CancelScope] = set()
        self._drain_by: float | None = None

    async def serve(
        self,
        listeners: Sequence[trio.abc.Listener[trio.abc.Stream]],
        *,
        task_status: trio.TaskStatus[Sequence[trio.abc.Listener[trio.abc.Stream]]] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Accept and serve until `drain`, and return when the last connection has ended. The listeners are closed.

        If cancelled, every call is cancelled and every connection closed, without a word.
        """
        async with trio.open_nursery() as nursery:
            with self._accepting:
                async with trio.open_nursery() as accepting:
                    accept = partial(trio.serve_listeners, self.serve_connection, handler_nursery=nursery)
                    task_status.started(await accepting.start(accept, list(listeners)))

    async def serve_connection(self, stream: trio.abc.Stream) -> None:
        """Serve one connection to its end and close it. Raises nothing but Cancelled, whatever the peer sends."""
        unix = peer_of(stream).address == "unix"
        self._count[unix] += 1
        try:
            if self._count[unix] > self._limits.connections:
                await self._turn_away(stream)
            elif await self._is_greeted(stream):
                await self._serve(stream)
        except (PeerError, trio.BrokenResourceError, trio.ClosedResourceError) as error:
            _log.debug("a connection was refused: %s", error)
        except Exception as error:
            _log.error("a connection failed", exc_info=error)
        finally:
            self._count[unix] -= 1
            await trio.aclose_forcefully(stream)

    async def _turn_away(self, stream: trio.abc.Stream) -> None:
        if not isinstance(stream, trio.SSLStream):
            with trio.move_on_after(self._limits.flush_s):
                await stream.send_all(_FULL)

    async def _is_greeted(self, stream: trio.abc.Stream) -> bool:
        """Finish the handshake, and return whether to go on: not when it took too long, or a drain has begun."""
        if self._drain_by is None:
            with trio.move_on_after(self._limits.preface_s) as shaking:
                self._shaking.add(shaking)
                try:
                    await handshake(stream)
                finally:
                    self._shaking.discard(shaking)
                return self._drain_by is None
        return False

    async def _serve(self, stream: trio.abc.Stream) -> None:
        connection = _ServerConnection(stream, self._handlers, self._translate, self._limits, self._unproven)
        self._connections.add(connection)
        try:
            await connection.run()
        finally:
            self._connections.discard(connection)

    def drain(self, deadline: float) -> None:
        """Take no more connections and calls. Calls may end until the deadline (Trio's clock); then they are UNAVAILABLE."""
        self._drain_by = deadline
        self._accepting.cancel()
        for shaking in self._shaking:
            shaking.cancel()
        for connection in self._connections:
            connection.drain(deadline)


class _ServerConnection(H2Pump):
    def __init__(
        self,
        stream: trio.abc.Stream,
        handlers: Handlers,
        translate: Translate,
        limits: Limits,
        unproven: Container[str],
    ) -> None:
        super().__init__(stream, peer_of(stream), limits, client=False)
        self._handlers = handlers
        self._unproven = unproven
        self._translate = translate
        self._calls: dict[int, Call] = {}
        self._resets = Bucket(limits.resets, limits.resets_per_s, trio.current_time())
        self._draining = False

    def drain(self, deadline: float) -> None:
        if not self._draining and not self._nursery.cancel_scope.cancel_called:  # else the connection has just ended
            self._draining = True
            self._nursery.start_soon(self._cut_at, deadline)
            self._stop_when_idle()

    async def _cut_at(self, deadline: float) -> None:
        await trio.sleep_until(deadline)
        for call in list(self._calls.values()):
            call.stop(GRPCError(Status.UNAVAILABLE, "the server is shutting down"))
        for stream in [each for each in self.streams.values() if each.id not in self._calls]:
            stream.reset()
        await trio.sleep(self.limits.flush_s)
        self.stop()

    def received(self, event: h2.events.Event) -> None:
        # A GOAWAY from a client needs no answer: its streams go on, and it closes when it likes.
        if isinstance(event, h2.events.RequestReceived):
            stream = self.streams[event.stream_id] = H2Stream(self, event.stream_id)
            if self._draining or self._is_full():
                stream.reset(ErrorCodes.REFUSED_STREAM)
                self.wasted()
            else:
                self._accept(stream, event)

    def check_unread(self) -> None:
        if self.unread_bytes > self.limits.unread_bytes:
            raise Busy(
                f"over {self.limits.unread_bytes} bytes of requests on this connection are not read yet",
                remedy="send fewer large requests at a time",
            )

    def _is_full(self) -> bool:
        most = self.limits.streams
        return len(self.streams) > most or len(self._calls) >= _CANCELLED_STREAMS * most

    def _accept(self, stream: H2Stream, event: h2.events.RequestReceived) -> None:
        try:
            request = parse_request(event.headers)
            handler = self._handlers.get(request.method)
            if handler is None:
                raise GRPCError(Status.UNIMPLEMENTED, f"there is no method {request.method[:200]}")
        except NotGrpc as error:
            text = f"{error.text}\n".encode()
            headers = [(":status", str(error.http_status)), ("content-type", "text/plain; charset=utf-8")]
            stream.respond_in_text(headers, text)
        except GRPCError as error:
            stream.end(response_headers() + trailers(error.status, error.message), drop=True)
        else:
            if request.method in self._unproven:
                stream.limit_messages(self.limits.unproven_message_bytes)
            call = self._calls[stream.id] = Call(stream, handler, request, trio.current_time())
            self._nursery.start_soon(self._answer, stream.id, call)

    async def _answer(self, stream_id: int, call: Call) -> None:
        try:
            await call.answer(self._translate)
        finally:
            del self._calls[stream_id]

    def closed(self, stream: H2Stream) -> None:
        call = self._calls.get(stream.id)
        if call is not None and not stream.local_ended:
            call.scope.cancel()
        self._stop_when_idle()

    def half_closed(self, stream: H2Stream) -> None:
        if stream.local_ended:  # the answer is complete, and what the client still sends is read by nobody
            self.reset(stream, ErrorCodes.NO_ERROR)

    def wasted(self) -> None:
        if not self._resets.take(trio.current_time()):
            self.stop(ErrorCodes.ENHANCE_YOUR_CALM, "too many calls were cancelled")

    def _stop_when_idle(self) -> None:
        # GOAWAY comes last: grpclib's client drops its calls when it hears it, and would never learn their status.
        if self._draining and not self.streams and not self._stopping:
            self.go_away(why="the server is shutting down")
            self.stop()
