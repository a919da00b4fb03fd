"""The bodies of requests that are being received, and how many bytes they may keep together. Pure.

Where there is no more room, the body that has been coming for longest is given up: an honest one is there in a moment, so it
is not the one, however many others are sent slowly. How long one body may be, and may take, its reader says.
"""

from collections.abc import Callable

BODIES_BYTES = 32 * 1024 * 1024


class BodyRoom:
    """Counts what bodies keep, `most` bytes in all. A body is known by what gives it up, which is called once."""

    def __init__(self, most: int = BODIES_BYTES) -> None:
        self._most = most
        self._kept: dict[Callable[[], None], int] = {}
        self._all = 0

    def grew(self, give_up: Callable[[], None], count: int) -> None:
        """A body keeps `count` bytes more. Those that have to go for it are given up, the first that came first; it may be one."""
        self._kept[give_up] = self._kept.get(give_up, 0) + count
        self._all += count
        while self._all > self._most:
            oldest = next(iter(self._kept))
            self.left(oldest)
            oldest()

    def left(self, give_up: Callable[[], None]) -> None:
        """A body is received or gone; this may be said more than once."""
        self._all -= self._kept.pop(give_up, 0)
