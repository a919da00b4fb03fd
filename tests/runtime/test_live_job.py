"""A job within its own scope: which reason it ends for, and what its input does. Real programs are test_jobs' part."""

import os
from collections.abc import Callable

import pytest
import trio
import trio.testing

from palyra_trio.core.errors import StateConflict
from palyra_trio.core.session_events import JobStarted
from palyra_trio.guard.redactor import Redactor
from palyra_trio.runtime.job_output import RedactedOutput
from palyra_trio.runtime.live_job import INPUT_S, LiveJob
from palyra_trio.tools.job import KillReceipt, Outcome, SandboxFailed, Take

Killed = Callable[[KillReceipt], None]
STARTED = JobStarted("J1", "R1", "c1", "/bin/cat", ("cat",), "/work", 4, "mark", 0)


@pytest.fixture
def pipe() -> tuple[int, int]:
    read, write = os.pipe()
    os.set_blocking(write, False)
    return read, write


@pytest.fixture
def job(pipe: tuple[int, int]) -> LiveJob:
    return LiveJob("S1", STARTED, RedactedOutput(Redactor(), lambda _stream, _text, _then: None), pipe[1])


async def for_ever(_take: Take, killed: Killed, stdin: int) -> Outcome:
    try:
        await trio.sleep_forever()
    finally:
        os.close(stdin)
        killed(KillReceipt(3, 0, 1.2))
    raise AssertionError


async def test_the_first_reason_to_end_it_is_told(job: LiveJob, pipe: tuple[int, int]) -> None:
    async with trio.open_nursery() as nursery:

        @nursery.start_soon
        async def end() -> None:
            await trio.testing.wait_all_tasks_blocked()
            job.end("stopped", "user:me")
            job.end("shutdown")

        ended = await job.carry_out(for_ever, pipe[0], Redactor())
    assert (ended.ending, ended.by, ended.code) == ("stopped", "user:me", None)
    assert (ended.pids_seen, ended.survivors, ended.elapsed_ms) == (3, 0, 2)


async def test_past_its_deadline_nothing_else_is_the_reason(
    job: LiveJob, pipe: tuple[int, int], autojump_clock: trio.testing.MockClock
) -> None:
    job.scope.deadline = trio.current_time() + 60
    ended = await job.carry_out(for_ever, pipe[0], Redactor())
    job.end("shutdown")
    assert ended.ending == "deadline"


async def test_one_that_is_ended_before_it_begins_never_does(job: LiveJob, pipe: tuple[int, int]) -> None:
    job.end("run_cancelled")

    async def never(_take: Take, _killed: Killed, _stdin: int) -> Outcome:
        raise AssertionError

    assert (await job.carry_out(never, pipe[0], Redactor())).ending == "run_cancelled"
    with pytest.raises(OSError, match="Bad file"):
        os.fstat(pipe[0])


@pytest.mark.parametrize("error", [SandboxFailed("no namespaces"), ValueError("no namespaces")])
async def test_what_fails_is_told_and_fails_nobody_else(
    job: LiveJob, pipe: tuple[int, int], error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    async def fails(_take: Take, _killed: Killed, stdin: int) -> Outcome:
        os.close(stdin)
        await trio.lowlevel.checkpoint()
        raise error

    ended = await job.carry_out(fails, pipe[0], Redactor())
    assert ended.ending == "failed"
    assert "no namespaces" in ended.detail
    caplog.clear()


async def test_what_it_wrote_is_named_by_its_digest(job: LiveJob, pipe: tuple[int, int]) -> None:
    async def says(take: Take, _killed: Killed, stdin: int) -> Outcome:
        os.close(stdin)
        await trio.lowlevel.checkpoint()
        take("stdout", b"hello\n")
        return Outcome(7)

    ended = await job.carry_out(says, pipe[0], Redactor())
    assert (ended.ending, ended.code, ended.size_bytes) == ("exited", 7, 6)
    assert ended.output == "5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03"


async def test_input_waits_for_a_reader_but_not_for_ever(
    job: LiveJob, pipe: tuple[int, int], autojump_clock: trio.testing.MockClock
) -> None:
    began = trio.current_time()
    taken = await job.write(b"x" * 2**20, close=True)
    assert trio.current_time() - began == pytest.approx(INPUT_S)
    assert 0 < taken < 2**20
    assert job.stdin is not None
    os.close(pipe[0])
    with pytest.raises(StateConflict, match="reads no more"):
        await job.write(b"x", close=False)
    job.close_stdin()


async def test_writers_take_turns(job: LiveJob, pipe: tuple[int, int]) -> None:
    async with trio.open_nursery() as nursery:
        for letter in (b"a", b"b"):
            nursery.start_soon(lambda letter: job.write(letter * 2**18, close=False), letter)
        async with trio.lowlevel.FdStream(pipe[0]) as stream:
            data = b""
            while len(data) < 2**19:
                data += await stream.receive_some()
    assert data in (b"a" * 2**18 + b"b" * 2**18, b"b" * 2**18 + b"a" * 2**18)
    job.close_stdin()


async def test_a_writer_that_waits_when_the_input_is_closed_is_told(job: LiveJob, pipe: tuple[int, int]) -> None:
    async with trio.open_nursery() as nursery:

        @nursery.start_soon
        async def close() -> None:
            await trio.testing.wait_all_tasks_blocked()
            job.close_stdin()

        with pytest.raises(StateConflict, match="closed"):
            await job.write(b"x" * 2**20, close=False)
    os.close(pipe[0])
