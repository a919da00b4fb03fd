"""One plain HTTP request over HTTP/3, and its response: for what is no call, such as health and events for a browser.

The handler is a coroutine function that takes the exchange; its return is the end of the response.
"""

import logging
from collections.abc import Awaitable, Callable
from typing import TypeAlias
from urllib.parse import unquote

import trio
from multidict import MultiDict

from palyra_trio.core.identity import Peer
from palyra_trio.core.words import one_line
from palyra_trio.wire.call_stream import CallStream
from palyra_trio.wire.metadata import Headers, RawHeaders

TEXT = "text/plain; charset=utf-8"
LOGGED = 200  # characters of what a client has asked for

_log = logging.getLogger(__name__)


class Exchange:
    """A request as its handler sees it, which is cancelled when the client goes away.

    `path` is decoded and without the query; `headers` have lower-case names.
    """

    def __init__(self, stream: CallStream, headers: RawHeaders) -> None:
        self.headers = MultiDict((name.decode("latin-1"), value.decode("latin-1")) for name, value in headers)
        self.method = self.headers.get(":method", "")
        path, _, self.query = self.headers.get(":path", "").partition("?")
        self.path = unquote(path)
        self.scope = trio.CancelScope()
        self._stream = stream
        self._begun = False

    @property
    def peer(self) -> Peer:
        return self._stream.peer

    def begin(self, status: int, headers: Headers | None = None) -> None:
        """Begin the response. Names of headers are lower-case."""
        self._begun = True
        self._stream.send_headers([(":status", str(status)), *(headers or [])])

    async def send(self, data: bytes) -> None:
        """Queue a part of the response's body, as soon as there is room. If cancelled, nothing is queued."""
        if self.method != "HEAD":
            await self._stream.send(data)

    async def receive(self) -> bytes | None:
        """Return the next part of the request's body, or None after the last."""
        return await self._stream.receive()

    async def answer(self, status: int, body: bytes = b"", content_type: str = TEXT) -> None:
        """Respond with all of a body."""
        self.begin(status, [("content-type", content_type), ("content-length", str(len(body)))])
        if body:
            await self.send(body)

    async def run(self, handle: "Handle") -> None:
        """Have the request handled, and end the response. Raises nothing but Cancelled."""
        try:
            with self.scope:
                await handle(self)
                if not self._begun:
                    raise RuntimeError("it was not answered")
        except Exception as error:
            if self._stream.gone is not None:
                error.__traceback__ = None  # the stream may keep it, and its frames keep the stream
                return
            _log.error("%s failed", one_line(f"{self.method} {self.path}", LOGGED), exc_info=error)
            if self._begun:
                self._stream.reset()
                return
            self.begin(500)
        except BaseExceptionGroup as group:  # the connection is leaving, and what failed beside that has nobody to tell
            leaving = group.split(Exception)[1]
            assert leaving is not None
            raise leaving from None
        if self.scope.cancelled_caught:
            return
        self._stream.end([], drop=False)
        await self._stream.drained()


Handle: TypeAlias = Callable[[Exchange], Awaitable[None]]
