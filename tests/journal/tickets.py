"""Tickets for real stores: sessions and runs by number, and what a test wants to know of the file behind."""

import sqlite3
from collections.abc import Generator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from palyra_trio.core.chain import Verification, digest, verify
from palyra_trio.core.codec import TapeRow
from palyra_trio.core.errors import PalyraError
from palyra_trio.core.run import RunState
from palyra_trio.core.session_events import SessionOpened
from palyra_trio.core.tape import (
    SESSION_STREAM,
    Input,
    ModelDelta,
    RunFinished,
    StatusChange,
    TapeEvent,
    run_stream,
)
from palyra_trio.journal.guards import Guard, RunIsNew
from palyra_trio.journal.queries import Reader
from palyra_trio.journal.store import FILE_NAME, Entry, Outcome, SqliteStore, entry
from palyra_trio.journal.writer import Ticket

ALICE, BOB = "user:alice", "user:bob"
START = StatusChange(RunState.QUEUED, RunState.RUNNING, boot_id="B1")
FINISH = RunFinished(RunState.RUNNING, RunState.DONE, "final_answer")


def run_id(number: int) -> str:
    return f"01RUN{number:021}"


def session_id(number: int) -> str:
    return f"01SESS{number:020}"


def ticket(
    stream: str, *events: TapeEvent, guards: tuple[Guard, ...] = (), blobs: Sequence[bytes] = (), **hooks: Any
) -> Ticket:
    """Return a ticket of events for one stream; `blobs` are named by their digests."""
    entries = tuple(entry(stream, event) for event in events)
    return Ticket(entries, guards, tuple((digest(body), body) for body in blobs), **hooks)


def for_run(number: int, *events: TapeEvent, **rest: Any) -> Ticket:
    return ticket(run_stream(run_id(number)), *events, **rest)


def delta(text: str = "x") -> ModelDelta:
    return ModelDelta(1, text)


def opened(number: int, principal: str = ALICE, key: str | None = None) -> Ticket:
    return ticket(SESSION_STREAM + session_id(number), SessionOpened(session_id(number), principal, key))


def asked(session: int = 1, principal: str = ALICE, text: str = "hello", payload: str = "00") -> Input:
    return Input(session_id(session), principal, "", "cli", text, payload)


def accepted(number: int, session: int = 1, principal: str = ALICE, text: str = "hello", payload: str = "00") -> Ticket:
    """Return the ticket that accepts a run, guarded as the runtime guards it."""
    guard = RunIsNew(run_id(number), payload, principal)
    return for_run(number, asked(session, principal, text, payload), guards=(guard,))


def entries(number: int, *events: TapeEvent) -> list[Entry]:
    return [entry(run_stream(run_id(number)), event) for event in events]


def commit(store: SqliteStore, *tickets: Ticket, at_ms: int = 1000) -> list[Outcome]:
    return store.append_batch(tickets, at_ms)


def rows_of(outcome: Outcome) -> tuple[TapeRow, ...]:
    """Return the rows of a ticket that must have been accepted."""
    assert not isinstance(outcome, PalyraError), outcome
    return outcome


def seqs(outcome: Outcome) -> list[int]:
    return [row.seq for row in rows_of(outcome)]


@contextmanager
def read(state_dir: Path) -> Generator[Reader, None, None]:
    with closing(Reader(state_dir / FILE_NAME)) as reader:
        yield reader


def verified(state_dir: Path) -> Verification:
    with read(state_dir) as reader:
        return verify(reader.chain())


@contextmanager
def tampering(path: Path) -> Generator[sqlite3.Connection, None, None]:
    """Open a journal for changes that the triggers forbid; the file is left closed, without a -wal."""
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("DROP TRIGGER IF EXISTS ev_no_update")
        db.execute("DROP TRIGGER IF EXISTS ev_no_delete")
        yield db
