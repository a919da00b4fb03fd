"""A small service of each kind of method, and ways to serve and to call it."""

from collections.abc import AsyncGenerator, Generator, Sequence
from contextlib import asynccontextmanager, contextmanager

import trio
import trio.testing
from google.rpc.error_details_pb2 import ErrorInfo
from grpclib.const import Status
from grpclib.exceptions import GRPCError

from palyra_trio.core.errors import PalyraError, TooLarge
from palyra_trio.wire.call import Call
from palyra_trio.wire.h2_client import Channel, connect
from palyra_trio.wire.h2_server import H2Server
from palyra_trio.wire.limits import Limits
from palyra_trio.wire.served_calls import handlers_of
from tests.wire.echo_grpc import EchoBase
from tests.wire.echo_pb2 import Failure, Order, Sum, Text


def translate(error: PalyraError) -> GRPCError:
    status = Status.RESOURCE_EXHAUSTED if isinstance(error, TooLarge) else Status.FAILED_PRECONDITION
    return GRPCError(status, error.message, [ErrorInfo(reason=error.code, domain="tests")])


class Echo(EchoBase):
    """`live` counts the calls in a handler, `sent` the messages of Count that had room."""

    def __init__(self) -> None:
        self.live = 0
        self.sent = 0
        self.began = trio.Event()
        self.go_on = trio.Event()  # what Wait waits for
        self.raises: Exception | None = None
        self.last: Call | None = None

    @contextmanager
    def _calling(self, call: Call) -> Generator[None, None, None]:
        self.live += 1
        self.last = call
        self.began.set()
        try:
            yield
        finally:
            self.live -= 1

    async def Say(self, call: Call) -> None:  # type: ignore[override]
        """Give text and metadata back: `x-*` in the initial metadata, `t-*` in the trailing."""
        with self._calling(call):
            sent = list(call.metadata.items())
            await call.send_initial_metadata(metadata=[each for each in sent if each[0].startswith("x-")])
            message = await call.recv_message()
            await call.send_message(message)
            await call.send_trailing_metadata(metadata=[each for each in sent if each[0].startswith("t-")])

    async def Count(self, call: Call) -> None:  # type: ignore[override]
        with self._calling(call):
            order: Order = await call.recv_message()
            text = Text(body=bytes(order.bytes_each))
            for _ in range(order.messages // max(order.together, 1)):
                if order.together:
                    await call.send_encoded([text.SerializeToString()] * order.together)
                else:
                    await call.send_message(text)
                self.sent += 1

    async def Collect(self, call: Call) -> None:  # type: ignore[override]
        with self._calling(call):
            total = Sum()
            async for message in call:
                total.messages += 1
                total.bytes += len(message.body)
            await call.send_message(total)

    async def Chat(self, call: Call) -> None:  # type: ignore[override]
        """Give each text back, and one more when the client has said its last."""
        with self._calling(call):
            async for message in call:
                await call.send_message(message)
            await call.send_message(Text(body=b"bye"))

    async def Fail(self, call: Call) -> None:  # type: ignore[override]
        with self._calling(call):
            failure: Failure = await call.recv_message()
            for _ in range(failure.after_messages):
                await call.send_message(Text())
            raise self.raises or GRPCError(Status(failure.status), failure.message)

    async def Wait(self, call: Call) -> None:  # type: ignore[override]
        with self._calling(call):
            await self.go_on.wait()
            await call.send_message(Text())


def server_of(echo: Echo, limits: Limits | None = None) -> H2Server:
    return H2Server(handlers_of([echo]), translate, limits)


@asynccontextmanager
async def pair(echo: Echo, limits: Limits | None = None) -> AsyncGenerator[tuple[Channel, H2Server], None]:
    """Connect our client to our server in memory."""
    near, far = trio.testing.memory_stream_pair()
    server = server_of(echo, limits)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(server.serve_connection, far)
        async with connect(near, limits=limits) as channel:
            yield channel, server


@asynccontextmanager
async def listening(server: H2Server) -> AsyncGenerator[int, None]:
    """Serve on a free TCP port, which is what the block gets."""
    listeners: Sequence[trio.SocketListener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with trio.open_nursery() as nursery:
        await nursery.start(server.serve, listeners)
        yield listeners[0].socket.getsockname()[1]
        nursery.cancel_scope.cancel()
