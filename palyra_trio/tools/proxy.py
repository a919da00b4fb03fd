"""The only way out of a sandbox: an HTTP proxy in the daemon that leads to the hosts that were decided on, and nowhere else.

It is heard in the network of one job, and gone with that. Connections go to the addresses that were checked when the call
was judged; no name is resolved here. `CONNECT` makes a tunnel, whose contents are not looked at; a plain request is read,
and written anew with the framing that was understood of it, so that the host sees no other request than this (RFC 9110,
7.6 and 9.3.6; RFC 9112, 3.2.2 and 6). Each connection serves one request. What is refused is answered with 403 and why.
"""

import socket
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from functools import partial
from http import HTTPStatus

import attrs
import h11
import trio

from palyra_trio.core.errors import PalyraError
from palyra_trio.tools.egress import Place, Way, parse_authority, parse_url
from palyra_trio.tools.job import HostUse

PORT = 3128  # of a network that nobody else is in
CONNECTIONS = 64  # at a time: package managers open dozens
ALL_CONNECTIONS = 10_000  # of a job: each costs the daemon about a millisecond
HEAD_BYTES = 32 * 1024
HEAD_S = 30.0  # a program that has connected says what it wants
ANSWER_S = 5.0  # a program that does not read why it was refused is not waited for
ATTEMPT_S = 10.0  # for each address, so that a dead one leaves time for the next
TOTAL_BYTES = 8 * 1024**3  # of a job, both ways: what it may put into one file
REFUSED_HOSTS = 32  # told one by one; the rest is counted together
TARGET_CHARACTERS = 255  # of one that names no host
PIECE_BYTES = 64 * 1024

# RFC 9110, 7.6.1, and what names this proxy; the framing is written anew.
_HOP_BY_HOP = frozenset(
    b"connection proxy-connection keep-alive te trailer upgrade host proxy-authorization proxy-authenticate".split()
)
_FRAMING = frozenset((b"content-length", b"transfer-encoding"))
_LOST = (OSError, trio.BrokenResourceError, trio.ClosedResourceError, h11.ProtocolError)


def environment() -> dict[str, str]:
    """Return what tells programs of the proxy. Their own servers, in their own network, are reached without it."""
    proxy, local = f"http://127.0.0.1:{PORT}", "localhost,127.0.0.1,::1"
    said = {"HTTP_PROXY": proxy, "HTTPS_PROXY": proxy, "ALL_PROXY": proxy, "NO_PROXY": local}
    return said | {name.lower(): value for name, value in said.items()}


@asynccontextmanager
async def open_proxy(ways: Sequence[Way]) -> AsyncGenerator["Proxy"]:
    """Give a proxy to these hosts. At the end of the block every connection is closed, whatever is still under way."""
    failure: PalyraError | None = None
    async with trio.open_nursery() as nursery:
        try:
            yield Proxy(ways, nursery)
        except PalyraError as error:  # the caller's, and no matter of the nursery's
            failure = error
        nursery.cancel_scope.cancel()
    if failure is not None:
        raise failure


class _Refused(Exception):
    """What is answered instead: a status, and why."""

    def __init__(self, status: int, why: str) -> None:
        self.status = status
        self.why = why


