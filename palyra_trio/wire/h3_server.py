"""The serving end of HTTP/3: connections from UDP sockets, a task per request, refusals, and the drain.

Calls are served as over HTTP/2. What is not gRPC goes to a handler of plain exchanges, or gets an answer in words.
"""

import socket
from collections.abc import Container, Sequence
from contextlib import ExitStack

import trio
from grpclib.const import Status
from grpclib.exceptions import GRPCError

from palyra_trio.wire.call import Translate
from palyra_trio.wire.call_stream import CallStream
from palyra_trio.wire.h3_connection import H3Pump, H3Stream
from palyra_trio.wire.h3_exchange import Exchange, Handle
from palyra_trio.wire.h3_frames import Code
from palyra_trio.wire.h3_headers import content_length, decode_request, decode_trailers
from palyra_trio.wire.limits import Bucket, Limits, QuicLimits
from palyra_trio.wire.metadata import NotGrpc
from palyra_trio.wire.quic_admission import Admission
from palyra_trio.wire.quic_config import Identity, OpenTraces, Traces, server_configuration
from palyra_trio.wire.quic_endpoint import QuicListener
from palyra_trio.wire.quic_machine import Machine, check_version
from palyra_trio.wire.served_calls import Handlers, ServedCalls, Service
from palyra_trio.wire.udp_port import Address


