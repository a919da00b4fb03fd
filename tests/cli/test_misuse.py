"""What a person or a machine does wrong: places that cannot be used, journals that are none, disks that fill up."""

import os
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.processes import Shell, read_call

ANSWERED = {"text": "so be it"}
pytestmark = pytest.mark.slow
ORDINARY = "setpriv --bounding-set=-dac_override,-dac_read_search"  # file modes then hold for root too
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="mounts a file system, or gives up rights")


def told(done: "subprocess.CompletedProcess[str]", status: int, *words: str) -> None:
    """Check that an error was told in few words that name the place, and not as a fault of the program."""
    assert (done.returncode, done.stdout) == (status, ""), done.stderr
    assert "rror: " in done.stderr
    assert all(word in done.stderr for word in words), done.stderr
    assert "Traceback" not in done.stderr
    assert "fault of palyra-trio" not in done.stderr
    assert len(done.stderr) < 2000


def test_a_current_folder_that_was_deleted(shell: Shell) -> None:
    for command in ("run x", "tape last", "runs list", "config show", "trust --list"):
        done = shell.sh(f"mkdir gone && cd gone && rmdir ../gone && $P {command}")
        told(done, 1, "the current folder has been deleted")


def test_a_workspace_that_is_a_file(shell: Shell) -> None:
    (shell.folder / "a.txt").touch()
    told(shell.run("run", "--workspace", "a.txt", "x"), 3, "a.txt")


def test_a_workspace_that_is_deleted_under_way(shell: Shell) -> None:
    model = shell.script({"deltas": ["thinking", "."], "delta_pause_s": 0.5, **read_call("a.txt")}, ANSWERED)
    folder = shell.folder / "sub"
    folder.mkdir()
    with shell.terminal("run", "--workspace", str(folder), "--model", model, "go") as terminal:
        terminal.expect("thinking")
        folder.rmdir()
        terminal.expect("a.txt")
        assert terminal.ends() == 0
    shell.assert_verifies()


def test_a_state_directory_that_is_a_file(shell: Shell) -> None:
    shell.state_dir.write_text("")
    told(shell.run("run", "what time is it"), 1, str(shell.state_dir))


@pytest.mark.parametrize("command", ["run x", "tape last", "journal verify"])
def test_a_file_that_is_no_journal(shell: Shell, command: str) -> None:
    shell.state_dir.mkdir()
    shell.journal.write_bytes(b"not a database\n" * 100)
    told(shell.run(*command.split()), 1, str(shell.journal))
    assert shell.journal.read_bytes() == b"not a database\n" * 100


def test_a_journal_that_was_overwritten_in_the_middle(shell: Shell) -> None:
    assert shell.run("run", "what time is it").returncode == 0
    with open(shell.journal, "r+b") as file:
        file.seek(4096)
        file.write(b"\xa5" * (os.path.getsize(shell.journal) - 4096))
    for command in ("run x", "runs list", "tape last"):
        done = shell.run(*command.split())
        assert done.returncode == 1, command
        assert str(shell.journal) in done.stderr, done.stderr
        assert "fault of palyra-trio" not in done.stderr, done.stderr
    assert shell.run("journal", "verify").returncode == 1


def test_a_journal_of_a_newer_program(shell: Shell) -> None:
    assert shell.run("run", "what time is it").returncode == 0
    db = sqlite3.connect(shell.journal)
    db.execute("PRAGMA user_version = 999")
    db.close()
    told(shell.run("run", "what time is it"), 1, "schema version 999", "newer")


def test_a_journal_whose_rows_were_changed_is_found_out(shell: Shell) -> None:
    assert shell.run("run", "what time is it").returncode == 0
    db = sqlite3.connect(shell.journal)
    for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
        db.execute(f"DROP TRIGGER {name}")
    db.execute("UPDATE ev SET at_ms = at_ms - 1 WHERE g = 3")
    db.commit()
    db.close()
    done = shell.run("journal", "verify")
    assert done.returncode == 1
    assert "FAULT" in done.stdout


def test_a_user_configuration_that_is_damaged(shell: Shell) -> None:
    path = shell.configure("[limits]\nturns = 'many'\nno_such = 1\n[nowhere]\nx = 1\n")
    told(shell.run("run", "x"), 78, "limits.turns", "no_such", "nowhere", str(path))
    path.write_bytes(b"[limits\n")
    told(shell.run("run", "x"), 78, str(path))


def test_a_home_that_is_not_set(shell: Shell) -> None:
    done = shell.sh('unset HOME PALYRA_STATE_DIR; $P run "what time is it"')
    told(done, 78, "HOME")


# --- disks, and other users ---


@pytest.fixture
def tiny_disk(shell: Shell) -> Iterator[Path]:
    """A file system of two megabytes in place of the state directory."""
    shell.state_dir.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(shell.state_dir)], check=True)
    try:
        yield shell.state_dir
    finally:
        subprocess.run(["umount", "--lazy", str(shell.state_dir)], check=True)


@as_root
def test_a_disk_with_too_little_room_takes_no_run(shell: Shell, tiny_disk: Path) -> None:
    told(shell.run("run", "what time is it"), 75, "MiB are free", "journal.min_free_bytes")


@as_root
def test_a_disk_that_fills_up_stops_the_run_and_says_why(shell: Shell, tiny_disk: Path) -> None:
    model = shell.script({"repeat": {"text": "0123456789abcdef" * 64, "times": 10_000}})
    done = shell.run("run", "--model", model, "go", environ={"PALYRA_JOURNAL__MIN_FREE_BYTES": "0"})
    told(done, 1, "a commit failed", "check the disk")
    shell.assert_verifies()


@as_root
def test_a_disk_that_is_full_at_once(shell: Shell, tiny_disk: Path) -> None:
    descriptor = os.open(tiny_disk / "ballast", os.O_WRONLY | os.O_CREAT)
    with suppress(OSError):
        while os.write(descriptor, b"\0" * 4096):
            pass
    os.close(descriptor)
    done = shell.run("run", "what time is it", environ={"PALYRA_JOURNAL__MIN_FREE_BYTES": "0"})
    told(done, 1, "No space left on device")


@as_root
@pytest.mark.parametrize("place", ["state", "project"])
def test_a_place_that_may_not_be_used(shell: Shell, place: str) -> None:
    shell.state_dir.mkdir()
    barred = shell.root / place
    barred.chmod(0)
    done = shell.sh(
        f'cd {shell.home}; $WITHOUT $P run --workspace {shell.folder} "list the files here"',
        environ={"WITHOUT": ORDINARY},
    )
    told(done, 1 if place == "state" else 2, str(barred))


@as_root
def test_a_state_directory_that_is_read_only_is_verified_but_not_run_in(shell: Shell, tiny_disk: Path) -> None:
    assert shell.run("run", "what time is it", environ={"PALYRA_JOURNAL__MIN_FREE_BYTES": "0"}).returncode == 0
    subprocess.run(["mount", "-o", "remount,ro", str(tiny_disk)], check=True)
    shell.assert_verifies()
    told(shell.run("run", "what time is it"), 1, str(tiny_disk))
