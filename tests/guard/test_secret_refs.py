"""Every kind of reference leads to its key, and one that leads nowhere is named with what to do; no value is quoted."""

import os
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from palyra_trio.core.errors import ConfigInvalid, InvalidArgument, NotFound
from palyra_trio.guard.secret_refs import References
from palyra_trio.guard.secret_value import SecretValue
from palyra_trio.guard.vault import SECRET_BYTES, missing

KEY = "hunter2-hunter2"


def no_vault(name: str) -> SecretValue:
    raise missing(name)


def references(environ: dict[str, str] | None = None, vault: Callable[[str], SecretValue] = no_vault) -> References:
    return References(environ or {}, vault)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (path := tmp_path / "key").write_text(f"{KEY}\r\n")
    path.chmod(0o600)
    return path


def test_a_variable_is_looked_up_anew_each_time() -> None:
    environ = {"KEY": KEY}
    found = references(environ)
    assert found.resolve("env:KEY").reveal() == KEY
    environ["KEY"] = "another"
    assert found.resolve("env:KEY").reveal() == "another"
    assert KEY not in repr(references({"KEY": KEY}))


def test_a_file_and_a_credential_of_systemd_are_read_without_their_last_line_break(file: Path) -> None:
    assert references().resolve(f"file:{file}").reveal() == KEY
    credentials = {"CREDENTIALS_DIRECTORY": str(file.parent)}
    assert references(credentials).resolve("systemd-creds:key").reveal() == KEY


def test_the_vault_is_asked_by_name() -> None:
    found = references(vault=lambda name: SecretValue(f"{name} is {KEY}"))
    assert found.resolve("vault:OPENAI").reveal() == f"OPENAI is {KEY}"
    with pytest.raises(NotFound, match="there is no secret OPENAI"):
        references().resolve("vault:OPENAI")


def test_a_keyring_is_asked_by_service_and_user(monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("keyring")
    backend = type("Keyring", (), {"__module__": "keyring.backends.macOS"})()
    kept = {("openai", "me/at/home"): KEY}
    vars(module).update(get_keyring=lambda: backend, get_password=lambda service, user: kept.get((service, user)))
    monkeypatch.setitem(sys.modules, "keyring", module)
    assert references().resolve("keyring:openai/me/at/home").reveal() == KEY
    with pytest.raises(ConfigInvalid, match="keyring:openai/you: the keyring holds no such entry"):
        references().resolve("keyring:openai/you")


@pytest.mark.parametrize(
    ("reference", "words"),
    [
        ("env:NONE", "env:NONE: the variable is not set .export NONE"),
        ("env:EMPTY", "env:EMPTY is empty"),
        ("file:/no/such/file", "file:/no/such/file: No such file"),
        ("file:/dev/null", "it is no regular file"),
        ("systemd-creds:key", "systemd has passed no credentials .add LoadCredential=key"),
    ],
)
def test_a_reference_that_leads_nowhere_is_named_with_the_remedy(reference: str, words: str) -> None:
    with pytest.raises(ConfigInvalid, match=words):
        references({"EMPTY": "\n"}).resolve(reference)


def test_what_is_no_reference_is_refused_without_being_quoted() -> None:
    with pytest.raises(InvalidArgument) as caught:
        references().resolve(KEY)
    assert KEY not in str(caught.value)


@pytest.mark.parametrize("mode", [0o622, 0o606])
def test_a_file_that_others_may_write_is_refused(file: Path, mode: int) -> None:
    file.chmod(mode)
    with pytest.raises(ConfigInvalid, match="others may get at the file"):
        references().resolve(f"file:{file}")


def test_one_s_own_file_that_others_may_read_is_refused_and_root_s_is_not(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file.chmod(0o644)
    owner, real = 1000, os.fstat

    def of_another(descriptor: int) -> os.stat_result:
        return os.stat_result((*real(descriptor)[:4], owner, *real(descriptor)[5:10]))

    monkeypatch.setattr(os, "fstat", of_another)
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(ConfigInvalid, match="others may get at the file"):
        references().resolve(f"file:{file}")
    owner = 0
    assert references().resolve(f"file:{file}").reveal() == KEY
    owner = 1001
    with pytest.raises(ConfigInvalid, match="belongs to another user"):
        references().resolve(f"file:{file}")


def test_a_file_that_is_too_large_or_no_text_is_refused(file: Path) -> None:
    file.write_bytes(b"x" * (SECRET_BYTES + 1))
    with pytest.raises(ConfigInvalid, match="larger than"):
        references().resolve(f"file:{file}")
    file.write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigInvalid, match="not UTF-8"):
        references().resolve(f"file:{file}")
