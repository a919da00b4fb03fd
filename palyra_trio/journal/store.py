"""The store: a batch of tickets in, their rows out, in one transaction. Sync; one thread owns it.

`append_batch` is the whole write interface. Each ticket is judged inside the batch, in order: its guards, and the
state changes that its events imply, either hold or the ticket alone is rejected. Nothing is written in part.
"""

import errno
import fcntl
import os
import sqlite3
import stat
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

import attrs

from palyra_trio.core.chain import GENESIS, SALT_BYTES, body_digest, header, link
from palyra_trio.core.codec import TapeRow, encode
from palyra_trio.core.errors import ConfigInvalid, JournalInvalid, PalyraError, StateLocked
from palyra_trio.core.tape import TapeEvent
from palyra_trio.journal.approvals import GrantHolds
from palyra_trio.journal.guards import Guard, check
from palyra_trio.journal.projections import PROJECTIONS, translate_conflict

FILE_NAME = "journal.sqlite3"
LOCK_NAME = "lock"
SCHEMA_VERSION = 6
STREAMS_KEPT = 10_000  # more than are written to at a time; what is dropped is looked up again
CHECKPOINT_PAGES = 1000  # 4 MB of WAL: while it still grows, each commit costs half as much again (measured)

_INSERT = "INSERT INTO ev (g, stream, seq, kind, at_ms, salt, body, hash) VALUES (?, ?, ?, ?, ?, ?, ?, ?)"


@attrs.frozen
class Entry:
    """An event on its way to a stream, already encoded."""

    stream: str
    event: TapeEvent
    body: bytes


def entry(stream: str, event: TapeEvent) -> Entry:
    return Entry(stream, event, encode(event))


class Batchable(Protocol):
    """What the store needs to know of a ticket. `blobs` are stored once each, by the SHA-256 that names them."""

    entries: tuple[Entry, ...]
    guards: tuple[Guard, ...]
    blobs: tuple[tuple[str, bytes], ...]


Outcome = tuple[TapeRow, ...] | PalyraError


class Store(Protocol):
    """What the writer asks of a storage engine."""

    def append_batch(self, tickets: Sequence[Batchable], at_ms: int) -> list[Outcome]:
        """Commit the tickets durably, in order, and return each one's rows or the reason for its rejection.

        Raises whatever the engine raises when the commit itself fails; nothing of the batch is then durable for sure.
        """
        ...

    def close(self) -> None: ...

    def abandon(self) -> None: ...


def lock_state_dir(state_dir: Path) -> int:
    """Return a descriptor that holds the state directory's lock until it is closed, at the latest by this process's end.

    The file names the process. Raises StateLocked, naming the process that holds it, and ConfigInvalid for a link.
    """
    state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = _opened(state_dir / LOCK_NAME)
    if os.fstat(descriptor).st_nlink > 1:  # what it holds is cut, under its other names too
        os.close(descriptor)
        raise ConfigInvalid(
            f"{state_dir / LOCK_NAME} has another name too", remedy="look at who made that link, and remove it"
        )
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.pread(descriptor, 32, 0).decode(errors="replace").strip() or "unknown"
        os.close(descriptor)
        raise StateLocked(
            f"{state_dir} is in use by process {holder}", remedy="wait for it to end, or name another PALYRA_STATE_DIR"
        ) from None
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
    return descriptor


def _opened(path: Path) -> int:
    """Return a descriptor of a file of ours, made (mode 0600) if need be.

    Raises ConfigInvalid for what is no regular file: who planted a link would have us write where it leads.
    """
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o600)
    except OSError as error:
        if error.errno not in (errno.ELOOP, errno.EISDIR, errno.ENXIO):  # a link, a folder, a socket
            raise
        raise _no_file(path) from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise _no_file(path)
    return descriptor


def _no_file(path: Path) -> ConfigInvalid:
    return ConfigInvalid(f"{path} is no regular file", remedy="look at who put it there, and remove it")


def newer_schema(path: Path, version: int) -> JournalInvalid:
    return JournalInvalid(
        f"{path} has schema version {version}, and this program knows {SCHEMA_VERSION}",
        remedy="use the newer program that wrote it",
    )


