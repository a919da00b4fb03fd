"""The authority and its leaves, as other implementations of X.509 judge them."""

import math
import ssl
import subprocess
from datetime import UTC, datetime
from ipaddress import ip_address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.x509.verification import PolicyBuilder, Store, VerificationError
from hypothesis import given
from hypothesis import strategies as st

from palyra_trio.wire.authority import (
    LEAF_LIFE,
    LOOPBACK_NAMES,
    SKEW,
    CertifiedKey,
    authority_fault,
    due_s,
    fingerprint,
    is_issued_by,
    issue_leaf,
    make_authority,
    names_of,
    parse_certified_key,
    spelled,
)

NOW = 1_800_000_000.0
DAY = 24 * 3600.0
NAMES = (*LOOPBACK_NAMES, "daemon.example", "192.0.2.7")


@pytest.fixture(scope="module")
def authority() -> CertifiedKey:
    return make_authority(NOW)


@pytest.fixture(scope="module")
def leaf(authority: CertifiedKey) -> CertifiedKey:
    return issue_leaf(authority, NAMES, NOW)


def verify(leaf: CertifiedKey, authority: CertifiedKey, name: str, at_s: float) -> None:
    """Judge as strictly as RFC 5280 and the CA/Browser Forum have it. Raises VerificationError."""
    try:
        subject: x509.GeneralName = x509.IPAddress(ip_address(name))
    except ValueError:
        subject = x509.DNSName(name)
    policy = PolicyBuilder().store(Store([authority.certificate])).time(datetime.fromtimestamp(at_s, UTC))
    policy.build_server_verifier(subject).verify(leaf.certificate, [])


def test_a_leaf_tells_its_names(leaf: CertifiedKey) -> None:
    assert names_of(leaf) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_a_leaf_is_good_for_each_of_its_names(leaf: CertifiedKey, authority: CertifiedKey, name: str) -> None:
    verify(leaf, authority, name, NOW)


def test_it_is_good_for_no_other_name_and_vouched_for_by_no_other_authority(
    leaf: CertifiedKey, authority: CertifiedKey
) -> None:
    with pytest.raises(VerificationError):
        verify(leaf, authority, "other.example", NOW)
    with pytest.raises(VerificationError):
        verify(leaf, make_authority(NOW), "localhost", NOW)


def test_a_clock_that_is_some_minutes_behind_takes_it_and_one_after_its_end_does_not(
    leaf: CertifiedKey, authority: CertifiedKey
) -> None:
    verify(leaf, authority, "localhost", NOW - SKEW.total_seconds() + 1)
    verify(leaf, authority, "localhost", NOW + LEAF_LIFE.total_seconds() - 1)
    with pytest.raises(VerificationError):
        verify(leaf, authority, "localhost", NOW + LEAF_LIFE.total_seconds() + 1)


def test_openssl_takes_it_too_and_counts_the_same_fingerprint(
    leaf: CertifiedKey, authority: CertifiedKey, tmp_path: Path
) -> None:
    (tmp_path / "ca.pem").write_bytes(authority.chain_pem)
    (tmp_path / "leaf.pem").write_bytes(leaf.pem)
    files = ["-CAfile", str(tmp_path / "ca.pem"), str(tmp_path / "leaf.pem")]
    strict = ["-x509_strict", "-purpose", "sslserver", "-attime", str(int(NOW)), "-verify_hostname", "daemon.example"]
    subprocess.run(["openssl", "verify", *strict, *files], check=True, capture_output=True)
    shown = ["openssl", "x509", "-noout", "-fingerprint", "-sha256", "-in", str(tmp_path / "ca.pem")]
    printed = subprocess.run(shown, check=True, capture_output=True, text=True).stdout
    assert printed.strip().partition("=")[2] == spelled(authority.fingerprint)
    ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(tmp_path / "leaf.pem")


