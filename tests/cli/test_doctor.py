import json
import os
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from palyra_trio.cli.profiles import Profile, save
from palyra_trio.journal.store import SCHEMA_VERSION, SqliteStore, lock_state_dir
from palyra_trio.runtime.diagnosis import sqlite, state_folder
from tests.cli.conftest import Home, Palyra
from tests.processes import Shell

KEY = "sk-the-key-of-the-person"


def looked(palyra: Palyra) -> dict[str, dict[str, Any]]:
    """Return the checks by name, and check that the exit status says whether there is a fault among them."""
    result = palyra("doctor", "--json")
    report = json.loads(result.stdout)
    faulty = [each for each in report["checks"] if each["health"] == "fault"]
    assert (report["ok"], result.exit_code) == ((False, 1) if faulty else (True, 0))
    return {each["name"]: each for each in report["checks"]}


def configure(home: Home, text: str) -> Path:
    folder = home.state_dir.parent / ".config" / "palyra-trio"
    (folder / "policies").mkdir(parents=True)
    (folder / "config.toml").write_text(text)
    return folder


def test_a_fresh_installation_has_no_fault_and_is_left_as_it_is(shell: Shell) -> None:
    before = sorted(shell.root.rglob("*"))
    done = shell.run("doctor")
    assert (done.returncode, done.stderr) == (0, "no fault\n")
    names = [line[9:23].strip() for line in done.stdout.splitlines() if not line.startswith(" ")]
    assert names == [
        *("python", "sqlite", "state folder", "lock", "journal", "configuration", "policies", "vault", "model"),
        "sandbox",
    ]
    assert f"{shell.state_dir}, " in done.stdout
    assert sorted(shell.root.rglob("*")) == before


def test_a_faulty_configuration_is_told_with_every_fault(palyra: Palyra, home: Home) -> None:
    configure(home, "[limits]\nturnips = 2\n[grocery]\n")
    result = palyra("doctor")
    assert result.exit_code == 1
    assert "fault    configuration  2 faults" in result.stdout
    assert "turnips" in result.stdout
    assert "grocery" in result.stdout
    assert result.stderr == "1 fault\n"


def test_a_folder_that_was_not_trusted_is_a_warning(palyra: Palyra, home: Home) -> None:
    (home.folder / "palyra.toml").write_text('[policy]\nallow = ["files.*"]\n')
    found = looked(palyra)["configuration"]
    assert found["health"] == "warning"
    assert "ignored policy.allow" in found["said"]
    assert "palyra-trio trust" in found["remedy"]


def test_a_state_folder_that_others_can_look_into_is_a_warning(palyra: Palyra, home: Home) -> None:
    home.state_dir.mkdir()
    home.state_dir.chmod(0o755)
    found = looked(palyra)["state folder"]
    assert (found["health"], found["remedy"]) == ("warning", f"chmod 700 {home.state_dir}")
    home.state_dir.chmod(0o700)
    assert looked(palyra)["state folder"]["said"].endswith("mode 0700, yours")


def test_where_the_state_folder_cannot_be_what_lies_in_it_is_not_looked_for(palyra: Palyra, home: Home) -> None:
    home.state_dir.write_text("a file")
    found = looked(palyra)
    assert (found["state folder"]["health"], found["state folder"]["said"]) == (
        "fault",
        f"{home.state_dir} is no folder",
    )
    assert not {"lock", "journal"} & found.keys()


@pytest.mark.skipif(os.geteuid() != 0, reason="gives a folder away")
def test_a_state_folder_of_somebody_else_is_a_fault(palyra: Palyra, home: Home) -> None:
    home.state_dir.mkdir(0o700)
    os.chown(home.state_dir, 65534, 65534)
    found = looked(palyra)["state folder"]
    assert (found["health"], found["remedy"]) == ("fault", f"chown -R 0 {home.state_dir}")


def test_too_little_room_is_a_fault_and_says_how_much_is_lacking(tmp_path: Path) -> None:
    found = state_folder(tmp_path, 1 << 60)
    assert found.health == "fault"
    assert "MiB there, or lower journal.min_free_bytes" in found.remedy
    assert state_folder(tmp_path, 1).health != "fault"


