"""A vault's key comes from one place, and where it is not to be had the message says what to do."""

import os
import sys
from pathlib import Path
from types import ModuleType

import pytest
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

from palyra_trio.core.errors import ConfigInvalid
from palyra_trio.guard import vault_key
from palyra_trio.guard.vault import Lock
from palyra_trio.guard.vault_key import KeyPlaces, find_key, forget_key, leave_open, lock_again, new_key, passphrase_key


@pytest.fixture
def places(tmp_path: Path) -> KeyPlaces:
    (tmp_path / "run").mkdir(0o700)
    return KeyPlaces(tmp_path / "config", tmp_path / "run")


def test_a_key_file_is_private_and_found_again(places: KeyPlaces) -> None:
    lock, key = new_key("key_file", places, "K", os.urandom)
    assert (lock.kind, Path(lock.place).stat().st_mode & 0o777) == ("key_file", 0o600)
    assert find_key(lock, places, "V") == key
    forget_key(lock)
    with pytest.raises(ConfigInvalid, match=r"the vault is locked: the key file .* is missing"):
        find_key(lock, places, "V")


@pytest.mark.parametrize("said", [b"", b"00" * 31, b"zz" * 32, b"\xff" * 64])
def test_a_file_that_holds_no_key_is_said_to(places: KeyPlaces, said: bytes) -> None:
    lock, _ = new_key("key_file", places, "K", os.urandom)
    Path(lock.place).write_bytes(said)
    with pytest.raises(ConfigInvalid, match="holds no key"):
        find_key(lock, places, "V")


def test_a_key_file_that_others_may_read_is_refused(places: KeyPlaces) -> None:
    lock, _ = new_key("key_file", places, "K", os.urandom)
    os.chmod(lock.place, 0o644)
    with pytest.raises(ConfigInvalid, match="others may get at"):
        find_key(lock, places, "V")


def test_a_passphrase_is_stretched_as_rfc_9106_recommends() -> None:
    assert (vault_key.PASSPHRASE_MEMORY_KIB, vault_key.PASSPHRASE_PASSES, vault_key.PASSPHRASE_LANES) == (65536, 3, 4)
    expected = Argon2id(salt=b"s" * 16, length=32, iterations=3, lanes=4, memory_cost=64 * 1024).derive(b"pass phrase")
    assert passphrase_key("pass phrase", b"s" * 16) == expected


def test_the_key_of_a_passphrase_is_found_while_the_vault_is_unlocked(places: KeyPlaces) -> None:
    lock = Lock("passphrase", salt=b"s" * 16)
    with pytest.raises(ConfigInvalid, match=r"the passphrase is missing .palyra-trio secrets unlock"):
        find_key(lock, places, "V")
    leave_open(places, "V", bytes(32))
    assert find_key(lock, places, "V") == bytes(32)
    assert lock_again(places, "V")
    assert not lock_again(places, "V")


def test_without_a_runtime_directory_a_passphrase_vault_cannot_be_left_open(tmp_path: Path) -> None:
    places = KeyPlaces(tmp_path)
    for call in (lambda: leave_open(places, "V", bytes(32)), lambda: find_key(Lock("passphrase"), places, "V")):
        with pytest.raises(ConfigInvalid, match="no runtime directory") as caught:
            call()
        assert "XDG_RUNTIME_DIR" in caught.value.remedy


def fake_keyring(monkeypatch: pytest.MonkeyPatch, backend_module: str) -> dict[tuple[str, str], str]:
    kept: dict[tuple[str, str], str] = {}
    module = ModuleType("keyring")
    backend = type("Keyring", (), {"__module__": backend_module})()
    vars(module).update(
        get_keyring=lambda: backend,
        set_password=lambda service, user, value: kept.__setitem__((service, user), value),
        get_password=lambda service, user: kept.get((service, user)),
        delete_password=lambda service, user: kept.pop((service, user)),
    )
    monkeypatch.setitem(sys.modules, "keyring", module)
    return kept


def test_a_keyring_keeps_a_key(places: KeyPlaces, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = fake_keyring(monkeypatch, "keyring.backends.SecretService")
    lock, key = new_key("keyring", places, "K", os.urandom)
    assert kept == {("palyra-trio", "K"): key.hex()}
    assert find_key(lock, places, "V") == key
    forget_key(lock)
    with pytest.raises(ConfigInvalid, match="the keyring's entry is missing"):
        find_key(lock, places, "V")


@pytest.mark.parametrize("backend", ["keyring.backends.fail", "keyring.backends.null", "keyrings.alt.file"])
def test_a_keyring_that_keeps_nothing_or_in_the_clear_is_not_used(
    places: KeyPlaces, monkeypatch: pytest.MonkeyPatch, backend: str
) -> None:
    fake_keyring(monkeypatch, backend)
    with pytest.raises(ConfigInvalid, match="no keyring here that keeps secrets"):
        new_key("keyring", places, "K", os.urandom)


def test_without_the_package_the_keyring_is_refused(places: KeyPlaces, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "keyring", None)
    with pytest.raises(ConfigInvalid, match="keyring is not installed"):
        find_key(Lock("keyring", "K"), places, "V")
