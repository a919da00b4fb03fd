"""`palyra-trio pause`, `resume`, `stop` and `debug`: what an operator does to a daemon as a whole."""

import click
import trio

from palyra_trio.cli.door import ask_process, open_door, submit
from palyra_trio.cli.open import has_journal, principal, read_settings, reading
from palyra_trio.cli.tables import json_option, print_json, safe_for_stdout
from palyra_trio.core.commands import CancelRun, PauseAdmission, ResumeAdmission, StopJob
from palyra_trio.core.errors import InvalidArgument, NoDaemon, PeerError, StateConflict
from palyra_trio.core.run import OPEN, TERMINAL
from palyra_trio.journal.queries import LIST_ROWS
from palyra_trio.pb import operations_pb2
from palyra_trio.pb.operations_grpc import OperationsServiceStub
from palyra_trio.runtime.stopping import Stop, Stopped, stop_all


@click.command()
@click.option("--reason", default="", help="Why; it is recorded, and who starts a run is told.")
@json_option
def pause(reason: str, as_json: bool) -> None:
    """Take no new runs until `palyra-trio resume`, over restarts too. Runs that were accepted go on."""
    submit(PauseAdmission(reason))
    if as_json:
        print_json({"paused": True, "reason": reason})
    else:
        click.echo("paused: new runs are not taken; those that were accepted go on")
        click.echo("next: palyra-trio resume, or palyra-trio stop --all", err=True)


@click.command()
@json_option
def resume(as_json: bool) -> None:
    """Take new runs again."""
    submit(ResumeAdmission())
    if as_json:
        print_json({"paused": False})
    else:
        click.echo("resumed: new runs are taken")


@click.command()
@click.argument("runs", metavar="[RUN]...", nargs=-1)
@click.option("--all", "everything", is_flag=True, help="Every run and job of yours that has not ended.")
@click.option("--pause", "pausing", is_flag=True, help="Take no new runs first, until `palyra-trio resume`.")
@click.option("--reason", default="", help="Why; it is recorded on the tapes.")
@json_option
def stop(runs: tuple[str, ...], everything: bool, pausing: bool, reason: str, as_json: bool) -> None:
    """Cancel runs, and wait until each is cancelled: its model request dropped, its processes dead.

    RUN is an id, the unique beginning of one, or `last`. With --all, long jobs of sessions are killed too. Exit status 1
    when something could not be stopped.
    """
    if bool(runs) == everything:
        raise InvalidArgument("name the runs to stop, or --all", remedy="`palyra-trio runs list` shows them")
    named = _named(runs, reason)
    if pausing:
        submit(PauseAdmission(reason))
    stopped = _stop_everything(reason) if everything else trio.run(_stop, named)
    if as_json:
        not_stopped = [{"id": name, "error": error} for name, error in stopped.failed]
        told = {"runs": list(stopped.runs), "jobs": list(stopped.jobs), "not_stopped": not_stopped, "paused": pausing}
        print_json(told)
    else:
        for name in stopped.runs:
            click.echo(f"cancelled run {name}")
        for name in stopped.jobs:
            click.echo(f"killed job {name}")
        if not stopped.runs and not stopped.jobs:
            click.echo("nothing was running", err=True)
    if stopped.failed:
        why = "; ".join(f"{name}: {error}" for name, error in stopped.failed)
        raise PeerError(f"{len(stopped.failed)} could not be stopped: {why}")


def _stop_everything(reason: str) -> Stopped:
    """Stop a page of runs and jobs after the other, until none is left that can be."""
    whole, seen = Stopped(), set[Stop]()
    while stops := [each for each in _open(reason) if each not in seen]:
        seen.update(stops)
        done = trio.run(_stop, stops)
        whole = Stopped(whole.runs + done.runs, whole.jobs + done.jobs, whole.failed + done.failed)
    return whole


def _open(reason: str) -> list[Stop]:
    if not has_journal():
        return []
    with reading() as reader:
        runs = reader.runs(principal(), states=OPEN)
        jobs = reader.jobs.listed(principal(), ended=False, most=LIST_ROWS)
    return [*(CancelRun(run.run_id, reason) for run in runs), *(StopJob(job.job_id) for job in jobs)]


def _named(runs: tuple[str, ...], reason: str) -> list[Stop]:
    if not runs:
        return []
    with reading() as reader:
        found = [reader.find_run(run, principal()) for run in runs]
    for run in found:
        if run.state in TERMINAL:
            raise StateConflict(f"run {run.run_id} is {run.state} already")
    return [CancelRun(run.run_id, reason) for run in found]


async def _stop(stops: list[Stop]) -> Stopped:
    async with open_door(read_settings()) as (door, context):
        return await stop_all(stops, lambda command: door.submit(command, context))


@click.group()
def debug() -> None:
    """Look inside a running daemon."""


@debug.command()
@json_option
def tasks(as_json: bool) -> None:
    """Show the tree of the daemon's tasks, and where in the code each one waits."""
    answer = ask_process(OperationsServiceStub, "ListTasks", operations_pb2.ListTasksRequest())
    if answer is None:
        raise NoDaemon("no daemon runs here, so there are no tasks", remedy="`palyra-trio serve` starts one")
    if as_json:
        print_json({"tasks": list(answer.lines)})
        return
    for line in answer.lines:
        click.echo(safe_for_stdout(line))
