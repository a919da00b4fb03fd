import json
import os
import re
import socket
import sqlite3
import stat
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from palyra_trio.cli.profiles import Profile, save
from palyra_trio.core.config_values import KEYS
from palyra_trio.journal.store import SCHEMA_VERSION, SqliteStore, lock_state_dir
from palyra_trio.runtime.diagnosis import sqlite
from palyra_trio.wire.authority import LEAF_LIFE, LOOPBACK_NAMES, issue_leaf, parse_certified_key
from tests.cli.conftest import AT_MS, Home, Palyra
from tests.processes import ROOT, Shell

KEY = "sk-the-key-of-the-person"
ANY_PORT = {"PALYRA_GRPC__PORT": "0"}
LIKE_A_DAEMON = {**ANY_PORT, "PALYRA_GRPC__TLS": "true"}
MENDED = ("state folder", "private files", "socket", "folders")
CLOSED = "http://127.0.0.1:9/v1"  # where nobody answers


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
    done = shell.run("doctor", environ=ANY_PORT)
    assert (done.returncode, done.stderr) == (0, "no fault\n")
    names = [line[9:23].strip() for line in done.stdout.splitlines() if not line.startswith(" ")]
    assert names == [
        *("python", "sqlite", "configuration", "folders", "log", "given keys", "state folder", "disk", "private files"),
        *("lock", "socket", "ports", "certificate", "journal", "policies", "vault", "model", "sandbox"),
    ]
    assert f"{shell.state_dir}; the first run makes it" in done.stdout
    assert sorted(shell.root.rglob("*")) == before


def test_every_check_is_in_the_manual(shell: Shell) -> None:
    assert shell.run("run", "what time is it").returncode == 0
    done = shell.run("doctor", "--json", environ={**ANY_PORT, "OPENAI_BASE_URL": CLOSED, "PALYRA_MODEL": "openai/some"})
    manual = (ROOT / "docs" / "operating.md").read_text("utf-8")
    documented = re.findall(r"^\| ([a-z ]+) \|", manual, re.MULTILINE)
    assert [each["name"] for each in json.loads(done.stdout)["checks"]] == documented[1:]


def test_every_key_in_the_manual_exists() -> None:
    manual = (ROOT / "docs" / "operating.md").read_text("utf-8")
    named = set(re.findall(r"`((?:log|http|grpc|quic|journal)\.[a-z_]+)\b", manual))
    assert {"log.file", "http.tls", "journal.min_free_bytes"} <= named <= set(KEYS)


def test_a_port_that_another_process_has_is_a_fault(shell: Shell) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        port = str(taken.getsockname()[1])
        done = shell.run("doctor", environ={"PALYRA_GRPC__PORT": port})
    assert (done.returncode, done.stderr) == (1, "1 fault\n")
    assert f"fault    ports          TCP port {port} (grpc.port) is taken by another process" in done.stdout


