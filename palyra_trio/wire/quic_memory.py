"""How much the connections of an endpoint keep in all, and which of them is to go when that is too much. Pure.

What a connection keeps is counted by the connection, and what is said to one that goes is the endpoint's.
"""

from collections import Counter
from collections.abc import Callable
from typing import Generic, TypeVar

Connection = TypeVar("Connection")


class MemoryBudget(Generic[Connection]):
    """The bytes that were last said of each connection, and of all."""

    def __init__(self, most_bytes: int) -> None:
        self._most_bytes = most_bytes
        self._kept: dict[Connection, int] = {}
        self._sum_bytes = 0

    @property
    def is_over(self) -> bool:
        return self._sum_bytes > self._most_bytes

    def note(self, connection: Connection, kept_bytes: int) -> None:
        """A connection keeps so many bytes now."""
        self._sum_bytes += kept_bytes - self._kept.get(connection, 0)
        self._kept[connection] = kept_bytes

    def forget(self, connection: Connection) -> None:
        """A connection is gone; this may be said more than once."""
        self._sum_bytes -= self._kept.pop(connection, 0)

    def heaviest(self, network_of: Callable[[Connection], bytes]) -> Connection:
        """Return the connection that keeps the most, of the network that keeps the most: many small ones are no disguise."""
        sums: Counter[bytes] = Counter()
        for connection, kept_bytes in self._kept.items():
            sums[network_of(connection)] += kept_bytes
        ((network, _),) = sums.most_common(1)
        return max((each for each in self._kept if network_of(each) == network), key=self._kept.__getitem__)
