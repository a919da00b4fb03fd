"""The folder `tls`: made once, renewed in time, and refused rather than made good."""

import os
import ssl
import stat
from collections.abc import Callable
from pathlib import Path

import attrs
import pytest
import trio
import trio.testing

from palyra_trio.core.errors import ConfigInvalid
from palyra_trio.transports import certificates
from palyra_trio.transports.certificates import LOOK_AGAIN_S, Certificates
from palyra_trio.wire.authority import is_issued_by, issue_leaf, make_authority, parse_certified_key

NOW = 1_800_000_000.0
DAY = 24 * 3600.0


@attrs.define
class Clock:
    """Unix time that follows Trio's clock of a test from NOW on."""

    ahead_s: float = 0.0

    def __call__(self) -> float:
        try:
            return NOW + self.ahead_s + trio.current_time()
        except RuntimeError:
            return NOW + self.ahead_s


def opened(folder: Path, at_s: float = NOW, names: tuple[str, ...] = ()) -> Certificates:
    return Certificates(folder / "tls", names, lambda: at_s)


def refused(folder: Path, at_s: float = NOW) -> ConfigInvalid:
    before = contents(folder)
    with pytest.raises(ConfigInvalid) as error:
        opened(folder, at_s)
    assert contents(folder) == before
    return error.value


def contents(folder: Path) -> dict[str, bytes]:
    return {each.name: each.read_bytes() for each in (folder / "tls").iterdir()}


def test_the_first_start_makes_files_that_are_this_users_alone(tmp_path: Path) -> None:
    made = opened(tmp_path)
    assert stat.S_IMODE((tmp_path / "tls").stat().st_mode) == 0o700
    assert {each.name: stat.S_IMODE(each.stat().st_mode) for each in (tmp_path / "tls").iterdir()} == {
        "ca.key": 0o600,
        "ca.pem": 0o600,
        "leaf.pem": 0o600,
    }
    assert made.authority_file.read_bytes() == made.authority_pem
    assert b"PRIVATE" not in made.authority_pem
    assert parse_certified_key(made.leaf_file.read_bytes()).certificate == made.leaf.certificate


def test_the_next_start_changes_nothing(tmp_path: Path) -> None:
    first = opened(tmp_path)
    before = contents(tmp_path)
    assert opened(tmp_path, NOW + 59 * DAY).fingerprint == first.fingerprint
    assert contents(tmp_path) == before


@pytest.mark.parametrize("days", [61, 89, 91, 400])
def test_a_leaf_that_is_due_or_over_is_renewed_at_the_start_under_the_same_authority(tmp_path: Path, days: int) -> None:
    first = opened(tmp_path)
    later = opened(tmp_path, NOW + days * DAY)
    assert later.fingerprint == first.fingerprint
    assert later.leaf.certificate != first.leaf.certificate
    assert later.leaf.certificate.not_valid_after_utc.timestamp() == NOW + (days + 90) * DAY


def test_another_name_takes_another_leaf_and_the_same_authority(tmp_path: Path) -> None:
    first = opened(tmp_path)
    named = opened(tmp_path, names=("daemon.example",))
    assert named.fingerprint == first.fingerprint
    assert named.leaf.certificate != first.leaf.certificate
    assert opened(tmp_path, names=("daemon.example",)).leaf.certificate == named.leaf.certificate


def test_a_start_that_was_killed_between_its_files_is_made_good(tmp_path: Path) -> None:
    first = opened(tmp_path)
    for names in (("leaf.pem",), ("leaf.pem", "ca.pem")):
        for name in names:
            (tmp_path / "tls" / name).unlink()
        assert opened(tmp_path).fingerprint == first.fingerprint
        assert len(contents(tmp_path)) == 3


# --- what is not made good ---


def foreign_authority(tls: Path) -> None:
    (tls / "ca.key").write_bytes(make_authority(NOW).pem)


def foreign_certificate(tls: Path) -> None:
    (tls / "ca.pem").write_bytes(make_authority(NOW).chain_pem)


def no_authority(tls: Path) -> None:
    (tls / "ca.key").write_bytes((tls / "leaf.pem").read_bytes())


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda tls: (tls / "ca.key").unlink(), "ca.key is missing, and clients may have pinned it"),
        (lambda tls: (tls / "ca.key").write_bytes(b"noise"), "ca.key is no certificate with its key"),
        (lambda tls: (tls / "ca.key").write_bytes((tls / "ca.pem").read_bytes()), "ca.key is no certificate with"),
        (foreign_authority, "ca.pem is not the certificate in ca.key"),
        (foreign_certificate, "ca.pem is not the certificate in ca.key"),
        (no_authority, "ca.key cannot be used: it is no authority's certificate"),
    ],
)
def test_an_authority_that_is_broken_or_foreign_is_refused_and_never_replaced(
    tmp_path: Path, spoil: Callable[[Path], None], says: str
) -> None:
    opened(tmp_path)
    spoil(tmp_path / "tls")
    error = refused(tmp_path)
    assert says in error.message
    assert "restore it from a backup" in error.remedy
    assert "let clients connect anew" in error.remedy


