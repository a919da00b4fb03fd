"""Taking back what a finished run did to files. The undoing is itself recorded, on the session's stream."""

import os

import trio

from palyra_trio.core.commands import Applied
from palyra_trio.core.errors import StateConflict
from palyra_trio.core.identity import RequestContext
from palyra_trio.core.run import TERMINAL
from palyra_trio.core.session_events import RunUndone
from palyra_trio.core.tape import SESSION_STREAM, FileChange, ToolStarted
from palyra_trio.core.text import text_to_name
from palyra_trio.journal.queries import RunSummary, Tapes, whole_tape
from palyra_trio.journal.store import entry
from palyra_trio.runtime.intake import permitted
from palyra_trio.runtime.runs import check_place
from palyra_trio.runtime.state import RuntimeState
from palyra_trio.tools.undo import undo


def changes_of(reader: Tapes, run_id: str) -> tuple[FileChange, ...]:
    """Return the file changes that a run's calls set out to make, in order."""
    events = (row.event() for row in whole_tape(reader, run_id))
    return tuple(change for event in events if isinstance(event, ToolStarted) for change in event.changes)


async def undo_run(state: RuntimeState, run: RunSummary, context: RequestContext) -> Applied:
    """Take back the changes of `run`, newest first, and record that. Raises StateConflict when a file changed since.

    Nothing is touched unless everything can be taken back. Raises WorkspaceRefused when the run's folder is none in
    which the caller may start one.
    """
    await state.look(lambda: permitted(state, os.fsdecode(text_to_name(run.workspace)), context))
    if run.state not in TERMINAL:
        raise StateConflict(f"run {run.run_id} is {run.state}", remedy="cancel it, or wait for its end")
    changes = await state.readers.ask(lambda reader: changes_of(reader, run.run_id))
    blobs = await state.readers.ask(
        lambda reader: {name: reader.blob(name) for change in changes for name in (change.before, change.after) if name}
    )
    with await state.enter(run.workspace) as workspace:
        if not context.local:
            check_place(workspace, run.workspace)
        made = tuple(await trio.to_thread.run_sync(undo, workspace, changes, blobs.__getitem__))
    await state.journal.append(
        (entry(SESSION_STREAM + run.session_id, RunUndone(run.run_id, context.principal, made)),)
    )
    return Applied()
