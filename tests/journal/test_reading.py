import shutil
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from palyra_trio.core.errors import JournalInvalid
from palyra_trio.journal.reading import open_reader
from palyra_trio.journal.store import FILE_NAME, SCHEMA_VERSION, SqliteStore
from tests.journal.tickets import commit, delta, for_run, tampering

WITHOUT_PRIVILEGES = """
import ctypes, sys
from pathlib import Path
from palyra_trio.core.errors import JournalInvalid
from palyra_trio.journal.reading import open_reader
version_3, no_capabilities = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()
assert ctypes.CDLL(None).capset(version_3, no_capabilities) == 0
try:
    Path(sys.argv[1]).with_name("probe").touch()
except PermissionError:
    try:
        reader = open_reader(Path(sys.argv[1]))
        print(len(list(reader.chain())))
    except JournalInvalid as error:
        print(error)
"""


def read_without_writing(path: Path) -> str:
    """Read a journal in a process that cannot write its folder, and return how many rows it found, or why none."""
    mode = path.parent.stat().st_mode
    path.parent.chmod(0o500)
    try:
        command = [sys.executable, "-c", WITHOUT_PRIVILEGES, str(path)]
        done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=Path(__file__).parents[2])
        return done.stdout.strip()
    finally:
        path.parent.chmod(mode)


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    """A closed journal of two rows."""
    with SqliteStore(tmp_path) as store:
        commit(store, for_run(1, delta("a"), delta("b")))
    return tmp_path / FILE_NAME


def test_a_journal_is_read_beside_its_writer_and_after_it(journal: Path) -> None:
    with SqliteStore(journal.parent) as store:
        commit(store, for_run(1, delta("c")))
        with closing(open_reader(journal)) as reader:
            assert len(list(reader.chain())) == 3
    with closing(open_reader(journal)) as reader:
        assert len(list(reader.chain())) == 3


def test_a_journal_of_a_newer_version_is_refused(journal: Path) -> None:
    with tampering(journal) as db:
        db.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    with pytest.raises(JournalInvalid, match=f"schema version {SCHEMA_VERSION + 1}, and this program knows") as refused:
        open_reader(journal)
    assert refused.value.remedy == "use the newer program that wrote it"


def test_no_journal_is_said_to_be_none(tmp_path: Path) -> None:
    with pytest.raises(JournalInvalid, match="does not exist"):
        open_reader(tmp_path / FILE_NAME)


def test_in_a_folder_that_cannot_be_written_a_closed_journal_is_read_as_it_lies_there(journal: Path) -> None:
    before = sorted(journal.parent.iterdir())
    assert read_without_writing(journal) == "2"
    assert sorted(journal.parent.iterdir()) == before


def test_in_such_a_folder_a_journal_that_was_not_closed_needs_a_copy(journal: Path, tmp_path: Path) -> None:
    left = tmp_path / "left"
    left.mkdir()
    with SqliteStore(journal.parent) as store:
        commit(store, for_run(1, delta("c")))
        for name in (FILE_NAME, f"{FILE_NAME}-wal"):
            shutil.copy(journal.with_name(name), left)
    said = read_without_writing(left / FILE_NAME)
    assert "the newest rows of the journal are still in journal.sqlite3-wal" in said
    assert "copy the folder to where you can write" in said
    with closing(open_reader(left / FILE_NAME)) as reader:
        assert len(list(reader.chain())) == 3
