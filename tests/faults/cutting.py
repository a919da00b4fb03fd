"""A TCP relay that breaks connections at any byte, as a bad network does. What both ends see of it is a reset."""

import random
import socket
import struct
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager, suppress

import attrs
import trio

MOST_BYTES = 100_000  # of a connection that is cut
WHOLE = 0.2  # of the connections are left alone: a message that is larger than that must arrive some time
_RESET = struct.pack("ii", 1, 0)


@attrs.define
class Relay:
    """Relays to whatever port `target` says at the time. Counts the connections that it cut."""

    port: int
    cuts: int
    _target: Callable[[], int]
    _chance: random.Random

    async def serve(self, client: trio.SocketStream) -> None:
        left = float("inf")
        if self._chance.random() > WHOLE:
            left = MOST_BYTES ** self._chance.random()
        with suppress(OSError, trio.BrokenResourceError, trio.ClosedResourceError):
            async with (
                client,
                await trio.open_tcp_stream("127.0.0.1", self._target()) as server,
                trio.open_nursery() as nursery,
            ):
                nursery.start_soon(_pass_on, client, server, nursery.cancel_scope)
                with suppress(trio.BrokenResourceError):
                    async for data in server:
                        await client.send_all(data[: int(min(left, len(data)))])
                        left -= len(data)
                        if left < 0:
                            self._cut(client, server)
                            break
                nursery.cancel_scope.cancel()

    def _cut(self, *ends: trio.SocketStream) -> None:
        self.cuts += 1
        for end in ends:
            end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)


async def _pass_on(source: trio.SocketStream, sink: trio.SocketStream, scope: trio.CancelScope) -> None:
    with suppress(trio.BrokenResourceError):
        async for data in source:
            await sink.send_all(data)
    scope.cancel()


@asynccontextmanager
async def cutting(target: Callable[[], int], chance: random.Random) -> AsyncGenerator[Relay, None]:
    """Relay for the length of the block."""
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    relay = Relay(listener.socket.getsockname()[1], 0, target, chance)
    async with trio.open_nursery() as nursery:
        await nursery.start(trio.serve_listeners, relay.serve, [listener])
        yield relay
        nursery.cancel_scope.cancel()
