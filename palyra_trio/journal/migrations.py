"""The schema, step by step. Each step and its record are one transaction; a step that was released never changes.

The store loads this module only when steps are pending.
"""

import os
import sqlite3
from contextlib import closing
from pathlib import Path

from sqlite_utils import Database, Migrations

steps = Migrations("journal")


@steps()
def m001_tape(db: Database) -> None:
    """The tape itself (docs/tape.md): rows that cannot be changed, only lose their body and salt together."""
    _run(
        db,
        "CREATE TABLE stream (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE) STRICT",
        """CREATE TABLE ev (
            g INTEGER PRIMARY KEY, stream INTEGER NOT NULL, seq INTEGER NOT NULL, kind INTEGER NOT NULL,
            at_ms INTEGER NOT NULL, salt BLOB, body BLOB, hash BLOB NOT NULL) STRICT""",
        "CREATE UNIQUE INDEX ev_stream_seq ON ev (stream, seq)",
        "CREATE TABLE blob (digest BLOB PRIMARY KEY, body BLOB NOT NULL) STRICT",
        "CREATE TABLE erased (g INTEGER PRIMARY KEY, body_digest BLOB NOT NULL) STRICT",
        "CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT",
        "CREATE TRIGGER ev_no_delete BEFORE DELETE ON ev BEGIN SELECT RAISE(ABORT, 'the tape is append-only'); END",
        """CREATE TRIGGER ev_no_update BEFORE UPDATE ON ev
            WHEN NEW.body IS NOT NULL OR NEW.salt IS NOT NULL OR NEW.g IS NOT OLD.g OR NEW.stream IS NOT OLD.stream
              OR NEW.seq IS NOT OLD.seq OR NEW.kind IS NOT OLD.kind OR NEW.at_ms IS NOT OLD.at_ms
              OR NEW.hash IS NOT OLD.hash
              OR NOT EXISTS (SELECT 1 FROM erased WHERE erased.g = OLD.g)
            BEGIN SELECT RAISE(ABORT, 'the tape is append-only'); END""",
    )


@steps()
def m002_projections(db: Database) -> None:
    """What the tape says of runs, sessions and agents, kept at hand. All of it can be rebuilt from the tape."""
    _run(
        db,
        """CREATE TABLE session (
            session_id TEXT PRIMARY KEY, principal TEXT NOT NULL, key TEXT, title TEXT NOT NULL,
            created_ms INTEGER NOT NULL, archived_ms INTEGER) STRICT""",
        "CREATE UNIQUE INDEX session_key ON session (principal, key) WHERE key IS NOT NULL",
        """CREATE TABLE run (
            run_id TEXT PRIMARY KEY, session_id TEXT NOT NULL, principal TEXT NOT NULL, agent TEXT NOT NULL,
            workspace TEXT NOT NULL, title TEXT NOT NULL, state TEXT NOT NULL, reason TEXT NOT NULL,
            payload_digest TEXT NOT NULL, boot_id TEXT NOT NULL,
            created_ms INTEGER NOT NULL, updated_ms INTEGER NOT NULL) STRICT""",
        "CREATE UNIQUE INDEX run_one_live ON run (session_id) WHERE state IN ('running', 'waiting')",
        "CREATE INDEX run_of_session ON run (session_id, run_id)",
        "CREATE INDEX run_of_principal ON run (principal, run_id)",
        "CREATE TABLE agent (name TEXT PRIMARY KEY, spec BLOB NOT NULL, is_default INTEGER NOT NULL) STRICT",
    )


@steps()
def m003_tokens(db: Database) -> None:
    """What the tape says of bearer tokens. `scopes` are separated by spaces."""
    _run(
        db,
        """CREATE TABLE token (
            token_id TEXT PRIMARY KEY, name TEXT NOT NULL, principal TEXT NOT NULL, scopes TEXT NOT NULL,
            hash TEXT NOT NULL UNIQUE, expires_ms INTEGER NOT NULL, created_ms INTEGER NOT NULL,
            created_by TEXT NOT NULL, revoked_ms INTEGER) STRICT""",
    )


