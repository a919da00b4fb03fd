"""Verification of a file as it lies there: tampered with, copied without its -wal, in a folder that cannot be written."""

import os
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from palyra_trio.core.chain import digest
from palyra_trio.core.errors import JournalInvalid
from palyra_trio.journal.check import Report, check_file
from palyra_trio.journal.store import FILE_NAME, SqliteStore
from tests.journal.tickets import commit, delta, for_run, rows_of, tampering

WITHOUT_PRIVILEGES = """
import ctypes, sys
from pathlib import Path
from palyra_trio.journal.check import check_file
version_3, no_capabilities = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()
assert ctypes.CDLL(None).capset(version_3, no_capabilities) == 0
try:
    Path(sys.argv[1]).with_name("probe").touch()
except PermissionError:
    report = check_file(Path(sys.argv[1]))
    print(report.rows, report.head, report.faults, report.notes)
"""


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    """A closed journal of five rows on two tapes, and one blob."""
    with SqliteStore(tmp_path) as store:
        commit(store, for_run(1, delta("a"), delta("b"), blobs=[b"a large output"]), for_run(2, delta("c")))
        commit(store, for_run(1, delta("d"), delta("e")))
    return tmp_path / FILE_NAME


def changed(journal: Path, *statements: str) -> Report:
    with tampering(journal) as db:
        for statement in statements:
            db.execute(statement)
    return check_file(journal)


def test_an_intact_journal_is_said_to_be(journal: Path) -> None:
    with SqliteStore(journal.parent) as store:
        g, head = store.head
    assert check_file(journal) == Report(g, head.hex(), 0, 1, (), ())
    assert g == 5


def test_checking_leaves_nothing_beside_a_closed_journal(journal: Path) -> None:
    before = sorted(journal.parent.iterdir())
    check_file(journal)
    assert sorted(journal.parent.iterdir()) == before


def test_a_journal_in_use_is_checked_with_its_newest_rows(journal: Path) -> None:
    with SqliteStore(journal.parent) as store:
        (outcome,) = commit(store, for_run(2, delta("f")))
        report = check_file(journal)
    assert (report.rows, report.head) == (6, rows_of(outcome)[0].hash.hex())
    assert report.faults == report.notes == ()


def test_an_empty_journal_is_intact(tmp_path: Path) -> None:
    SqliteStore(tmp_path).close()
    report = check_file(tmp_path / FILE_NAME)
    assert (report.rows, report.faults, report.notes) == (0, (), ())


# --- tampering ---


@pytest.mark.parametrize("g", [1, 3, 5])
@pytest.mark.parametrize(
    "change",
    [
        "body = CAST(body || ' ' AS BLOB)",
        "body = x'7b7d'",
        "salt = zeroblob(16)",
        "salt = NULL, body = NULL",
        "salt = NULL",
        "kind = kind + 1",
        "at_ms = at_ms + 1",
        "hash = zeroblob(32)",
        "seq = seq + 10",
        "stream = 3 - stream",
        "stream = 99",
        "g = g + 100",
    ],
)
def test_a_changed_row_is_found_and_named(journal: Path, g: int, change: str) -> None:
    report = changed(journal, "DROP INDEX ev_stream_seq", f"UPDATE ev SET {change} WHERE g = {g}")
    (fault,) = report.faults
    assert f"g={g}" in fault
    assert report.rows == g - 1


@pytest.mark.parametrize(
    ("statements", "found"),
    [
        (("DELETE FROM ev WHERE g = 2",), "row g=2 is missing"),
        (("DELETE FROM ev WHERE g = 1",), "row g=1 is missing"),
        (("UPDATE stream SET name = 'run:OTHER' WHERE id = 1",), "row g=1"),
        (("DELETE FROM stream WHERE id = 1",), "row g=1"),
        (("INSERT INTO erased VALUES (4, zeroblob(32))",), "row g=4"),
        (
            ("INSERT INTO ev SELECT 6, stream, seq + 1, kind, at_ms, salt, body, hash FROM ev WHERE g = 5",),
            "row g=6",
        ),
        (
            (
                "INSERT INTO erased VALUES (5, zeroblob(32))",
                "UPDATE ev SET salt = NULL, body = NULL WHERE g = 5",
            ),
            "row g=5",
        ),
    ],
)
def test_what_was_removed_added_or_falsely_erased_is_found(
    journal: Path, statements: tuple[str, ...], found: str
) -> None:
    (fault,) = changed(journal, *statements).faults
    assert found in fault


def test_a_changed_blob_is_found_and_an_erased_one_is_not_a_fault(journal: Path) -> None:
    report = changed(journal, "UPDATE blob SET body = x'00'")
    assert report.faults == (f"blob {digest(b'a large output')} is not what was written",)
    assert report.rows == 5
    with closing(sqlite3.connect(journal, isolation_level=None)) as db:
        db.execute("DELETE FROM blob")
    assert (check_file(journal).faults, check_file(journal).blobs) == ((), 0)