class SqliteStore:
    """SQLite behind `Store`: WAL with synchronous=FULL on one connection, under an exclusive lock of the directory.

    Raises StateLocked, JournalInvalid for a journal of a newer version or a file that is none, and ConfigInvalid for a link
    in the place of a file.
    """

    def __init__(self, state_dir: Path, random: Callable[[int], bytes] = os.urandom) -> None:
        self._lock = lock_state_dir(state_dir)
        self._random = random
        try:
            self._open(state_dir / FILE_NAME)
        except BaseException:
            os.close(self._lock)
            raise

    def _open(self, path: Path) -> None:
        os.close(_opened(path))
        self._db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        try:
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.execute("PRAGMA synchronous = FULL")
            self._db.execute(f"PRAGMA wal_autocheckpoint = {CHECKPOINT_PAGES}")
            (version,) = self._db.execute("PRAGMA user_version").fetchone()
            if version > SCHEMA_VERSION:
                raise newer_schema(path, version)
            if version < SCHEMA_VERSION:
                from palyra_trio.journal.migrations import upgrade

                upgrade(self._db, path, version, SCHEMA_VERSION)
            self._mark("open")
            newest = self._db.execute("SELECT g, hash FROM ev ORDER BY g DESC LIMIT 1").fetchone()
        except sqlite3.DatabaseError as error:
            self._db.close()
            raise JournalInvalid(f"{path} cannot be opened: {error}") from error
        except BaseException:
            self._db.close()
            raise
        self._g: int
        self._head: bytes
        self._g, self._head = newest or (0, GENESIS)
        self._streams: dict[str, tuple[int, int]] = {}

    def _mark(self, state: str) -> None:
        """Note in the main file whether a writer has it open, so that a copy without its -wal can be told."""
        self._db.execute("INSERT OR REPLACE INTO meta (name, value) VALUES ('writer', ?)", (state,))
        self._marked = self._checkpoint()

    def _checkpoint(self) -> bool:
        """Bring the main file up to date, as far as readers let it; return whether it is."""
        _busy, pages, moved = self._db.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
        return bool(pages == moved)

    @property
    def head(self) -> tuple[int, bytes]:
        """The newest row's `g` and hash."""
        return self._g, self._head

    def append_batch(self, tickets: Sequence[Batchable], at_ms: int) -> list[Outcome]:
        db = self._db
        rows: list[tuple[Any, ...]] = []
        blobs: list[tuple[bytes, bytes]] = []
        outcomes: list[Outcome] = []
        if len(self._streams) > STREAMS_KEPT:
            self._streams.clear()
        salts = self._random(SALT_BYTES * sum(len(ticket.entries) for ticket in tickets))
        db.execute("BEGIN IMMEDIATE")
        try:
            for ticket in tickets:
                refusal = self._judge(ticket, at_ms)
                if refusal is not None:
                    outcomes.append(refusal)
                    continue
                outcomes.append(tuple([self._chain(each, at_ms, salts, rows) for each in ticket.entries]))
                if ticket.blobs:
                    blobs += [(bytes.fromhex(digest), body) for digest, body in ticket.blobs]
            db.executemany(_INSERT, rows)
            if blobs:
                db.executemany("INSERT OR IGNORE INTO blob (digest, body) VALUES (?, ?)", blobs)
            db.execute("COMMIT")
            if not self._marked:
                self._marked = self._checkpoint()
        except BaseException:
            if db.in_transaction:
                db.execute("ROLLBACK")
            raise
        return outcomes

    def _judge(self, ticket: Batchable, at_ms: int) -> PalyraError | None:
        """Evaluate a ticket's guards and apply what its events change; undo that and return the reason if one fails."""
        projected = [each for each in ticket.entries if each.event.kind in PROJECTIONS]
        if not projected and not any(isinstance(guard, GrantHolds) for guard in ticket.guards):
            return self._holds(ticket.guards, at_ms)
        self._db.execute("SAVEPOINT ticket")
        try:
            for guard in ticket.guards:
                check(self._db, guard, at_ms)
            for each in projected:
                PROJECTIONS[each.event.kind](self._db, each.stream, each.event, at_ms)
        except (PalyraError, sqlite3.IntegrityError) as error:
            self._db.execute("ROLLBACK TO ticket")
            self._db.execute("RELEASE ticket")
            return error if isinstance(error, PalyraError) else translate_conflict(error)
        self._db.execute("RELEASE ticket")
        return None

    def _holds(self, guards: tuple[Guard, ...], at_ms: int) -> PalyraError | None:
        try:
            for guard in guards:
                check(self._db, guard, at_ms)
        except PalyraError as error:
            return error
        return None

    def _chain(self, each: Entry, at_ms: int, salts: bytes, rows: list[tuple[Any, ...]]) -> TapeRow:
        """Give `each` its place and its hash; the next unused bytes of `salts` are its salt."""
        stream, body, kind = each.stream, each.body, each.event.kind
        stream_id, newest = self._streams.get(stream) or self._intern(stream)
        g, seq, at = self._g + 1, newest + 1, len(rows) * SALT_BYTES
        salt = salts[at : at + SALT_BYTES]
        own = link(self._head, header(g, stream, seq, kind, at_ms, body_digest(salt, body)))
        self._streams[stream] = (stream_id, seq)
        self._g, self._head = g, own
        rows.append((g, stream_id, seq, kind, at_ms, salt, body, own))
        return TapeRow(g, stream, seq, kind, at_ms, body, own)

    def _intern(self, name: str) -> tuple[int, int]:
        """Return a stream's number and its newest seq, making the stream if it is new."""
        found = self._db.execute("SELECT id FROM stream WHERE name = ?", (name,)).fetchone()
        if found is None:
            (stream_id,) = self._db.execute("INSERT INTO stream (name) VALUES (?) RETURNING id", (name,)).fetchone()
            return stream_id, 0
        (newest,) = self._db.execute("SELECT max(seq) FROM ev WHERE stream = ?", found).fetchone()
        return found[0], newest or 0

    def close(self) -> None:
        """Close the file and give up the lock. The journal then needs no -wal."""
        try:
            self._mark("closed")
        finally:
            self.abandon()

    def abandon(self) -> None:
        """Close after a failed commit: nothing more is written, the lock is given up."""
        self._db.close()
        os.close(self._lock)

    def __enter__(self) -> "SqliteStore":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
