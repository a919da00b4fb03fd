"""Jobs over a real journal and through the real sandbox, in each tier: what they live through, and what ends them."""

import os
import select
import subprocess
import sys
import time
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import attrs
import pytest
import trio

from palyra_trio.core.errors import Busy, Draining, NotFound, StateConflict
from palyra_trio.core.jobs import SessionJob
from palyra_trio.core.session_events import JobEnded, JobOutput, JobStarted, SessionArchived, SessionOpened
from palyra_trio.core.tape import SESSION_STREAM, TapeEvent
from palyra_trio.guard.redactor import Redactor
from palyra_trio.journal.feed import Feed
from palyra_trio.journal.reader_pool import ReaderPool
from palyra_trio.journal.store import FILE_NAME, SqliteStore, entry
from palyra_trio.journal.writer import Journal, open_journal
from palyra_trio.runtime.job_output import KEPT_BYTES, WATCHED_CHARACTERS
from palyra_trio.runtime.jobs import PER_DAEMON, PER_SESSION, CallJobs, Jobs, open_jobs
from palyra_trio.tools import processes
from palyra_trio.tools.job import Bounds, Job, KillReceipt, Outcome, Take
from palyra_trio.tools.process_tree import carry_out
from palyra_trio.tools.session_jobs import NewJob, Work
from tests.fakes import SECRET
from tests.tools.zoo import ANIMALS, PIDS, ROOT, Cage, Keeper

SESSION, OTHER_SESSION = "S1", "S2"
every_tier = pytest.mark.parametrize("tier", [4, 3, 2])
REST = "import select; select.select([], [], [], 60)"
READY = "import os; os.write(1, b'ready\\n'); " + REST


@attrs.frozen
class Kept:
    """Jobs, what they are recorded in, and where they run."""

    jobs: Jobs
    journal: Journal
    readers: ReaderPool
    cage: Cage

    def of(self, run_id: str = "R1", session_id: str = SESSION) -> CallJobs:
        return self.jobs.of_call(session_id, run_id, "c1")

    def work(self, job: Job) -> Work:
        async def work(take: Take, killed: Callable[[KillReceipt], None], stdin: int) -> Outcome:
            return await carry_out(self.cage.launcher, job, take, killed, stdin)

        return work

    async def start(
        self,
        source: str,
        run_id: str = "R1",
        session_id: str = SESSION,
        deadline_s: int = 60,
        bounds: Bounds | None = None,
    ) -> SessionJob:
        job = self.cage.script(source, bounds)
        new = NewJob(job.program, job.argv, job.cwd, "", 4, job.token, deadline_s)
        return await self.of(run_id, session_id).start(new, self.work(job))

    async def until(self, job: SessionJob, words: bytes) -> bytes:
        """Wait until a job has written these words, and return all that is kept of what it wrote."""
        with trio.fail_after(20):
            while True:
                piece = await self.jobs.read(job.job_id, 0, 2**30)
                if words in piece.data:
                    return piece.data
                assert not piece.ended, piece.data
                await self.jobs.more(job.job_id, piece.size)

    async def over(self, job: SessionJob) -> JobEnded:
        with trio.fail_after(20):
            while True:
                found = await self.of(session_id=job.session_id).find(job.job_id)
                if found.ended is not None:
                    return found.ended
                await self.jobs.more(job.job_id, 2**40)

    async def tape(self, session_id: str = SESSION) -> list[TapeEvent]:
        rows = await self.readers.ask(lambda reader: [*reader.tape(SESSION_STREAM + session_id)])
        return [event for row in rows if (event := row.event()) is not None]


def alive(job: SessionJob) -> int:
    return len(processes.marked(job.started.mark))


@pytest.fixture
def keeper() -> Iterator[Keeper]:
    with Keeper() as keeper:
        yield keeper


