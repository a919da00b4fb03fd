"""A process takes up the vault as it is, does without it where it is locked, and gives a secret only for its use."""

import os
from pathlib import Path

import pytest

from palyra_trio.core.errors import ConfigInvalid, NotFound, PolicyError
from palyra_trio.core.references import SecretReference
from palyra_trio.guard.private_file import private_folder
from palyra_trio.guard.redactor import Redactor, has_marker
from palyra_trio.guard.secret_value import SecretValue
from palyra_trio.guard.vault import Lock, Scope
from palyra_trio.guard.vault_keeper import OTHERS, SecretUse, VaultKeeper
from palyra_trio.guard.vault_key import KeyPlaces, leave_open, lock_again, passphrase_key
from palyra_trio.guard.vault_store import VaultStore
from tests.guard.test_vault_store import make_store

ME = "user:me"


@pytest.fixture
def store(tmp_path: Path) -> VaultStore:
    return make_store(tmp_path)


@pytest.fixture
def keeper(store: VaultStore) -> VaultKeeper:
    keeper = VaultKeeper(store, Redactor())
    keeper.refresh()
    return keeper


def set_for(store: VaultStore, *, tools: tuple[str, ...] = (), hosts: tuple[str, ...] = ()) -> None:
    store.change(lambda vault: vault.with_secret("S", "the value of S", Scope(ME, tools, hosts), 2))


def test_the_redactor_learns_each_value_and_forgets_what_was_removed(store: VaultStore) -> None:
    redactor = Redactor()
    keeper = VaultKeeper(store, redactor)
    assert keeper.refresh()
    assert has_marker(redactor.text("it is the value, is it"))
    store.change(lambda vault: vault.without(ME, "A").with_secret("B", "another value", Scope(ME), 2))
    assert keeper.refresh()
    assert not has_marker(redactor.text("it is the value, is it"))
    assert has_marker(redactor.text("it is another value"))


def test_what_is_changed_here_is_masked_at_once_and_listed_by_name(store: VaultStore) -> None:
    redactor = Redactor()
    keeper = VaultKeeper(store, redactor)
    keeper.change(lambda vault: vault.with_secret("B", "another value", Scope(ME), 2))
    assert has_marker(redactor.text("it is another value"))
    assert [row.name for row in keeper.kept(ME) or ()] == ["A", "B"]
    assert keeper.kept("user:other") == ()
    assert not keeper.stale


def test_a_provider_s_key_is_masked_too_and_stays_so_when_the_vault_changes(store: VaultStore) -> None:
    redactor = Redactor()
    keeper = VaultKeeper(store, redactor)
    keeper.mask_too(SecretValue("a provider's key"))
    keeper.refresh()
    assert has_marker(redactor.text("it is a provider's key"))
    for number in range(OTHERS):
        keeper.mask_too(SecretValue(f"key number {number}"))
    assert not has_marker(redactor.text("it is a provider's key"))
    assert has_marker(redactor.text(f"it is key number {OTHERS - 1}"))