def test_who_holds_the_state_folder_is_named(palyra: Palyra, home: Home) -> None:
    lock = lock_state_dir(home.state_dir)
    try:
        assert looked(palyra)["lock"]["said"] == f"process {os.getpid()} holds the state folder"
    finally:
        os.close(lock)
    assert looked(palyra)["lock"]["said"] == "no process holds the state folder"


def test_the_journals_version_is_told_and_a_newer_one_is_a_fault(palyra: Palyra, home: Home) -> None:
    SqliteStore(home.state_dir).close()
    assert looked(palyra)["journal"]["said"] == f"schema version {SCHEMA_VERSION}"
    with closing(sqlite3.connect(home.journal)) as db:
        db.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    found = looked(palyra)["journal"]
    assert (found["health"], found["remedy"]) == ("fault", "use the newer program that wrote it")


def test_a_fault_in_a_policy_is_told_with_its_place(palyra: Palyra, home: Home) -> None:
    folder = configure(home, "")
    (folder / "policies" / "mine.cedar").write_text("permit (principal, action, resource)\n")
    found = looked(palyra)["policies"]
    assert found["health"] == "fault"
    assert "mine.cedar" in found["said"] + found["remedy"]


def test_the_model_that_would_answer_is_named_and_no_key_is_shown(
    palyra: Palyra, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert looked(palyra)["model"]["said"] == "offline/rules answers: nothing is configured"
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    result = palyra("doctor", "--json")
    assert "openai/" in result.stdout
    assert "OPENAI_API_KEY is set" in result.stdout
    assert KEY not in result.stdout


def test_a_reference_to_a_key_is_looked_up(palyra: Palyra, home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    configure(home, '[model]\nname = "openai/some"\napi_key = "env:PROVIDER_KEY"\n')
    assert looked(palyra)["model"]["health"] == "fault"
    monkeypatch.setenv("PROVIDER_KEY", KEY)
    result = palyra("doctor")
    assert "ok       model          openai/some answers" in result.stdout
    assert KEY not in result.stdout


def test_a_vault_that_cannot_be_opened_is_a_warning(palyra: Palyra, home: Home) -> None:
    assert looked(palyra)["vault"]["said"].startswith("there is none")
    palyra("secrets", "set", "API", "--stdin", input="hunter2-hunter2")
    assert looked(palyra)["vault"]["said"] == "it can be opened"
    (key,) = (home.state_dir.parent / ".config" / "palyra-trio" / "keys").iterdir()
    key.unlink()
    found = looked(palyra)["vault"]
    assert found["health"] == "warning"
    assert found["said"].startswith("it is locked: ")
    (home.state_dir / "vault" / "vault.json").write_text("{}")
    assert looked(palyra)["vault"]["health"] == "fault"


def test_an_old_sqlite_is_a_fault() -> None:
    assert sqlite((3, 36, 0)).health == "fault"
    assert sqlite((3, 37, 0)).health == "ok"


@pytest.mark.skipif(os.geteuid() != 0, reason="of root")
def test_roots_sandbox_needs_a_user_and_one_that_there_is(palyra: Palyra, monkeypatch: pytest.MonkeyPatch) -> None:
    found = looked(palyra)["sandbox"]
    assert (found["health"], found["said"]) == ("warning", "no sandbox: no program can be run")
    assert "set sandbox.user" in found["remedy"]
    monkeypatch.setenv("PALYRA_SANDBOX__USER", "nobody-of-this-name")
    found = looked(palyra)["sandbox"]
    assert (found["health"], found["remedy"]) == ("fault", "useradd --system nobody-of-this-name")


def test_the_tier_in_force_is_told(palyra: Palyra, home: Home) -> None:
    configure(home, '[sandbox]\nuser = "nobody"\nbare = true\n')
    found = looked(palyra)["sandbox"]
    assert found["said"].startswith("sandbox tier ")
    assert (found["health"] == "ok") == found["said"].startswith("sandbox tier 4 isolated (")


def test_a_daemon_elsewhere_is_not_looked_at(palyra: Palyra) -> None:
    save(os.environ, "there", Profile("daemon.example", 7443, tls=True, token="hush"))
    result = palyra("--daemon", "there", "doctor")
    assert result.exit_code == 2
    assert "leave out --daemon" in result.stderr
