"""Where the console listens: HTTP/1.1 and, with TLS, HTTP/2, in this process and its nursery. Opened, served, drained.

Hypercorn turns the bytes of a connection into ASGI; accepting, limits and the end are ours, so that one connection that
fails takes nothing with it, and one that does not read cannot hold up a shutdown. Beyond loopback TLS is a condition.
"""

import logging
import math
import os
import ssl
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING, Any, cast

import trio

from palyra_trio.core.config import HttpConfig
from palyra_trio.core.errors import ConfigInvalid
from palyra_trio.core.identity import Caller
from palyra_trio.guard.web_session import LINK_S, WebSessions
from palyra_trio.runtime.gateway import Gateway
from palyra_trio.transports.connection_activity import LAST_S, Activity
from palyra_trio.transports.console.security import is_loopback
from palyra_trio.transports.console_service import SignInLink, no_console
from palyra_trio.transports.door import Access
from palyra_trio.transports.http_connection_table import CONNECTIONS, HttpConnectionTable
from palyra_trio.transports.shown_certificates import tcp_context
from palyra_trio.wire.networks import network_of

if TYPE_CHECKING:
    from hypercorn.config import Config as HypercornConfig
    from hypercorn.trio.worker_context import WorkerContext
    from hypercorn.typing import ASGIFramework

    from palyra_trio.transports.certificates import Certificates
    from palyra_trio.transports.console.site import Site

PROTOCOLS = ("h2", "http/1.1")
BACKLOG = 256
HEADER_BYTES = 32 * 1024
STREAMS = 16  # on one HTTP/2 connection: a page with what it shows has less than ten
REQUESTS = 1024  # under way on all connections together
PART_BYTES = 16 * 1024  # of an answer that Hypercorn has at a time: it copies them before it knows that they are taken
# Also for a request's headers to arrive, and for Hypercorn to let go of one that was closed while idle.
KEEP_ALIVE_S = 5
HANDSHAKE_S = 10

_log = logging.getLogger("palyra_trio.http")


class Http:
    """The console as it is served. `addresses` are for a person, the first one to open; there are none without a console."""

    def __init__(self, gateway: Gateway, sessions: WebSessions) -> None:
        self.addresses: tuple[str, ...] = ()
        self._gateway = gateway
        self._sessions = sessions
        self._draining = trio.Event()
        self._deadline = math.inf

    def invite(self, caller: Caller) -> SignInLink:
        """Return a link by which a browser may sign in as this caller. Raises StateConflict where there is no console."""
        if not self.addresses:
            return no_console(caller)
        secret = self._sessions.open_link(caller, trio.current_time())
        url = f"{self.addresses[0]}/sign-in?link={secret}"
        return SignInLink(url, self._gateway.health().now_ms + LINK_S * 1000)

    def drain(self, deadline: float) -> None:
        """Take no more connections, say goodbye to who only watches, and cut the rest at `deadline` (Trio's clock)."""
        self._deadline = min(deadline, self._deadline)
        self._draining.set()

    async def serve(self, site: "Site", listeners: list[Any], tls: ssl.SSLContext | None) -> None:
        """Serve the site until `drain`, and then until the last connection has ended. If cancelled, all are cut."""
        from hypercorn.trio.worker_context import WorkerContext

        context = WorkerContext(None)
        connections = _Connections(site, context)
        async with trio.open_nursery() as outer:
            outer.start_soon(self._end, site, context, connections, outer.cancel_scope)
            async with trio.open_nursery() as nursery, trio.open_nursery() as accepting:
                if tls is not None:
                    listeners = [trio.SSLListener(each, tls, https_compatible=True) for each in listeners]
                accepting.start_soon(
                    partial(trio.serve_listeners, connections.serve, listeners, handler_nursery=nursery)
                )
                await self._draining.wait()
                accepting.cancel_scope.cancel()
            outer.cancel_scope.cancel()

    async def _end(
        self, site: "Site", context: "WorkerContext", connections: "_Connections", everything: trio.CancelScope
    ) -> None:
        """Say goodbye at the drain, and cut what is still open at its deadline, or when cancelled."""
        try:
            await self._draining.wait()
            site.streams.drain()
            await context.terminated.set()
            await trio.sleep_until(self._deadline)
        finally:
            connections.cut()
        everything.cancel()


