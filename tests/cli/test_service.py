"""Installing the service: the unit in its place, and systemd told, or what is to be told where it does not run."""

import os
from pathlib import Path

import pytest

from palyra_trio.cli import service
from tests.cli.conftest import Home, Palyra

UNIT = Path(".config/systemd/user/palyra-trio.service")


@pytest.fixture
def told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A systemd that writes down what it is told."""
    log, program = tmp_path / "told", tmp_path / "bin" / "systemctl"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\necho "$@" >> {log}\ncase "$*" in *"$FAIL"*) echo no bus >&2; exit 1;; esac\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    monkeypatch.setenv("FAIL", "nothing at all")
    monkeypatch.setattr(service, "_RUNS_HERE", tmp_path)
    return log


def test_a_service_of_ones_own_is_written_and_started_and_removed(palyra: Palyra, told: Path, tmp_path: Path) -> None:
    installed = palyra("service", "install", "--user")
    assert installed.exit_code == 0, installed.stderr
    unit = tmp_path / UNIT
    assert installed.stdout == f"wrote {unit}\n"
    assert '"-m" "palyra_trio" "serve"' in unit.read_text()
    removed = palyra("service", "uninstall", "--user")
    assert (removed.exit_code, unit.exists()) == (0, False)
    assert told.read_text().splitlines() == [
        "--user daemon-reload",
        "--user enable --now palyra-trio.service",
        "--user disable --now palyra-trio.service",
        "--user daemon-reload",
    ]
    assert palyra("service", "uninstall", "--user").exit_code == 1


def test_what_systemd_refuses_is_told(palyra: Palyra, told: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAIL", "enable")
    failed = palyra("service", "install", "--user")
    assert failed.exit_code == 78
    assert "enable --now palyra-trio.service failed: no bus" in failed.stderr


def test_where_systemd_does_not_run_it_says_what_to_run(palyra: Palyra, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "_RUNS_HERE", Path("/nowhere"))
    installed = palyra("service", "install", "--user", "--no-start")
    assert installed.exit_code == 0
    assert installed.stderr.splitlines() == [
        "systemd does not run here; where it does:",
        "  systemctl --user daemon-reload",
    ]


@pytest.mark.parametrize(
    ("arguments", "fault"),
    [
        (["--system"], "whom is the daemon to run as?"),
        (["--system", "--as", "no-such-user"], "no user 'no-such-user'"),
        (["--system", "--as", "root"], "as root the daemon would run no programs"),
        (["--user", "--as", "daemon"], "--as goes with --system"),
    ],
)
def test_whom_it_runs_as_is_said_and_is_not_root(palyra: Palyra, arguments: list[str], fault: str) -> None:
    refused = palyra("service", "install", *arguments)
    assert refused.exit_code == 2
    assert fault in refused.stderr


def test_the_unit_can_be_looked_at_without_writing_it(palyra: Palyra, home: Home) -> None:
    shown = palyra("service", "install", "--system", "--as", "daemon", "--print")
    assert shown.exit_code == 0
    assert "User=daemon" in shown.stdout
    assert "PALYRA_STATE_DIR=%S/palyra-trio" in shown.stdout
    assert not (home.folder.parent / UNIT).exists()
