"""TLS for HTTP/2: contexts for both ends, and a handshake that insists on `h2`. Keys and pins are files that others keep."""

import ssl
from pathlib import Path

import trio

from palyra_trio.core.errors import PeerError

PROTOCOL = "h2"  # RFC 9113, section 3.2


def server_context(certificate: Path, key: Path) -> ssl.SSLContext:
    """Return a context with this certificate chain. Raises OSError and ssl.SSLError when the files are not one."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    return _for_http2(context)


def client_context(pinned_ca: Path | None = None, *, cadata: str | None = None) -> ssl.SSLContext:
    """Return a context that trusts only the authority of a file or of a PEM text, or without either those of the system.

    Names are checked.

    Raises OSError and ssl.SSLError when the file is not a certificate.
    """
    return _for_http2(ssl.create_default_context(ssl.Purpose.SERVER_AUTH, cafile=pinned_ca, cadata=cadata))


def _for_http2(context: ssl.SSLContext) -> ssl.SSLContext:
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols([PROTOCOL])
    return context


async def handshake(stream: trio.abc.Stream) -> None:
    """Finish the handshake of a TLS stream; others pass. Raises PeerError when it fails or the peer does not speak HTTP/2."""
    if not isinstance(stream, trio.SSLStream):
        return
    try:
        await stream.do_handshake()
    except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
        raise PeerError(
            f"the TLS handshake failed: {error.__cause__ or error}", remedy="check the address and the certificate"
        ) from error
    if stream.selected_alpn_protocol() != PROTOCOL:
        raise PeerError("the other end does not speak HTTP/2 over TLS", remedy="check the address and port")
