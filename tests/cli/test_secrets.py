"""Secrets go in and are never shown; names and scopes are."""

import json
from pathlib import Path

import pytest

from palyra_trio.cli import secrets
from palyra_trio.cli.open import principal
from palyra_trio.cli.vault_place import vault_store
from palyra_trio.guard.private_file import private_folder
from tests.cli.conftest import Home, Palyra

VALUE = "hunter2-hunter2"


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What a person at a terminal answers, in order."""
    said: list[str] = []
    monkeypatch.setattr(secrets, "_ask", lambda _what, **_how: said.pop(0))
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    return said


@pytest.fixture
def runtime_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(folder := private_folder(tmp_path / "run")))
    return folder


def kept(name: str) -> str:
    return vault_store().open().value(principal(), name).reveal()


def test_a_secret_goes_in_by_standard_input_and_no_command_or_file_shows_it(palyra: Palyra, home: Home) -> None:
    results = [
        palyra(
            "secrets", "set", "API", "--stdin", "--for-host", "h.example", "--for-tool", "fetch.*", input=f"{VALUE}\n"
        ),
        palyra("secrets", "list"),
        palyra("secrets", "list", "--json"),
        palyra("secrets", "set", "API", "--stdin", input=f"{VALUE}-2\n"),
        palyra("secrets", "rotate"),
        palyra("secrets", "list"),
    ]
    assert [each.exit_code for each in results] == [0] * len(results)
    assert not [each for each in results if VALUE in each.stdout + each.stderr]
    assert kept("API") == f"{VALUE}-2"
    files = [path for path in home.state_dir.parent.rglob("*") if path.is_file()]
    assert files
    assert not [path for path in files if VALUE.encode() in path.read_bytes()]


def test_a_list_names_what_is_kept_and_for_what(palyra: Palyra) -> None:
    assert palyra("secrets", "list").stderr == "no secrets yet\n"
    palyra("secrets", "set", "API", "--stdin", "--for-host", "h.example", "--for-host", "i.example", input=VALUE)
    header, row = palyra("secrets", "list").stdout.splitlines()
    assert header.split("\t") == ["NAME", "VERSION", "AGE", "PRINCIPAL", "TOOLS", "HOSTS"]
    assert row.split("\t")[:2] + row.split("\t")[3:] == ["API", "1", principal(), "any", "h.example, i.example"]
    (listed,) = json.loads(palyra("secrets", "list", "--json").stdout)["secrets"]
    assert (listed["name"], listed["hosts"], listed["tools"]) == ("API", ["h.example", "i.example"], [])


def test_without_a_terminal_to_ask_at_the_way_is_said_and_nothing_is_made(palyra: Palyra, home: Home) -> None:
    result = palyra("secrets", "set", "API")
    assert result.exit_code == 2
    assert (
        "the value of API is asked for at a terminal, and there is none\n  pipe it in, with --stdin\n" in result.stderr
    )
    assert not home.state_dir.exists()


def test_a_value_on_the_command_line_is_a_usage_error(palyra: Palyra) -> None:
    assert palyra("secrets", "set", "API", VALUE).exit_code == 2


@pytest.mark.parametrize("given", [b"", b"\n", b"\xff\xfe\n", b"x" * (64 * 1024 + 1)])
def test_what_cannot_be_kept_is_refused(palyra: Palyra, given: bytes) -> None:
    assert palyra("secrets", "set", "API", "--stdin", input=given).exit_code == 2


def test_a_short_secret_is_kept_with_a_warning(palyra: Palyra) -> None:
    result = palyra("secrets", "set", "PIN", "--stdin", input="1234567")
    assert (result.exit_code, kept("PIN")) == (0, "1234567")
    assert "not masked" in result.stderr


def test_what_was_removed_is_gone_and_what_is_not_there_is_said(palyra: Palyra) -> None:
    palyra("secrets", "set", "API", "--stdin", input=VALUE)
    assert palyra("secrets", "rm", "API").stdout == "removed API\n"
    again = palyra("secrets", "rm", "API")
    assert (again.exit_code, "there is no secret API" in again.stderr) == (1, True)


def test_a_secret_can_be_kept_for_another_principal(palyra: Palyra) -> None:
    palyra("secrets", "set", "API", "--stdin", "--principal", "team:ops", input=VALUE)
    assert vault_store().open().value("team:ops", "API").reveal() == VALUE
    assert palyra("secrets", "rm", "API").exit_code == 1
    assert palyra("secrets", "rm", "API", "--principal", "team:ops").exit_code == 0


def test_rotation_removes_the_old_key_file_and_the_new_one_opens_the_vault(palyra: Palyra) -> None:
    palyra("secrets", "set", "API", "--stdin", input=VALUE)
    keys = vault_store().places.keys_dir / "keys"
    (before,) = keys.iterdir()
    assert palyra("secrets", "rotate").exit_code == 0
    (after,) = keys.iterdir()
    assert before != after
    assert kept("API") == VALUE


def test_a_vault_that_was_changed_by_hand_is_said_and_not_used(palyra: Palyra) -> None:
    palyra("secrets", "set", "API", "--stdin", input=VALUE)
    path = vault_store().path
    path.write_text(path.read_text().replace('"version": 1', '"version": 2'))
    result = palyra("secrets", "set", "OTHER", "--stdin", input=VALUE)
    assert (result.exit_code, "row of API is not what was written" in result.stderr) == (78, True)


def test_a_passphrase_vault_is_made_locked_and_unlocked(palyra: Palyra, answers: list[str], runtime_dir: Path) -> None:
    answers += [VALUE, "a good pass phrase"]
    made = palyra("secrets", "set", "API", "--key", "passphrase")
    assert made.exit_code == 0, made.stderr
    assert palyra("secrets", "list").exit_code == 0  # names need no key
    assert palyra("secrets", "rm", "API").exit_code == 78
    answers += ["not the one"]
    assert palyra("secrets", "unlock").exit_code == 78
    answers += ["a good pass phrase"]
    assert palyra("secrets", "unlock").exit_code == 0
    assert kept("API") == VALUE
    answers += ["another pass phrase"]
    assert palyra("secrets", "rotate").exit_code == 0
    assert kept("API") == VALUE
    assert palyra("secrets", "lock").stdout == "the vault is locked\n"
    assert palyra("secrets", "rm", "API").exit_code == 78
    assert palyra("secrets", "lock").stdout == "the vault was locked already\n"
    assert not list(runtime_dir.rglob("*.key"))


def test_a_short_passphrase_is_refused_and_makes_no_vault(palyra: Palyra, answers: list[str]) -> None:
    answers += [VALUE, "short"]
    assert palyra("secrets", "set", "API", "--key", "passphrase").exit_code == 2
    assert vault_store().read() is None


def test_rotation_changes_what_the_vault_is_opened_with(palyra: Palyra, answers: list[str], runtime_dir: Path) -> None:
    palyra("secrets", "set", "API", "--stdin", input=VALUE)
    answers += ["a good pass phrase"]
    assert palyra("secrets", "rotate", "--key", "passphrase").exit_code == 0
    assert not list((vault_store().places.keys_dir / "keys").iterdir())
    wrong = palyra("secrets", "set", "B", "--stdin", "--key", "key_file", input=VALUE)
    assert (wrong.exit_code, "rotate changes that" in wrong.stderr) == (2, True)


def test_a_daemon_elsewhere_keeps_its_own_secrets(palyra: Palyra, home: Home) -> None:
    result = palyra("--daemon", "there", "secrets", "list")
    assert result.exit_code != 0
