"""Verification of a journal file as it lies there: in a read-only folder, copied without its -wal, or in use.

The chain is re-derived by `core.chain.verify`, the blobs by their names. Nothing is repaired.
"""

import os
import shutil
import sqlite3
import tempfile
from contextlib import closing
from pathlib import Path

import attrs

from palyra_trio.core.chain import digest, verify
from palyra_trio.core.errors import JournalInvalid
from palyra_trio.journal.queries import Reader


@attrs.frozen
class Report:
    """What was found. `faults` is empty when all is well; `notes` say what a reader should know besides."""

    rows: int
    head: str
    erased: int
    blobs: int
    faults: tuple[str, ...]
    notes: tuple[str, ...]


def check_file(path: Path) -> Report:
    """Verify the journal at `path`. Raises JournalInvalid when it cannot be read as one."""
    if not path.is_file():
        raise JournalInvalid(f"{path} is no file", remedy="pass the path of a journal.sqlite3")
    wal = path.with_name(path.name + "-wal")
    if not wal.exists():
        return _missing_wal(path, wal)
    if os.access(path.parent, os.W_OK):
        return _check(path)
    with tempfile.TemporaryDirectory() as folder:  # SQLite cannot read a -wal without writing beside it
        copy = Path(folder, path.name)
        shutil.copyfile(path, copy)
        shutil.copyfile(wal, copy.with_name(wal.name))
        return _check(copy)


def _missing_wal(path: Path, wal: Path) -> Report:
    try:
        report = _check(path, immutable=True)
    except JournalInvalid as error:
        raise JournalInvalid(f"{error.message}, and {wal.name} is missing", remedy=f"copy {wal.name} along") from error
    with closing(Reader(path, immutable=True)) as reader:
        if reader.writer_mark() == "closed":
            return report
    note = (
        f"{wal.name} is missing: the journal was not closed by its writer, so the newest rows may lie in that file"
        " and not in this one"
    )
    return attrs.evolve(report, notes=(*report.notes, note))


def _check(path: Path, *, immutable: bool = False) -> Report:
    faults, count = [], 0
    with closing(Reader(path, immutable=immutable)) as reader:
        try:
            found = verify(reader.chain())
            for name, body in reader.blobs():
                count += 1
                if digest(body) != name:
                    faults.append(f"blob {name} is not what was written")
        except (sqlite3.Error, UnicodeDecodeError) as error:
            raise JournalInvalid(f"{path} is damaged: {error}") from error
    if found.fault:
        faults.insert(0, found.fault)
    return Report(found.rows, found.head.hex(), found.erased, count, tuple(faults), ())