def test_a_look_at_an_unchanged_vault_reads_nothing(keeper: VaultKeeper, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(VaultStore, "open", lambda *_: pytest.fail("the vault was read"))
    assert not keeper.refresh()


def test_without_a_vault_there_are_no_secrets_and_nothing_is_wrong(tmp_path: Path) -> None:
    keeper = VaultKeeper(VaultStore(tmp_path / "none", KeyPlaces(tmp_path)), Redactor())
    keeper.refresh()
    assert keeper.locked == ""
    with pytest.raises(NotFound, match="there is no secret A"):
        keeper.value(ME, "A")


def test_a_vault_whose_key_is_gone_is_locked_and_says_why(store: VaultStore) -> None:
    file = store.read()
    assert file is not None
    os.unlink(file.lock.place)
    keeper = VaultKeeper(store, Redactor())
    keeper.refresh()
    assert "the key file" in keeper.locked
    with pytest.raises(ConfigInvalid, match="A is not to be had: the vault is locked"):
        keeper.value(ME, "A")


def test_a_damaged_vault_is_locked_too(store: VaultStore, keeper: VaultKeeper) -> None:
    store.path.write_bytes(b"{}")
    keeper.refresh()
    assert "damaged" in keeper.locked


def test_a_passphrase_vault_opens_and_locks_while_the_process_runs(store: VaultStore, tmp_path: Path) -> None:
    places = KeyPlaces(tmp_path / "config", private_folder(tmp_path / "run"))
    store = VaultStore(store.state_dir, places)
    key = passphrase_key("a pass phrase", b"s" * 16)
    store.change(lambda vault: vault.rotated(Lock("passphrase", salt=b"s" * 16), key))
    keeper = VaultKeeper(store, Redactor())
    keeper.refresh()
    assert "secrets unlock" in keeper.locked
    leave_open(places, "V", key)
    keeper.refresh()
    assert keeper.value(ME, "A").reveal() == "the value"
    lock_again(places, "V")
    keeper.refresh()
    assert keeper.locked


# --- by reference, for a use ---


def test_a_tool_gets_a_secret_by_reference(keeper: VaultKeeper) -> None:
    assert keeper.resolve(SecretReference("A"), SecretUse(ME, "fetch.get", "h")).reveal() == "the value"
    assert (
        keeper.resolve(SecretReference("A", "Bearer "), SecretUse(ME, "fetch.get", "h")).reveal() == "Bearer the value"
    )


def test_a_secret_of_another_principal_is_not_there(keeper: VaultKeeper) -> None:
    with pytest.raises(NotFound):
        keeper.resolve(SecretReference("A"), SecretUse("user:other", "fetch.get"))


def test_a_value_that_could_not_be_masked_is_given_to_no_tool(store: VaultStore, keeper: VaultKeeper) -> None:
    store.change(lambda vault: vault.with_secret("S", "1234567", Scope(ME), 2))
    keeper.refresh()
    with pytest.raises(PolicyError, match="S has less than 8 bytes"):
        keeper.resolve(SecretReference("S"), SecretUse(ME, "fetch.get", "h"))


@pytest.mark.parametrize(
    ("pattern", "tool", "fits"),
    [
        ("fetch.get", "fetch.get", True),
        ("fetch.get", "fetch.get2", False),
        ("fetch.*", "fetch.post", True),
        ("fetch.*", "files.read", False),
        ("*", "files.read", True),
    ],
)
def test_a_secret_for_a_tool_goes_to_no_other(
    store: VaultStore, keeper: VaultKeeper, pattern: str, tool: str, fits: bool
) -> None:
    set_for(store, tools=(pattern,))
    keeper.refresh()
    assert allowed(keeper, SecretUse(ME, tool, "h")) is fits


@pytest.mark.parametrize(
    ("pattern", "host", "port", "fits"),
    [
        ("api.example.org", "api.example.org", 443, True),
        ("API.example.org", "api.EXAMPLE.org.", 443, True),
        ("api.example.org", "api.example.org.evil.net", 443, False),
        ("example.org", "api.example.org", 443, False),
        ("*.example.org", "api.example.org", 443, True),
        ("*.example.org", "example.org", 443, False),
        ("*.example.org", "evilexample.org", 443, False),
        ("api.example.org:8443", "api.example.org", 8443, True),
        ("api.example.org:8443", "api.example.org", 443, False),
        ("*.example.org:443", "api.example.org", 443, True),
        ("::1", "::1", 443, True),
        ("::1", "[::1]", 443, True),
        ("[::1]:443", "[::1]", 443, True),
        ("[::1]:443", "[::1]", 8443, False),
        ("api.example.org", "", 0, False),
    ],
)
def test_a_secret_for_a_host_goes_to_no_other(
    store: VaultStore, keeper: VaultKeeper, pattern: str, host: str, port: int, fits: bool
) -> None:
    set_for(store, hosts=("other.example", pattern))
    keeper.refresh()
    assert allowed(keeper, SecretUse(ME, "fetch.get", host, port)) is fits


def allowed(keeper: VaultKeeper, use: SecretUse) -> bool:
    try:
        return keeper.resolve(SecretReference("S"), use).reveal() == "the value of S"
    except PolicyError:
        return False
