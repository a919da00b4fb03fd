"""Where the daemon listens: a Unix socket in its state directory, TCP with or without TLS, and UDP for HTTP/3. Opened,
served, drained.

Beyond loopback there is always TLS, and always a token: who connects over the Unix socket as the user of this process
needs none, because the socket is that user's alone.
"""

import os
import resource
import socket
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import attrs
import trio

from palyra_trio.core.config import GrpcConfig, QuicConfig
from palyra_trio.core.errors import ConfigInvalid
from palyra_trio.runtime.gateway import Gateway
from palyra_trio.transports.console_service import no_console
from palyra_trio.transports.door import Access
from palyra_trio.transports.grpc_services import SERVICES, grpc_services
from palyra_trio.transports.health import HealthService, Where
from palyra_trio.transports.http_listener import Http
from palyra_trio.transports.refusals import grpc_error
from palyra_trio.transports.shown_certificates import tcp_context
from palyra_trio.wire.h2_server import H2Server
from palyra_trio.wire.limits import Limits
from palyra_trio.wire.served_calls import handlers_of
from palyra_trio.wire.tls import PROTOCOL

if TYPE_CHECKING:  # what these stand on is large, and `run` has no need of it
    from palyra_trio.transports.certificates import Certificates
    from palyra_trio.wire.h3_server import H3Server

SOCKET_NAME = "socket"
BACKLOG = 1024  # a storm of connects: when it is full, a TCP client waits a second, and one on this machine fails


@attrs.frozen
class Edges:
    """What is being served. `addresses` are for a person; `drain` takes no more calls, and cuts the rest at a deadline.

    `certificates` are the daemon's own, None where nobody is shown them.
    """

    addresses: tuple[str, ...]
    certificates: "Certificates | None"
    _servers: "tuple[H2Server | H3Server, ...]"
    _health: HealthService

    def drain(self, deadline: float) -> None:
        """Say that this process is going, and end every call by `deadline` (Trio's clock)."""
        self._health.stop_serving()
        for server in self._servers:
            server.drain(deadline)


@asynccontextmanager
async def open_edges(
    gateway: Gateway,
    access: Access,
    state_dir: Path,
    grpc: GrpcConfig | None,
    quic: QuicConfig | None = None,
    http: Http | None = None,
    certificates: "Certificates | None" = None,
) -> AsyncGenerator[Edges, None]:
    """Serve for the length of the block: on the Unix socket, on TCP where `grpc` says so, on UDP where `quic` does.

    `http` is the console that is served beside it, to which links are made here, and `certificates` are what
    `open_certificates` makes for this configuration. Raises ConfigInvalid for an address or certificate that cannot be used.
    Leaving the block without a drain cuts the calls; after one it waits until the last has ended.
    """
    path = state_dir / SOCKET_NAME
    async with AsyncExitStack() as stack:
        unix = await stack.enter_async_context(_unix_listener(path))
        stack.callback(path.unlink, missing_ok=True)
        tcp = await _tcp_listeners(grpc, certificates) if grpc is not None else []
        for listener in tcp:
            stack.push_async_callback(listener.aclose)
        udp: list[socket.socket] = []
        if quic is not None and quic.enabled:
            from palyra_trio.transports import quic_listener
            from palyra_trio.transports.api.resources import Resources

            udp = await trio.to_thread.run_sync(quic_listener.open_sockets, quic)
        for each in udp:
            stack.callback(each.close)

        addresses = (f"unix:{path}", *map(_named, tcp), *(_address("quic", each) for each in udp))
        if http is not None:
            addresses += http.addresses
        pem = certificates.authority_pem.decode() if certificates is not None else ""
        where = Where(addresses, udp[0].getsockname()[1] if udp else 0, pem)
        health = HealthService(SERVICES)
        handlers = handlers_of(
            grpc_services(gateway, access, health, where, http.invite if http is not None else no_console)
        )
        unproven = {path for path in handlers if path.split("/")[1] not in SERVICES}
        files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        limits = limits_of(files)
        servers: tuple[H2Server | H3Server, ...] = (H2Server(handlers, grpc_error, limits, unproven),)
        async with trio.open_nursery() as nursery:
            await nursery.start(servers[0].serve, [unix, *tcp])
            if quic is not None and certificates is not None and udp:
                resources = Resources(gateway, access)
                over_quic = quic_listener.h3_server(quic, certificates, handlers, unproven, limits, resources)
                await nursery.start(over_quic.serve, udp)
                servers += (over_quic,)
            edges = Edges(addresses, certificates, servers, health)
            try:
                yield edges
            except BaseException:
                nursery.cancel_scope.cancel()
                raise
            edges.drain(trio.current_time())


def limits_of(files: int) -> Limits:
    """Return the limits of a process that may open so many files (-1: any number).

    Half of them are left for work, and half of the rest for the Unix socket, whose connections are counted apart.
    """
    limits = Limits()
    return limits if files < 0 else attrs.evolve(limits, connections=min(limits.connections, files // 4))


def _unix_listener(path: Path) -> trio.SocketListener:
    """Listen on a socket that only this user can connect to; one that a dead process left there is replaced.

    The caller holds the state directory's lock, so no living process listens there.
    """
    path.unlink(missing_ok=True)
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        before = os.umask(0o177)
        try:
            listening.bind(os.fspath(path))
        finally:
            os.umask(before)
        listening.listen(BACKLOG)
    except OSError as error:
        listening.close()
        raise ConfigInvalid(
            f"{path} cannot be listened on: {error.strerror or error}",
            remedy="use a state directory with a shorter path",
        ) from error
    return trio.SocketListener(trio.socket.from_stdlib_socket(listening))


async def _tcp_listeners(
    grpc: GrpcConfig, certificates: "Certificates | None"
) -> list[trio.abc.Listener[trio.abc.Stream]]:
    context = tcp_context("grpc", grpc, certificates, (PROTOCOL,))
    try:
        listeners = await trio.open_tcp_listeners(grpc.port, host=grpc.host, backlog=BACKLOG)
    except OSError as error:
        raise ConfigInvalid(
            f"grpc.host {grpc.host} port {grpc.port} cannot be listened on: {error}",
            remedy="end what listens there, or choose another grpc.port",
        ) from error
    return [listener if context is None else trio.SSLListener(listener, context) for listener in listeners]


def _named(listener: trio.abc.Listener[trio.abc.Stream]) -> str:
    scheme, plain = "grpc", listener
    if isinstance(listener, trio.SSLListener):
        scheme, plain = "grpcs", listener.transport_listener
    assert isinstance(plain, trio.SocketListener)
    return _address(scheme, plain.socket)


def _address(scheme: str, bound: socket.socket | trio.socket.SocketType) -> str:
    host, port = bound.getsockname()[:2]
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"
