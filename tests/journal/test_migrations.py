"""Named steps, each whole or not at all; a backup first; a newer schema is refused."""

import sqlite3
import stat
from contextlib import closing, nullcontext
from pathlib import Path

import pytest
from sqlite_utils import Database, Migrations

from palyra_trio.core.errors import JournalInvalid
from palyra_trio.journal import migrations
from palyra_trio.journal import store as store_module
from palyra_trio.journal.migrations import steps
from palyra_trio.journal.store import FILE_NAME, SCHEMA_VERSION, SqliteStore
from tests.journal.tickets import commit, delta, for_run, seqs, verified

NEWER = SCHEMA_VERSION + 1


def version(path: Path) -> int:
    with closing(sqlite3.connect(path)) as db:
        (found,) = db.execute("PRAGMA user_version").fetchone()
    return int(found)


def tables(path: Path) -> set[str]:
    with closing(sqlite3.connect(path)) as db:
        return {name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    """A journal of today's schema with three rows."""
    with SqliteStore(tmp_path) as store:
        commit(store, for_run(1, delta(), delta(), delta()))
    return tmp_path / FILE_NAME


def with_a_later_step(monkeypatch: pytest.MonkeyPatch, *, breaks: bool, after_another: bool = False) -> None:
    """Make this program know one step more, or two, the last of which may break half-way."""
    later = Migrations("journal")
    for step in steps._migrations:
        later()(step.fn)

    def m800_middle(db: Database) -> None:
        db.execute("CREATE TABLE middle (x INTEGER)")

    def m900_later(db: Database) -> None:
        db.execute("CREATE TABLE later (x INTEGER)")
        if breaks:
            raise sqlite3.OperationalError("disk I/O error")

    if after_another:
        later()(m800_middle)
    later()(m900_later)
    monkeypatch.setattr(migrations, "steps", later)
    monkeypatch.setattr(store_module, "SCHEMA_VERSION", NEWER + after_another)


def test_a_new_journal_gets_every_step_and_no_backup(tmp_path: Path) -> None:
    SqliteStore(tmp_path).close()
    assert version(tmp_path / FILE_NAME) == SCHEMA_VERSION
    assert not list(tmp_path.glob("*before*"))
    assert tables(tmp_path / FILE_NAME) >= {"stream", "ev", "blob", "erased", "run", "session", "agent"}


def test_the_version_is_the_number_of_steps() -> None:
    assert len(steps._migrations) == SCHEMA_VERSION


def test_a_journal_of_today_is_opened_as_it_is(journal: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(migrations, "upgrade", None)
    SqliteStore(journal.parent).close()
    assert not list(journal.parent.glob("*before*"))


def test_an_older_journal_is_copied_first_and_then_brought_forward(
    journal: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = verified(journal.parent)
    with_a_later_step(monkeypatch, breaks=False)
    with SqliteStore(journal.parent) as store:
        assert seqs(commit(store, for_run(1, delta()))[0]) == [4]
    assert version(journal) == NEWER
    assert "later" in tables(journal)
    backup = journal.with_name(f"{FILE_NAME}.before-v{NEWER}")
    assert stat.S_IMODE(backup.stat().st_mode) == 0o600
    assert version(backup) == SCHEMA_VERSION
    assert "later" not in tables(backup)
    elsewhere = journal.parent / "restored"
    elsewhere.mkdir()
    backup.rename(elsewhere / FILE_NAME)
    assert verified(elsewhere) == before


def test_a_step_that_breaks_leaves_the_journal_as_it_was(journal: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with_a_later_step(monkeypatch, breaks=True)
    for _ in range(2):
        with pytest.raises(JournalInvalid, match="disk I/O error"):
            SqliteStore(journal.parent)
        assert version(journal) == SCHEMA_VERSION
        assert "later" not in tables(journal)
    monkeypatch.undo()
    with SqliteStore(journal.parent) as store:
        assert seqs(commit(store, for_run(1, delta()))[0]) == [4]


def test_an_upgrade_that_broke_between_two_steps_keeps_the_copy_from_before_the_first(
    journal: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    backup = journal.with_name(f"{FILE_NAME}.before-v{NEWER + 1}")
    for breaks in (True, True, False):
        with monkeypatch.context() as patch:
            with_a_later_step(patch, breaks=breaks, after_another=True)
            with pytest.raises(JournalInvalid) if breaks else nullcontext():
                SqliteStore(journal.parent).close()
        assert "middle" in tables(journal)
        assert "middle" not in tables(backup)
    assert version(journal) == NEWER + 1
    assert version(backup) == SCHEMA_VERSION


def test_a_copy_that_was_not_completed_takes_no_place(journal: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with_a_later_step(monkeypatch, breaks=False)
    backup = journal.with_name(f"{FILE_NAME}.before-v{NEWER}")
    backup.write_bytes(b"an older copy")
    backup.with_name(f"{backup.name}.new").write_bytes(b"the beginning of a copy")

    def die(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch, pytest.raises(OSError, match="No space"):
        patch.setattr("os.replace", die)
        SqliteStore(journal.parent)
    assert backup.read_bytes() == b"an older copy"
    assert version(journal) == SCHEMA_VERSION
    SqliteStore(journal.parent).close()
    assert version(backup) == SCHEMA_VERSION
    assert version(journal) == NEWER
    assert len(list(journal.parent.glob("*before*"))) == 1


def test_an_upgrade_that_died_before_it_noted_the_version_is_taken_up_again(journal: Path) -> None:
    with closing(sqlite3.connect(journal)) as db:
        db.execute(f"PRAGMA user_version = {SCHEMA_VERSION - 1}")
    with SqliteStore(journal.parent) as store:
        assert seqs(commit(store, for_run(1, delta()))[0]) == [4]
    assert version(journal) == SCHEMA_VERSION
    assert verified(journal.parent).fault == ""


def test_a_newer_journal_is_refused_and_left_alone(journal: Path) -> None:
    with closing(sqlite3.connect(journal)) as db:
        db.execute(f"PRAGMA user_version = {NEWER}")
    before = journal.read_bytes()
    with pytest.raises(JournalInvalid, match=f"schema version {NEWER}, and this program knows {SCHEMA_VERSION}"):
        SqliteStore(journal.parent)
    assert journal.read_bytes() == before