@asynccontextmanager
async def keeping(state_dir: Path, cage: Cage) -> AsyncGenerator[Kept]:
    store = SqliteStore(state_dir)
    async with (
        open_journal(store, Feed(), 2**26) as journal,
        ReaderPool(state_dir / FILE_NAME) as readers,
        open_jobs(journal, readers, Redactor(), time.time, os.urandom) as jobs,
    ):
        known = await readers.ask(lambda reader: reader.session(SESSION))
        for each in (SESSION, OTHER_SESSION) if known is None else ():
            await journal.append((entry(SESSION_STREAM + each, SessionOpened(each, "user:me")),))
        yield Kept(jobs, journal, readers, cage)


# --- a job's life ---


@every_tier
async def test_a_job_is_durable_before_it_begins_and_after_it_has_ended(
    tmp_path: Path, keeper: Keeper, tier: int
) -> None:
    async with keeping(tmp_path, keeper.cage(tier)) as kept:
        job = await kept.start("import sys; print('out'); print('err', file=sys.stderr); sys.exit(3)")
        ended = await kept.over(job)
        tape = await kept.tape()
        assert tape[1] == job.started
        assert {(each.stream, each.text) for each in tape if isinstance(each, JobOutput)} == {
            ("stdout", "out\n"),
            ("stderr", "err\n"),
        }
        assert tape[-1] == ended
        assert (ended.ending, ended.code, ended.pids_seen, ended.size_bytes) == ("exited", 3, 0, 8)
        piece = await kept.jobs.read(job.job_id, -4, 100)
        assert (piece.offset, len(piece.data), piece.size, piece.ended) == (4, 4, 8, True)


@every_tier
async def test_what_it_is_written_it_reads_until_its_input_is_closed(tmp_path: Path, keeper: Keeper, tier: int) -> None:
    async with keeping(tmp_path, keeper.cage(tier)) as kept:
        job = await kept.start(
            "import sys\nfor line in sys.stdin: print('got', line.strip(), flush=True)\nprint('end')"
        )
        assert await kept.of().write(job.job_id, b"one\n", close=False) == 4
        await kept.until(job, b"got one\n")
        assert await kept.of("R2").write(job.job_id, b"two\n", close=True) == 4
        assert (await kept.over(job)).code == 0
        assert (await kept.jobs.read(job.job_id, 0, 100)).data == b"got one\ngot two\nend\n"
        with pytest.raises(StateConflict, match="is over"):
            await kept.of().write(job.job_id, b"three\n", close=False)


async def test_a_closed_input_takes_no_more(tmp_path: Path, keeper: Keeper) -> None:
    async with keeping(tmp_path, keeper.cage(3)) as kept:
        job = await kept.start(READY)
        await kept.of().write(job.job_id, b"", close=True)
        with pytest.raises(StateConflict, match="closed"):
            await kept.of().write(job.job_id, b"x", close=False)