def test_a_fault_in_the_chain_does_not_hide_one_in_a_blob(journal: Path) -> None:
    report = changed(journal, "UPDATE blob SET body = x'00'", "UPDATE ev SET kind = 4 WHERE g = 1")
    assert [fault.split()[0] for fault in report.faults] == ["row", "blob"]


# --- files that are no journal, or not a whole one ---


def test_a_file_that_is_no_journal_is_refused_in_words(tmp_path: Path) -> None:
    with pytest.raises(JournalInvalid, match="is no file"):
        check_file(tmp_path / "none")
    with pytest.raises(JournalInvalid, match="is no file"):
        check_file(tmp_path)
    other = tmp_path / FILE_NAME
    other.write_bytes(b"plain text" * 1000)
    with pytest.raises(JournalInvalid, match="file is not a database"):
        check_file(other)


def test_a_damaged_file_is_refused_in_words(tmp_path: Path) -> None:
    with SqliteStore(tmp_path) as store:
        commit(store, *(for_run(1, delta("x" * 3000)) for _ in range(200)))
    path = tmp_path / FILE_NAME
    data = bytearray(path.read_bytes())
    data[len(data) // 2 :] = b"\xff" * (len(data) - len(data) // 2)
    path.write_bytes(data)
    with pytest.raises(JournalInvalid, match=r"is damaged: .*malformed"):
        check_file(path)


def test_a_copy_without_its_wal_is_not_called_whole(journal: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy" / FILE_NAME
    copy.parent.mkdir()
    with SqliteStore(journal.parent) as store:
        commit(store, for_run(2, delta("only in the wal")))
        shutil.copyfile(journal, copy)
        report = check_file(copy)
    assert (report.rows, report.faults) == (5, ())
    (note,) = report.notes
    assert note.startswith(f"{FILE_NAME}-wal is missing")


def test_a_copy_of_a_first_run_without_its_wal_is_not_called_empty(tmp_path: Path) -> None:
    copy = tmp_path / "copy" / FILE_NAME
    copy.parent.mkdir()
    with SqliteStore(tmp_path) as store:
        commit(store, for_run(1, delta("only in the wal")))
        shutil.copyfile(tmp_path / FILE_NAME, copy)
    report = check_file(copy)
    assert report.rows == 0
    assert "is missing" in report.notes[0]


def test_a_copy_with_its_wal_is_whole(journal: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy" / FILE_NAME
    copy.parent.mkdir()
    with SqliteStore(journal.parent) as store:
        commit(store, for_run(2, delta("only in the wal")))
        for name in (FILE_NAME, f"{FILE_NAME}-wal"):
            shutil.copyfile(journal.with_name(name), copy.with_name(name))
    report = check_file(copy)
    assert (report.rows, report.faults, report.notes) == (6, (), ())


# --- a folder that cannot be written ---


def checked_without_privileges(path: Path) -> str:
    """Return what a process finds that may not write in the folder: root's privileges are dropped first."""
    path.parent.chmod(0o500)
    try:
        run = subprocess.run(
            [sys.executable, "-c", WITHOUT_PRIVILEGES, path], capture_output=True, text=True, check=False
        )
    finally:
        path.parent.chmod(0o700)
    assert run.returncode == 0, run.stderr
    return run.stdout


def test_a_closed_journal_is_read_where_nothing_can_be_written(journal: Path) -> None:
    report = check_file(journal)
    assert checked_without_privileges(journal) == f"5 {report.head} () ()\n"


def test_a_journal_and_its_wal_are_read_where_nothing_can_be_written(journal: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy" / FILE_NAME
    copy.parent.mkdir()
    with SqliteStore(journal.parent) as store:
        commit(store, for_run(2, delta("only in the wal")))
        for name in (FILE_NAME, f"{FILE_NAME}-wal"):
            shutil.copyfile(journal.with_name(name), copy.with_name(name))
        head = store.head[1].hex()
    assert checked_without_privileges(copy) == f"6 {head} () ()\n"
    assert {path.name for path in copy.parent.iterdir()} == {FILE_NAME, f"{FILE_NAME}-wal"}


def test_a_journal_in_a_read_only_folder_is_copied_with_its_wal(journal: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Path] = []

    def read_only(folder: Path, _mode: int) -> bool:
        asked.append(folder)
        return False

    monkeypatch.setattr(os, "access", read_only)
    with SqliteStore(journal.parent) as store:
        commit(store, for_run(2, delta("f")))
        report = check_file(journal)
    assert (report.rows, report.faults, report.notes) == (6, (), ())
    assert asked[0] == journal.parent