class _Connections:
    """What is connected. Each is Hypercorn's; one that fails is logged, and the others go on."""

    def __init__(self, site: "Site", context: "WorkerContext") -> None:
        self._app = _finishing(cast("ASGIFramework", site.app))
        self._context = context
        self._config = _hypercorn_config()
        self._table: HttpConnectionTable[Activity] = HttpConnectionTable(CONNECTIONS)
        self._open: dict[Activity, trio.SocketStream] = {}

    async def serve(self, stream: trio.SocketStream | trio.SSLStream[trio.SocketStream]) -> None:
        from hypercorn.app_wrappers import ASGIWrapper
        from hypercorn.trio.tcp_server import TCPServer
        from hypercorn.typing import ConnectionState

        plain = stream.transport_stream if isinstance(stream, trio.SSLStream) else stream
        activity = self._add(plain)
        app = ASGIWrapper(self._bounded(activity))

        async def serve() -> None:
            read = _Read(stream, activity.gone)
            await TCPServer(app, self._config, self._context, ConnectionState({}), cast("Any", read))
            nursery.cancel_scope.cancel()

        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(serve)
                await activity.ends()
                nursery.cancel_scope.cancel()
                plain.socket.close()  # which ends what Hypercorn shields: its sending
        except Exception as error:
            _log.warning("a connection failed", exc_info=error)
        finally:
            self._table.remove(activity)
            del self._open[activity]
            plain.socket.close()

    def _bounded(self, activity: Activity) -> "ASGIFramework":
        """Return the app for a connection. Where half of REQUESTS are under way, one that has its part of them is refused more.

        Where all are, a connection goes whose client is waited for, or who only follows, if there is one.
        """

        app = activity.counting(self._app)

        async def bounded(scope: Any, receive: Any, send: Any) -> None:
            count = sum(each.requests for each in self._table)
            if count >= REQUESTS // 2 and activity.requests >= REQUESTS // CONNECTIONS:
                await _refuse(scope, send)
                return
            if count >= REQUESTS:
                if (goes := self._table.make_room()) is None:
                    await _refuse(scope, send)
                    return
                goes.end()
            await app(scope, receive, send)

        return bounded

    def _add(self, plain: trio.SocketStream) -> Activity:
        """Count a connection, and end the one that goes for it, which may be itself."""
        activity = Activity()
        self._open[activity] = plain
        with suppress(OSError):  # its client has gone already
            goes = self._table.add(activity, network_of(plain.socket.getpeername()))
            if goes is not None:
                goes.end()
        return activity

    def cut(self) -> None:
        """Close what is open. Hypercorn shields its sending, so a cancel alone does not end that of one that does not read."""
        for each in self._open.values():
            each.socket.close()


class _Read:
    """A stream as Hypercorn uses it, which says that there is no more to read."""

    def __init__(self, stream: trio.abc.Stream, ended: Callable[[], None]) -> None:
        self._stream = stream
        self._ended = ended

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    async def receive_some(self, most: int) -> bytes:
        data = b""
        try:
            data = bytes(await self._stream.receive_some(most))
            return data
        finally:
            if not data:
                self._ended()


async def _refuse(scope: Any, send: Any) -> None:
    """Answer that there is no room now (RFC 9110, section 15.6.4)."""
    if scope["type"] == "websocket":
        await send({"type": "websocket.close"})
        return
    headers = [(b"retry-after", b"1"), (b"content-length", b"0")]
    await send({"type": "http.response.start", "status": 503, "headers": headers})
    await send({"type": "http.response.body"})