@steps()
def m004_bindings(db: Database) -> None:
    """Which agent answers for a session, a channel or a principal."""
    _run(
        db,
        """CREATE TABLE binding (
            target TEXT NOT NULL, name TEXT NOT NULL, agent TEXT NOT NULL, PRIMARY KEY (target, name)) STRICT""",
    )


@steps()
def m005_approvals(db: Database) -> None:
    """What the tape says of approvals and grants. A grant has the id of the approval that it came from."""
    _run(
        db,
        """CREATE TABLE approval (
            approval_id TEXT PRIMARY KEY, run_id TEXT NOT NULL, call_id TEXT NOT NULL, session_id TEXT NOT NULL,
            principal TEXT NOT NULL, workspace TEXT NOT NULL, tool TEXT NOT NULL, question INTEGER NOT NULL,
            pattern_tool TEXT NOT NULL, pattern_resource TEXT NOT NULL, state TEXT NOT NULL,
            requested_ms INTEGER NOT NULL, expires_ms INTEGER NOT NULL, decided_ms INTEGER NOT NULL DEFAULT 0,
            decided_by TEXT NOT NULL DEFAULT '', reason TEXT NOT NULL DEFAULT '') STRICT""",
        "CREATE INDEX approval_of_run ON approval (run_id)",
        "CREATE INDEX approval_of_principal ON approval (principal, approval_id)",
        "CREATE INDEX approval_pending ON approval (expires_ms) WHERE state = 'pending'",
        """CREATE TABLE granted (
            grant_id TEXT PRIMARY KEY, principal TEXT NOT NULL, session_id TEXT NOT NULL, workspace TEXT NOT NULL,
            tool TEXT NOT NULL, resource TEXT NOT NULL, scope TEXT NOT NULL, until_ms INTEGER NOT NULL,
            made_ms INTEGER NOT NULL, made_by TEXT NOT NULL, used_ms INTEGER, ended_ms INTEGER) STRICT""",
        "CREATE INDEX granted_standing ON granted (principal, workspace) WHERE ended_ms IS NULL AND scope <> 'once'",
        "CREATE INDEX run_waiting ON run (reason) WHERE state = 'waiting'",
    )


@steps()
def m006_jobs(db: Database) -> None:
    """What the tape says of the long jobs of sessions. `started` and `ended` are the bodies of their events."""
    _run(
        db,
        """CREATE TABLE job (
            job_id TEXT PRIMARY KEY, session_id TEXT NOT NULL, principal TEXT NOT NULL, started_ms INTEGER NOT NULL,
            started BLOB NOT NULL, ended_ms INTEGER, ended BLOB) STRICT, WITHOUT ROWID""",
        "CREATE INDEX job_of_principal ON job (principal, job_id)",
    )


def _run(db: Database, *statements: str) -> None:
    for statement in statements:
        db.execute(statement)


def upgrade(connection: sqlite3.Connection, path: Path, version: int, newest: int) -> None:
    """Bring the schema from `version` to `newest`, the count of the steps above.

    A journal that holds something is first copied to `<name>.before-v<newest>` beside it, as a whole or not at all.
    One that an upgrade left half-way is not: the copy that was made before its first step is the one to keep.
    """
    db = Database(connection)
    if version > 0 and len(steps.applied(db)) == version:
        _copy(connection, path.with_name(f"{path.name}.before-v{newest}"))
    steps.apply(db)
    connection.execute(f"PRAGMA user_version = {newest}")


def _copy(connection: sqlite3.Connection, path: Path) -> None:
    """Copy the journal to `path` (mode 0600), in the place of what is there once the copy is complete and on the disk."""
    new = path.with_name(f"{path.name}.new")
    new.unlink(missing_ok=True)
    os.close(os.open(new, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    with closing(sqlite3.connect(new)) as backup:
        connection.backup(backup)
    os.replace(new, path)
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
