"""When a connection is of no more use: it has no request under way, or its client takes nothing of what it is sent.

Hypercorn has a time-out for connections without a request, and stops it for what is none: the preface of HTTP/2 over
cleartext, a stream that is reset. It has none for a client that does not read. So what is under way is counted here, where
the application is called; closing the connection is the listener's part.
"""

import math
from collections.abc import Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal

import trio

if TYPE_CHECKING:
    from hypercorn.typing import ASGIFramework

IDLE_S = 15.0  # without a request: as long as Hypercorn lets a handshake and a first request take together
STALLED_S = 120.0  # for a part of an answer; a follower whose browser sleeps comes back by itself


class Use:
    """What one connection is used for."""

    def __init__(self) -> None:
        self._under_way = {"request": 0, "sending": 0}
        self._until = trio.CancelScope(deadline=trio.current_time() + IDLE_S)

    async def ends(self) -> None:
        """Wait until the connection is of no more use."""
        with self._until:
            await trio.sleep_forever()

    def counting(self, app: "ASGIFramework") -> "ASGIFramework":
        """Return the application for this connection alone."""

        async def counted(scope: Any, receive: Any, send: Any) -> None:
            async def send_counted(message: Any) -> None:
                with self._one("sending"):
                    await send(message)

            with self._one("request"):
                await app(scope, receive, send_counted)

        return counted

    @contextmanager
    def _one(self, what: Literal["request", "sending"]) -> Generator[None, None, None]:
        self._add(what, 1)
        try:
            yield
        finally:
            self._add(what, -1)

    def _add(self, what: Literal["request", "sending"], count: int) -> None:
        self._under_way[what] += count
        within_s = STALLED_S if self._under_way["sending"] else math.inf if self._under_way["request"] else IDLE_S
        self._until.deadline = trio.current_time() + within_s
