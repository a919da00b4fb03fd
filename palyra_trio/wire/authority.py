"""A certificate authority of one daemon, and the leaves that it issues for that daemon alone. Pure: time is an argument.

Clients pin the authority, so a leaf may be replaced at any time. Where the certificates lie, and who serves them, is not
known here. Times are Unix times in seconds. Profile: RFC 5280, as current TLS stacks want it.
"""

import hashlib
import math
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address

import attrs
from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

AUTHORITY_LIFE = timedelta(days=3650)
LEAF_LIFE = timedelta(days=90)
RENEWED_BEFORE = timedelta(days=30)
SKEW = timedelta(minutes=10)  # by which a client's clock may be behind ours
LOOPBACK_NAMES = ("localhost", "127.0.0.1", "::1")


@attrs.frozen
class CertifiedKey:
    """A certificate, the certificates above it, and its key."""

    certificate: x509.Certificate
    above: tuple[x509.Certificate, ...]
    key: ec.EllipticCurvePrivateKey = attrs.field(repr=False)

    @property
    def chain_pem(self) -> bytes:
        return b"".join(each.public_bytes(serialization.Encoding.PEM) for each in (self.certificate, *self.above))

    @property
    def pem(self) -> bytes:
        """The chain and then the key, as `parse_certified_key` reads them. To be kept secret."""
        return self.chain_pem + self.key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )

    @property
    def fingerprint(self) -> str:
        """The SHA-256 of the certificate, in hex."""
        return fingerprint(self.certificate.public_bytes(serialization.Encoding.DER))


def fingerprint(der: bytes) -> str:
    """Return the SHA-256 of a certificate, in hex."""
    return hashlib.sha256(der).hexdigest()


def fingerprint_of_pem(pem: bytes) -> str:
    """Return the same for the first certificate of a PEM file. Raises ValueError when it has none."""
    return fingerprint(x509.load_pem_x509_certificates(pem)[0].public_bytes(serialization.Encoding.DER))


def pem_of(der: bytes) -> bytes:
    """Return a certificate as PEM."""
    return x509.load_der_x509_certificate(der).public_bytes(serialization.Encoding.PEM)


def is_authority(der: bytes) -> bool:
    """Return whether a certificate is one of an authority that signed itself."""
    try:
        certificate = x509.load_der_x509_certificate(der)
        certificate.verify_directly_issued_by(certificate)
        return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except (ValueError, TypeError, InvalidSignature, x509.ExtensionNotFound, UnsupportedAlgorithm):
        return False


def spelled(fingerprint: str) -> str:
    """Return a fingerprint for a person to compare: pairs of capital digits."""
    return ":".join(fingerprint[place : place + 2] for place in range(0, len(fingerprint), 2)).upper()


def make_authority(now_s: float) -> CertifiedKey:
    """Return a new authority, valid for ten years, that signs leaves and nothing else."""
    key = ec.generate_private_key(ec.SECP256R1())
    serial = x509.random_serial_number()
    name = _name(f"palyra-trio authority {serial:x}"[:40])
    builder = _certificate(name, name, key.public_key(), key.public_key(), serial, _at(now_s), AUTHORITY_LIFE)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    builder = builder.add_extension(_usage(signs_certificates=True), critical=True)
    return CertifiedKey(builder.sign(key, hashes.SHA256()), (), key)


def issue_leaf(authority: CertifiedKey, names: Iterable[str], now_s: float) -> CertifiedKey:
    """Return a new leaf with a new key, for a server with these names and addresses. It does not outlive its authority."""
    key = ec.generate_private_key(ec.SECP256R1())
    ca, now = authority.certificate, _at(now_s)
    life = min(LEAF_LIFE, ca.not_valid_after_utc - now)
    builder = _certificate(
        _name("palyra-trio"),
        ca.subject,
        key.public_key(),
        authority.key.public_key(),
        x509.random_serial_number(),
        now,
        life,
    )
    builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
    builder = builder.add_extension(_usage(signs_certificates=False), critical=True)
    builder = builder.add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
    builder = builder.add_extension(x509.SubjectAlternativeName(_alternatives(names)), critical=False)
    return CertifiedKey(builder.sign(authority.key, hashes.SHA256()), (ca,), key)


def parse_certified_key(raw: bytes) -> CertifiedKey:
    """Return what `CertifiedKey.pem` wrote. Raises ValueError saying what is wrong with it."""
    try:
        certificates = x509.load_pem_x509_certificates(raw)  # each takes what is its own of the file
        key = serialization.load_pem_private_key(raw, password=None)
        is_its_key = key.public_key() == certificates[0].public_key()
    except UnsupportedAlgorithm as error:
        raise ValueError(str(error)) from error
    if not isinstance(key, ec.EllipticCurvePrivateKey) or not is_its_key:
        raise ValueError("the key is not that of the certificate")
    return CertifiedKey(certificates[0], tuple(certificates[1:]), key)


def authority_fault(authority: CertifiedKey, now_s: float) -> str:
    """Return why this is no authority to issue by now, or ""."""
    certificate, now = authority.certificate, _at(now_s)
    if now >= certificate.not_valid_after_utc:
        return f"it has expired on {certificate.not_valid_after_utc:%Y-%m-%d}"
    if now < certificate.not_valid_before_utc:
        return f"it is not valid before {certificate.not_valid_before_utc:%Y-%m-%d %H:%M} UTC; is the clock right?"
    try:
        constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints).value
    except (x509.ExtensionNotFound, ValueError):
        return "it is no authority's certificate"
    return "" if constraints.ca else "it is no authority's certificate"


def is_issued_by(leaf: CertifiedKey, authority: CertifiedKey) -> bool:
    """Return whether a leaf is one that this authority issued."""
    try:
        leaf.certificate.verify_directly_issued_by(authority.certificate)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def names_of(leaf: CertifiedKey) -> tuple[str, ...]:
    """Return the names and addresses that a leaf is for."""
    names = leaf.certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return tuple(str(each.value) for each in names)


def due_s(leaf: CertifiedKey, authority: CertifiedKey, names: Iterable[str], now_s: float) -> float:
    """Return from when on a leaf is to be replaced: at once when it is for other names, or was issued in the future.

    A leaf that ends with its authority is not replaced: the next one would end with it, too.
    """
    certificate = leaf.certificate
    has = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    if set(_alternatives(names)) != set(has) or _at(now_s) < certificate.not_valid_before_utc:
        return now_s
    ends = certificate.not_valid_after_utc
    return math.inf if ends >= authority.certificate.not_valid_after_utc else (ends - RENEWED_BEFORE).timestamp()


def _certificate(
    subject: x509.Name,
    issuer: x509.Name,
    key: CertificatePublicKeyTypes,
    signer: ec.EllipticCurvePublicKey,
    serial: int,
    now: datetime,
    life: timedelta,
) -> x509.CertificateBuilder:
    builder = x509.CertificateBuilder(issuer, subject, key, serial, now - SKEW, now + life)
    builder = builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    return builder.add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer), critical=False)


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _alternatives(names: Iterable[str]) -> list[x509.GeneralName]:
    return [_alternative(name) for name in dict.fromkeys(names)]


def _alternative(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _at(now_s: float) -> datetime:
    return datetime.fromtimestamp(now_s, UTC).replace(microsecond=0)
