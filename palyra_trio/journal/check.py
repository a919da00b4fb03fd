"""Verification of a journal file as it lies there: in a read-only folder, copied without its -wal, or in use.

The chain is re-derived by `core.chain.verify`, the blobs by their names. Nothing is repaired.
"""

import os
import shutil
import sqlite3
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from pathlib import Path

import attrs

from palyra_trio.core.chain import ChainRow, digest, verify
from palyra_trio.core.errors import JournalInvalid
from palyra_trio.journal.queries import Reader

TOLD_ROWS = 500


@attrs.frozen
class Report:
    """What was found. `faults` is empty when all is well; `notes` say what a reader should know besides."""

    rows: int
    head: str
    erased: int
    blobs: int
    faults: tuple[str, ...]
    notes: tuple[str, ...]


def check_file(path: Path, tell: Callable[[int], None] = lambda _rows: None) -> Report:
    """Verify the journal at `path`. Raises JournalInvalid when it cannot be read as one.

    `tell` is told every TOLD_ROWS rows how many were looked at; what it raises ends the check.
    """
    if not path.is_file():
        raise JournalInvalid(f"{path} is no file", remedy="pass the path of a journal.sqlite3")
    wal = path.with_name(path.name + "-wal")
    if not wal.exists():
        return _missing_wal(path, wal, tell)
    if os.access(path.parent, os.W_OK):
        return _check(path, tell)
    with tempfile.TemporaryDirectory() as folder:  # SQLite cannot read a -wal without writing beside it
        copy = Path(folder, path.name)
        shutil.copyfile(path, copy)
        shutil.copyfile(wal, copy.with_name(wal.name))
        return _check(copy, tell)


def _missing_wal(path: Path, wal: Path, tell: Callable[[int], None]) -> Report:
    try:
        report = _check(path, tell, immutable=True)
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


def _check(path: Path, tell: Callable[[int], None], *, immutable: bool = False) -> Report:
    faults, count = [], 0
    with closing(Reader(path, immutable=immutable)) as reader:
        try:
            found = verify(_telling(reader.chain(), tell))
            for name, body in reader.blobs():
                count += 1
                if digest(body) != name:
                    faults.append(f"blob {name} is not what was written")
        except (sqlite3.Error, UnicodeDecodeError) as error:
            raise JournalInvalid(f"{path} is damaged: {error}") from error
    if found.fault:
        faults.insert(0, found.fault)
    return Report(found.rows, found.head.hex(), found.erased, count, tuple(faults), ())


def _telling(rows: Iterable[ChainRow], tell: Callable[[int], None]) -> Iterator[ChainRow]:
    for count, row in enumerate(rows, 1):
        if not count % TOLD_ROWS:
            tell(count)
        yield row
