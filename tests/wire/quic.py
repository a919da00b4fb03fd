"""Our HTTP/3 client and server on loopback sockets, and a network that is worse than that."""

import functools
import tempfile
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random
from typing import Any

import attrs
import trio
import trustme
from grpclib.const import Handler

from palyra_trio.wire.h3_client import H3Channel, connect
from palyra_trio.wire.h3_exchange import Handle
from palyra_trio.wire.h3_server import H3Server
from palyra_trio.wire.limits import Limits, QuicLimits
from palyra_trio.wire.quic_config import Identity, Trust
from palyra_trio.wire.quic_endpoint import QuicEndpoint, QuicListener
from palyra_trio.wire.served_calls import handlers_of
from palyra_trio.wire.udp_port import Address
from palyra_trio.wire.udp_sockets import open_udp_sockets
from tests.wire.echo import Echo, translate

SECRET = bytes(range(32))
WITHIN_S = 100
LOOK_S = 0.005


async def until(holds: Callable[[], object]) -> None:
    """Wait for something that nobody tells of, such as that a machine has forgotten a stream."""
    for _ in range(int(WITHIN_S / LOOK_S)):
        if holds():
            return
        await trio.sleep(LOOK_S)
    raise AssertionError(f"it did not come true within {WITHIN_S} s")


@attrs.frozen
class Certified:
    """A server's certificate, and two ways to trust it."""

    identity: Identity
    authority: Path

    @property
    def trust(self) -> Trust:
        return Trust(ca=self.authority)

    @property
    def pin(self) -> Trust:
        return Trust(fingerprint=self.identity.fingerprint)


@functools.cache
def certified() -> Certified:
    """Make an authority and a certificate for this machine, once for all tests."""
    folder = Path(tempfile.mkdtemp())
    authority = trustme.CA()
    issued = authority.issue_cert("localhost", "127.0.0.1", "::1")
    authority.cert_pem.write_to_path(folder / "ca.pem")
    issued.private_key_and_cert_chain_pem.write_to_path(folder / "server.pem")
    return Certified(Identity.load(folder / "server.pem", folder / "server.pem"), folder / "ca.pem")


def server_of(
    echo: Echo,
    limits: Limits | None = None,
    quic: QuicLimits | None = None,
    exchange: Handle | None = None,
    handlers: dict[str, Handler] | None = None,
) -> H3Server:
    known = handlers_of([echo]) if handlers is None else handlers
    identity = certified().identity
    return H3Server(known, translate, identity, secret=SECRET, limits=limits, quic=quic, exchange=exchange)


@asynccontextmanager
async def listening(server: H3Server, host: str = "127.0.0.1", port: int = 0) -> AsyncGenerator[int, None]:
    """Serve on a free UDP port, which is what the block gets."""
    sockets = open_udp_sockets(host, port)
    async with trio.open_nursery() as nursery:
        await nursery.start(server.serve, sockets)
        yield sockets[0].getsockname()[1]
        nursery.cancel_scope.cancel()


async def serving(
    server: H3Server, port: int = 0, *, task_status: trio.TaskStatus[tuple[trio.CancelScope, int]]
) -> None:
    """Serve until the scope that it is started with is cancelled, which is as sudden as a process that is killed."""
    with trio.CancelScope() as scope:
        async with listening(server, port=port) as bound:
            task_status.started((scope, bound))
            await trio.sleep_forever()


@asynccontextmanager
async def pair(echo: Echo, limits: Limits | None = None) -> AsyncGenerator[tuple[H3Channel, H3Server], None]:
    """Connect our client to our server."""
    server = server_of(echo, limits)
    sockets = open_udp_sockets("127.0.0.1", 0)
    port = sockets[0].getsockname()[1]
    async with trio.open_nursery() as nursery:
        await nursery.start(server.serve, sockets)
        async with connect("127.0.0.1", port, trust=certified().pin, limits=limits) as channel:
            yield channel, server
        server.drain(trio.current_time())


def listener_of(server: H3Server) -> QuicListener:
    assert server._listener is not None
    return server._listener


def endpoint_of(channel: H3Channel) -> QuicEndpoint:
    return channel._dialer


@attrs.define
class Weather:
    """What the network does to the datagrams of an endpoint that are sent through it. All of it comes from one seed."""

    endpoint: QuicEndpoint
    loss: float = 0.0
    twice: float = 0.0
    late: float = 0.0  # overtaken by the next
    random: Random = attrs.field(factory=lambda: Random(7))
    lost: int = 0
    _held: list[tuple[bytes, Address]] = attrs.field(factory=list)
    _send: Callable[[bytes, Address], None] = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self._send = self.endpoint.send
        endpoint: Any = self.endpoint
        endpoint.send = self.send

    def send(self, data: bytes, address: Address) -> None:
        if self.random.random() < self.loss:
            self.lost += 1
            return
        if self.random.random() < self.late and not self._held:
            self._held.append((data, address))
            return
        self._send(data, address)
        if self.random.random() < self.twice:
            self._send(data, address)
        while self._held:
            self._send(*self._held.pop())
