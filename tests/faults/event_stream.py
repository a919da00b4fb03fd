"""A client of server-sent events over HTTP/1.1 (WHATWG HTML, section 9.2): it reads as fast as it is told to, or not at all."""

import socket
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Self
from urllib.parse import urlencode

import h11
import trio

READ_BYTES = 64 * 1024
NARROW_BYTES = 4096  # what one that reads nothing leaves to the kernel to hold, about

Event = tuple[str, str, str]
"""name, data, id"""


class EventStream:
    """`async with await EventStream.open(...) as stream`: then `next`, until it is None."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self._stream = stream
        self._machine = h11.Connection(h11.CLIENT)
        self._read = b""

    @classmethod
    async def open(cls, port: int, path: str, headers: dict[str, str], *, narrow: bool = False) -> Self:
        """Ask for a stream. A `narrow` one has as little room in the kernel as there can be."""
        made = trio.socket.socket()
        if narrow:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, NARROW_BYTES)
        await made.connect(("127.0.0.1", port))
        opened = cls(trio.SocketStream(made))
        await opened._ask("GET", path, {"Accept": "text/event-stream", **headers}, b"")
        return opened

    async def _ask(self, method: str, path: str, headers: dict[str, str], body: bytes) -> None:
        port = self._stream.socket.getpeername()[1]
        sent = {"Host": f"127.0.0.1:{port}", "Content-Length": str(len(body)), **headers}
        data = self._machine.send(h11.Request(method=method, target=path, headers=[*sent.items()])) or b""
        data += self._machine.send(h11.Data(data=body)) or b""
        await self._stream.send_all(data + (self._machine.send(h11.EndOfMessage()) or b""))

    async def respond(self) -> h11.Response:
        """Return how the request was answered."""
        while not isinstance(event := await self._next(), h11.Response):
            pass
        return event

    async def rest(self) -> bytes:
        """Return what follows, to the end of the response."""
        body = self._read
        while isinstance(event := await self._next(), h11.Data):
            body += bytes(event.data)
        return body

    async def next(self) -> Event | None:
        """Return the next event; None at the end. Comments are passed over. Raises where the connection was cut."""
        while True:
            block, end, left = self._read.partition(b"\n\n")
            if not end:
                event = await self._next()
                if isinstance(event, h11.Response):
                    assert event.status_code == 200, event
                elif isinstance(event, h11.Data):
                    self._read += bytes(event.data)
                else:
                    return None
                continue
            self._read = left
            fields: dict[str, list[str]] = {}
            for line in block.decode().split("\n"):
                name, _, value = line.partition(": ")
                fields.setdefault(name, []).append(value)
            if "event" in fields:
                return fields["event"][0], "\n".join(fields.get("data", [])), fields.get("id", [""])[0]

    async def _next(self) -> h11.Event:
        while (event := self._machine.next_event()) is h11.NEED_DATA:
            self._machine.receive_data(await self._stream.receive_some(READ_BYTES))
        assert not isinstance(event, type)
        return event

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, _type: type[BaseException] | None, _error: BaseException | None, _where: TracebackType | None
    ) -> None:
        await trio.aclose_forcefully(self._stream)


@asynccontextmanager
async def asking(
    port: int, method: str, path: str, form: dict[str, str], **headers: str
) -> AsyncGenerator[EventStream]:
    """Send a request on a connection of its own, which is closed behind the block."""
    async with EventStream(await trio.open_tcp_stream("127.0.0.1", port)) as opened:
        sent = {"Content-Type": "application/x-www-form-urlencoded", **headers} if form else headers
        await opened._ask(method, path, sent, urlencode(form).encode())
        yield opened


async def sign_in(port: int, token: str) -> str:
    """Return the cookie of a browser that has signed in with an access token."""
    origin = f"http://127.0.0.1:{port}"
    async with asking(port, "POST", "/sign-in", {"token": token}, Origin=origin) as asked:
        answered = await asked.respond()
    return next(value for name, value in answered.headers if name == b"set-cookie").decode().partition(";")[0]


async def page(port: int, path: str, cookie: str) -> str:
    """Return a page."""
    async with asking(port, "GET", path, {}, Cookie=cookie) as asked:
        answered = await asked.respond()
        assert answered.status_code == 200, path
        return (await asked.rest()).decode()
