"""The serving end of HTTP/2: connections from listeners, a task per call, refusals, and the drain.

A connection that fails, in whatever way, ends alone. What is not gRPC gets an HTTP answer in words.
"""

import logging
from collections.abc import Container, Sequence
from functools import partial

import h2.events
import trio
from h2.errors import ErrorCodes
from hyperframe.frame import GoAwayFrame, SettingsFrame

from palyra_trio.core.errors import PeerError
from palyra_trio.wire.call import Translate
from palyra_trio.wire.call_stream import CallStream
from palyra_trio.wire.h2_connection import H2Pump
from palyra_trio.wire.limits import Bucket, Limits
from palyra_trio.wire.metadata import NotGrpc
from palyra_trio.wire.peer import peer_of
from palyra_trio.wire.served_calls import Handlers, ServedCalls, Service
from palyra_trio.wire.tls import handshake

_FULL = (
    SettingsFrame(0).serialize() + GoAwayFrame(0, 0, ErrorCodes.ENHANCE_YOUR_CALM, b"too many connections").serialize()
)
_log = logging.getLogger(__name__)


class H2Server:
    """Serves calls on any number of listeners; what it takes is said at `Service`.

    Connections over a Unix socket are counted apart from the others, so that strangers do not keep this user out.
    """

    def __init__(
        self,
        handlers: Handlers,
        translate: Translate,
        limits: Limits | None = None,
        unproven: Container[str] = (),
    ) -> None:
        self._limits = limits or Limits()
        self._service = Service(handlers, translate, self._limits, unproven)
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
        connection = _ServerConnection(stream, self._service)
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
    def __init__(self, stream: trio.abc.Stream, service: Service) -> None:
        limits = service.limits
        super().__init__(stream, peer_of(stream), limits, client=False)
        self._calls = ServedCalls(service)
        self._resets = Bucket(limits.resets, limits.resets_per_s, trio.current_time())
        self._draining = False

    def drain(self, deadline: float) -> None:
        if not self._draining and not self._nursery.cancel_scope.cancel_called:  # else the connection has just ended
            self._draining = True
            self._nursery.start_soon(self._cut_at, deadline)
            self._stop_when_idle()

    async def _cut_at(self, deadline: float) -> None:
        await trio.sleep_until(deadline)
        self._calls.cut(self.streams.values())
        await trio.sleep(self.limits.flush_s)
        self.stop()

    def received(self, event: h2.events.Event) -> None:
        # A GOAWAY from a client needs no answer: its streams go on, and it closes when it likes.
        if isinstance(event, h2.events.RequestReceived):
            stream = self.streams[event.stream_id] = CallStream(self, event.stream_id)
            if self._draining or len(self.streams) > self.limits.streams or self._calls.are_too_many:
                stream.reset(ErrorCodes.REFUSED_STREAM)
                self.wasted()
                return
            try:
                self._calls.accept(stream, event.headers, self._nursery)
            except NotGrpc as error:
                stream.refuse(error)

    def check_unread(self) -> None:
        self.limits.check_unread(self.unread_bytes)

    def closed(self, stream: CallStream) -> None:
        self._calls.closed(stream)
        self._stop_when_idle()

    def half_closed(self, stream: CallStream) -> None:
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
