"""What a process does about runs that another one left behind: it says so, and never takes them up unasked."""

from palyra_trio.core.errors import StateConflict
from palyra_trio.core.run import RunState
from palyra_trio.core.tape import RunFinished, RunInterrupted, StatusChange, run_stream
from palyra_trio.core.view import RunView, fold_rows
from palyra_trio.journal.queries import Reader, whole_tape
from palyra_trio.journal.store import entry
from palyra_trio.runtime.runs import INTERRUPTED, RunOrder
from palyra_trio.runtime.state import RuntimeState


async def mark_interrupted(state: RuntimeState) -> int:
    """Park every run that was live in an earlier process, as interrupted. Returns how many there were.

    One whose cancellation was acknowledged ends as CANCELLED instead: it is never taken up again.
    """
    left = await state.readers.ask(
        lambda reader: [(run, _cancelled_by(reader, run.run_id)) for run in reader.left_live(state.boot_id)]
    )
    for run, cancelled_by in left:
        stream = run_stream(run.run_id)
        found = RunInterrupted(state.boot_id, f"process {run.boot_id} ended while it was {run.state}")
        cancelled = RunFinished(run.state, RunState.CANCELLED, "cancelled", f"by {cancelled_by}")
        parked = StatusChange(run.state, RunState.WAITING, INTERRUPTED, run.boot_id)
        await state.journal.append((entry(stream, found), entry(stream, cancelled if cancelled_by else parked)))
    return len(left)


def _cancelled_by(reader: Reader, run_id: str) -> str:
    return fold_rows(RunView(), whole_tape(reader, run_id)).cancelled_by


async def end_interrupted(state: RuntimeState, order: RunOrder) -> None:
    """End the run that holds up the session of `order`: one that was interrupted, and that the new one replaces."""
    if not order.past_runs:
        return
    blocking = await state.readers.ask(lambda reader: reader.live_run(order.session_id))
    if blocking is None or blocking.reason != INTERRUPTED:
        return
    detail = f"it was interrupted, and run {order.run_id} took its place"
    end = RunFinished(RunState.WAITING, RunState.FAILED, INTERRUPTED, detail)
    try:
        await state.journal.append((entry(run_stream(blocking.run_id), end),))
    except StateConflict:
        return  # it was cancelled meanwhile