class H3Server:
    """Serves calls on any number of UDP sockets; what it takes is said at `Service`, and `secret` at `QuicListener`.

    `exchange` handles requests that are no calls. `machine` makes connections of another class, for one that asks more of
    its clients.
    """

    def __init__(
        self,
        handlers: Handlers,
        translate: Translate,
        identity: Identity,
        *,
        secret: bytes,
        limits: Limits | None = None,
        quic: QuicLimits | None = None,
        unproven: Container[str] = (),
        exchange: Handle | None = None,
        traces: Traces | None = None,
        machine: type[Machine] = Machine,
    ) -> None:
        check_version()
        self._limits = limits or Limits()
        self._quic = quic or QuicLimits()
        self._service = Service(handlers, translate, self._limits, unproven)
        self._identity = identity
        self._secret = secret
        self._exchange = exchange
        self._traces = traces or Traces()
        self._open_traces = OpenTraces()
        self._machine = machine
        self._listener: QuicListener | None = None
        self._drain_by: float | None = None

    def use(self, identity: Identity) -> None:
        """Show another certificate from now on. Connections stay."""
        self._identity = identity

    async def serve(
        self,
        sockets: Sequence[socket.socket],
        *,
        task_status: trio.TaskStatus[Sequence[socket.socket]] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Serve until `drain`, and return when the last connection has ended. The sockets are closed.

        If cancelled, every call is cancelled and every connection forgotten, without a word.
        """
        with ExitStack() as files:
            self._open_traces = files.enter_context(self._traces.opened())
            self._listener = QuicListener(self._connection, self._limits, self._quic, self._secret)
            await self._listener.serve(sockets, lambda: task_status.started(sockets))

    def drain(self, deadline: float) -> None:
        """Take no more connections and calls. Calls may end until the deadline (Trio's clock); then they are UNAVAILABLE."""
        if self._listener is not None:
            self._listener.close()
            for connection in self._listener.connections:
                assert isinstance(connection, _ServerConnection)
                connection.drain(deadline)

    def _connection(self, listener: QuicListener, admission: Admission, address: Address) -> "_ServerConnection":
        machine = self._machine(
            server_configuration(self._identity, self._limits, self._quic, self._open_traces),
            self._limits,
            self._quic,
            original_id=admission.original_id,
            retried_id=admission.retried_id,
            reset_token=listener.keys.reset_token,
        )
        return _ServerConnection(listener, machine, address, self._service, self._exchange)


class _ServerConnection(H3Pump):
    def __init__(
        self, listener: QuicListener, machine: Machine, address: Address, service: Service, handle: Handle | None
    ) -> None:
        limits = service.limits
        super().__init__(listener, machine, limits, address)
        self._listener = listener
        self._weighed_at = 0  # bytes that had moved
        self._handle = handle
        self._calls = ServedCalls(service)
        self._exchanges: dict[int, Exchange] = {}
        self._next_id = 0  # of requests
        self._skipped: set[int] = set()  # ids before it that were not heard of: datagrams may overtake each other
        self._resets = Bucket(limits.resets, limits.resets_per_s, trio.current_time())
        self._draining = False

    def receive(self, data: bytes, address: Address, now: float) -> None:
        super().receive(data, address, now)
        self._weigh()

    def transmit(self, now: float) -> None:
        super().transmit(now)
        self._weigh()

    def _weigh(self) -> None:
        moved = self.moved_bytes
        if moved - self._weighed_at >= self._listener.quic.weighed_bytes:
            self._weighed_at = moved
            self._listener.weigh(self)

    def drain(self, deadline: float) -> None:
        if self._draining or self.machine.is_over:
            return
        self._draining = True
        if not self.established:
            self.abort(Code.NO_ERROR, "the server is shutting down")
            return
        self.go_away(self._next_id)
        self._nursery.start_soon(self._cut_at, deadline)
        self._stop_when_idle()

    async def _cut_at(self, deadline: float) -> None:
        await trio.sleep_until(deadline)
        self._calls.cut(self.streams.values())
        await trio.sleep(self.limits.flush_s)
        self.stop(Code.NO_ERROR, "the server is shutting down")

    def opened(self, stream_id: int) -> H3Stream | None:
        if stream_id < self._next_id:
            if stream_id not in self._skipped:
                return None
            self._skipped.discard(stream_id)
        else:
            self._skipped.update(range(self._next_id, stream_id, 4))
            self._next_id = stream_id + 4
        stream = self.streams[stream_id] = H3Stream(self, stream_id)
        if self._draining or len(self.streams) > self.limits.streams or self._calls.are_too_many:
            stream.reset(Code.REQUEST_REJECTED)
            self.wasted()
            return None
        return stream

    def headers(self, stream: H3Stream, block: bytes) -> bool:
        if stream.sections:
            decode_trailers(self.codec, block)  # which mean nothing to a call
            return True
        headers = decode_request(self.codec, block)
        stream.left_bytes = content_length(headers)
        try:
            self._calls.accept(stream, headers, self._nursery)
        except NotGrpc as error:
            if self._handle is None:
                stream.refuse(error)
            else:
                stream.read_chunks()
                exchange = self._exchanges[stream.id] = Exchange(stream, headers)
                self._nursery.start_soon(self._answer, stream.id, exchange, self._handle)
        return True

    async def _answer(self, stream_id: int, exchange: Exchange, handle: Handle) -> None:
        try:
            await exchange.run(handle)
        finally:
            del self._exchanges[stream_id]

    def check_unread(self) -> None:
        self.limits.check_unread(self.unread_bytes)

    def closed(self, stream: CallStream) -> None:
        self._calls.closed(stream)
        if not stream.local_ended and (exchange := self._exchanges.get(stream.id)):
            exchange.scope.cancel()
        self._stop_when_idle()

    def half_closed(self, stream: H3Stream) -> None:
        if stream.local_ended:  # the answer is complete, and what the client still sends is read by nobody
            self.machine.refuse(stream.id, Code.NO_ERROR)
            self.close(stream, GRPCError(Status.OK))
        elif not stream.sections:
            self.reset(stream, Code.REQUEST_INCOMPLETE)

    def stopped(self, stream: H3Stream, code: int) -> None:
        self.reset(stream, Code.REQUEST_CANCELLED, GRPCError(Status.CANCELLED, "the client reads no more"))
        self.wasted()

    def wasted(self) -> None:
        if not self._resets.take(trio.current_time()):
            self.abort(Code.EXCESSIVE_LOAD, "too many calls were cancelled")

    def _stop_when_idle(self) -> None:
        if self._draining and not self.streams and not self._stopping:
            self.stop(Code.NO_ERROR, "the server is shutting down")
