"""The long jobs of sessions: each has a task here, which outlives the run that started it, and ends within its own scope.

A job is recorded before it begins and after it has ended, on its session's tape. What ends one, beside its program: a
call or a person that stops it, its deadline, the cancellation of the run that started it, its session's archival, and
the end of this process. What an earlier process left is found and ended when this one opens.
"""

import math
import os
from collections.abc import AsyncGenerator, Callable, Iterable
from contextlib import asynccontextmanager, suppress

import attrs
import trio

from palyra_trio.core.chain import digest
from palyra_trio.core.errors import Busy, Draining, JournalStopped, NotFound, PalyraError, StateConflict
from palyra_trio.core.identity import ULID_RANDOM_BYTES, mint_ulid
from palyra_trio.core.jobs import Piece, SessionJob, piece_of
from palyra_trio.core.session_events import JobEnded, JobEnding, JobOutput, JobStarted
from palyra_trio.core.tape import SESSION_STREAM
from palyra_trio.guard.redactor import Redactor
from palyra_trio.journal.queries import Reader
from palyra_trio.journal.reader_pool import ReaderPool
from palyra_trio.journal.store import entry
from palyra_trio.journal.writer import Journal, Ticket
from palyra_trio.runtime.job_output import RedactedOutput
from palyra_trio.runtime.live_job import LiveJob
from palyra_trio.tools.job import KillReceipt, Stream
from palyra_trio.tools.process_tree import hunt
from palyra_trio.tools.session_jobs import NewJob, Work

PER_SESSION = 8
PER_DAEMON = 32  # each keeps 2 MiB of output, and a process or more

Settle = Callable[[PalyraError | None], None]


