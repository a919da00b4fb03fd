"""The secrets of this installation in a running process: masked once they are there, found by reference, never in the way."""

import os
from pathlib import Path

import pytest

from palyra_trio.core.errors import ConfigInvalid, InvalidArgument, NotFound, PolicyError
from palyra_trio.core.policy import SecretResource
from palyra_trio.core.references import SecretReference
from palyra_trio.guard.auth import user_principal
from palyra_trio.guard.redactor import Redactor, has_marker
from palyra_trio.guard.vault import Scope
from palyra_trio.guard.vault_keeper import VaultKeeper
from palyra_trio.runtime.secrets import Kept, Secrets
from tests.guard.test_vault_store import make_store

ME = user_principal(os.getuid())


async def test_what_the_vault_holds_is_masked_from_the_next_look_on(tmp_path: Path) -> None:
    redactor, store = Redactor(), make_store(tmp_path)
    secrets = Secrets(VaultKeeper(store, redactor), {})
    await secrets.refresh()
    store.change(lambda vault: vault.with_secret("B", "another value", Scope(ME), 2))
    assert not has_marker(redactor.text("it is another value"))
    await secrets.refresh()
    assert has_marker(redactor.text("it is another value"))


async def test_a_key_is_found_in_the_vault_or_the_environment_and_masked(tmp_path: Path) -> None:
    redactor, store = Redactor(), make_store(tmp_path)
    secrets = Secrets(VaultKeeper(store, redactor), {"THE_KEY": "key of the environment"})
    store.change(lambda vault: vault.with_secret("API", "key of the vault", Scope(ME), 2))
    assert secrets.key("vault:API") == "key of the vault"
    assert secrets.key("env:THE_KEY") == "key of the environment"
    assert has_marker(redactor.text("it is the key of the environment"))


async def test_a_vault_that_cannot_be_read_stops_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    store = make_store(tmp_path)
    for path in tmp_path.rglob("*"):
        if path.is_file() and "vault" in path.name:
            path.write_bytes(b"no vault")
    await Secrets(VaultKeeper(store, Redactor()), {}).refresh()
    assert "the vault" in caplog.text


async def test_a_secret_is_kept_and_removed_for_its_principal_alone(tmp_path: Path) -> None:
    secrets = Secrets(VaultKeeper(make_store(tmp_path), Redactor()), {})
    await secrets.keep("B", "another value", Scope("user:other", ("t",)), 7)
    (row,) = (await secrets.kept("user:other")).rows or ()
    assert (row.name, row.version, row.changed_ms, row.scope.tools) == ("B", 1, 7, ("t",))
    with pytest.raises(NotFound):
        await secrets.remove("user:other", "A")
    await secrets.remove("user:other", "B")
    assert (await secrets.kept("user:other")).rows == ()


async def test_what_could_not_be_masked_is_not_kept(tmp_path: Path) -> None:
    secrets = Secrets(VaultKeeper(make_store(tmp_path), Redactor()), {})
    with pytest.raises(InvalidArgument, match="could not be masked"):
        await secrets.keep("B", "short", Scope(ME), 7)


async def test_without_a_vault_nothing_is_kept() -> None:
    secrets = Secrets(None, {})
    assert await secrets.kept(ME) == Kept(None, "")
    with pytest.raises(NotFound, match="no vault"):
        await secrets.remove(ME, "A")


async def test_a_process_without_a_vault_says_so() -> None:
    secrets = Secrets(None, {})
    await secrets.refresh()
    with pytest.raises(ConfigInvalid, match="this process has no vault"):
        secrets.key("vault:API")


async def test_a_call_gets_the_secrets_of_its_principal_for_what_they_were_set_for(tmp_path: Path) -> None:
    store = make_store(tmp_path)
    scope = Scope(ME, ("fetch.*",), ("api.example.org",))
    store.change(lambda vault: vault.with_secret("API", "key of the vault", scope, 2))
    secrets = Secrets(VaultKeeper(store, Redactor()), {})
    await secrets.refresh()
    mine = secrets.of(ME, "fetch.get")
    assert mine.look("API", "api.example.org", 443) == SecretResource(
        "API", "api.example.org", 443, ("fetch.*",), ("api.example.org",)
    )
    assert mine.reveal(SecretReference("API", "Bearer "), "api.example.org", 443) == "Bearer key of the vault"
    with pytest.raises(PolicyError):
        mine.reveal(SecretReference("API"), "example.org", 443)
    with pytest.raises(PolicyError):
        secrets.of(ME, "process.run").look("API", "api.example.org", 443)
    with pytest.raises(NotFound):
        secrets.of("user:other", "fetch.get").look("API", "api.example.org", 443)


async def test_a_call_of_a_process_without_a_vault_finds_none() -> None:
    with pytest.raises(NotFound):
        Secrets(None, {}).of(ME, "fetch.get").look("API", "h", 443)
