"""TLS for HTTP/2: contexts for both ends, and a handshake that insists on `h2`. Keys and pins are files that others keep.

A peer is trusted because an authority vouches for its name, or because it shows exactly the certificate that is pinned,
which then needs no authority and no name.
"""

import hashlib
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


def client_context(pinned_ca: Path | None = None) -> ssl.SSLContext:
    """Return a context that trusts only the authority of a file, or without one those of the system. Names are checked.

    Raises OSError and ssl.SSLError when the file is not a certificate.
    """
    return _for_http2(ssl.create_default_context(ssl.Purpose.SERVER_AUTH, cafile=pinned_ca))


def _for_http2(context: ssl.SSLContext) -> ssl.SSLContext:
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols([PROTOCOL])
    return context


async def open_pinned(stream: trio.abc.Stream, host: str, fingerprint: str) -> trio.SSLStream[trio.abc.Stream]:
    """Return a TLS stream to the peer whose own certificate has this SHA-256 (hex), as `fingerprint_of` told it once.

    Nothing but the handshake has been sent then. Raises PeerError when the handshake fails, or shows another one.
    """
    secured = _unverified(stream, host)
    shown = await _shown_by(secured)
    if shown != fingerprint:
        raise PeerError(
            f"the certificate has the SHA-256 {shown}, and {fingerprint} is pinned",
            remedy="somebody may be listening in; if the certificate was replaced, connect again",
        )
    return secured


async def fingerprint_of(stream: trio.abc.Stream, host: str) -> str:
    """Return the SHA-256 (hex) of whatever certificate the peer shows, for a person to judge, and close the stream.

    Raises PeerError.
    """
    try:
        return await _shown_by(_unverified(stream, host))
    finally:
        await trio.aclose_forcefully(stream)


async def _shown_by(stream: trio.SSLStream[trio.abc.Stream]) -> str:
    await handshake(stream)
    return hashlib.sha256(stream.getpeercert(binary_form=True)).hexdigest()


def _unverified(stream: trio.abc.Stream, host: str) -> trio.SSLStream[trio.abc.Stream]:
    context = client_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return trio.SSLStream(stream, context, server_hostname=host)


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