def test_an_authority_that_has_expired_is_refused_and_so_is_one_of_the_future(tmp_path: Path) -> None:
    opened(tmp_path)
    assert "has expired on" in refused(tmp_path, NOW + 3651 * DAY).message
    assert "is the clock right?" in refused(tmp_path, NOW - DAY).message


def foreign_leaf(tls: Path) -> None:
    (tls / "leaf.pem").write_bytes(issue_leaf(make_authority(NOW), ("localhost",), NOW).pem)


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda tls: (tls / "leaf.pem").write_bytes(b"noise"), "leaf.pem is no certificate of this daemon"),
        (foreign_leaf, "it was not issued by the authority beside it"),
    ],
)
def test_a_leaf_that_is_broken_or_foreign_is_refused_with_what_to_do(
    tmp_path: Path, spoil: Callable[[Path], None], says: str
) -> None:
    opened(tmp_path)
    spoil(tmp_path / "tls")
    error = refused(tmp_path)
    assert says in error.message
    assert error.remedy == "remove it, and the daemon makes another one; clients do not notice"
    (tmp_path / "tls" / "leaf.pem").unlink()
    opened(tmp_path)


@pytest.mark.parametrize("name", ["ca.key", "leaf.pem", "."])
def test_files_that_others_can_read_are_refused(tmp_path: Path, name: str) -> None:
    opened(tmp_path)
    os.chmod(tmp_path / "tls" / name, 0o755)
    assert "others may get at" in refused(tmp_path).message


# --- while it runs ---


async def test_it_is_renewed_when_it_is_due_and_whoever_serves_it_is_told(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    clock = Clock()
    kept = Certificates(tmp_path / "tls", (), clock)
    first, told = kept.leaf, trio.Event()
    kept.on_renewal(told.set)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(kept.keep)
        await trio.sleep(59 * DAY)
        assert not told.is_set()
        await trio.sleep(1 * DAY + LOOK_AGAIN_S)
        await told.wait()
        nursery.cancel_scope.cancel()
    assert kept.leaf.certificate != first.certificate
    assert is_issued_by(kept.leaf, parse_certified_key((tmp_path / "tls" / "ca.key").read_bytes()))
    assert parse_certified_key(kept.leaf_file.read_bytes()).certificate == kept.leaf.certificate


async def test_a_clock_that_is_set_ahead_is_noticed(tmp_path: Path, autojump_clock: trio.testing.MockClock) -> None:
    clock = Clock()
    kept = Certificates(tmp_path / "tls", (), clock)
    told = trio.Event()
    kept.on_renewal(told.set)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(kept.keep)
        await trio.sleep(DAY)
        clock.ahead_s = 80 * DAY
        await told.wait()
        assert trio.current_time() <= DAY + LOOK_AGAIN_S
        nursery.cancel_scope.cancel()


async def test_a_renewal_that_cannot_be_written_leaves_the_old_leaf_and_is_tried_again(
    tmp_path: Path, autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = Certificates(tmp_path / "tls", (), Clock())
    first, told, failed = kept.leaf, trio.Event(), trio.Event()
    kept.on_renewal(told.set)
    monkeypatch.setattr(certificates._log, "error", lambda *_, **__: failed.set())
    (tmp_path / "tls").rename(tmp_path / "away")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(kept.keep)
        await failed.wait()
        assert kept.leaf is first
        (tmp_path / "away").rename(tmp_path / "tls")
        await told.wait()
        nursery.cancel_scope.cancel()
    assert kept.leaf is not first


async def test_a_port_that_cannot_take_a_leaf_keeps_it_from_no_other_and_is_told_again(
    tmp_path: Path, autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    kept = Certificates(tmp_path / "tls", (), Clock())
    told: list[str] = []
    broken = True

    def take() -> None:
        if broken:
            raise ssl.SSLError("no")
        told.append("first")

    kept.on_renewal(take)
    kept.on_renewal(lambda: told.append("second"))
    await kept.renew()
    assert told == ["second"]
    assert "a port still shows the old certificate" in caplog.text
    async with trio.open_nursery() as nursery:
        nursery.start_soon(kept.keep)
        await trio.sleep(LOOK_AGAIN_S + 1)
        assert told == ["second"]
        broken = False
        await trio.sleep(2 * LOOK_AGAIN_S)
        assert told == ["second", "first"]
        nursery.cancel_scope.cancel()
    await kept.renew()
    assert sorted(told) == ["first", "first", "second", "second"]
