"""Where the daemon listens: a Unix socket in its state directory, and TCP with or without TLS. Opened, served, drained.

Beyond loopback TLS is a condition, and so is a token: who connects over the Unix socket as the user of this process
needs none, because the socket is that user's alone.
"""

import ipaddress
import os
import resource
import socket
import ssl
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import attrs
import trio

from palyra_trio.core.config import GrpcConfig
from palyra_trio.core.errors import ConfigInvalid
from palyra_trio.runtime.gateway import Gateway
from palyra_trio.transports.door import Access
from palyra_trio.transports.grpc_services import SERVICES, grpc_services
from palyra_trio.transports.health import HealthService
from palyra_trio.transports.refusals import grpc_error
from palyra_trio.wire.h2_server import H2Server, handlers_of
from palyra_trio.wire.limits import Limits
from palyra_trio.wire.tls import server_context

SOCKET_NAME = "socket"
BACKLOG = 1024  # a storm of connects: when it is full, a TCP client waits a second, and one on this machine fails


@attrs.frozen
class Edges:
    """What is being served. `addresses` are for a person; `drain` takes no more calls, and cuts the rest at a deadline."""

    addresses: tuple[str, ...]
    _server: H2Server
    _health: HealthService

    def drain(self, deadline: float) -> None:
        """Say that this process is going, and end every call by `deadline` (Trio's clock)."""
        self._health.stop_serving()
        self._server.drain(deadline)


@asynccontextmanager
async def open_edges(
    gateway: Gateway, access: Access, state_dir: Path, grpc: GrpcConfig | None
) -> AsyncGenerator[Edges, None]:
    """Serve for the length of the block: on the Unix socket, and on TCP where `grpc` says so.

    Raises ConfigInvalid for an address or certificate that cannot be used. Leaving the block without a drain cuts the
    calls; after one it waits until the last has ended.
    """
    health = HealthService(SERVICES)
    handlers = handlers_of(grpc_services(gateway, access, health))
    unproven = {path for path in handlers if path.split("/")[1] not in SERVICES}
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    server = H2Server(handlers, grpc_error, limits_of(files), unproven)
    path = state_dir / SOCKET_NAME
    async with _unix_listener(path) as unix:
        try:
            tcp = await _tcp_listeners(grpc) if grpc is not None else []
            edges = Edges((f"unix:{path}", *map(_address, tcp)), server, health)
            async with trio.open_nursery() as nursery:
                await nursery.start(partial(server.serve, [unix, *tcp]))
                try:
                    yield edges
                except BaseException:
                    nursery.cancel_scope.cancel()
                    raise
                edges.drain(trio.current_time())
        finally:
            path.unlink(missing_ok=True)


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


async def _tcp_listeners(grpc: GrpcConfig) -> list[trio.abc.Listener[trio.abc.Stream]]:
    context = _context(grpc)
    if context is None and not _is_loopback(grpc.host):
        raise ConfigInvalid(
            f"grpc.host {grpc.host} is reachable from elsewhere, and there is no TLS",
            remedy="set grpc.tls_certificate_file and grpc.tls_key_file, or listen on 127.0.0.1",
        )
    try:
        listeners = await trio.open_tcp_listeners(grpc.port, host=grpc.host, backlog=BACKLOG)
    except OSError as error:
        raise ConfigInvalid(
            f"grpc.host {grpc.host} port {grpc.port} cannot be listened on: {error}",
            remedy="end what listens there, or choose another grpc.port",
        ) from error
    return [listener if context is None else trio.SSLListener(listener, context) for listener in listeners]


def _context(grpc: GrpcConfig) -> ssl.SSLContext | None:
    if not grpc.tls_certificate_file and not grpc.tls_key_file:
        return None
    try:
        return server_context(Path(grpc.tls_certificate_file), Path(grpc.tls_key_file))
    except (OSError, ssl.SSLError) as error:
        raise ConfigInvalid(
            f"grpc.tls_certificate_file and grpc.tls_key_file are not a certificate and its key: {error}",
            remedy="name two PEM files",
        ) from error


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _address(listener: trio.abc.Listener[trio.abc.Stream]) -> str:
    scheme, plain = "grpc", listener
    if isinstance(listener, trio.SSLListener):
        scheme, plain = "grpcs", listener.transport_listener
    assert isinstance(plain, trio.SocketListener)
    host, port = plain.socket.getsockname()[:2]
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"
