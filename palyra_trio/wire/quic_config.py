"""What QUIC takes from outside: certificates, whom to trust, and files for those who debug. Opens no connection."""

import hashlib
import os
import ssl
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Self, TextIO

import attrs
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.logger import QuicFileLogger, QuicLogger
from aioquic.quic.packet import QuicProtocolVersion
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key

from palyra_trio.core.errors import PeerError
from palyra_trio.wire.limits import Limits, QuicLimits

PROTOCOL = "h3"  # RFC 9114, section 3.1
SAFE_DATAGRAM_BYTES = 1200  # every path of QUIC carries them (RFC 9000, section 14)
VERSIONS = (QuicProtocolVersion.VERSION_1, QuicProtocolVersion.VERSION_2)


@attrs.frozen
class Identity:
    """What a server shows, or a client that is asked: its certificate, the ones above it, and its key."""

    certificate: x509.Certificate
    above: tuple[x509.Certificate, ...]
    key: Any = attrs.field(repr=False)

    @classmethod
    def load(cls, certificate: Path, key: Path) -> Self:
        """Read PEM files, which may be one and the same. Raises OSError and ValueError."""
        chain = x509.load_pem_x509_certificates(certificate.read_bytes())
        return cls(chain[0], tuple(chain[1:]), load_pem_private_key(key.read_bytes(), password=None))

    @property
    def fingerprint(self) -> str:
        """The SHA-256 of the certificate, in hex."""
        return fingerprint_of(self.certificate)


@attrs.frozen
class Trust:
    """What a client believes: the one authority of a PEM file, for names; or exactly the certificate of a SHA-256 (hex)."""

    ca: Path | None = None
    fingerprint: str = ""

    def __attrs_post_init__(self) -> None:
        if (self.ca is None) is (not self.fingerprint):
            raise ValueError("either an authority or a fingerprint is to be trusted")


@attrs.frozen
class Traces:
    """Files for those who debug: `keys` is an NSS key log that is added to, `qlog` a folder that gets a file per connection."""

    keys: Path | None = None
    qlog: Path | None = None

    @contextmanager
    def opened(self) -> Generator["OpenTraces"]:
        """Keep the files open for the block. Raises OSError."""
        with ExitStack() as files:
            # Whoever reads the keys reads the traffic.
            keys = files.enter_context(_open_private(self.keys)) if self.keys else None
            yield OpenTraces(keys, QuicFileLogger(str(self.qlog)) if self.qlog else None)


@attrs.frozen
class OpenTraces:
    """Traces that are being written."""

    keys: TextIO | None = None
    qlog: QuicLogger | None = None


def server_configuration(identity: Identity, limits: Limits, quic: QuicLimits, traces: OpenTraces) -> QuicConfiguration:
    """Return aioquic's configuration of a server."""
    configuration = _configuration(limits, quic, traces)
    configuration.is_client = False
    _present(configuration, identity)
    return configuration


def client_configuration(
    host: str, trust: Trust, identity: Identity | None, limits: Limits, quic: QuicLimits, traces: OpenTraces
) -> QuicConfiguration:
    """Return aioquic's configuration of a client of `host`, which shows `identity` to a server that asks for one.

    Raises PeerError when the authority's file cannot be read.
    """
    configuration = _configuration(limits, quic, traces)
    configuration.server_name = host
    if identity is not None:
        _present(configuration, identity)
    if trust.ca is None:
        configuration.verify_mode = ssl.CERT_NONE  # the fingerprint is compared before anything is said
    else:
        try:
            configuration.cadata = trust.ca.read_bytes()
            x509.load_pem_x509_certificates(configuration.cadata)
        except (OSError, ValueError) as error:
            raise PeerError(f"{trust.ca} is no authority's certificate: {error}", remedy="name a PEM file") from error
    return configuration


def _configuration(limits: Limits, quic: QuicLimits, traces: OpenTraces) -> QuicConfiguration:
    return QuicConfiguration(
        alpn_protocols=[PROTOCOL],
        idle_timeout=quic.idle_s,
        max_data=limits.connection_window_bytes,
        max_stream_data=limits.stream_window_bytes,
        max_datagram_size=SAFE_DATAGRAM_BYTES,
        supported_versions=list(VERSIONS),
        secrets_log_file=traces.keys,
        quic_logger=traces.qlog,
    )


def _present(configuration: QuicConfiguration, identity: Identity) -> None:
    configuration.certificate = identity.certificate
    configuration.certificate_chain = list(identity.above)
    configuration.private_key = identity.key


def fingerprint_of(certificate: x509.Certificate) -> str:
    """Return the SHA-256 of a certificate, in hex."""
    return hashlib.sha256(certificate.public_bytes(Encoding.DER)).hexdigest()


def _open_private(path: Path) -> TextIO:
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600), "a", encoding="ascii")
