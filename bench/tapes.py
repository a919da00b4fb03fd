"""Finished tapes to follow: runs of one answer each that was streamed in so many pieces, written without a runtime."""

import os
from collections.abc import Sequence
from pathlib import Path

import attrs
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
    TapeEvent,
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
    events = [
        Input("", user_principal(os.getuid()), "", "", "hello", "0" * 64),
        StatusChange(RunState.QUEUED, RunState.RUNNING),
        *[ModelDelta(1, f"{number:06} {PIECE}") for number in range(rows - 3)],
        RunFinished(RunState.RUNNING, RunState.DONE, "answered"),
    ]
    return [run_id for _, run_id in trio.run(write_runs, state_dir, [events] * tapes)]


async def write_runs(state_dir: Path, runs: Sequence[Sequence[TapeEvent]]) -> list[tuple[str, str]]:
    """Write the events of runs into a new journal, each in a session of its own, and return the ids of both.

    The first event of each is its Input, and names no session.
    """
    ids = [(mint_ulid(0, os.urandom(10)), mint_ulid(number, os.urandom(10))) for number in range(len(runs))]
    async with open_journal(SqliteStore(state_dir), Feed(), QUEUE_BYTES) as journal:
        for (session_id, run_id), (begun, *others) in zip(ids, runs, strict=True):
            assert isinstance(begun, Input)
            opened = SessionOpened(session_id, begun.principal)
            await journal.append([entry(f"{SESSION_STREAM}{session_id}", opened)])
            events = [attrs.evolve(begun, session_id=session_id), *others]
            await journal.append([entry(run_stream(run_id), event) for event in events])
    return ids
