"""Which certificate a port shows: that of the files it is configured with, or the daemon's own, each leaf in its turn.

Whether a port may do without one is for whoever opens it.
"""

import ssl
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import trio

from palyra_trio.core.config import GrpcConfig, HttpConfig, QuicConfig
from palyra_trio.core.errors import ConfigInvalid
from palyra_trio.transports.console.security import is_loopback
from palyra_trio.wire.tls import server_context

if TYPE_CHECKING:  # what it stands on is large, and `run` has no need of it
    from palyra_trio.transports.certificates import Certificates


@asynccontextmanager
async def open_certificates(
    state_dir: Path, grpc: GrpcConfig | None, quic: QuicConfig | None = None, http: HttpConfig | None = None
) -> "AsyncGenerator[Certificates | None, None]":
    """Keep the daemon's own certificates for the length of the block, renewed; None where no port shows them.

    Raises ConfigInvalid.
    """
    names = own_names(grpc, quic, http)
    if names is None:
        yield None
        return
    from palyra_trio.transports.certificates import FOLDER, Certificates

    try:
        certificates = await trio.to_thread.run_sync(Certificates, state_dir / FOLDER, names, time.time)
    except ValueError as error:
        raise ConfigInvalid(
            f"no certificate can be issued for {', '.join(names)}: {error}",
            remedy="look at grpc.host, quic.host, quic.names, http.host and http.names",
        ) from error
    async with trio.open_nursery() as nursery:
        nursery.start_soon(certificates.keep)
        yield certificates
        nursery.cancel_scope.cancel()


def own_names(
    grpc: GrpcConfig | None, quic: QuicConfig | None = None, http: HttpConfig | None = None
) -> tuple[str, ...] | None:
    """Return the names that the daemon's own leaf is for, besides those of loopback; None where no port shows it."""
    over_http = http if http is not None and http.enabled and _shows_own(http) else None
    if not (over_http or (quic is not None and quic.enabled) or (grpc is not None and _shows_own(grpc))):
        return None
    configured = (*(quic.names if quic is not None else ()), *(over_http.names if over_http is not None else ()))
    return *configured, *(each.host for each in (grpc, quic, over_http) if each is not None and not _is_any(each.host))


def tcp_context(
    section: str, config: GrpcConfig | HttpConfig, certificates: "Certificates | None", protocols: Sequence[str]
) -> ssl.SSLContext | None:
    """Return what the port of a section serves TLS with, None where it does not. A renewed leaf is for its next connection.

    `certificates` are there where `own_names` says that they are needed. Raises ConfigInvalid.
    """
    if _shows_own(config):
        assert certificates is not None
        context = server_context(certificates.leaf_file, certificates.leaf_file, protocols)
        certificates.on_renewal(partial(context.load_cert_chain, certificates.leaf_file))
        return context
    if not _has_files(config):
        return None
    try:
        return server_context(Path(config.tls_certificate_file), Path(config.tls_key_file), protocols)
    except (OSError, ssl.SSLError) as error:
        raise ConfigInvalid(
            f"{section}.tls_certificate_file and {section}.tls_key_file are not a certificate and its key: {error}",
            remedy=f"name two PEM files, or leave both empty and set {section}.tls for the daemon's own certificate",
        ) from error


def _shows_own(config: GrpcConfig | HttpConfig) -> bool:
    """Return whether a TCP port shows the daemon's own: gRPC beyond loopback unasked, because its clients pin it."""
    unasked = isinstance(config, GrpcConfig) and not is_loopback(config.host)
    return not _has_files(config) and (config.tls or unasked)


def _has_files(config: GrpcConfig | HttpConfig) -> bool:
    return bool(config.tls_certificate_file or config.tls_key_file)


def _is_any(host: str) -> bool:
    return host in ("", "0.0.0.0", "::")
