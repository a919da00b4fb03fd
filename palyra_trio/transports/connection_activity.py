"""What goes on over a connection: whether its client is waited for, and when it is of no more use.

Hypercorn has a time-out for connections without a request, and stops it for what is none: the preface of HTTP/2 over
cleartext, a stream that is reset. It has none for a client that does not read. So what is under way is counted here, where
the application is called. Closing the connection is the listener's part, and how long a body may take its reader's.
"""

import math
from collections.abc import Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal

import trio

from palyra_trio.transports.http_connection_table import NOT_WAITING

if TYPE_CHECKING:
    from hypercorn.typing import ASGIFramework

IDLE_S = 15.0  # without a request: as long as Hypercorn lets a handshake and a first request take together
STALLED_S = 120.0  # for a part of an answer; a follower whose browser sleeps comes back by itself

What = Literal["request", "receiving", "sending"]


class Activity:
    """What goes on over one connection: requests, of which some are still being received, and answers that are being sent."""

    def __init__(self) -> None:
        self._under_way: dict[What, int] = {"request": 0, "receiving": 0, "sending": 0}
        self._changed_s = trio.current_time()
        self._until = trio.CancelScope(deadline=self._changed_s + IDLE_S)

    @property
    def waiting_since(self) -> float:
        """Since when, on Trio's clock, its client could have sent or taken something; NOT_WAITING while it is our turn."""
        now = self._under_way
        return self._changed_s if not now["request"] or now["receiving"] or now["sending"] else NOT_WAITING

    async def ends(self) -> None:
        """Wait until the connection is of no more use, or was ended."""
        with self._until:
            await trio.sleep_forever()

    def end(self) -> None:
        """Have `ends` return: its place is needed for another."""
        self._until.cancel()

    def counting(self, app: "ASGIFramework") -> "ASGIFramework":
        """Return the application for this connection alone."""

        async def counted(scope: Any, receive: Any, send: Any) -> None:
            came = False

            async def receive_counted() -> Any:
                nonlocal came
                if came:  # from here on it waits for nothing but the end
                    return await receive()
                with self._one("receiving"):
                    message = await receive()
                came = not message.get("more_body", False)
                return message

            async def send_counted(message: Any) -> None:
                with self._one("sending"):
                    await send(message)

            with self._one("request"):
                await app(scope, receive_counted, send_counted)

        return counted

    @contextmanager
    def _one(self, what: What) -> Generator[None, None, None]:
        self._add(what, 1)
        try:
            yield
        finally:
            self._add(what, -1)

    def _add(self, what: What, count: int) -> None:
        self._under_way[what] += count
        self._changed_s = trio.current_time()
        within_s = STALLED_S if self._under_way["sending"] else math.inf if self._under_way["request"] else IDLE_S
        self._until.deadline = self._changed_s + within_s
