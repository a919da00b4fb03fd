"""The daemon's own certificate is judged as its next start would, and another one issued only where no daemon might."""

import os
import time
from pathlib import Path

import attrs
import pytest

from palyra_trio.cli.doctor_certificate import certificate, mend_certificate
from palyra_trio.core.config import Config, GrpcConfig, HttpConfig, QuicConfig
from palyra_trio.journal.store import lock_state_dir
from palyra_trio.transports.certificates import Certificates
from palyra_trio.wire.authority import LOOPBACK_NAMES, names_of, parse_certified_key

DAY = 86400.0
NOW = 1_800_000_000.0
NOTHING = Config(grpc=GrpcConfig(port=0), quic=QuicConfig(enabled=False), http=HttpConfig(enabled=False))
OWN = attrs.evolve(NOTHING, grpc=GrpcConfig(port=0, tls=True))


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """A state folder with an authority and a leaf as a daemon makes them at NOW."""
    Certificates(tmp_path / "tls", ("127.0.0.1",), lambda: NOW)
    return tmp_path


@pytest.mark.parametrize(
    ("days", "held", "health", "said"),
    [
        (0, False, "ok", "is renewed before"),
        (61, False, "warning", "due for another one"),
        (61, True, "warning", "due for another one"),
        (91, False, "warning", "has expired on"),
        (91, True, "fault", "has expired on"),
        (4000, False, "fault", "cannot be used: it has expired"),
        (-1, False, "fault", "is the clock right?"),
    ],
)
def test_a_leaf_is_judged_as_a_daemon_would_at_its_start(
    state: Path, days: int, held: bool, health: str, said: str
) -> None:
    found = certificate(state, OWN, held, NOW + days * DAY)
    assert (found.health, said in found.said) == (health, True)


def test_where_no_port_shows_one_or_none_was_made_yet_there_is_nothing_to_judge(state: Path, tmp_path: Path) -> None:
    assert certificate(state, NOTHING, False, NOW + 91 * DAY).said == "no port is to show the daemon's own"
    assert certificate(tmp_path / "none", OWN, False, NOW).said == "there is none yet; the next start makes it"


def test_one_that_is_no_certificate_is_a_fault_and_is_left(state: Path) -> None:
    (state / "tls" / "ca.pem").write_bytes(b"noise")
    found = certificate(state, OWN, False, NOW)
    assert (found.health, "restore it from a backup" in found.remedy) == ("fault", True)


def test_another_leaf_is_issued_for_the_same_names_by_the_same_authority_and_not_while_a_daemon_might(
    tmp_path: Path,
) -> None:
    tls = tmp_path / "tls"
    Certificates(tls, ("old.example",), lambda: time.time() - 61 * DAY)
    before = {path.name: path.read_bytes() for path in tls.iterdir()}
    descriptor = lock_state_dir(tmp_path)
    (line,) = mend_certificate(tmp_path)
    assert (line.done, "renews it itself" in line.said) == (False, True)
    assert {path.name: path.read_bytes() for path in tls.iterdir()} == before
    os.close(descriptor)
    (line,) = mend_certificate(tmp_path)
    assert (line.done, f"{tls / 'leaf.pem'}: issued, valid until " in line.said) == (True, True)
    after = {path.name: path.read_bytes() for path in tls.iterdir()}
    assert {name for name in after if after[name] != before[name]} == {"leaf.pem"}
    leaf = parse_certified_key(after["leaf.pem"])
    assert leaf.above == (parse_certified_key(before["ca.key"]).certificate,)
    assert names_of(leaf) == (*LOOPBACK_NAMES, "old.example")
    assert certificate(tmp_path, OWN, False, time.time()).health == "ok"
