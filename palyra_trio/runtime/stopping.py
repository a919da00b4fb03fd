"""Stopping everything: many runs and long jobs are ended side by side, wherever each of them is."""

from collections.abc import Awaitable, Callable, Iterable

import attrs
import trio

from palyra_trio.core.commands import CancelRun, StopJob
from palyra_trio.core.errors import PalyraError, StateConflict

Stop = CancelRun | StopJob


@attrs.frozen
class Stopped:
    """The ids of the runs that were cancelled and the jobs that were killed, and of what could not be, with the reason."""

    runs: tuple[str, ...] = ()
    jobs: tuple[str, ...] = ()
    failed: tuple[tuple[str, str], ...] = ()


async def stop_all(stops: Iterable[Stop], submit: Callable[[Stop], Awaitable[object]]) -> Stopped:
    """Carry these out, and return once the end of each is durable. What ended by itself meanwhile is not told.

    If cancelled, what was reached is being stopped.
    """
    runs, jobs, failed = list[str](), list[str](), list[tuple[str, str]]()

    async def stop(command: Stop) -> None:
        of_run = isinstance(command, CancelRun)
        name = command.run_id if isinstance(command, CancelRun) else command.job_id
        try:
            await submit(command)
        except StateConflict:
            return
        except PalyraError as error:
            failed.append((name, str(error)))
        else:
            (runs if of_run else jobs).append(name)

    async with trio.open_nursery() as nursery:
        for command in stops:
            nursery.start_soon(stop, command)
    return Stopped(tuple(sorted(runs)), tuple(sorted(jobs)), tuple(sorted(failed)))
