"""The long jobs of sessions over the API: which there are, what they write, and stopping one."""

import codecs

import attrs

from palyra_trio.core.commands import StopJob
from palyra_trio.core.errors import InvalidArgument
from palyra_trio.core.identity import Scope
from palyra_trio.core.jobs import SessionJob
from palyra_trio.core.session_events import JobEnding
from palyra_trio.journal.queries import Reader
from palyra_trio.transports.api.approvals import Nothing
from palyra_trio.transports.api.reading import Number, Paged, Said
from palyra_trio.transports.api.route import API, Ask, get, post
from palyra_trio.transports.jobs_service import PIECE_BYTES
from palyra_trio.transports.paging import next_page


class JobsQuery(Paged, frozen=True):
    """With `session`, those of one session; with `ended`, also those that do not run any more."""

    session: str = ""
    ended: bool = False


class OutputQuery(Said, frozen=True):
    """From byte `since` on, or the last `tail_bytes`."""

    since: Number = 0
    tail_bytes: Number = 0


@attrs.frozen
class JobEnd:
    """How a job ended. `code` is its exit code, null where nobody saw one.

    `pids_seen`, `survivors` and `elapsed_ms` tell of a kill.
    """

    ended_ms: int
    ending: JobEnding
    code: int | None
    by: str
    detail: str
    pids_seen: int
    survivors: int
    elapsed_ms: int
    size_bytes: int


@attrs.frozen
class Job:
    """A long job. It is killed at `deadline_ms`; `end` is null while it runs."""

    job_id: str
    session_id: str
    run_id: str
    call_id: str
    program: str
    argv: tuple[str, ...]
    cwd: str
    opaque: str
    sandbox_tier: int
    started_ms: int
    deadline_ms: int
    end: JobEnd | None


@attrs.frozen
class JobPage:
    jobs: tuple[Job, ...]
    next_page_token: str


@attrs.frozen
class OutputPage:
    """A piece of a job's output, redacted: what it wrote from byte `offset` on, of `size_bytes` so far.

    More is asked for with `since` = `after`; no more will come once it has `ended`. Where `offset` is not what was asked for,
    what is between is not kept any more.
    """

    job_id: str
    offset: int
    text: str
    after: int
    size_bytes: int
    ended: bool


@get(f"{API}/jobs", refuses=("not_found", "ambiguous"))
async def list_jobs(ask: Ask, query: JobsQuery) -> JobPage:
    """The long jobs of your sessions, newest first."""
    principal = ask.context.principal

    def read(reader: Reader) -> tuple[SessionJob, ...]:
        session_id = reader.find_session(query.session, principal).session_id if query.session else ""
        return reader.jobs.listed(
            principal, session_id=session_id, ended=query.ended, before=query.page_token, most=query.page_size
        )

    found = await ask.gateway.ask(read)
    return JobPage(tuple(map(_told, found)), next_page(found, query.page_size, lambda each: each.job_id))


@get(f"{API}/jobs/{{job}}")
async def get_job(ask: Ask, job: str) -> Job:
    """A job of yours. It is named by its id, an unambiguous beginning of it, or `last`."""
    return _told(await _find(ask, job))


@get(f"{API}/jobs/{{job}}/output")
async def read_output(ask: Ask, job: str, query: OutputQuery) -> OutputPage:
    """A piece of what a job wrote, of 256 KiB at most; text that is cut in a character begins or ends beside it."""
    if query.since and query.tail_bytes:
        raise InvalidArgument("output is asked for from one end", remedy="say since or tail_bytes")
    found = await _find(ask, job)
    piece = await ask.gateway.jobs.read(found.job_id, -query.tail_bytes or query.since, PIECE_BYTES)
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    text = decoder.decode(piece.data, piece.ended)
    after = piece.after - len(decoder.getstate()[0])
    return OutputPage(found.job_id, piece.offset, text, after, piece.size, piece.ended)


@post(f"{API}/jobs/{{job}}/stop", Scope.RUN, refuses=("state_conflict",))
async def stop_job(ask: Ask, job: str, body: Nothing) -> Job:
    """Kill a job and all that it started, and answer once that is recorded. It may be asked for again."""
    job_id = (await _find(ask, job)).job_id
    found = await ask.bring_about(
        StopJob(job_id),
        lambda: _find(ask, job_id),
        lambda found: found.ended is not None and found.ended.ending == "stopped",
    )
    return _told(found)


async def _find(ask: Ask, job: str) -> SessionJob:
    return await ask.gateway.ask(lambda reader: reader.jobs.find(job, ask.context.principal))


def _told(job: SessionJob) -> Job:
    """Return a job without its mark, which is nobody's business outside."""
    begun, ended = job.started, job.ended
    end = None if ended is None else JobEnd(
        job.ended_ms, ended.ending, ended.code, ended.by, ended.detail,
        ended.pids_seen, ended.survivors, ended.elapsed_ms, ended.size_bytes,
    )  # fmt: skip
    return Job(
        job.job_id, job.session_id, begun.run_id, begun.call_id, begun.program, begun.argv, begun.cwd, begun.opaque,
        begun.sandbox_tier, job.started_ms, begun.deadline_ms, end,
    )  # fmt: skip


ROUTES = (list_jobs, get_job, read_output, stop_job)
