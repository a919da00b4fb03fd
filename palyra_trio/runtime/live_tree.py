"""What of a run is under way now, from the run down to its processes, and the jobs of its session beside it."""

import attrs

from palyra_trio.core.jobs import SessionJob
from palyra_trio.core.run import RunState
from palyra_trio.guard.redactor import Redactor
from palyra_trio.journal.queries import RunSummary
from palyra_trio.runtime.runs import Run
from palyra_trio.runtime.state import RuntimeState
from palyra_trio.tools import processes
from palyra_trio.tools.processes import Process


@attrs.frozen
class CallProcesses:
    """A call of the newest turn that has no outcome yet, and the processes of its program."""

    call_id: str
    tool: str
    state: str
    processes: tuple[Process, ...] = ()


@attrs.frozen
class JobProcesses:
    """A job that runs, and its processes."""

    job: SessionJob
    processes: tuple[Process, ...] = ()


@attrs.frozen
class LiveTree:
    """A run now. `turn` is 0 where it is not at work in this process; then there are no calls."""

    run: RunSummary
    turn: int
    calls: tuple[CallProcesses, ...]
    jobs: tuple[JobProcesses, ...]


async def live_tree(state: RuntimeState, run: RunSummary, live: Run | None) -> LiveTree:
    """Look at a run, `live` where this process is at work on it, and at the jobs of its session."""
    jobs = await state.readers.ask(
        lambda reader: reader.jobs.listed(run.principal, session_id=run.session_id, ended=False)
    )
    calls: tuple[CallProcesses, ...] = ()
    marks: dict[str, str] = {}
    if live is not None:
        marks = dict(live.marks)
        views = {call_id: live.view.calls[call_id] for call_id in live.view.unsettled()}
        calls = tuple(CallProcesses(name, view.call.tool, view.state) for name, view in views.items())

    def look() -> LiveTree:
        def of_job(mark: str) -> tuple[Process, ...]:
            return tuple(_redacted(each, state.redactor) for each in processes.of_job(mark))

        return LiveTree(
            run if live is None else attrs.evolve(run, state=RunState(live.view.state)),
            0 if live is None else live.view.turn,
            tuple(
                attrs.evolve(each, processes=of_job(marks[each.call_id])) if each.call_id in marks else each
                for each in calls
            ),
            tuple(JobProcesses(each, of_job(each.started.mark)) for each in reversed(jobs)),
        )

    return await state.look(look)


def _redacted(process: Process, redactor: Redactor) -> Process:
    return attrs.evolve(process, argv=tuple(redactor.recordable(word) for word in process.argv))
