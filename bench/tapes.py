"""Finished tapes to follow: runs of one answer each that was streamed in so many pieces, written without a runtime."""

import os
from pathlib import Path

import trio

from palyra_trio.core.identity import mint_ulid
from palyra_trio.core.run import RunState
from palyra_trio.core.session_events import SessionOpened
from palyra_trio.core.tape import (
    SESSION_STREAM,
    Input,
    ModelDelta,
    RunFinished,
    StatusChange,
    run_stream,
)
from palyra_trio.daemon import user_principal
from palyra_trio.journal.feed import Feed
from palyra_trio.journal.store import SqliteStore, entry
from palyra_trio.journal.writer import open_journal

QUEUE_BYTES = 64 * 1024 * 1024
PIECE = "Twelve words or so of an answer, with its spaces, commas"  # a body of about 100 bytes


def write_tapes(state_dir: Path, tapes: int, rows: int) -> list[str]:
    """Write `tapes` tapes of `rows` rows each into a new journal, this user's, and return the runs' ids."""
    return trio.run(_write, state_dir, tapes, rows)


async def _write(state_dir: Path, tapes: int, rows: int) -> list[str]:
    principal = user_principal(os.getuid())
    run_ids = [mint_ulid(number, os.urandom(10)) for number in range(tapes)]
    async with open_journal(SqliteStore(state_dir), Feed(), QUEUE_BYTES) as journal:
        for run_id in run_ids:
            stream = run_stream(run_id)
            session_id = mint_ulid(0, os.urandom(10))
            await journal.append([entry(f"{SESSION_STREAM}{session_id}", SessionOpened(session_id, principal))])
            events = [
                Input(session_id, principal, "", "", "hello", "0" * 64),
                StatusChange(RunState.QUEUED, RunState.RUNNING),
                *[ModelDelta(1, f"{number:06} {PIECE}") for number in range(rows - 3)],
                RunFinished(RunState.RUNNING, RunState.DONE, "answered"),
            ]
            await journal.append([entry(stream, event) for event in events])
    return run_ids
