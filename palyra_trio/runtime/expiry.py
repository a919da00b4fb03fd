"""When open questions expire: one clock for all of them, so that a run that waits costs no task."""

import heapq
from collections.abc import Awaitable, Callable

import trio


class Expiries:
    """The moments at which approvals expire, soonest first. One that was decided meanwhile is left in until its moment."""

    def __init__(self, now_s: Callable[[], float]) -> None:
        self._now_s = now_s
        self._due: list[tuple[int, str]] = []
        self._sooner = trio.Event()

    def add(self, expires_ms: int, approval_id: str) -> None:
        """Note an approval that expires at `expires_ms`, Unix time; 0 is never."""
        if expires_ms:
            heapq.heappush(self._due, (expires_ms, approval_id))
            if self._due[0][1] == approval_id:
                self._sooner.set()

    async def watch(self, expire: Callable[[str], Awaitable[None]]) -> None:
        """Call `expire` with each approval once its moment has come, for ever. It decides whether there is something to do."""
        while True:
            while not self._due:
                await self._next()
            expires_ms, approval_id = self._due[0]
            with trio.move_on_after(max(0.0, expires_ms / 1000 - self._now_s())) as waiting:
                await self._next()
            if waiting.cancelled_caught and self._due and self._due[0] == (expires_ms, approval_id):
                heapq.heappop(self._due)
                await expire(approval_id)

    async def _next(self) -> None:
        self._sooner = trio.Event()
        await self._sooner.wait()
