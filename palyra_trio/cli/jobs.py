"""`palyra-trio jobs`: the long jobs that tools started in your sessions: which there are, what they write, and their end."""

import codecs
import sys
import time
from collections.abc import Callable

import click
import trio

from palyra_trio.cli.door import open_remote_door, submit
from palyra_trio.cli.open import has_journal, is_held, principal, reading, state_dir
from palyra_trio.cli.profiles import chosen
from palyra_trio.cli.tables import json_option, print_json, print_newest
from palyra_trio.core.commands import StopJob
from palyra_trio.core.errors import NoDaemon
from palyra_trio.core.jobs import Piece, SessionJob, state_of
from palyra_trio.core.text import visible
from palyra_trio.core.words import age, ahead, one_line, size
from palyra_trio.journal.queries import LIST_ROWS, Reader
from palyra_trio.pb import jobs_pb2 as pb
from palyra_trio.pb.jobs_grpc import JobsServiceStub

PIECE_BYTES = 1024 * 1024


@click.group()
def jobs() -> None:
    """List, show, follow and stop long jobs, such as a server that an agent started.

    A job belongs to a session, and outlives the run that started it. JOB is an id, the unique beginning of one, or `last`.
    """


@jobs.command("list")
@click.option("--session", metavar="SESSION", help="Only the jobs of this session.")
@click.option("--all", "everything", is_flag=True, help="Also those that are over.")
@json_option
def list_jobs(session: str | None, everything: bool, as_json: bool) -> None:
    """List your jobs, newest first."""
    found: tuple[SessionJob, ...] = ()
    if has_journal():
        with reading() as reader:
            session_id = reader.find_session(session, principal()).session_id if session is not None else ""
            found = reader.jobs.listed(principal(), session_id=session_id, ended=everything, most=LIST_ROWS)
    held = is_held(state_dir())
    if as_json:
        print_json({"jobs": [plain(each, held) for each in found]})
        return
    nothing = "no jobs yet" if everything else "no job runs"
    print_newest(("JOB", "AGE", "STATE", "SESSION", "COMMAND"), job_rows(found, held), LIST_ROWS, nothing)


@jobs.command()
@click.argument("job")
@json_option
def show(job: str, as_json: bool) -> None:
    """Show a job: what runs, for whom, until when, or how it ended."""
    with reading() as reader:
        found = reader.jobs.find(job, principal())
    held = is_held(state_dir())
    if as_json:
        print_json(plain(found, held))
        return
    started, now_ms = found.started, _now_ms()
    click.echo(f"job      {found.job_id}")
    click.echo(f"session  {found.session_id}, started by call {one_line(started.call_id)} of run {started.run_id}")
    click.echo(
        f"program  {one_line(started.program)}{f' (opaque: {one_line(started.opaque)})' if started.opaque else ''}"
    )
    for number, word in enumerate(started.argv):
        click.echo(f"argv[{number}]  {one_line(word)}")
    click.echo(f"in       {one_line(started.cwd)}, in sandbox tier {started.sandbox_tier}")
    click.echo(f"started  {age(found.started_ms, now_ms)} ago")
    click.echo(f"state    {one_line(_state(found, held))}")
    if found.ended is not None:
        click.echo(f"wrote    {size(found.ended.size_bytes)}")
    elif held:
        click.echo(f"         for {ahead(started.deadline_ms, now_ms)} more at most")
        click.echo(f"\nnext: palyra-trio jobs output -f {found.job_id}", err=True)
        click.echo(f"      palyra-trio jobs stop {found.job_id}", err=True)


@jobs.command()
@click.argument("job")
@click.option("-f", "--follow", is_flag=True, help="Go on until the job is over. Ctrl-C ends that, and not the job.")
@click.option("--since", type=click.IntRange(0), metavar="BYTE", help="Begin at this byte of the output.")
@click.option("--tail", type=click.IntRange(1), metavar="BYTES", help="Begin so many bytes before its end.")
def output(job: str, follow: bool, since: int | None, tail: int | None) -> None:
    """Print what a job wrote, both of its streams together, as far as it is kept. Secrets are masked."""
    if since is not None and tail is not None:
        raise click.UsageError("--since and --tail exclude each other")
    with reading() as reader:
        found = reader.jobs.find(job, principal())
    begin = -tail if tail is not None else since or 0
    screen = _Screen(begin)
    try:
        trio.run(_output, found.job_id, begin, follow, screen.show)
    except NoDaemon:
        if chosen() is not None or is_held(state_dir()):
            raise
        _from_journal(found.job_id, begin, screen.show)
    screen.end()
    if follow:
        with reading() as reader:
            found = reader.jobs.find(found.job_id, principal())
        click.echo(f"job {found.job_id} {one_line(_state(found, is_held(state_dir())))}", err=True)


