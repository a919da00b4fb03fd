"""The connections of an endpoint, by network and by how far they have come, so that none takes the room of the others. Pure.

An address that was not validated (RFC 9000, section 8) may be a lie: its handshake counts apart, and against no network. Of
all others a network may have a share only. Who may come in is `quic_admission`'s to say.
"""

from collections import Counter
from typing import Generic, TypeVar

from palyra_trio.wire.limits import QuicLimits

Connection = TypeVar("Connection")


class ConnectionTable(Generic[Connection]):
    """Counts connections. Whose address is validated counts for its network from then on, until it is removed.

    Who was let in unvalidated may find its network's share taken when it is established, and stays: the bounds are exceeded
    by as many as may be unvalidated at a time, and no more.
    """

    def __init__(self, quic: QuicLimits, connections: int) -> None:
        self._connections = connections
        self._quic = quic
        self._unvalidated: dict[Connection, bytes] = {}
        self._handshaking: dict[Connection, bytes] = {}
        self._established: dict[Connection, bytes] = {}
        self._of_network: Counter[bytes] = Counter()  # without the unvalidated

    @property
    def unvalidated(self) -> int:
        """How many handshakes are in flight with addresses that may be lies."""
        return len(self._unvalidated)

    def is_full(self, network: bytes) -> bool:
        """Return whether there is no room for another connection, in all or for this network."""
        of_all = len(self._handshaking) + len(self._established)
        return of_all >= self._connections or self._of_network[network] >= self._share(self._connections)

    def add(self, connection: Connection, network: bytes, *, validated: bool) -> Connection | None:
        """Return the connection that has to go for this one: the oldest handshake, of its own network or of all.

        For an unvalidated one nobody has to.
        """
        if not validated:
            self._unvalidated[connection] = network
            return None
        self._handshaking[connection] = network
        self._of_network[network] += 1
        own = [each for each, its in self._handshaking.items() if its == network]
        if len(own) > self._share(self._quic.handshakes):
            return own[0]
        return next(iter(self._handshaking)) if len(self._handshaking) > self._quic.handshakes else None

    def established(self, connection: Connection) -> bytes | None:
        """The connection has finished its handshake. Return its network if it has only now shown that it is there."""
        network = self._unvalidated.pop(connection, None)
        if network is not None:
            self._of_network[network] += 1
        self._established[connection] = self._handshaking.pop(connection) if network is None else network
        return network

    def remove(self, connection: Connection) -> None:
        """The connection is gone; this may be said more than once."""
        self._unvalidated.pop(connection, None)
        for validated in (self._handshaking, self._established):
            if connection in validated:
                network = validated.pop(connection)
                self._of_network[network] -= 1
                if not self._of_network[network]:
                    del self._of_network[network]

    def network_of(self, connection: Connection) -> bytes:
        """Return the network that a connection came from."""
        stages = (self._established, self._handshaking, self._unvalidated)
        return next(each[connection] for each in stages if connection in each)

    def _share(self, of_all: int) -> int:
        return max(1, of_all // self._quic.address_share)