def test_what_was_written_is_read_again_with_the_certificates_above_it(
    leaf: CertifiedKey, authority: CertifiedKey
) -> None:
    read = parse_certified_key(leaf.pem)
    assert (read.certificate, read.above) == (leaf.certificate, (authority.certificate,))
    assert read.pem == leaf.pem
    assert parse_certified_key(authority.pem).chain_pem == authority.chain_pem


def test_a_key_does_not_print(leaf: CertifiedKey) -> None:
    assert "key" not in repr(leaf)


def test_two_authorities_and_two_leaves_have_nothing_in_common(authority: CertifiedKey, leaf: CertifiedKey) -> None:
    other, next_leaf = make_authority(NOW), issue_leaf(authority, NAMES, NOW)
    assert other.certificate.subject != authority.certificate.subject
    assert other.fingerprint != authority.fingerprint
    assert next_leaf.key.public_key() != leaf.key.public_key()
    assert next_leaf.certificate.serial_number != leaf.certificate.serial_number


def test_a_leaf_is_known_by_its_authority_only(authority: CertifiedKey, leaf: CertifiedKey) -> None:
    assert is_issued_by(leaf, authority)
    assert not is_issued_by(leaf, make_authority(NOW))
    assert not is_issued_by(authority, leaf)


@given(st.binary(max_size=200))
def test_what_is_no_certificate_with_its_key_is_refused(noise: bytes) -> None:
    with pytest.raises(ValueError):  # ruff: ignore[pytest-raises-too-broad] - of several libraries
        parse_certified_key(noise)


def test_a_certificate_with_the_key_of_another_is_refused(authority: CertifiedKey, leaf: CertifiedKey) -> None:
    with pytest.raises(ValueError, match="the key is not that of the certificate"):
        parse_certified_key(leaf.chain_pem + authority.pem[len(authority.chain_pem) :])
    with pytest.raises(ValueError):  # ruff: ignore[pytest-raises-too-broad]
        parse_certified_key(leaf.chain_pem)


# --- when ---


def test_an_authority_holds_for_ten_years_and_a_leaf_none(authority: CertifiedKey, leaf: CertifiedKey) -> None:
    assert authority_fault(authority, NOW) == ""
    assert authority_fault(authority, NOW + 3649 * DAY) == ""
    assert "has expired" in authority_fault(authority, NOW + 3651 * DAY)
    assert "is the clock right?" in authority_fault(authority, NOW - DAY)
    assert "no authority" in authority_fault(leaf, NOW)


def test_a_leaf_is_due_with_thirty_days_left(authority: CertifiedKey, leaf: CertifiedKey) -> None:
    for now_s in (NOW, NOW + 59 * DAY, NOW + 100 * DAY):
        assert due_s(leaf, authority, NAMES, now_s) == NOW + 60 * DAY


@pytest.mark.parametrize("names", [(*NAMES, "new.example"), NAMES[:-1]])
def test_a_leaf_is_due_at_once_for_other_names(
    authority: CertifiedKey, leaf: CertifiedKey, names: tuple[str, ...]
) -> None:
    assert due_s(leaf, authority, names, NOW + 5) == NOW + 5


def test_a_leaf_of_the_future_is_due_at_once(authority: CertifiedKey, leaf: CertifiedKey) -> None:
    assert due_s(leaf, authority, NAMES, NOW - DAY) == NOW - DAY


def test_a_leaf_does_not_outlive_its_authority_and_is_then_not_replaced(authority: CertifiedKey) -> None:
    late_s = NOW + 3600 * DAY
    last = issue_leaf(authority, NAMES, late_s)
    assert last.certificate.not_valid_after_utc == authority.certificate.not_valid_after_utc
    assert due_s(last, authority, NAMES, late_s + 49 * DAY) == math.inf
    verify(last, authority, "localhost", late_s)


def test_a_fingerprint_is_spelled_in_pairs() -> None:
    assert spelled(fingerprint(b""))[:8] == "E3:B0:C4"