class Proxy:
    """Serves one job. `uses` says what it did so far."""

    def __init__(self, ways: Sequence[Way], nursery: trio.Nursery) -> None:
        self._ways: Mapping[tuple[str, int], Way] = {(way.host, way.port): way for way in ways}
        self._nursery = nursery
        self._uses: dict[tuple[str, int, bool], HostUse] = {}
        self._hearing = trio.CancelScope()
        self._live = 0
        self._left_connections = ALL_CONNECTIONS
        self._left_bytes = TOTAL_BYTES

    @property
    def uses(self) -> tuple[HostUse, ...]:
        return tuple(self._uses.values())

    def listen(self, listener: socket.socket) -> None:
        """Serve what connects to `listener`, which is closed with the proxy. For the `opened` of a `Door`."""
        self._nursery.start_soon(self._hear, trio.SocketListener(trio.socket.from_stdlib_socket(listener)))

    async def _hear(self, listener: trio.SocketListener) -> None:
        with self._hearing:
            await trio.serve_listeners(self._serve, [listener], handler_nursery=self._nursery)

    async def _serve(self, program: trio.SocketStream) -> None:
        self._live += 1
        self._left_connections -= 1
        if self._left_connections <= 0:
            self._hearing.cancel()
        async with program:
            try:
                if self._live > CONNECTIONS:
                    raise _Refused(503, f"it has {CONNECTIONS} connections already")
                await self._talk(program)
            except _Refused as refusal:
                await _answer(program, refusal)
            except _LOST:
                pass
            finally:
                self._live -= 1

    async def _talk(self, program: trio.SocketStream) -> None:
        said = h11.Connection(h11.SERVER, max_incomplete_event_size=HEAD_BYTES)
        try:
            with trio.fail_after(HEAD_S):
                request = await _next(said, program)
        except trio.TooSlowError:
            raise _Refused(408, "no request came") from None
        if not isinstance(request, h11.Request):
            return
        try:
            place = _place(request)
        except _Refused as refusal:
            if refusal.status == HTTPStatus.FORBIDDEN:
                target = request.target.decode("ascii", "replace")[:TARGET_CHARACTERS]
                self._count(target, 0, allowed=False, connections=1)
            raise
        way = self._way(place)
        async with await self._connect(way) as host:
            if request.method == b"CONNECT":
                await program.send_all(b"HTTP/1.1 200 Connection established\r\n\r\n")
                there = partial(self._tunnel, way, program, host, said.trailing_data[0])
            else:
                there = partial(self._pass_on, way, program, host, said, _anew(request, place))
            async with trio.open_nursery() as both:
                both.start_soon(_until_lost, there, both.cancel_scope)
                both.start_soon(_until_lost, partial(self._back, way, program, host), both.cancel_scope)

    def _way(self, place: Place) -> Way:
        way = self._ways.get((place.host, place.port))
        if way is None:
            self._count(place.host, place.port, allowed=False, connections=1)
            raise _Refused(
                403,
                f"{place.host}:{place.port} is none of the hosts that this call names in `network`; "
                "name it there, and the policy decides on it (net.connect)",
            )
        if self._left_bytes <= 0:
            raise _Refused(403, f"the programs of this call have moved more than {TOTAL_BYTES} bytes")
        return way

    async def _connect(self, way: Way) -> trio.SocketStream:
        self._count(way.host, way.port, allowed=True, connections=1)
        for address in way.addresses:
            with trio.move_on_after(ATTEMPT_S):
                try:
                    return await trio.open_tcp_stream(str(address), way.port)
                except OSError:
                    continue
        raise _Refused(502, f"{way.host}:{way.port} does not answer")

    # --- what is carried ---

    async def _tunnel(self, way: Way, program: trio.SocketStream, host: trio.SocketStream, first: bytes) -> None:
        await self._send(way, host, first)
        while data := await program.receive_some(PIECE_BYTES):
            await self._send(way, host, data)
        await host.send_eof()

    async def _pass_on(
        self, way: Way, program: trio.SocketStream, host: trio.SocketStream, said: h11.Connection, request: h11.Request
    ) -> None:
        written = h11.Connection(h11.CLIENT)
        await self._send(way, host, written.send(request) or b"")
        while not isinstance(event := await _next(said, program), h11.EndOfMessage):
            if not isinstance(event, h11.Data):
                return
            await self._send(way, host, written.send(event) or b"")
        await self._send(way, host, written.send(h11.EndOfMessage()) or b"")

    async def _send(self, way: Way, host: trio.SocketStream, data: bytes) -> None:
        if data:
            self._count(way.host, way.port, allowed=True, sent=len(data))
            await host.send_all(data)

    async def _back(self, way: Way, program: trio.SocketStream, host: trio.SocketStream) -> None:
        while data := await host.receive_some(PIECE_BYTES):
            self._count(way.host, way.port, allowed=True, received=len(data))
            await program.send_all(data)
        await program.send_eof()

    def _count(
        self, host: str, port: int, *, allowed: bool, connections: int = 0, sent: int = 0, received: int = 0
    ) -> None:
        """Count connections and bytes. Raises BrokenResourceError for more bytes than a job may move."""
        full = len(self._uses) >= REFUSED_HOSTS + len(self._ways)
        if full and not allowed and (host, port, allowed) not in self._uses:
            host, port = "", 0
        use = self._uses.get((host, port, allowed), HostUse(host, port, allowed))
        self._uses[host, port, allowed] = attrs.evolve(
            use,
            connections=use.connections + connections,
            sent_bytes=use.sent_bytes + sent,
            received_bytes=use.received_bytes + received,
        )
        self._left_bytes -= sent + received
        if self._left_bytes < 0:
            raise trio.BrokenResourceError(f"the job has moved more than {TOTAL_BYTES} bytes")


# --- a request, sans I/O but for the bytes that it needs ---


async def _next(said: h11.Connection, program: trio.SocketStream) -> h11.Event | None:
    """Return what comes next, None where nothing more can."""
    while True:
        try:
            event = said.next_event()
        except h11.RemoteProtocolError as error:
            raise _Refused(400, f"this is no request that could be passed on: {error}") from error
        if isinstance(event, h11.Event):
            return event
        if event is h11.PAUSED:
            return None
        said.receive_data(await program.receive_some(PIECE_BYTES))


def _place(request: h11.Request) -> Place:
    """Return where a request is to go. Raises _Refused for one that does not say, or whose end could be read in two ways."""
    target = request.target.decode("ascii", "replace")
    if sum(name in _FRAMING for name, _ in request.headers) > 1:
        raise _Refused(400, "it says more than once how long it is")
    try:
        if request.method == b"CONNECT":
            return parse_authority(target)
        place = parse_url(target)
    except PalyraError as error:
        raise _Refused(403 if error.code == "denied" else 400, str(error)) from error
    if place.scheme != "http":
        raise _Refused(400, "https goes through CONNECT")
    return place


def _anew(request: h11.Request, place: Place) -> h11.Request:
    """Return the request as the host gets it: for itself, without what was meant for the proxy, and the last one."""
    named = [value for name, value in request.headers if name == b"connection"]
    gone = (_HOP_BY_HOP | {token.strip().lower() for value in named for token in value.split(b",")}) - _FRAMING
    kept = [(name, value) for name, value in request.headers if name not in gone]
    own = [(b"host", place.authority.encode()), (b"connection", b"close")]
    return h11.Request(method=request.method, target=place.target.encode(), headers=[*own, *kept])


async def _until_lost(part: Callable[[], Awaitable[None]], both: trio.CancelScope) -> None:
    """Carry one direction until its end. When a side is lost, or says what cannot be carried, both directions end."""
    try:
        await part()
    except (*_LOST, _Refused):
        both.cancel()


async def _answer(program: trio.SocketStream, refusal: _Refused) -> None:
    body = f"palyra-trio refused this: {refusal.why}\n".encode("utf-8", "backslashreplace")
    head = (
        f"HTTP/1.1 {refusal.status} {HTTPStatus(refusal.status).phrase}\r\ncontent-type: text/plain; charset=utf-8\r\n"
        f"content-length: {len(body)}\r\nconnection: close\r\n\r\n"
    )
    with trio.move_on_after(ANSWER_S), suppress(*_LOST):
        await program.send_all(head.encode() + body)