def _finishing(app: "ASGIFramework") -> "ASGIFramework":
    """Return an app that is told of the end when its last message is sent: with it, what the connection does next.

    Hypercorn tells of it from within that message, whereupon the app would cancel the task that is sending it. One whose
    client is gone, or takes nothing, must be told all the same: after LAST_S. Hypercorn may be closing what a message is just
    put on; that its client is gone, the app then hears as always.
    """

    async def finishing(scope: Any, receive: Any, send: Any) -> None:
        ending, sent = False, trio.Event()

        async def send_whole(message: Any) -> None:
            nonlocal ending
            ending = message["type"] == "http.response.body" and not message.get("more_body", False)
            with suppress(trio.BusyResourceError, trio.ClosedResourceError):
                body = memoryview(message.get("body", b""))
                while len(body) > PART_BYTES:
                    await send({**message, "body": body[:PART_BYTES], "more_body": True})
                    body = body[PART_BYTES:]
                await send({**message, "body": body} if body else message)
            if ending:
                sent.set()

        async def receive_late() -> Any:
            message = await receive()
            if ending and message["type"] == "http.disconnect":
                with trio.move_on_after(LAST_S):
                    await sent.wait()
            return message

        await app(scope, receive_late, send_whole)

    return finishing


def _hypercorn_config() -> "HypercornConfig":
    from hypercorn.config import Config as HypercornConfig

    config = HypercornConfig()
    config.errorlog = _log
    config.include_server_header = False
    config.h11_max_incomplete_size = config.h2_max_header_list_size = HEADER_BYTES
    config.h2_max_concurrent_streams = STREAMS
    config.keep_alive_timeout = KEEP_ALIVE_S
    config.ssl_handshake_timeout = HANDSHAKE_S
    return config


@asynccontextmanager
async def open_http(
    gateway: Gateway, access: Access, config: HttpConfig | None, certificates: "Certificates | None" = None
) -> AsyncGenerator[Http, None]:
    """Serve the console for the length of the block, where `config` says so; without one there is none, and no link to it.

    `certificates` are what `open_certificates` makes for this configuration. Raises ConfigInvalid for an address or
    certificate that cannot be used. Leaving the block without a drain cuts what is open; after one it waits until the last
    has ended.
    """
    http = Http(gateway, sessions := WebSessions(os.urandom))
    if config is None or not config.enabled:
        yield http
        return
    from palyra_trio.transports.console.app import console

    tls = tcp_context("http", config, certificates, PROTOCOLS)
    listeners = await _listeners(config, tls)
    http.addresses = tuple(_address(config, listener, tls) for listener in listeners)
    port = listeners[0].socket.getsockname()[1]
    site = console(gateway, access, sessions, (config.host, *config.names), port, secure=tls is not None)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(http.serve, site, listeners, tls)
        try:
            yield http
        except BaseException:
            nursery.cancel_scope.cancel()
            raise
        http.drain(trio.current_time())


async def _listeners(config: HttpConfig, tls: ssl.SSLContext | None) -> list[trio.SocketListener]:
    if tls is None and not is_loopback(config.host):
        raise ConfigInvalid(
            f"http.host {config.host} is reachable from elsewhere, and there is no TLS",
            remedy="set http.tls, or http.tls_certificate_file and http.tls_key_file, or listen on 127.0.0.1",
        )
    try:
        return await trio.open_tcp_listeners(config.port, host=config.host, backlog=BACKLOG)
    except OSError as error:
        raise ConfigInvalid(
            f"http.host {config.host} port {config.port} cannot be listened on: {error}",
            remedy="end what listens there, choose another http.port, or set http.enabled to false",
        ) from error


def _address(config: HttpConfig, listener: trio.SocketListener, tls: ssl.SSLContext | None) -> str:
    """Return what a person opens: a name that the certificate may be of, where there is one."""
    host, port = listener.socket.getsockname()[:2]
    if config.names:
        host = config.names[0]
    elif host in ("0.0.0.0", "::"):
        host = "localhost"
    scheme = "http" if tls is None else "https"
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"
