"""Who is connected, by network and by how far they have come, so that none takes the room of the others. Pure.

A guest that has not shown where it is may be lying about it: it counts apart, and against no network. Of the others a
network may have a share only. Who may come in is `quic_admission`'s to say.
"""

import ipaddress
from collections import Counter
from typing import Generic, TypeVar

from palyra_trio.wire.limits import QuicLimits
from palyra_trio.wire.udp_port import Address

Guest = TypeVar("Guest")

_LOOPBACK = b""
_HOUSEHOLD_BYTES = 8  # of an address of IPv6: who has one of its network has them all


def network_of(address: Address) -> bytes:
    """Return what counts as one: an address of IPv4, a /64 of IPv6, or all of loopback."""
    host = ipaddress.ip_address(address[0].partition("%")[0])
    return _LOOPBACK if host.is_loopback else host.packed[:_HOUSEHOLD_BYTES]


def is_loopback(network: bytes) -> bool:
    return network == _LOOPBACK


class Crowd(Generic[Guest]):
    """Counts guests. Those who have shown where they are count for their network from then on, until they leave.

    Who was let in unproven may find its network's share taken when it stands, and stays: the bounds are exceeded by as many
    as may be unproven at a time, and no more.
    """

    def __init__(self, quic: QuicLimits, connections: int) -> None:
        self._connections = connections
        self._quic = quic
        self._unproven: dict[Guest, bytes] = {}
        self._shaking: dict[Guest, bytes] = {}
        self._standing: dict[Guest, bytes] = {}
        self._of_network: Counter[bytes] = Counter()  # without the unproven

    @property
    def unproven(self) -> int:
        """How many handshakes are in flight with addresses that may be lies."""
        return len(self._unproven)

    @property
    def shaking(self) -> int:
        """How many handshakes are in flight with addresses that are none."""
        return len(self._shaking)

    def is_full(self, network: bytes) -> bool:
        """Return whether there is no room for another connection, in all or for this network."""
        of_all = len(self._shaking) + len(self._standing)
        return of_all >= self._connections or self._of_network[network] >= self._share(self._connections)

    def comes(self, guest: Guest, network: bytes, *, shown: bool) -> Guest | None:
        """Take a guest in. Return the one that has to go for it: the oldest handshake, of its own network or of all.

        For an unproven one nobody has to.
        """
        if not shown:
            self._unproven[guest] = network
            return None
        self._shaking[guest] = network
        self._of_network[network] += 1
        own = [each for each, its in self._shaking.items() if its == network]
        if len(own) > self._share(self._quic.handshakes):
            return own[0]
        return next(iter(self._shaking)) if len(self._shaking) > self._quic.handshakes else None

    def stands(self, guest: Guest) -> bytes | None:
        """The guest has finished its handshake. Return its network if it has only now shown that it is there."""
        unproven = self._unproven.pop(guest, None)
        if unproven is not None:
            self._of_network[unproven] += 1
        self._standing[guest] = self._shaking.pop(guest) if unproven is None else unproven
        return unproven

    def leaves(self, guest: Guest) -> None:
        """The guest is gone; this may be said more than once."""
        self._unproven.pop(guest, None)
        for proven in (self._shaking, self._standing):
            if guest in proven:
                network = proven.pop(guest)
                self._of_network[network] -= 1
                if not self._of_network[network]:
                    del self._of_network[network]

    def network_of(self, guest: Guest) -> bytes:
        """Return the network that a guest came from."""
        return next(each[guest] for each in (self._standing, self._shaking, self._unproven) if guest in each)

    def _share(self, of_all: int) -> int:
        return max(1, of_all // self._quic.address_share)
