"""What a process does about runs that another one left behind: it says so, and never takes them up unasked."""

from palyra_trio.core.errors import StateConflict
from palyra_trio.core.run import RunState
from palyra_trio.core.tape import RunFinished, RunInterrupted, StatusChange, TapeEvent, run_stream
from palyra_trio.journal.store import entry
from palyra_trio.runtime.runs import INTERRUPTED, RunOrder
from palyra_trio.runtime.state import RuntimeState


async def mark_interrupted(state: RuntimeState) -> int:
    """Park every run that was live in an earlier process, as interrupted. Returns how many there were.

    One whose cancellation was acknowledged ends as CANCELLED instead: it is never taken up again.
    """
    left = await state.readers.ask(
        lambda reader: [(run, reader.cancel_request(run.run_id)) for run in reader.left_live(state.boot_id)]
    )
    for run, request in left:
        stream = run_stream(run.run_id)
        found = RunInterrupted(state.boot_id, f"process {run.boot_id} ended while it was {run.state}")
        then: TapeEvent = StatusChange(run.state, RunState.WAITING, INTERRUPTED, run.boot_id)
        if request is not None:
            then = RunFinished(run.state, RunState.CANCELLED, "cancelled", f"by {request.by}")
        await state.journal.append((entry(stream, found), entry(stream, then)))
    return len(left)


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
