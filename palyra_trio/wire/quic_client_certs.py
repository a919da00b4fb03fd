"""Client certificates over QUIC (RFC 8446, section 4.4.2): asked for, verified in the handshake, and a condition.

aioquic can ask for a certificate and checks that the client has its key; whose certificate it is, or that there is one at all,
it does not check on a server. That is done here, before the handshake can end. Sessions are not resumed, so no client passes by
a ticket of an earlier one. Nothing is revoked here: a certificate counts until it expires or its authority is taken out.
"""

from pathlib import Path

from aioquic import tls
from aioquic._buffer import Buffer
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from palyra_trio.wire.quic_machine import Machine


class CertificateRequired(tls.Alert):
    """The client has shown none (RFC 8446, section 6.2)."""

    description = tls.AlertDescription.certificate_required


def mutual_tls_machine(authority: Path) -> type[Machine]:
    """Return the connections of a server whose clients have to show a certificate of the authority of a PEM file.

    Raises OSError and ValueError when the file is none.
    """
    pem = authority.read_bytes()
    x509.load_pem_x509_certificates(pem)

    class MutualTlsMachine(Machine):
        def _initialize(self, peer_cid: bytes) -> None:
            super()._initialize(peer_cid)
            assert self._session_ticket_fetcher is None  # a resumed session would show no certificate
            self.tls.__class__ = _MutualTlsContext
            self.tls._request_client_certificate = True
            self.tls._cadata = pem

        @property
        def subject(self) -> str:
            return self.peer_certificate.subject.rfc4514_string() if self.peer_certificate is not None else ""

    return MutualTlsMachine


class _MutualTlsContext(tls.Context):
    def _set_peer_certificate(self, certificate: tls.Certificate) -> None:
        try:
            super()._set_peer_certificate(certificate)
        except x509.InvalidVersion as error:  # the one that is no ValueError
            raise tls.AlertBadCertificate(str(error)) from error

    def _server_handle_certificate(self, input_buf: Buffer) -> None:
        super()._server_handle_certificate(input_buf)
        if self._peer_certificate is None:
            raise CertificateRequired("a client certificate is required")

    def _server_handle_certificate_verify(self, input_buf: Buffer) -> None:
        super()._server_handle_certificate_verify(input_buf)
        assert self._peer_certificate is not None
        tls.verify_certificate(self._peer_certificate, self._peer_certificate_chain, cadata=self._cadata)
        if not _is_for_clients(self._peer_certificate):
            raise tls.AlertUnsupportedCertificate("the certificate is not for clients: it lacks the usage clientAuth")


def _is_for_clients(certificate: x509.Certificate) -> bool:
    """RFC 5280, section 4.2.1.12."""
    try:
        usage = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except (x509.ExtensionNotFound, ValueError):
        return False
    return ExtendedKeyUsageOID.CLIENT_AUTH in usage
