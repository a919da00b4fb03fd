"""The connections of the HTTP port, by network, so that none whose client is waited for takes the room of another. Pure.

A network has a share, as on QUIC (`quic_connection_table`). Loopback is one, and may have every place: behind it may be a proxy
with many. Where there is no room, the connection whose client was waited for longest goes, and where none is, the one that has
done nothing but follow for longest: its browser comes back. Only who is served stays for sure.
"""

import math
from collections.abc import Iterable, Iterator
from typing import Generic, Protocol, TypeVar

from palyra_trio.wire.networks import is_loopback

CONNECTIONS = 256  # a browser has six, and one for each page that it follows
ADDRESS_SHARE = 4  # the part of them that one address may have: a fourth

NOT_WAITING = math.inf


class _Waiting(Protocol):
    @property
    def waiting_since(self) -> float:
        """When it became its client's turn, to send or to take something; NOT_WAITING where it is ours."""
        ...

    @property
    def following_since(self) -> float:
        """Since when it does no more than follow streams of events; NOT_WAITING where it does something else."""
        ...


Connection = TypeVar("Connection", bound=_Waiting)


class HttpConnectionTable(Generic[Connection]):
    """Counts connections, `most` in all."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._networks: dict[Connection, bytes] = {}

    def __iter__(self) -> Iterator[Connection]:
        return iter(self._networks)

    def add(self, connection: Connection, network: bytes) -> Connection | None:
        """Return the connection that has to go for this one, and is removed: of its own network, if that has its share, or of all.

        Where no client of another is waited for, and none only follows, the one that was added goes.
        """
        self._networks[connection] = network
        own = [each for each, its in self._networks.items() if its == network]
        if len(own) > self._share(network):
            candidates = own
        elif len(self._networks) > self._most:
            candidates = list(self._networks)
        else:
            return None
        goes = _dispensable(each for each in candidates if each is not connection) or connection
        self.remove(goes)
        return goes

    def make_room(self) -> Connection | None:
        """Return the connection that has to go where too much is under way, and is removed; None where all are served."""
        goes = _dispensable(self._networks)
        if goes is not None:
            self.remove(goes)
        return goes

    def remove(self, connection: Connection) -> None:
        """The connection is gone; this may be said more than once."""
        self._networks.pop(connection, None)

    def _share(self, network: bytes) -> int:
        return self._most if is_loopback(network) else max(1, self._most // ADDRESS_SHARE)


def _dispensable(connections: Iterable[Connection]) -> Connection | None:
    """Return the one whose client was waited for longest, else the one that has followed for longest, if any."""
    goes = min(connections, key=lambda each: (each.waiting_since, each.following_since), default=None)
    return goes if goes is not None and min(goes.waiting_since, goes.following_since) < NOT_WAITING else None