async def test_a_job_that_does_not_read_holds_up_nobody_for_long(
    tmp_path: Path, keeper: Keeper, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("palyra_trio.runtime.live_job.INPUT_S", 0.05)
    async with keeping(tmp_path, keeper.cage(3)) as kept:
        job = await kept.start(READY)
        await kept.until(job, b"ready")
        taken = await kept.of().write(job.job_id, b"x" * 2**20, close=True)
        assert 0 < taken < 2**20
        assert alive(job)


async def test_two_who_follow_see_the_same_and_a_slow_one_is_told_what_is_gone(tmp_path: Path, keeper: Keeper) -> None:
    source = "import os, sys\nfor n in range(40): os.write(1, b'%07d\\n' % n * 8192)\nsys.stdin.read()"
    seen: dict[str, bytes] = {}
    async with keeping(tmp_path, keeper.cage(3)) as kept:
        job = await kept.start(source)

        async def follow(name: str) -> None:
            data, since = b"", 0
            while True:
                await kept.jobs.more(job.job_id, since)
                piece = await kept.jobs.read(job.job_id, since, 2**16)
                assert piece.offset == since
                data, since = data + piece.data, piece.after
                if piece.ended:
                    break
            seen[name] = data

        async with trio.open_nursery() as nursery:
            nursery.start_soon(follow, "one")
            nursery.start_soon(follow, "two")
            while (await kept.jobs.read(job.job_id, -1, 1)).size < 40 * 65536:
                await kept.jobs.more(job.job_id, (await kept.jobs.read(job.job_id, -1, 1)).size)
            await kept.of().write(job.job_id, b"", close=True)
        assert seen["one"] == seen["two"] == b"".join(b"%07d\n" % n * 8192 for n in range(40))
        late = await kept.jobs.read(job.job_id, 0, 2**30)
        assert (late.offset, late.after) == (40 * 65536 - KEPT_BYTES, 40 * 65536)


async def test_a_secret_in_the_output_is_masked_wherever_it_is_kept(tmp_path: Path, keeper: Keeper) -> None:
    async with keeping(tmp_path, keeper.cage(3)) as kept:
        half = len(SECRET) // 2
        job = await kept.start(
            f"import os, time; os.write(1, b'key {SECRET[:half]}'); time.sleep(0.05); os.write(1, b'{SECRET[half:]}\\nend')"
        )
        ended = await kept.over(job)
        written = (await kept.jobs.read(job.job_id, 0, 2**20)).data
        tape = await kept.tape()
        assert ended.output is not None
        blob = await kept.readers.ask(lambda reader: reader.blob(ended.output or ""))
    assert written == blob
    assert b"[redacted:" in written
    assert SECRET[half:].encode() not in written
    assert SECRET[half:] not in "".join(each.text for each in tape if isinstance(each, JobOutput))


# --- what ends one ---


@every_tier
@pytest.mark.parametrize("animal", [each for each in ANIMALS if each not in ("hopper", "reads its input")])
async def test_a_stopped_job_is_dead_and_counted_whatever_it_is(
    tmp_path: Path, keeper: Keeper, tier: int, animal: str
) -> None:
    async with keeping(tmp_path, keeper.cage(tier)) as kept:
        source = kept.cage.job(animal).argv[-1]
        job = await kept.start(source, bounds=Bounds(pids=PIDS, output_bytes=2**40))
        await kept.until(job, b"ready")
        assert alive(job)
        found = await kept.of("R2").stop(job.job_id)
        assert alive(job) == 0
        assert found.ended is not None
        assert (found.ended.ending, found.ended.by) == ("stopped", "run R2")
        assert found.ended.pids_seen > 0
        assert found.ended.survivors == 0


@every_tier
async def test_at_its_deadline_it_is_killed(tmp_path: Path, keeper: Keeper, tier: int) -> None:
    async with keeping(tmp_path, keeper.cage(tier)) as kept:
        job = await kept.start(READY, deadline_s=1)
        assert job.started.deadline_ms - job.started_ms <= 1000
        ended = await kept.over(job)
        assert (ended.ending, ended.survivors, alive(job)) == ("deadline", 0, 0)


@every_tier
async def test_a_flood_is_killed_at_its_bound_and_little_of_it_is_held(
    tmp_path: Path, keeper: Keeper, tier: int
) -> None:
    most = 8 * 2**20
    async with keeping(tmp_path, keeper.cage(tier)) as kept:
        flood = "import os\nblock = b'x' * 65536\nfor _ in range(16384): os.write(1, block)"
        job = await kept.start(flood, bounds=Bounds(pids=PIDS, output_bytes=most))
        live = kept.jobs.live(SESSION)[0]
        ended = await kept.over(job)
        assert (ended.ending, ended.size_bytes, ended.survivors) == ("output_limit", most, 0)
        assert len(live.output._kept) <= 2 * KEPT_BYTES
        assert len((await kept.jobs.read(job.job_id, 0, 2**30)).data) == KEPT_BYTES
        watched = [each.text for each in await kept.tape() if isinstance(each, JobOutput)]
        assert sum(map(len, watched)) == WATCHED_CHARACTERS
        assert alive(job) == 0


async def test_a_cancelled_run_takes_its_jobs_along_and_no_others(tmp_path: Path, keeper: Keeper) -> None:
    async with keeping(tmp_path, keeper.cage(3)) as kept:
        ours, others = await kept.start(READY, "R1"), await kept.start(READY, "R2")
        await kept.jobs.end_run("R1")
        assert (alive(ours), (await kept.over(ours)).ending) == (0, "run_cancelled")
        await kept.until(others, b"ready")
        assert alive(others)


async def test_an_archived_session_keeps_no_job_and_takes_none(tmp_path: Path, keeper: Keeper) -> None:
    async with keeping(tmp_path, keeper.cage(3)) as kept:
        job, over = await kept.start(READY), trio.Event()
        await kept.journal.append((entry(SESSION_STREAM + SESSION, SessionArchived(SESSION, "user:me")),))
        kept.jobs.end_session(SESSION, lambda _: over.set())
        await over.wait()
        assert (alive(job), (await kept.over(job)).ending) == (0, "session_archived")
        with pytest.raises(StateConflict, match="archived"):
            await kept.start(READY)
        assert not kept.jobs.live(SESSION)


@every_tier
async def test_the_end_of_the_process_is_the_end_of_all_and_is_recorded(
    tmp_path: Path, keeper: Keeper, tier: int
) -> None:
    async with keeping(tmp_path, keeper.cage(tier)) as kept:
        jobs = [await kept.start(READY), await kept.start(READY, session_id=OTHER_SESSION)]
        for each in jobs:
            await kept.until(each, b"ready")
    assert [alive(each) for each in jobs] == [0, 0]
    async with keeping(tmp_path, kept.cage) as again:
        for each in jobs:
            ended = await again.over(each)
            assert (ended.ending, ended.survivors) == ("shutdown", 0)
            assert ended.pids_seen > 0


async def test_a_start_that_is_cancelled_leaves_nothing(tmp_path: Path, keeper: Keeper) -> None:
    async with keeping(tmp_path, keeper.cage(3)) as kept:
        with trio.CancelScope() as scope:
            scope.cancel()
            await kept.start(READY)
        while kept.jobs.live(SESSION):
            await kept.jobs.live(SESSION)[0].over.wait()
        starts = [each for each in await kept.tape() if isinstance(each, JobStarted)]
        ends = [each for each in await kept.tape() if isinstance(each, JobEnded)]
        assert [each.job_id for each in starts] == [each.job_id for each in ends]
        assert [processes.marked(each.mark) for each in starts] == [set()]


async def test_a_sandbox_that_fails_is_said(tmp_path: Path, keeper: Keeper) -> None:
    async with keeping(tmp_path, keeper.cage(3)) as kept:
        kept.cage.launcher.spawner.close()  # type: ignore[attr-defined]
        missing = attrs.evolve(kept.cage.script(""), program="/nonexistent/program")
        new = NewJob(missing.program, missing.argv, missing.cwd, "", 3, missing.token, 60)
        job = await kept.of().start(new, kept.work(missing))
        ended = await kept.over(job)
        assert ended.ending == "failed"
        assert "/nonexistent/program" in ended.detail


# --- whose they are, and how many ---


async def test_a_session_sees_its_own_jobs_only(tmp_path: Path, keeper: Keeper) -> None:
    async with keeping(tmp_path, keeper.cage(3)) as kept:
        job = await kept.start(READY)
        await kept.until(job, b"ready")
        other = kept.of(session_id=OTHER_SESSION)
        for refused in (
            lambda: other.find(job.job_id),
            lambda: other.read(job.job_id, 0, 1),
            lambda: other.more(job.job_id, 0),
            lambda: other.write(job.job_id, b"x", close=False),
            lambda: other.stop(job.job_id),
        ):
            with pytest.raises(NotFound, match="none runs"):
                await refused()
        with pytest.raises(NotFound, match=job.job_id):
            await kept.of().find("01K")
        assert alive(job)


async def test_there_is_a_bound_for_a_session_and_one_for_all(tmp_path: Path, keeper: Keeper) -> None:
    async with keeping(tmp_path, keeper.cage(3)) as kept:

        async def waits(_take: Take, _killed: Callable[[KillReceipt], None], stdin: int) -> Outcome:
            os.close(stdin)
            await trio.sleep_forever()
            raise AssertionError

        new = NewJob("/bin/true", ("true",), "/", "", 3, "none", 60)
        for session in range(PER_DAEMON // PER_SESSION):
            stream = f"T{session}"
            await kept.journal.append((entry(SESSION_STREAM + stream, SessionOpened(stream, "user:me")),))
            for _ in range(PER_SESSION):
                await kept.of(session_id=stream).start(new, waits)
            with pytest.raises(Busy, match=f"has {PER_SESSION} jobs"):
                kept.of(session_id=stream).check_room()
        with pytest.raises(Busy, match=f"are {PER_DAEMON} jobs"):
            await kept.start(READY)
        await kept.jobs.close()
        with pytest.raises(Draining):
            kept.of().check_room()


# --- after the daemon was killed ---

HOLD = """
import sys, trio
from pathlib import Path
from tests.runtime.test_jobs import keeping
from tests.tools.zoo import Keeper

async def hold(folder, tier, animal):
    with Keeper() as keeper:
        async with keeping(Path(folder), keeper.cage(int(tier))) as kept:
            job = await kept.start(kept.cage.job(animal).argv[-1])
            await kept.until(job, b"ready")
            await kept.journal.settled()
            print(job.started.mark, flush=True)
            await trio.sleep_forever()

trio.run(hold, *sys.argv[1:])
"""


@every_tier
@pytest.mark.parametrize("animal", ["double fork", "ignores signals", "fork storm", "takes off its mark"])
def test_no_job_outlives_a_daemon_that_was_killed_and_the_next_one_says_so(
    tmp_path: Path, tier: int, animal: str
) -> None:
    argv = [sys.executable, "-c", HOLD, str(tmp_path), str(tier), animal]
    with subprocess.Popen(argv, cwd=ROOT, stdout=subprocess.PIPE, text=True) as daemon:
        assert daemon.stdout is not None
        mark = daemon.stdout.readline().strip()
        assert processes.marked(mark)
        daemon.kill()
        end = time.monotonic() + 10
        while live := processes.marked(mark):
            assert time.monotonic() < end
            for each in live:
                with suppress(ProcessLookupError):
                    fd = os.pidfd_open(each.pid)
                    select.select([fd], [], [], 5)
                    os.close(fd)

    async def recover() -> None:
        with Keeper() as keeper:
            async with keeping(tmp_path, keeper.cage(3)) as kept:
                (job,) = await kept.readers.ask(lambda reader: reader.jobs.listed("user:me", ended=True))  # type: ignore[arg-type]
                assert job.ended is not None
                assert (job.ended.ending, job.ended.survivors) == ("lost", 0)
                assert (await kept.jobs.read(job.job_id, 0, 100)).data.startswith(b"ready")

    trio.run(recover)


async def test_what_is_left_of_a_killed_daemons_jobs_is_found_by_its_mark_and_killed(
    tmp_path: Path, keeper: Keeper
) -> None:
    """In tier 1 nothing ends a job with its daemon, so the next one does."""
    cage = keeper.cage(1)
    job = cage.script(READY)
    async with trio.open_nursery() as nursery:
        ready, receipts = trio.Event(), list[KillReceipt]()
        nursery.start_soon(carry_out, cage.launcher, job, lambda _stream, _data: ready.set(), receipts.append)
        await ready.wait()
        store = SqliteStore(tmp_path)
        async with open_journal(store, Feed(), 2**26) as journal:
            started = JobStarted("J1", "R1", "c1", job.program, job.argv, job.cwd, 1, job.token, 0)
            for event in (SessionOpened(SESSION, "user:me"), started):
                await journal.append((entry(SESSION_STREAM + SESSION, event),))
        async with keeping(tmp_path, cage) as kept:
            ended = (await kept.of().find("J1")).ended
            assert ended is not None
            assert (ended.ending, ended.pids_seen, ended.survivors) == ("lost", 1, 0)
        assert not processes.marked(job.token)