class Jobs:
    """All jobs of this process. Made by `open_jobs`."""

    def __init__(
        self,
        journal: Journal,
        readers: ReaderPool,
        redactor: Redactor,
        now_s: Callable[[], float],
        random: Callable[[int], bytes],
        nursery: trio.Nursery,
    ) -> None:
        self._journal = journal
        self._readers = readers
        self._redactor = redactor
        self._now_s = now_s
        self._random = random
        self._nursery = nursery
        self._live: dict[str, LiveJob] = {}
        self._closed = False

    def of_call(self, session_id: str, run_id: str, call_id: str) -> "CallJobs":
        """Return what a call may do: with the jobs of its session."""
        return CallJobs(self, session_id, run_id, call_id)

    @property
    def count(self) -> int:
        """How many run, of all sessions."""
        return len(self._live)

    def live(self, session_id: str) -> tuple[LiveJob, ...]:
        """Return the jobs of a session that run, the oldest first."""
        return tuple(each for each in self._live.values() if each.session_id == session_id)

    # --- starting ---

    def check_room(self, session_id: str) -> None:
        """Raise Draining or Busy where no more can be started."""
        if self._closed:
            raise Draining("this process is shutting down")
        if len(self.live(session_id)) >= PER_SESSION:
            raise Busy(f"the session has {PER_SESSION} jobs, and may have no more", remedy="stop one of them")
        if len(self._live) >= PER_DAEMON:
            raise Busy(f"there are {PER_DAEMON} jobs here, and may be no more", remedy="stop one of them")

    async def start(self, session_id: str, run_id: str, call_id: str, new: NewJob, work: Work) -> LiveJob:
        """Have a job carried out; it is durable when this returns. If cancelled, the job is stopped.

        Raises Busy, Draining, and StateConflict where the session is archived.
        """
        self.check_room(session_id)
        now_ms = int(self._now_s() * 1000)
        started = JobStarted(
            mint_ulid(now_ms, self._random(ULID_RANDOM_BYTES)),
            run_id,
            call_id,
            new.program,
            new.argv,
            new.cwd,
            new.sandbox_tier,
            new.mark,
            now_ms + new.deadline_s * 1000,
            new.opaque,
        )

        def record(stream: Stream, text: str, then: Callable[[], None]) -> None:
            row = entry(SESSION_STREAM + session_id, JobOutput(started.job_id, stream, text))
            with suppress(JournalStopped):
                self._journal.submit(Ticket((row,), on_commit=lambda _rows: then()))

        read, write = os.pipe()
        os.set_blocking(write, False)
        job = LiveJob(session_id, started, RedactedOutput(self._redactor, record), write)
        self._live[started.job_id] = job
        job.scope.deadline = trio.current_time() + new.deadline_s
        self._nursery.start_soon(self._attend, job, work, read)
        try:
            await job.begun.wait()
        except trio.Cancelled:
            job.end("stopped", f"run {run_id}")
            raise
        if job.refused is not None:
            raise job.refused
        return job

    async def _attend(self, job: LiveJob, work: Work, read: int) -> None:
        """Carry a job out from its first row to its last. Shielded: it ends by its own scope, as everybody is told why."""
        with trio.CancelScope(shield=True):
            try:
                stream = SESSION_STREAM + job.session_id
                try:
                    await self._journal.append((entry(stream, job.started),))
                except PalyraError as error:
                    job.refused = error
                    os.close(read)
                    return
                job.begun.set()
                ended = await job.carry_out(work, read, self._redactor)
                kept = job.output.kept
                blobs = ((digest(kept), kept),) if kept else ()
                with suppress(JournalStopped):  # the next process will say that it was lost
                    await self._journal.append((entry(stream, ended),), blobs=blobs)
            finally:
                job.close_stdin()
                del self._live[job.started.job_id]
                job.begun.set()
                job.over.set()
                job.output.wake()

    # --- ending ---

    def stop(self, job_id: str, by: str, settle: Settle) -> None:
        """Have a job killed; `settle` is told once its end is durable. Raises StateConflict where it is over."""
        job = self._live.get(job_id)
        if job is None:
            raise StateConflict(f"job {job_id} is over")
        job.end("stopped", by)
        self._nursery.start_soon(self._tell, (job,), settle)

    async def end_run(self, run_id: str) -> None:
        """Kill the jobs that a run started, and wait until they are over: it was cancelled."""
        await self._end([job for job in self._live.values() if job.started.run_id == run_id], "run_cancelled")

    def end_session(self, session_id: str, settle: Settle) -> None:
        """Have the jobs of a session killed, which was archived; `settle` is told once they are over."""
        jobs = self.live(session_id)
        for job in jobs:
            job.end("session_archived")
        self._nursery.start_soon(self._tell, jobs, settle)

    async def close(self) -> None:
        """Take no more jobs, kill those that run, and wait until all are over."""
        self._closed = True
        await self._end([*self._live.values()], "shutdown")

    async def _end(self, jobs: Iterable[LiveJob], ending: JobEnding) -> None:
        jobs = tuple(jobs)
        for job in jobs:
            job.end(ending)
        for job in jobs:
            await job.over.wait()

    async def _tell(self, jobs: tuple[LiveJob, ...], settle: Settle) -> None:
        for job in jobs:
            await job.over.wait()
        settle(None)

    # --- reading and writing ---

    async def find(self, session_id: str, job_id: str) -> SessionJob:
        """Return a job of a session. Raises NotFound, naming those that run."""

        def look(reader: Reader) -> SessionJob | None:
            found = reader.jobs.any(job_id)
            return found if found is not None and found.session_id == session_id else None

        job = await self._readers.ask(look)
        if job is None:
            names = ", ".join(each.started.job_id for each in self.live(session_id))
            raise NotFound(
                f"the session has no job {job_id!r}", remedy=f"those that run: {names}" if names else "none runs"
            )
        return job

    async def read(self, job_id: str, since: int, most: int) -> Piece:
        """Return what a job wrote, from byte `since` on (a negative one counts from the end), running or over.

        Raises NotFound for one that never was. Whose it is must have been asked before.
        """
        if (job := self._live.get(job_id)) is not None:
            return job.output.piece(since, most)
        return await self._readers.ask(lambda reader: past_piece(reader, job_id, since, most))

    async def more(self, job_id: str, after: int) -> None:
        """Wait until a job has written more than `after` bytes, or is over."""
        while (job := self._live.get(job_id)) is not None and job.output.size <= after:
            await job.output.changed.wait()

    async def write(self, job_id: str, data: bytes, *, close: bool) -> int:
        """Write to a job's input; return how many bytes it took within INPUT_S. The input is closed after the last of them.

        Raises StateConflict where the job is over, or its input closed. If cancelled, some may have been written.
        """
        job = self._live.get(job_id)
        if job is None:
            raise StateConflict(f"job {job_id} is over")
        return await job.write(data, close=close)


