"""Keys lie beside the configuration, the vault in the state directory, and what is open only in memory."""

from pathlib import Path

from palyra_trio.cli.vault_place import vault_store
from tests.cli.conftest import Home


def test_the_vault_and_its_keys_lie_apart(home: Home) -> None:
    store = vault_store({"HOME": "/home/me", "PALYRA_STATE_DIR": "/data", "XDG_RUNTIME_DIR": "/run/user/1"})
    assert store.path == Path("/data/vault/vault.json")
    assert store.places.keys_dir == Path("/home/me/.config/palyra-trio")
    assert store.places.runtime_dir == Path("/run/user/1")


def test_a_runtime_directory_that_is_no_absolute_path_is_none(home: Home) -> None:
    for variables in ({}, {"XDG_RUNTIME_DIR": ""}, {"XDG_RUNTIME_DIR": "here"}):
        assert vault_store({"HOME": "/home/me", **variables}).places.runtime_dir is None
