"""Opening a journal that somebody wants to read, wherever it lies and whoever wrote it. What is read is `queries`' business."""

import os
import sqlite3
from pathlib import Path

from palyra_trio.core.errors import JournalInvalid
from palyra_trio.journal.queries import Reader
from palyra_trio.journal.store import SCHEMA_VERSION, newer_schema

SQLITE = sqlite3.sqlite_version_info
SQLITE_NEEDED = (3, 37, 0)  # the first with STRICT tables


def open_reader(path: Path) -> Reader:
    """Return a reader of the journal at `path`; one in a folder that cannot be written is read as it lies there.

    Raises JournalInvalid when there is none that can be read, and for a journal of a newer version.
    """
    reader = _opened(path)
    version = reader.schema_version()
    if version > SCHEMA_VERSION:
        reader.close()
        raise newer_schema(path, version)
    return reader


def _opened(path: Path) -> Reader:
    try:
        return Reader(path)
    except JournalInvalid as error:  # SQLite makes files beside a journal to read it, unless it cannot change
        if not path.exists() or os.access(path.parent, os.W_OK):
            raise
        wal = path.with_name(f"{path.name}-wal")
        if wal.exists() and wal.stat().st_size:
            raise JournalInvalid(
                f"{path.parent} cannot be written, and the newest rows of the journal are still in {wal.name}",
                remedy="copy the folder to where you can write, and name the copy in PALYRA_STATE_DIR",
            ) from error
        return Reader(path, immutable=True)
