"""What a process does about runs that another one left behind: it says so, and ends what nobody goes on with."""

import attrs

from palyra_trio.core.errors import AlreadyDecided, PalyraError, StateConflict
from palyra_trio.core.identity import RunId
from palyra_trio.core.run import RunState
from palyra_trio.core.tape import RunFinished, RunInterrupted, StatusChange, TapeEvent, run_stream
from palyra_trio.core.view import RunView, fold_rows, loose_ends
from palyra_trio.journal.queries import Reader, RunSummary, whole_tape
from palyra_trio.journal.store import entry
from palyra_trio.runtime.runs import INTERRUPTED, RunOrder
from palyra_trio.runtime.state import RuntimeState


@attrs.frozen
class Left:
    """A run that no task drives, and the outcomes that are due to its open calls should it end."""

    run: RunSummary
    loose_ends: tuple[TapeEvent, ...] = ()


def left(reader: Reader, run: RunSummary, reason: str) -> Left:
    """Return what a run leaves open that is to end for `reason`, by its tape; nothing where a part of that was erased."""
    view = fold_rows(RunView(), whole_tape(reader, run.run_id))
    return Left(run) if view.gaps else Left(run, tuple(loose_ends(view, reason)))


async def mark_interrupted(state: RuntimeState) -> int:
    """Park every run that was at work in an earlier process, as interrupted. Returns how many there were.

    One that waited for a person goes on waiting. One whose cancellation was acknowledged ends as CANCELLED: it is never
    taken up again.
    """

    def read(reader: Reader) -> list[tuple[RunSummary, tuple[TapeEvent, ...]]]:
        return [(run, _end_of(reader, state.boot_id, run)) for run in reader.left_live(state.boot_id)]

    found = [(run, events) for run, events in await state.readers.ask(read) if events]
    for run, events in found:
        await state.journal.append([entry(run_stream(run.run_id), event) for event in events])
    return len(found)


def _end_of(reader: Reader, boot_id: str, run: RunSummary) -> tuple[TapeEvent, ...]:
    waits = run.state is RunState.WAITING
    found = RunInterrupted(boot_id, f"process {run.boot_id} ended while it was {run.state}")
    if (request := reader.cancel_request(run.run_id)) is not None:
        end = RunFinished(run.state, RunState.CANCELLED, "cancelled", f"by {request.by}")
        return (found, *left(reader, run, "cancelled").loose_ends, end)
    return () if waits else (found, StatusChange(run.state, RunState.WAITING, INTERRUPTED, run.boot_id))


async def end_interrupted(state: RuntimeState, order: RunOrder) -> None:
    """End the run that holds up the session of `order`: one that was interrupted, and that the new one replaces."""
    if not order.past_runs:
        return
    blocking = await state.readers.ask(lambda reader: reader.live_run(order.session_id))
    if blocking is None or blocking.reason != INTERRUPTED:
        return
    await _fail(state, blocking, INTERRUPTED, f"it was interrupted, and run {order.run_id} took its place")


async def fail_left(state: RuntimeState, run_id: RunId, error: PalyraError) -> None:
    """End a run as FAILED that cannot be brought back."""
    run = await state.readers.ask(lambda reader: reader.run(run_id))
    if run is not None:
        await _fail(state, run, error.code, state.redactor.recordable(str(error)))


async def _fail(state: RuntimeState, run: RunSummary, reason: str, detail: str) -> None:
    end = RunFinished(run.state, RunState.FAILED, reason, detail)
    while True:
        found = await state.readers.ask(lambda reader: left(reader, run, reason))
        try:
            await state.journal.append([entry(run_stream(run.run_id), event) for event in (*found.loose_ends, end)])
        except AlreadyDecided:
            continue  # somebody decided after the tape was read
        except StateConflict:
            pass  # it was ended meanwhile
        return
