"""The ways to a daemon: HTTP/3 where it is offered, HTTP/2 over TCP or a Unix socket. The first one that answers is taken.

A connection that has ended is made anew, by whichever way answers then: a follower that lost one goes on over the other.
"""

from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Union

import attrs
import trio

from palyra_trio.core.errors import ConfigInvalid, NoDaemon, PeerError
from palyra_trio.wire.h2_client import Channel, connect
from palyra_trio.wire.limits import QuicLimits

if TYPE_CHECKING:
    from palyra_trio.wire.h3_client import H3Channel

ELSE_S = 1.0  # that a way may take to answer while there is another one
SILENCE_S = (
    12.0  # after which a path is given up: whoever waits at a terminal should not wait much longer for another one
)

AnyChannel = Union[Channel, "H3Channel"]
Dial = Callable[[], Awaitable[trio.abc.Stream]]
Note = Callable[[str], None]


class Transport(StrEnum):
    """What a person asks for: `auto` is HTTP/3 if it answers, and else HTTP/2."""

    AUTO = "auto"
    QUIC = "quic"
    H2 = "h2"


@attrs.frozen
class Way:
    """One way. `open` holds a connection for a block; it raises OSError or NoDaemon when nobody answers, and PeerError."""

    address: str
    open: Callable[[], AbstractAsyncContextManager[AnyChannel]]


def over_stream(dial: Dial, address: str, metadata: Mapping[str, str]) -> Way:
    """Return the way over what `dial` connects. `metadata` goes with every call."""

    @asynccontextmanager
    async def open_channel() -> AsyncGenerator[AnyChannel, None]:
        _, is_url, authority = address.partition("://")
        async with connect(await dial(), authority=authority if is_url else "localhost", metadata=metadata) as channel:
            yield channel

    return Way(address, open_channel)


def over_quic(host: str, port: int, ca: Path, metadata: Mapping[str, str], client: Path | None = None) -> Way:
    """Return the way over UDP to a host whose certificate the authority of a PEM file vouches for.

    `client` is a PEM file with a certificate and its key, for a server that asks for one.
    """

    @asynccontextmanager
    async def open_channel() -> AsyncGenerator[AnyChannel, None]:
        from palyra_trio.wire.h3_client import connect
        from palyra_trio.wire.quic_config import Identity, Trust

        try:
            identity = Identity.load(client, client) if client is not None else None
        except (OSError, ValueError) as error:
            raise ConfigInvalid(
                f"{client} is no certificate with its key: {error}", remedy="name a PEM file"
            ) from error
        quic = QuicLimits(idle_s=SILENCE_S, keepalive_s=SILENCE_S / 4)
        async with connect(host, port, trust=Trust(ca), identity=identity, metadata=metadata, quic=quic) as channel:
            yield channel

    return Way(f"quic://[{host}]:{port}" if ":" in host else f"quic://{host}:{port}", open_channel)


class Connection:
    """A connection by the first way that answers. `note` is told which one that is, and what did not answer."""

    def __init__(self, ways: Sequence[Way], note: Note, nursery: trio.Nursery) -> None:
        self._ways = ways
        self._note = note
        self._nursery = nursery
        self._channel: AnyChannel | None = None
        self._connecting = trio.Lock()

    async def channel(self) -> AnyChannel:
        """Return a channel that takes calls, making one if need be. Raises NoDaemon and PeerError of the last way."""
        async with self._connecting:
            if self._channel is None or not self._channel.usable:
                self._channel = await self._connect()
            return self._channel

    async def _connect(self) -> AnyChannel:
        *first, last = self._ways
        for way in first:
            why = f"does not answer within {ELSE_S:g} s"
            try:
                with trio.move_on_after(ELSE_S):
                    return await self._by(way)
            except PeerError as error:
                why = f"cannot be used: {error.message}"
            self._note(f"{way.address} {why}")
        return await self._by(last)

    async def _by(self, way: Way) -> AnyChannel:
        channel: AnyChannel = await self._nursery.start(self._hold, way)
        self._note(f"connected over {way.address}")
        return channel

    async def _hold(self, way: Way, task_status: trio.TaskStatus[AnyChannel]) -> None:
        try:
            async with way.open() as channel:
                task_status.started(channel)
                await channel.ended.wait()
        except OSError as error:
            raise NoDaemon(f"{way.address} does not answer: {error}") from error


def silent(_: str) -> None:
    """Note nothing."""
