"""Secrets by name: a value goes in, and no page, address or log ever has it."""

import logging
from pathlib import Path

import attrs
import pytest

from palyra_trio.core.identity import Principal, Scope
from palyra_trio.guard.vault import Scope as VaultScope
from palyra_trio.guard.vault import Vault
from palyra_trio.guard.vault_key import KeyPlaces, new_key
from palyra_trio.guard.vault_store import VaultStore
from palyra_trio.transports.console.secrets import scope_of
from tests.fakes import ME, OTHER
from tests.transports.console.browsing import open_console

READER = frozenset({Scope.READ})
VALUE = "hunter2-hunter2"
XSS = '"><script>alert(1)</script>'


@pytest.fixture
def vault(tmp_path: Path) -> VaultStore:
    """A vault with one secret of mine and one of another."""
    (tmp_path / "keys").mkdir(mode=0o700)
    store = VaultStore(tmp_path / "state", KeyPlaces(tmp_path / "keys", None))
    lock, key = new_key("key_file", store.places, "v1", store.random)
    store.create(Vault.create("v1", lock, key, store.random))
    store.change(lambda vault: vault.with_secret("MAIL", VALUE, VaultScope("user:me", ("fetch.*",)), 1000))
    store.change(lambda vault: vault.with_secret("THEIRS", VALUE, VaultScope("user:other"), 1000))
    return store


def test_tools_and_hosts_are_parted_by_blanks_or_commas() -> None:
    form = {"tools": "fetch.get, fetch.post", "hosts": " a.org\nb.org "}
    assert scope_of(Principal("user:me"), form) == VaultScope(
        "user:me", ("fetch.get", "fetch.post"), ("a.org", "b.org")
    )


async def test_without_a_vault_the_command_that_makes_one_is_told(tmp_path: Path) -> None:
    async with open_console(tmp_path) as console:
        page = await console.visitor().get("/secrets")
        assert "There is no vault yet." in page
        assert "palyra-trio secrets set NAME" in page
        assert "<form" not in page.text.partition("<main")[2]
        assert (await console.visitor().post("/secrets", {"name": "A", "value": VALUE})).status == 404


async def test_ones_own_secrets_are_listed_by_name_and_what_they_are_for(tmp_path: Path, vault: VaultStore) -> None:
    async with open_console(tmp_path, vault=vault) as console:
        page = await console.visitor(scopes=READER).get("/secrets")
        assert "MAIL version 1" in page
        assert "For fetch.*, to any host." in page
        assert "THEIRS" not in page
        assert VALUE not in page.text
        assert "MAIL" not in await console.visitor(OTHER).get("/secrets")


async def test_a_secret_is_kept_masked_at_once_and_never_shown(
    tmp_path: Path, vault: VaultStore, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    async with open_console(tmp_path, vault=vault) as console:
        browser, new = console.visitor(), "correct-horse-battery"
        done = await browser.post("/secrets", {"name": "NEW", "value": new, "tools": "fetch.get", "next": "/secrets"})
        assert (done.status, done.headers["Location"]) == (303, "/secrets")
        page = await browser.get("/secrets")
        assert "NEW version 1" in page
        assert new not in page.text
        assert new not in console.runtime.state.redactor.text(f"it is {new}")
        assert vault.open().value("user:me", "NEW").reveal() == new
        await browser.post("/secrets", {"name": "NEW", "value": new + "2"})
        assert "NEW version 2" in await browser.get("/secrets")
    assert new not in caplog.text


async def test_what_is_refused_is_told_and_the_value_is_not_sent_back(tmp_path: Path, vault: VaultStore) -> None:
    async with open_console(tmp_path, vault=vault) as console:
        browser = console.visitor()
        for form, words in (
            ({"name": "no blanks", "value": VALUE}, "cannot name a secret"),
            ({"name": "SHORT", "value": "pa55"}, "less than 8 bytes"),
            ({"name": "NONE"}, "less than 8 bytes"),
            ({"name": XSS, "value": VALUE, "tools": XSS}, "cannot name a secret"),
        ):
            page = await browser.post("/secrets", {"hosts": "kept.example", **form})
            assert page.status == 400
            assert words in page
            assert 'value="kept.example"' in page.text
            assert not form.get("value") or form["value"] not in page.text
            assert XSS not in page.text
        assert [row.name for row in vault.open().file.rows] == ["MAIL", "THEIRS"]


async def test_a_secret_is_removed_and_that_of_another_is_not(tmp_path: Path, vault: VaultStore) -> None:
    async with open_console(tmp_path, vault=vault) as console:
        browser = console.visitor()
        assert (await browser.post("/secrets/MAIL/remove", {"next": "/secrets"})).status == 303
        assert "You have no secrets yet." in await browser.get("/secrets")
        assert (await browser.post("/secrets/THEIRS/remove")).status == 404
        assert [row.name for row in vault.open().file.rows] == ["THEIRS"]


async def test_who_may_only_read_is_offered_no_change_and_refused_one(tmp_path: Path, vault: VaultStore) -> None:
    async with open_console(tmp_path, vault=vault) as console:
        browser = console.visitor(scopes=READER)
        assert "<form" not in (await browser.get("/secrets")).text.partition("<main")[2]
        assert (await browser.post("/secrets", {"name": "A", "value": VALUE})).status == 403
        assert (await browser.post("/secrets/MAIL/remove")).status == 403
        assert vault.open().file.row("user:me", "MAIL") is not None


async def test_a_locked_vault_lists_names_and_takes_nothing(tmp_path: Path, vault: VaultStore) -> None:
    lost = attrs.evolve(vault, places=KeyPlaces(tmp_path / "nowhere", None))
    lock = vault.read()
    assert lock is not None
    Path(lock.lock.place).unlink()
    async with open_console(tmp_path, vault=lost) as console:
        await console.runtime.state.secrets.refresh()
        page = await console.visitor().get("/secrets")
        assert "The vault is locked" in page
        assert "MAIL" in page
        assert "palyra-trio secrets unlock" in page
        refused = await console.visitor(ME).post("/secrets", {"name": "A", "value": VALUE})
        assert refused.status == 422
        assert VALUE not in refused.text


async def test_a_damaged_vault_is_told_and_no_fault_of_the_page(tmp_path: Path, vault: VaultStore) -> None:
    vault.path.write_text("{")
    async with open_console(tmp_path, vault=vault) as console:
        page = await console.visitor().get("/secrets")
        assert page.status == 200
        assert "the vault is damaged" in page
        assert "Nothing can be listed." in page
