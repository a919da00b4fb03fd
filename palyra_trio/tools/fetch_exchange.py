"""One request and its answer over HTTP/1.1, on a connection to an address that was checked before.

The connection goes to the given addresses and to nowhere else, while the Host field and the certificate's name are
those of the URL: no name is resolved here. No proxy, no cookie, no credential, no redirect, and a connection serves
one request. RFC 9112; over TLS, RFC 9110, section 4.3.4. Time is the caller's.
"""

import ssl
from collections.abc import Callable, Generator, Iterable
from contextlib import aclosing, contextmanager, suppress
from typing import Any

import httpcore2
import trio

from palyra_trio.core.errors import PeerError
from palyra_trio.tools.egress import IpAddress, Place
from palyra_trio.tools.fetch_body import Unpacker
from palyra_trio.tools.fetch_request import Answer, Request

ATTEMPT_S = 10.0  # for each address, so that a dead one leaves time for the next
CLOSE_S = 1.0  # closing a socket does not wait


async def exchange(
    place: Place,
    addresses: tuple[IpAddress, ...],
    request: Request,
    tls: ssl.SSLContext | None,
    body_for: Callable[[Answer], Unpacker],
) -> tuple[Answer, Unpacker]:
    """Send the request; return the answer, and its body in what `body_for` gave for it, until that was full.

    `tls` is needed for https. However this ends, the connection is closed at once. Raises PeerError when no address
    answers, the certificate does not fit the host, what comes is no HTTP or breaks off; and zlib.error.
    """
    network = _Pinned(addresses)
    url = httpcore2.URL(
        scheme=place.scheme.encode(),
        host=place.host.strip("[]").encode(),
        port=place.port,
        target=place.target.encode(),
    )
    headers = {"host": place.authority} | request.headers
    if request.method == "POST":
        headers["content-length"] = str(len(request.body))
    wanted = httpcore2.Request(request.method, url, headers=list(headers.items()), content=request.body)
    connection = httpcore2.AsyncHTTPConnection(url.origin, ssl_context=tls, network_backend=network)
    try:
        with _translated(place, request):
            response = await connection.handle_async_request(wanted)
            answer = Answer(response.status, _fields(response.headers))
            body = body_for(answer)
            async with aclosing(response.aiter_stream()) as pieces:
                async for piece in pieces:
                    body.feed(piece)
                    if body.full:
                        break
        return answer, body
    finally:
        with trio.move_on_after(CLOSE_S, shield=True):
            await network.close()


class _Pinned(httpcore2.TrioBackend):
    """Connects to the given addresses, in order, whatever host it is asked for."""

    def __init__(self, addresses: tuple[IpAddress, ...]) -> None:
        self._addresses = addresses
        self._stream: httpcore2.AsyncNetworkStream | None = None

    async def connect_tcp(self, host: str, port: int, *args: Any, **kwargs: Any) -> httpcore2.AsyncNetworkStream:
        *first, last = self._addresses
        for address in first:
            with suppress(httpcore2.ConnectError, httpcore2.ConnectTimeout):
                return await self._connect(address, port)
        return await self._connect(last, port)

    async def _connect(self, address: IpAddress, port: int) -> httpcore2.AsyncNetworkStream:
        self._stream = await super().connect_tcp(str(address), port, timeout=ATTEMPT_S)
        return self._stream

    async def close(self) -> None:
        """Close the connection beneath TLS and HTTP, which leave it open when a cancel comes between them."""
        if self._stream is not None:
            await self._stream.aclose()


def _fields(raw: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    fields = dict[str, str]()
    for name, value in raw:
        key, text = name.decode("ascii").lower(), value.decode("utf-8", "replace")
        fields[key] = f"{fields[key]}, {text}" if key in fields else text
    return fields


@contextmanager
def _translated(place: Place, request: Request) -> Generator[None]:
    try:
        yield
    except (httpcore2.NetworkError, httpcore2.TimeoutException, httpcore2.ProtocolError) as error:
        unsure = "it may have been carried out all the same" if request.method == "POST" else ""
        raise PeerError(f"{request.method} {place.url} failed: {_cause(error)}", remedy=unsure) from error


def _cause(error: BaseException) -> str:
    """Return what went wrong at the bottom: libraries wrap an error of TLS or of a socket in others that say less."""
    said = str(error) or type(error).__name__
    beneath = error.exceptions[0] if isinstance(error, BaseExceptionGroup) else error.__cause__
    return _cause(beneath) if beneath and (str(beneath) or beneath.__cause__) else said
