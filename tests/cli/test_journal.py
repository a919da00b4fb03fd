import json
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

from palyra_trio.journal.store import SqliteStore
from tests.cli.conftest import STARTED, Home, Palyra


def change(file: Path) -> None:
    """Change what a row says, as somebody with an editor could."""
    with closing(sqlite3.connect(file, isolation_level=None)) as db:
        db.execute("DROP TRIGGER ev_no_update")
        db.execute("UPDATE ev SET at_ms = at_ms + 1 WHERE g = 2")


def test_a_journal_that_is_as_it_was_written_verifies(palyra: Palyra, home: Home) -> None:
    home.record_whole_run()
    result = palyra("journal", "verify")
    assert result.exit_code == 0
    assert result.stdout.endswith("every row is what was written\n")
    report = json.loads(palyra("journal", "verify", "--json").stdout)
    with SqliteStore(home.state_dir) as store:
        rows, head = store.head
    assert (report["ok"], report["rows"], report["head"], report["blobs"]) == (True, rows, head.hex(), 2)
    assert f"head    {head.hex()}\n" in result.stdout


def test_a_changed_row_is_a_fault_and_exit_status_1(palyra: Palyra, home: Home) -> None:
    home.record_run(*STARTED)
    change(home.journal)
    result = palyra("journal", "verify", str(home.journal))
    assert result.exit_code == 1
    assert "FAULT   row g=2" in result.stdout
    assert "every row" not in result.stdout
    result = palyra("journal", "verify", "--json")
    assert result.exit_code == 1
    assert json.loads(result.stdout)["ok"] is False


def test_a_copy_without_its_wal_is_noted(palyra: Palyra, home: Home) -> None:
    home.record_run()
    with SqliteStore(home.state_dir):
        shutil.copy(home.journal, home.folder / "copy.sqlite3")
    result = palyra("journal", "verify", "copy.sqlite3")
    assert result.exit_code == 0
    assert "copy.sqlite3-wal is missing" in result.stderr


def test_what_is_no_journal_is_refused(palyra: Palyra, home: Home) -> None:
    assert palyra("journal", "verify").exit_code == 1
    (home.folder / "no.sqlite3").write_bytes(b"no database at all, but some text of a certain length" * 10)
    result = palyra("journal", "verify", "no.sqlite3")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "cannot be read" in result.stderr
