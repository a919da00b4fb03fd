"""What goes on over a connection: whether its client is waited for, and when it is of no more use.

Hypercorn has a time-out for connections without a request, and stops it for what is none: the preface of HTTP/2 over
cleartext, a stream that is reset. It has none for a client that does not read, and an answer that waits for the room of an
HTTP/2 stream waits on when the connection is gone. So what is under way is counted here, where the application is called.
Closing the connection is the listener's part, and how long a body may take its reader's.
"""

import math
from typing import TYPE_CHECKING, Any, Literal

import trio

from palyra_trio.transports.http_connection_table import NOT_WAITING

if TYPE_CHECKING:
    from hypercorn.typing import ASGIFramework

IDLE_S = 15.0  # without a request: as long as Hypercorn lets a handshake and a first request take together
STALLED_S = 30.0  # for a part of an answer; a follower whose browser sleeps comes back by itself
LAST_S = 1.0  # that what is under way has to end by itself, once its client is gone
FOLLOWED = b"text/event-stream"

What = Literal["request", "receiving", "sending", "following"]


class Activity:
    """What goes on over one connection: requests, of which some are still being received, and answers that are being sent."""

    def __init__(self) -> None:
        self._since_s: dict[What, dict[object, float]] = {
            "request": {}, "receiving": {}, "sending": {}, "following": {},
        }  # fmt: skip
        self._changed_s = trio.current_time()
        self._gone_s = math.inf
        self._until = trio.CancelScope(deadline=self._changed_s + IDLE_S)

    @property
    def requests(self) -> int:
        """How many are under way."""
        return len(self._since_s["request"])

    @property
    def waiting_since(self) -> float:
        """Since when, on Trio's clock, its client could have sent all of a request, or taken a part of an answer.

        NOT_WAITING while it is our turn. A body that comes byte by byte is waited for since it began.
        """
        if not self._since_s["request"]:
            return self._changed_s
        waited = *self._since_s["receiving"].values(), *self._since_s["sending"].values()
        return min(waited, default=NOT_WAITING)

    @property
    def following_since(self) -> float:
        """Since when it does no more than follow streams of events; NOT_WAITING where it does something else."""
        following = self._since_s["following"]
        only = following and len(following) == len(self._since_s["request"])
        return min(following.values()) if only else NOT_WAITING

    async def ends(self) -> None:
        """Wait until the connection is of no more use, or was ended."""
        with self._until:
            await trio.sleep_forever()

    def end(self) -> None:
        """Have `ends` return: its place is needed for another."""
        self._until.cancel()

    def gone(self) -> None:
        """Have `ends` return soon: its client sends no more."""
        self._gone_s = min(self._gone_s, trio.current_time() + LAST_S)
        self._until.deadline = min(self._until.deadline, self._gone_s)

    def counting(self, app: "ASGIFramework") -> "ASGIFramework":
        """Return the application for this connection alone."""

        async def counted(scope: Any, receive: Any, send: Any) -> None:
            one, came = object(), False

            async def receive_counted() -> Any:
                nonlocal came
                if came:  # from here on it waits for nothing but the end
                    return await receive()
                self._begins("receiving", one)
                message = await receive()
                if not message.get("more_body", False):
                    came = True
                    self._ends("receiving", one)
                return message

            async def send_counted(message: Any) -> None:
                if message["type"] == "http.response.start" and _is_followed(message):
                    self._begins("following", one)
                self._begins("sending", one)
                try:
                    await send(message)
                finally:
                    self._ends("sending", one)

            self._begins("request", one)
            try:
                await app(scope, receive_counted, send_counted)
            finally:
                for what in self._since_s:
                    self._ends(what, one)

        return counted

    def _begins(self, what: What, one: object) -> None:
        self._since_s[what].setdefault(one, trio.current_time())
        self._change()

    def _ends(self, what: What, one: object) -> None:
        self._since_s[what].pop(one, None)
        self._change()

    def _change(self) -> None:
        self._changed_s = trio.current_time()
        within_s = STALLED_S if self._since_s["sending"] else math.inf if self._since_s["request"] else IDLE_S
        self._until.deadline = min(self._changed_s + within_s, self._gone_s)


def _is_followed(message: Any) -> bool:
    return any(name.lower() == b"content-type" and value.startswith(FOLLOWED) for name, value in message["headers"])