def test_a_clock_behind_the_journal_is_a_fault(palyra: Palyra, home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    home.record_whole_run()
    assert looked(palyra)["clock"]["health"] == "ok"
    monkeypatch.setattr("palyra_trio.cli.doctor.time.time_ns", lambda: (AT_MS - 60_000) * 1_000_000)
    found = looked(palyra)["clock"]
    assert (found["health"], found["what"]) == ("fault", "it is 60 s behind the newest row of the journal")


def expire(tls: Path) -> bytes:
    """Put a leaf that has expired in the place of a daemon's, and return it."""
    authority = parse_certified_key((tls / "ca.key").read_bytes())
    leaf = issue_leaf(authority, LOOPBACK_NAMES, time.time() - LEAF_LIFE.total_seconds()).pem
    (tls / "leaf.pem").write_bytes(leaf)
    return leaf


def test_what_can_be_mended_is_and_what_was_done_and_left_is_said(shell: Shell) -> None:
    """A daemon was killed; then its files were opened to all, one was replaced by a link, and its log's folder removed."""
    with shell.process("serve", environ=LIKE_A_DAEMON) as process:
        assert process.stdout is not None
        assert process.stdout.readline().startswith("ready ")
        process.kill()
        process.wait()
    state, tls = shell.state_dir, shell.state_dir / "tls"
    victim = shell.root / "public"
    victim.touch(0o644)
    victim.chmod(0o644)
    (state / "device").unlink(missing_ok=True)
    (state / "device").symlink_to(victim)
    for path in (state, state / "token", state / "journal.sqlite3", tls, tls / "ca.key"):
        path.chmod(0o755)
    expire(tls)
    journal = (state / "journal.sqlite3").read_bytes()
    environ = {
        **LIKE_A_DAEMON,
        "PALYRA_LOG__FILE": str(shell.root / "logs" / "daemon.log"),
    }

    assert shell.run("serve", environ=environ).returncode == 78
    before = shell.run("doctor", "--json", environ=environ)
    assert before.returncode == 1
    found = {each["name"]: each for each in json.loads(before.stdout)["checks"]}
    health = {name: each["health"] for name, each in found.items() if name in MENDED}
    assert health == {**dict.fromkeys(MENDED, "fault"), "state folder": "warning", "socket": "warning"}
    assert not any(each["fixed"] or each["left"] for each in found.values())
    assert (state / "socket").exists()

    done = shell.run("doctor", "--fix", environ=environ)
    assert (done.returncode, done.stderr) == (1, "1 fault\n")  # the link
    lines = [line.strip() for line in done.stdout.splitlines() if line.startswith(" ")]
    for said in (
        f"fixed {state}: mode 0755 is now 0700",
        f"fixed {state / 'token'}: mode 0755 is now 0600; take for known what it held",
        f"fixed {tls / 'ca.key'}: mode 0755 is now 0600; take for known what it held",
        f"left  {state / 'device'}: it is a symbolic link",
        f"fixed {state / 'socket'}: removed",
        f"fixed {shell.root / 'logs'}: made",
    ):
        assert said in lines
    assert any(line.startswith(f"fixed {tls / 'leaf.pem'}: issued, valid until ") for line in lines)
    assert stat.S_IMODE(victim.stat().st_mode) == 0o644
    assert (state / "journal.sqlite3").read_bytes() == journal

    (state / "device").unlink()
    done = shell.run("doctor", "--fix", "--json", environ=environ)
    assert (done.returncode, done.stderr) == (0, "")
    report = json.loads(done.stdout)
    assert report["ok"]
    assert not any(each["fixed"] or each["left"] for each in report["checks"])
    with shell.process("serve", environ=environ) as process:
        assert process.stdout is not None
        assert process.stdout.readline().startswith("ready ")


def test_nothing_that_a_running_daemon_needs_is_mended_from_under_it(shell: Shell) -> None:
    with shell.process("serve", environ=LIKE_A_DAEMON) as process:
        assert process.stdout is not None
        address = process.stdout.readline().split()[2]
        (shell.state_dir / "token").chmod(0o644)
        leaf = expire(shell.state_dir / "tls")
        environ = {
            **LIKE_A_DAEMON,
            "PALYRA_GRPC__PORT": address.rpartition(":")[2],
            "PALYRA_QUIC__NAMES": "other.example",
        }
        done = shell.run("doctor", "--fix", "--json", environ=environ)
        assert done.returncode == 1  # by the leaf
        found = {each["name"]: each for each in json.loads(done.stdout)["checks"]}
        assert found["lock"]["what"] == f"process {process.pid} holds the state folder"
        assert found["socket"]["what"].startswith("who holds the state folder answers at ")
        assert "served, or free" in found["ports"]["what"]
        assert found["private files"]["fixed"] == [
            f"{shell.state_dir / 'token'}: mode 0644 is now 0600; take for known what it held"
        ]
        assert found["certificate"]["left"] == ["the leaf: a process holds the state folder, and renews it itself"]
        assert (shell.state_dir / "tls" / "leaf.pem").read_bytes() == leaf
        assert shell.run("status").returncode == 0


def test_a_faulty_configuration_is_told_with_every_fault(palyra: Palyra, home: Home) -> None:
    configure(home, "[limits]\nturnips = 2\n[grocery]\n")
    result = palyra("doctor")
    assert result.exit_code == 1
    assert "fault    configuration  2 faults" in result.stdout
    assert "turnips" in result.stdout
    assert "grocery" in result.stdout
    assert result.stderr == "1 fault\n"
    assert "ports" not in result.stdout  # which are not judged by defaults that nobody may have meant


def test_a_folder_that_was_not_trusted_is_a_warning(palyra: Palyra, home: Home) -> None:
    (home.folder / "palyra.toml").write_text('[policy]\nallow = ["files.*"]\n')
    found = looked(palyra)["configuration"]
    assert found["health"] == "warning"
    assert "ignored policy.allow" in found["what"]
    assert "palyra-trio trust" in found["remedy"]


def test_a_state_folder_that_others_can_look_into_is_a_warning(palyra: Palyra, home: Home) -> None:
    home.state_dir.mkdir()
    home.state_dir.chmod(0o755)
    found = looked(palyra)["state folder"]
    assert (found["health"], found["remedy"]) == ("warning", f"chmod 700 {home.state_dir}")
    home.state_dir.chmod(0o700)
    assert looked(palyra)["state folder"]["what"].endswith("mode 0700, yours")


def test_where_the_state_folder_cannot_be_what_lies_in_it_is_not_looked_for(palyra: Palyra, home: Home) -> None:
    home.state_dir.write_text("a file")
    found = looked(palyra)
    assert (found["state folder"]["health"], found["state folder"]["what"]) == (
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


def test_who_holds_the_state_folder_is_named(palyra: Palyra, home: Home) -> None:
    lock = lock_state_dir(home.state_dir)
    try:
        assert looked(palyra)["lock"]["what"] == f"process {os.getpid()} holds the state folder"
    finally:
        os.close(lock)
    assert looked(palyra)["lock"]["what"] == "no process holds the state folder"


def test_the_journals_version_is_told_and_a_newer_one_is_a_fault(palyra: Palyra, home: Home) -> None:
    SqliteStore(home.state_dir).close()
    assert looked(palyra)["journal"]["what"] == f"schema version {SCHEMA_VERSION}"
    with closing(sqlite3.connect(home.journal)) as db:
        db.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    found = looked(palyra)["journal"]
    assert (found["health"], found["remedy"]) == ("fault", "use the newer program that wrote it")


def test_a_fault_in_a_policy_is_told_with_its_place(palyra: Palyra, home: Home) -> None:
    folder = configure(home, "")
    (folder / "policies" / "mine.cedar").write_text("permit (principal, action, resource)\n")
    found = looked(palyra)["policies"]
    assert found["health"] == "fault"
    assert "mine.cedar" in found["what"] + found["remedy"]


def test_the_model_that_would_answer_is_named_and_no_key_is_shown(
    palyra: Palyra, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert looked(palyra)["model"]["what"] == "offline/rules answers: nothing is configured"
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setenv("OPENAI_BASE_URL", CLOSED)
    monkeypatch.setenv("PALYRA_MODEL", "openai/some")
    result = palyra("doctor", "--json")
    assert "openai/some answers" in result.stdout
    assert KEY not in result.stdout


def test_a_reference_to_a_key_is_looked_up(palyra: Palyra, home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    configure(home, f'[model]\nname = "openai/some"\napi_key = "env:PROVIDER_KEY"\nbase_url = "{CLOSED}"\n')
    assert looked(palyra)["model"]["health"] == "fault"
    monkeypatch.setenv("PROVIDER_KEY", KEY)
    result = palyra("doctor")
    assert "ok       model          openai/some answers" in result.stdout
    assert KEY not in result.stdout


def test_a_vault_that_cannot_be_opened_is_a_warning(palyra: Palyra, home: Home) -> None:
    assert looked(palyra)["vault"]["what"].startswith("there is none")
    palyra("secrets", "set", "API", "--stdin", input="hunter2-hunter2")
    assert looked(palyra)["vault"]["what"] == "it can be opened"
    (key,) = (home.state_dir.parent / ".config" / "palyra-trio" / "keys").iterdir()
    key.unlink()
    found = looked(palyra)["vault"]
    assert found["health"] == "warning"
    assert found["what"].startswith("it is locked: ")
    (home.state_dir / "vault" / "vault.json").write_text("{}")
    assert looked(palyra)["vault"]["health"] == "fault"


def test_an_old_sqlite_is_a_fault() -> None:
    assert sqlite((3, 36, 0)).health == "fault"
    assert sqlite((3, 37, 0)).health == "ok"


@pytest.mark.skipif(os.geteuid() != 0, reason="of root")
def test_roots_sandbox_needs_a_user_and_one_that_there_is(palyra: Palyra, monkeypatch: pytest.MonkeyPatch) -> None:
    found = looked(palyra)["sandbox"]
    assert (found["health"], found["what"]) == ("warning", "no sandbox: no program can be run")
    assert "set sandbox.user" in found["remedy"]
    monkeypatch.setenv("PALYRA_SANDBOX__USER", "nobody-of-this-name")
    found = looked(palyra)["sandbox"]
    assert (found["health"], found["remedy"]) == ("fault", "useradd --system nobody-of-this-name")


def test_the_tier_in_force_is_told(palyra: Palyra, home: Home) -> None:
    configure(home, '[sandbox]\nuser = "nobody"\nbare = true\n')
    found = looked(palyra)["sandbox"]
    assert found["what"].startswith("sandbox tier ")
    assert (found["health"] == "ok") == found["what"].startswith("sandbox tier 4 isolated (")


def test_a_daemon_elsewhere_is_not_looked_at(palyra: Palyra) -> None:
    save(os.environ, "there", Profile("daemon.example", 7443, tls=True, token="hush"))
    result = palyra("--daemon", "there", "doctor")
    assert result.exit_code == 2
    assert "leave out --daemon" in result.stderr
