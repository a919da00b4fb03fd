"""The vault on the disk: made once, opened with the key that is to be found, changed by one process at a time."""

import os
import threading
from pathlib import Path

import pytest

from palyra_trio.core.errors import ConfigInvalid, NotFound
from palyra_trio.guard.vault import Scope, Vault
from palyra_trio.guard.vault_key import KeyPlaces, new_key
from palyra_trio.guard.vault_store import VaultStore

MINE = Scope("user:me")


def make_store(folder: Path) -> VaultStore:
    """Return the store of a new vault with one secret, A."""
    store = VaultStore(folder / "state", KeyPlaces(folder / "config"))
    lock, key = new_key("key_file", store.places, "K", os.urandom)
    store.create(Vault.create("V", lock, key, os.urandom))
    store.change(lambda vault: vault.with_secret("A", "the value", MINE, 1))
    return store


@pytest.fixture
def store(tmp_path: Path) -> VaultStore:
    return make_store(tmp_path)


def test_a_vault_is_stored_apart_from_its_key_and_opened_again(store: VaultStore, tmp_path: Path) -> None:
    assert store.open().value("user:me", "A").reveal() == "the value"
    assert (store.path.stat().st_mode & 0o777, store.path.parent.stat().st_mode & 0o777) == (0o600, 0o700)
    assert not list((tmp_path / "state").rglob("*.key"))


def test_where_there_is_no_vault_that_is_said_and_nothing_is_made(tmp_path: Path) -> None:
    store = VaultStore(tmp_path / "state", KeyPlaces(tmp_path))
    assert store.read() is None
    with pytest.raises(NotFound, match="no vault yet"):
        store.open()
    assert not (tmp_path / "state").exists()


def test_a_second_vault_is_not_made_over_the_first(store: VaultStore) -> None:
    with pytest.raises(ConfigInvalid, match="there is a vault already"):
        store.create(store.open())


@pytest.mark.parametrize("where", ["folder", "file"])
def test_a_vault_that_others_may_read_is_refused(store: VaultStore, where: str) -> None:
    (store.path if where == "file" else store.path.parent).chmod(0o755)
    with pytest.raises(ConfigInvalid, match="others may get at"):
        store.read()


def test_changes_of_many_at_once_are_all_kept(store: VaultStore) -> None:
    def add(number: int) -> None:
        store.change(lambda vault: vault.with_secret(f"N{number}", f"value {number}", MINE, 2))

    threads = [threading.Thread(target=add, args=(number,)) for number in range(12)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert len(store.open().values()) == 13


def test_a_change_that_fails_leaves_the_vault_as_it_was(store: VaultStore) -> None:
    before = store.path.read_bytes()
    with pytest.raises(NotFound):
        store.change(lambda vault: vault.without("user:me", "B"))
    assert store.path.read_bytes() == before
