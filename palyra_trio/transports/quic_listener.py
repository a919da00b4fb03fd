"""Where HTTP/3 is served: UDP sockets, the daemon's own certificate, and on one port gRPC and the plain resources.

What a connection costs and how it ends is the wire's part; who may ask for what is decided where it is for TCP.
"""

import socket
from collections.abc import Container
from functools import partial
from pathlib import Path

from palyra_trio.core.config import QuicConfig, QuicRetry
from palyra_trio.core.errors import ConfigInvalid
from palyra_trio.transports.api.exchange import HttpRequest
from palyra_trio.transports.api.resources import Resources
from palyra_trio.transports.certificates import Certificates
from palyra_trio.transports.refusals import grpc_error
from palyra_trio.wire.h3_exchange import Exchange
from palyra_trio.wire.h3_server import H3Server
from palyra_trio.wire.limits import Limits, QuicLimits
from palyra_trio.wire.quic_client_certs import mutual_tls_machine
from palyra_trio.wire.quic_config import Identity, Traces
from palyra_trio.wire.quic_machine import Machine
from palyra_trio.wire.served_calls import Handlers
from palyra_trio.wire.udp_sockets import open_udp_sockets


def open_sockets(quic: QuicConfig) -> list[socket.socket]:
    """Return a bound socket for each address of `quic.host`. Raises ConfigInvalid."""
    try:
        return open_udp_sockets(quic.host, quic.port)
    except OSError as error:
        raise ConfigInvalid(
            f"quic.host {quic.host} UDP port {quic.port} cannot be listened on: {error}",
            remedy="end what listens there, choose another quic.port, or set quic.enabled to false",
        ) from error


def h3_server(
    quic: QuicConfig,
    certificates: Certificates,
    handlers: Handlers,
    unproven: Container[str],
    limits: Limits,
    resources: Resources,
) -> H3Server:
    """Return a server of the handlers, and of the resources for what is not gRPC. It shows each leaf that is in force.

    Raises ConfigInvalid.
    """
    traces = Traces(_path(quic.key_log_file), _path(quic.qlog_dir))
    try:
        with traces.opened():
            pass
    except (OSError, ValueError) as error:
        raise ConfigInvalid(
            f"quic.key_log_file or quic.qlog_dir cannot be written: {error}",
            remedy="name a file, and a folder that exists",
        ) from error
    server = H3Server(
        handlers,
        grpc_error,
        _identity(certificates),
        secret=certificates.quic_secret(),
        limits=limits,
        quic=QuicLimits(always_retry=quic.retry is QuicRetry.ALWAYS),
        unproven=unproven,
        exchange=partial(_answer, resources),
        traces=traces,
        machine=_machine(quic.client_ca_file),
    )
    certificates.on_renewal(lambda: server.use(_identity(certificates)))
    return server


def _identity(certificates: Certificates) -> Identity:
    leaf = certificates.leaf
    return Identity(leaf.certificate, leaf.above, leaf.key)


def _machine(client_ca_file: str) -> type[Machine]:
    if not client_ca_file:
        return Machine
    try:
        return mutual_tls_machine(Path(client_ca_file))
    except (OSError, ValueError) as error:
        raise ConfigInvalid(
            f"quic.client_ca_file {client_ca_file} is no certificate: {error}", remedy="name a PEM file"
        ) from error


def _path(text: str) -> Path | None:
    return Path(text) if text else None


async def _answer(resources: Resources, exchange: Exchange) -> None:
    """Answer a plain request. If cancelled, what it follows goes on."""
    response = await resources.respond(
        HttpRequest(exchange.method, exchange.path, exchange.headers, exchange.peer, exchange.query, exchange.receive)
    )
    exchange.begin(response.status, list(response.headers))
    if response.body:
        await exchange.send(response.body)
    while response.events is not None and (chunk := await response.events.next_chunk()):
        await exchange.send(chunk)
