"""TLS for HTTP over TCP: contexts for both ends, and a handshake that insists on `h2`. Keys and pins are files that others keep.

A peer is trusted because an authority vouches for its name, or because it shows exactly the certificate that is pinned,
which then needs no authority and no name.
"""

import hashlib
import ssl
from collections.abc import Sequence
from contextlib import suppress
from ipaddress import ip_address
from pathlib import Path

import trio

from palyra_trio.core.errors import PeerError

PROTOCOL = "h2"  # RFC 9113, section 3.2
_RECORD_BYTES = 64 * 1024


def server_context(certificate: Path, key: Path, protocols: Sequence[str] = (PROTOCOL,)) -> ssl.SSLContext:
    """Return a context with this certificate chain, for a server of these protocols, best first (RFC 7301).

    Raises OSError and ssl.SSLError when the files are not one.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    return _speaking(context, protocols)


def client_context(pinned_ca: Path | None = None) -> ssl.SSLContext:
    """Return a context that trusts only the authority of a file, or without one those of the system. Names are checked.

    Raises OSError and ssl.SSLError when the file is not a certificate.
    """
    return _speaking(ssl.create_default_context(ssl.Purpose.SERVER_AUTH, cafile=pinned_ca), (PROTOCOL,))


def _speaking(context: ssl.SSLContext, protocols: Sequence[str]) -> ssl.SSLContext:
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(protocols)
    return context


async def open_pinned(stream: trio.abc.Stream, host: str, fingerprint: str) -> trio.SSLStream[trio.abc.Stream]:
    """Return a TLS stream to the peer whose own certificate has this SHA-256 (hex), as `shown_chain` told it once.

    Nothing but the handshake has been sent then. Raises PeerError when the handshake fails, or shows another one.
    """
    context = client_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    secured = trio.SSLStream(stream, context, server_hostname=host)
    await handshake(secured)
    shown = hashlib.sha256(secured.getpeercert(binary_form=True)).hexdigest()
    if shown != fingerprint:
        raise PeerError(
            f"the certificate has the SHA-256 {shown}, and {fingerprint} is pinned",
            remedy="somebody may be listening in; if the certificate was replaced, connect again",
        )
    return secured


async def shown_chain(stream: trio.abc.Stream, host: str) -> tuple[bytes, ...]:
    """Return whatever certificates (DER) the peer shows, its own first, for a person to judge, and close the stream.

    Raises PeerError. By pyOpenSSL, because `ssl` tells of the peer's own only (before Python 3.13).
    """
    from cryptography.hazmat.primitives.serialization import Encoding
    from OpenSSL import SSL

    shaking = SSL.Connection(SSL.Context(SSL.TLS_CLIENT_METHOD), None)
    if not _is_address(host):
        shaking.set_tlsext_host_name(host.encode("idna"))
    shaking.set_connect_state()
    done = False
    try:
        while True:
            with suppress(SSL.WantReadError):
                shaking.do_handshake()
                done = True
            with suppress(SSL.WantReadError):
                await stream.send_all(shaking.bio_read(_RECORD_BYTES))
            if done:
                chain = shaking.get_peer_cert_chain(as_cryptography=True) or []
                return tuple(each.public_bytes(Encoding.DER) for each in chain)
            heard = await stream.receive_some()
            if not heard:
                raise trio.BrokenResourceError("the connection was closed")
            shaking.bio_write(heard)
    except (SSL.Error, trio.BrokenResourceError) as error:
        raise _failed(error) from error
    finally:
        await trio.aclose_forcefully(stream)


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


async def handshake(stream: trio.abc.Stream) -> None:
    """Finish the handshake of a TLS stream; others pass. Raises PeerError when it fails or the peer does not speak HTTP/2."""
    if not isinstance(stream, trio.SSLStream):
        return
    try:
        await stream.do_handshake()
    except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
        raise _failed(error.__cause__ or error) from error
    if stream.selected_alpn_protocol() != PROTOCOL:
        raise PeerError("the other end does not speak HTTP/2 over TLS", remedy="check the address and port")


def _failed(why: BaseException) -> PeerError:
    return PeerError(f"the TLS handshake failed: {why}", remedy="check the address and the certificate")
