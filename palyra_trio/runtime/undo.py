"""Taking back what a finished run did to files. The undoing is itself recorded, on the session's stream."""

import os
from collections.abc import Collection, Iterable, Sequence
from contextlib import suppress

import attrs
import trio

from palyra_trio.core.codec import TapeRow
from palyra_trio.core.commands import Applied
from palyra_trio.core.errors import NotFound, StateConflict
from palyra_trio.core.file_events import FilesChanged
from palyra_trio.core.identity import RequestContext
from palyra_trio.core.run import TERMINAL
from palyra_trio.core.session_events import RunUndone
from palyra_trio.core.tape import SESSION_STREAM, FileChange, TapeEvent, ToolStarted
from palyra_trio.core.text import text_to_name
from palyra_trio.journal.queries import Reader, RunSummary, Tapes, whole_tape
from palyra_trio.journal.store import entry
from palyra_trio.runtime.intake import permitted
from palyra_trio.runtime.runs import check_place
from palyra_trio.runtime.state import RuntimeState
from palyra_trio.tools.undo import undo


@attrs.frozen
class Changes:
    """What the calls of a run set out to do to files, in order, and what of it nobody knows.

    `uncaptured` says of each program whose changes were not captured why; `missed` what else its tape does not tell.
    """

    told: tuple[FileChange, ...]
    uncaptured: tuple[str, ...] = ()
    missed: tuple[str, ...] = ()

    def notes(self) -> tuple[str, ...]:
        """Return what a diff does not show, a line each."""
        uncaptured = (f"what {each}" for each in self.uncaptured)
        return (*uncaptured, *(f"not shown: {each}" for each in self.missed))

    def check_whole(self) -> None:
        """Raise StateConflict where it is known that the tape does not hold all."""
        if self.missed:
            raise StateConflict(
                f"the tape does not hold all that the run did to files: {'; '.join(self.missed)}; nothing was undone",
                remedy="undo by hand from the diff",
            )


def changes_of(reader: Tapes, run_id: str) -> Changes:
    """Return the file changes of a run."""
    return changes_in(whole_tape(reader, run_id))


def changes_in(rows: Iterable[TapeRow]) -> Changes:
    """Return the file changes on a run's tape."""
    return changes_told([event for row in rows if (event := row.event()) is not None])


def changes_told(events: Collection[TapeEvent]) -> Changes:
    """Return the file changes that these events of a run tell of, in order. Of a program that was killed there are none."""
    programs = [event for event in events if isinstance(event, FilesChanged)]
    discarded = {event.call_id for event in programs if event.discarded}
    told: list[FileChange] = []
    for event in events:
        if isinstance(event, ToolStarted) or (isinstance(event, FilesChanged) and event.call_id not in discarded):
            told += event.changes
    return Changes(
        tuple(told),
        tuple(
            f"call {event.call_id} did to files was not captured: {event.uncaptured}"
            for event in events
            if isinstance(event, ToolStarted) and event.uncaptured
        ),
        tuple(f"{event.missed} (call {event.call_id})" for event in programs if event.missed),
    )


async def undo_run(state: RuntimeState, run: RunSummary, context: RequestContext) -> Applied:
    """Take back the changes of `run`, newest first, and record that. Raises StateConflict when a file changed since.

    Nothing is touched unless all that is known of can be taken back. Raises WorkspaceRefused when the run's folder is none in
    which the caller may start one.
    """
    await state.look(lambda: permitted(state, os.fsdecode(text_to_name(run.workspace)), context))
    if run.state not in TERMINAL:
        raise StateConflict(f"run {run.run_id} is {run.state}", remedy="cancel it, or wait for its end")
    known = await state.readers.ask(lambda reader: changes_of(reader, run.run_id))
    known.check_whole()
    blobs = await state.readers.ask(lambda reader: _contents_before(reader, known.told))
    changes = [
        change if change.before is None or change.before in blobs else attrs.evolve(change, kept=False)
        for change in known.told
    ]
    with await state.enter(run.workspace) as workspace:
        if not context.local:
            check_place(workspace, run.workspace)
        made = tuple(await trio.to_thread.run_sync(undo, workspace, changes, blobs.__getitem__))
    await state.journal.append(
        (entry(SESSION_STREAM + run.session_id, RunUndone(run.run_id, context.principal, made)),)
    )
    return Applied()


def undone(reader: Reader, run: RunSummary) -> RunUndone | None:
    """Return that the file changes of a run were taken back, when they were."""
    events = (row.event() for row in reader.tape(SESSION_STREAM + run.session_id) if row.kind == RunUndone.kind)
    return next((each for each in events if isinstance(each, RunUndone) and each.run_id == run.run_id), None)


def _contents_before(reader: Reader, changes: Sequence[FileChange]) -> dict[str, bytes]:
    """Return what there was before these changes, as far as it was kept and not erased since."""
    blobs: dict[str, bytes] = {}
    for change in changes:
        if change.before and change.kept:
            with suppress(NotFound):
                blobs[change.before] = reader.blob(change.before)
    return blobs
