import stat
from pathlib import Path

import pytest

from palyra_trio.core.errors import PeerError
from palyra_trio.wire.limits import Limits, QuicLimits
from palyra_trio.wire.quic_config import (
    OpenTraces,
    Traces,
    Trust,
    client_configuration,
    fingerprint_of,
)
from tests.wire.quic import certified


def test_a_fingerprint_is_the_sha256_of_the_leaf() -> None:
    identity = certified().identity
    assert identity.fingerprint == fingerprint_of(identity.certificate)
    assert len(bytes.fromhex(identity.fingerprint)) == 32


@pytest.mark.parametrize("written", [None, "no certificate"])
def test_an_authority_that_cannot_be_read_is_told(tmp_path: Path, written: str | None) -> None:
    path = tmp_path / "ca.pem"
    if written is not None:
        path.write_text(written)
    with pytest.raises(PeerError, match=r"ca\.pem"):
        client_configuration("localhost", Trust(ca=path), None, Limits(), QuicLimits(), OpenTraces())


def test_whoever_may_read_the_key_log_is_its_owner_alone(tmp_path: Path) -> None:
    with Traces(keys=tmp_path / "keys").opened() as opened:
        assert opened.keys is not None
        opened.keys.write("one\n")
    with Traces(keys=tmp_path / "keys").opened() as opened:
        assert opened.keys is not None
        opened.keys.write("two\n")
    assert (tmp_path / "keys").read_text() == "one\ntwo\n"
    assert stat.S_IMODE((tmp_path / "keys").stat().st_mode) == 0o600


@pytest.mark.parametrize(("ca", "fingerprint"), [(None, ""), (Path("ca.pem"), "00")])
def test_trust_is_in_one_thing(ca: Path | None, fingerprint: str) -> None:
    with pytest.raises(ValueError, match="either"):
        Trust(ca, fingerprint)