@jobs.command()
@click.argument("job")
@json_option
def stop(job: str, as_json: bool) -> None:
    """Kill a job and all that it started."""
    with reading() as reader:
        found = reader.jobs.find(job, principal())
    submit(StopJob(found.job_id))
    with reading() as reader:
        found = reader.jobs.find(found.job_id, principal())
    if as_json:
        print_json(plain(found, is_held(state_dir())))
    else:
        click.echo(f"job {found.job_id} {one_line(state_of(found))}")


def job_rows(found: tuple[SessionJob, ...], held: bool) -> list[tuple[str, ...]]:
    """Return a list's rows: id, age, state, session, command. `held` says that a process holds the journal."""
    now_ms = _now_ms()
    return [
        (each.job_id, age(each.started_ms, now_ms), _state(each, held), each.session_id, " ".join(each.started.argv))
        for each in found
    ]


def plain(job: SessionJob, held: bool) -> dict[str, object]:
    """Return a job as plain values."""
    started, ended = job.started, job.ended
    return {
        "job_id": job.job_id,
        "session_id": job.session_id,
        "run_id": started.run_id,
        "call_id": started.call_id,
        "program": started.program,
        "argv": list(started.argv),
        "cwd": started.cwd,
        "opaque": started.opaque,
        "sandbox_tier": started.sandbox_tier,
        "started_ms": job.started_ms,
        "deadline_ms": started.deadline_ms,
        "state": ended.ending if ended is not None else "running" if held else "lost",
        "code": ended and ended.code,
        "by": ended.by if ended is not None else "",
        "detail": ended.detail if ended is not None else "",
        "pids_seen": ended.pids_seen if ended is not None else 0,
        "survivors": ended.survivors if ended is not None else 0,
        "elapsed_ms": ended.elapsed_ms if ended is not None else 0,
        "size_bytes": ended and ended.size_bytes,
        "ended_ms": job.ended_ms or None,
    }


def _state(job: SessionJob, held: bool) -> str:
    """Return how a job stands; one whose process has gone, and that none has looked after since, is lost."""
    return "lost: the process that held it has gone" if job.ended is None and not held else state_of(job)


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


# --- output ---


async def _output(job_id: str, begin: int, follow: bool, show: Callable[[Piece], None]) -> None:
    request = pb.ReadJobOutputRequest(job_id=job_id, follow=follow)
    if begin < 0:
        request.tail_bytes = -begin
    else:
        request.since = begin

    def take(message: pb.ReadJobOutputResponse) -> None:
        show(Piece(message.offset, message.data, message.size_bytes, message.ended))

    async with open_remote_door(state_dir()) as (there, _):
        await there.stream_call(JobsServiceStub, "ReadJobOutput", request, take)


def _from_journal(job_id: str, begin: int, show: Callable[[Piece], None]) -> None:
    """Show what the journal holds, where no process has the job."""
    from palyra_trio.runtime.jobs import past_piece

    with reading() as reader:
        assert isinstance(reader, Reader)
        piece = past_piece(reader, job_id, begin, PIECE_BYTES)
        show(piece)
        while not piece.ended:
            piece = past_piece(reader, job_id, piece.after, PIECE_BYTES)
            show(piece)


class _Screen:
    """Pieces on their way to stdout: as they are to a pipe, with nothing hidden to a terminal."""

    def __init__(self, begin: int) -> None:
        self._next = max(begin, 0)
        self._bytes_as_they_are = not sys.stdout.isatty()
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._counted = begin >= 0

    def show(self, piece: Piece) -> None:
        if self._counted and piece.offset > self._next:
            click.echo(f"[bytes {self._next} to {piece.offset} are not kept any more]", err=True)
        self._next, self._counted = piece.after, True
        if self._bytes_as_they_are:
            click.echo(piece.data, nl=False)
        else:
            click.echo(visible(self._decoder.decode(piece.data)), nl=False)

    def end(self) -> None:
        if not self._bytes_as_they_are:
            click.echo(visible(self._decoder.decode(b"", True)), nl=False)