@attrs.frozen
class CallJobs:
    """The jobs of a call's session, as a tool uses them (`tools.session_jobs.SessionJobs`)."""

    _jobs: Jobs
    _session_id: str
    _run_id: str
    _call_id: str

    def check_room(self) -> None:
        self._jobs.check_room(self._session_id)

    async def start(self, new: NewJob, work: Work) -> SessionJob:
        job = await self._jobs.start(self._session_id, self._run_id, self._call_id, new, work)
        return await self.find(job.started.job_id)

    async def find(self, job_id: str) -> SessionJob:
        return await self._jobs.find(self._session_id, job_id.upper())

    async def read(self, job_id: str, since: int, most: int) -> Piece:
        return await self._jobs.read((await self.find(job_id)).job_id, since, most)

    async def more(self, job_id: str, after: int) -> None:
        await self._jobs.more((await self.find(job_id)).job_id, after)

    async def write(self, job_id: str, data: bytes, *, close: bool) -> int:
        return await self._jobs.write((await self.find(job_id)).job_id, data, close=close)

    async def stop(self, job_id: str) -> SessionJob:
        job = await self.find(job_id)
        over = trio.Event()
        self._jobs.stop(job.job_id, f"run {self._run_id}", lambda _: over.set())
        await over.wait()
        return await self.find(job_id)


def past_piece(reader: Reader, job_id: str, since: int, most: int) -> Piece:
    """Return what is kept of the output of a job that is over: its end, or what is on the tape where nobody saw the end.

    Raises NotFound.
    """
    job = reader.jobs.any(job_id)
    if job is None:
        raise NotFound(f"there is no job {job_id}")
    if job.ended is None or job.ended.ending == "lost":
        kept = reader.jobs.watched(job)
        return piece_of(kept, len(kept), since, most, ended=True)
    kept = b""
    if job.ended.output is not None:
        with suppress(NotFound):  # it was erased
            kept = reader.blob(job.ended.output)
    return piece_of(kept, job.ended.size_bytes, since, most, ended=True)


@asynccontextmanager
async def open_jobs(
    journal: Journal,
    readers: ReaderPool,
    redactor: Redactor,
    now_s: Callable[[], float],
    random: Callable[[int], bytes],
) -> AsyncGenerator[Jobs, None]:
    """Keep jobs for the length of the block, at whose end they are killed. Those that an earlier process left are ended first.

    `now_s` is Unix time, `random` returns that many random bytes.
    """
    await _end_left(journal, readers)
    async with trio.open_nursery() as nursery:
        jobs = Jobs(journal, readers, redactor, now_s, random, nursery)
        try:
            yield jobs
        finally:
            with trio.CancelScope(shield=True):
                await jobs.close()


async def _end_left(journal: Journal, readers: ReaderPool) -> None:
    """Record the end of the jobs of a process that has gone, and kill what may be left of them."""
    for job in await readers.ask(lambda reader: reader.jobs.running()):
        receipt = await hunt(job.started.mark) or KillReceipt(0, 0, 0.0)
        ended = JobEnded(
            job.job_id,
            "lost",
            pids_seen=receipt.pids_seen,
            survivors=receipt.survivors,
            elapsed_ms=math.ceil(receipt.elapsed_ms),
        )
        await journal.append((entry(SESSION_STREAM + job.session_id, ended),))
