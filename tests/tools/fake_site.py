"""A web server on loopback that answers with the bytes it is given, names that lead to it, and what it was asked."""

import ssl
from collections.abc import Awaitable, Callable
from functools import partial
from ipaddress import ip_address

import attrs
import trio

from palyra_trio.core.policy import IpClass
from palyra_trio.tools.egress import Egress, IpAddress, ip_class

HOME = ip_address("127.0.0.1")

Talk = Callable[[trio.abc.Stream], Awaitable[None]]


def answer(body: bytes = b"", content_type: str = "text/plain", status: str = "200 OK", **headers: str | int) -> bytes:
    """Return an answer whose length is given; a header `content_encoding` is Content-Encoding."""
    fields = {"content-length": len(body)} | ({"content-type": content_type} if content_type else {}) | headers
    head = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in fields.items())
    return f"HTTP/1.1 {status}\r\n{head}\r\n".encode() + body


def redirect(location: str, status: str = "302 Found") -> bytes:
    return answer(status=status, location=location)


@attrs.define
class Site:
    """Answers each request with the next of `answers`, then with the last again; or talks as `talk` does."""

    answers: list[bytes] = attrs.Factory(list)
    talk: Talk | None = None
    tls: ssl.SSLContext | None = None
    requests: list[bytes] = attrs.Factory(list)
    hung_up: trio.Event = attrs.Factory(trio.Event)
    port: int = 0

    async def start(self, nursery: trio.Nursery) -> "Site":
        """Listen on a port of its own, until the nursery is cancelled."""
        (listener,) = await nursery.start(partial(trio.serve_tcp, self._serve, 0, host="127.0.0.1"))
        self.port = listener.socket.getsockname()[1]
        return self

    async def _serve(self, raw: trio.SocketStream) -> None:
        stream: trio.abc.Stream = raw
        if self.tls is not None:
            stream = trio.SSLStream(raw, self.tls, server_side=True, https_compatible=True)
        try:
            async with stream:
                self.requests.append(await _request(stream))
                if self.talk is not None:
                    await self.talk(stream)
                else:
                    await stream.send_all(self.answers[min(len(self.requests), len(self.answers)) - 1])
        except trio.BrokenResourceError:
            pass
        finally:
            self.hung_up.set()


async def _request(stream: trio.abc.Stream) -> bytes:
    asked = b""
    while b"\r\n\r\n" not in asked:
        if not (piece := await stream.receive_some()):
            return asked
        asked += piece
    head, _, body = asked.partition(b"\r\n\r\n")
    length = next(
        (int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")), 0
    )
    while len(body) < length:
        body += await stream.receive_some()
    return head + b"\r\n\r\n" + body


class Names:
    """A name server whose answers to one name are given in order, the last one for good. It keeps what it was asked."""

    def __init__(self, **answers: list[tuple[str, ...]]) -> None:
        self._answers = {name.replace("_", "."): found for name, found in answers.items()}
        self.asked: list[str] = []

    async def resolve(self, host: str) -> tuple[IpAddress, ...]:
        await trio.lowlevel.checkpoint()
        self.asked.append(host)
        found = self._answers[host]
        return tuple(map(ip_address, found.pop(0) if len(found) > 1 else found[0]))


def home_is_public(address: IpAddress) -> IpClass:
    """Classify as always, but for the one address on which the fake site listens."""
    return "public" if address == HOME else ip_class(address)


def egress_to(names: Names) -> Egress:
    return Egress(names.resolve, home_is_public)
