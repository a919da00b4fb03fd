"""A long job from the model's call to its end: asked for, started, read, written to, seen in the tree, and always dead at last."""

import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trio

from palyra_trio.core.commands import CancelRun, DecideApproval, StopJob
from palyra_trio.core.identity import RunId
from palyra_trio.core.jobs import SessionJob
from palyra_trio.core.messages import ToolCall
from palyra_trio.core.run import RunState
from palyra_trio.core.session_events import JobEnded
from palyra_trio.core.tape import ApprovalRequested, PolicyDecision, ToolFinished, ToolOutput, ToolStarted
from palyra_trio.tools import processes
from palyra_trio.tools.sandbox import Sandbox, SandboxSettings, open_sandbox
from tests.fakes import ME, FakeProvider, Runtime, Tape, allowing, in_session, open_fake_runtime, says
from tests.tools.zoo import NOBODY

CAT = ToolCall("start", "process.start", {"argv": ["cat"]})
SHELL = ToolCall("start", "process.start", {"argv": ["sh"]})


@pytest.fixture
async def sandbox() -> AsyncIterator[Sandbox]:
    async with open_sandbox(SandboxSettings(user=str(NOBODY)), Path("/home/me")) as sandbox:
        yield sandbox


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder whose workspace another user can work in."""
    work = tmp_path / "work"
    work.mkdir()
    if os.geteuid() == 0:
        os.chown(work, NOBODY, NOBODY)
        for each in work.parents[:5]:
            if each != Path("/"):
                each.chmod(each.stat().st_mode | 0o011)
    return tmp_path


async def the_job(runtime: Runtime) -> SessionJob:
    (job, *_) = await runtime.gateway.ask(lambda reader: reader.jobs.listed(ME.principal, ended=True))
    return job


async def over(runtime: Runtime) -> JobEnded:
    job = await the_job(runtime)
    with trio.fail_after(20):
        await runtime.gateway.jobs.more(job.job_id, 2**40)
    ended = (await the_job(runtime)).ended
    assert ended is not None
    return ended


def alive(job: SessionJob) -> int:
    return len(processes.marked(job.started.mark))


def calls(job: SessionJob, *named: tuple[str, dict[str, object]]) -> FakeProvider:
    """A model that makes these calls about a job, one a turn, and is done."""
    turns = [says("", ToolCall(f"c{n}", tool, {"job_id": job.job_id, **rest})) for n, (tool, rest) in enumerate(named)]
    return FakeProvider(*turns, says("done"))


async def allow(runtime: Runtime, run_id: RunId, count: int = 1) -> ApprovalRequested:
    asked = await runtime.until(run_id, ApprovalRequested, count)
    await runtime.do(DecideApproval(asked.approval_id, granted=True))
    return asked


def results(tape: Tape) -> list[str]:
    return [each.text for each in tape.of(ToolFinished)]


async def test_a_job_lives_on_when_its_run_is_done_and_a_later_run_uses_it(folder: Path, sandbox: Sandbox) -> None:
    async with open_fake_runtime(folder, sandbox=sandbox) as runtime:
        first = await runtime.start("go", FakeProvider(says("", CAT), says("it runs")))
        asked = await allow(runtime, first.run_id)
        assert "starts /" in asked.prompt
        assert "in sandbox tier 4" in asked.prompt
        tape = await runtime.ended(first.run_id)
        assert tape.end == (RunState.DONE, "final_answer")
        assert tape.one(ToolStarted).sandbox_tier == 4
        assert "sandbox tier 4 isolated" in results(tape)[0]
        job = await the_job(runtime)
        model = calls(
            job,
            ("process.input", {"text": "hello\n", "eof": False}),
            ("process.output", {"since": 0, "wait_s": 20}),
            ("process.stop", {}),
            ("process.output", {"since": 0}),
        )
        second = await runtime.start("use it", model, session=in_session(first))
        asked = await allow(runtime, second.run_id)
        assert 'input "hello\\n"' in asked.prompt
        tape = await runtime.ended(second.run_id)
        written, read, stopped, after = results(tape)
        assert written == f"wrote 6 bytes to job {job.job_id}; sandbox tier 4"
        assert read == f"job {job.job_id} is running; bytes 0 to 6 of 6; sandbox tier 4\nhello\n"
        assert stopped.startswith(f"job {job.job_id} stopped by run {second.run_id} (")
        assert after.endswith("; bytes 0 to 6 of 6; sandbox tier 4\nhello\n")
        assert alive(job) == 0


async def test_what_is_written_to_an_interpreter_is_asked_for_every_time(folder: Path, sandbox: Sandbox) -> None:
    async with open_fake_runtime(folder, sandbox=sandbox, config=allowing("process.*")) as runtime:
        first = await runtime.start("go", FakeProvider(says("", SHELL), says("it runs")))
        await allow(runtime, first.run_id)
        await runtime.ended(first.run_id)
        job = await the_job(runtime)
        model = calls(
            job,
            ("process.input", {"text": "echo $((6*7))\n"}),
            ("process.input", {"text": "exit 3\n"}),
            ("process.output", {"wait_s": 20, "since": 3}),
        )
        second = await runtime.start("use it", model, session=in_session(first))
        first_asked, second_asked = await allow(runtime, second.run_id), await allow(runtime, second.run_id, 2)
        assert 'input "echo $((6*7))\\n"' in first_asked.prompt
        assert "opaque: sh can start any other program, so what it reads may be code" in first_asked.prompt
        assert (first_asked.pattern, second_asked.pattern) == (None, None)
        tape = await runtime.ended(second.run_id)
        assert [each.outcome for each in tape.of(PolicyDecision)] == ["ask", "allow", "ask", "allow", "allow"]
        assert "exited with code 3; bytes 3 to 3 of 3" in results(tape)[-1]
        piece = await runtime.gateway.jobs.read(job.job_id, 0, 100)
        assert (piece.data, (await over(runtime)).code) == (b"42\n", 3)


async def test_an_input_that_changed_between_the_question_and_the_answer_is_another(
    folder: Path, sandbox: Sandbox
) -> None:
    """The job that a person was asked about has ended: nothing is written to anything."""
    async with open_fake_runtime(folder, sandbox=sandbox) as runtime:
        first = await runtime.start("go", FakeProvider(says("", CAT), says("it runs")))
        await allow(runtime, first.run_id)
        await runtime.ended(first.run_id)
        job = await the_job(runtime)
        second = await runtime.start("use it", calls(job, ("process.input", {"text": "x"})), session=in_session(first))
        asked = await runtime.until(second.run_id, ApprovalRequested)
        await runtime.do(StopJob(job.job_id))
        await runtime.do(DecideApproval(asked.approval_id, granted=True))
        tape = await runtime.ended(second.run_id)
        assert tape.of(PolicyDecision)[-1].outcome == "deny"
        assert "is over: stopped by user:me" in tape.of(PolicyDecision)[-1].reason


async def test_a_cancelled_runs_jobs_are_dead_when_its_tape_says_that_it_was(folder: Path, sandbox: Sandbox) -> None:
    waits = trio.Event()

    async def wait() -> None:
        waits.set()
        await trio.sleep_forever()

    async with open_fake_runtime(folder, sandbox=sandbox, config=allowing("process.start")) as runtime:
        run = await runtime.start("go", FakeProvider(says("", CAT), [wait]))
        await waits.wait()
        job = await the_job(runtime)
        assert job.ended is None
        await runtime.do(CancelRun(run.run_id))
        tape = await runtime.ended(run.run_id)
        assert tape.end == (RunState.CANCELLED, "cancelled")
        assert alive(job) == 0
        assert (await over(runtime)).ending == "run_cancelled"


async def test_the_tree_shows_a_runs_call_its_processes_and_the_jobs_beside(folder: Path, sandbox: Sandbox) -> None:
    (folder / "work" / "log").write_text("a line\n")
    tail = ToolCall("long", "process.run", {"argv": ["tail", "-f", "log"]})
    async with open_fake_runtime(folder, sandbox=sandbox, config=allowing("process.*")) as runtime:
        run = await runtime.start("go", FakeProvider(says("", CAT), says("", tail), says("done")))
        await runtime.until(run.run_id, ToolOutput)
        tree = await runtime.gateway.tree(run.run_id, ME)
        assert (tree.run.state, tree.turn) == (RunState.RUNNING, 2)
        (call,), (job,) = tree.calls, tree.jobs
        assert (call.call_id, call.tool, call.state) == ("long", "process.run", "started")
        (program,) = [each for each in call.processes if each.argv[1:] == ("-f", "log")]
        assert program.state in "SRD"
        assert program.rss_bytes > 0
        assert program.parent in {each.pid for each in call.processes}
        assert any(each.argv[0].endswith("cat") for each in job.processes)
        await runtime.do(CancelRun(run.run_id))
        await runtime.ended(run.run_id)
        after = await runtime.gateway.tree(run.run_id, ME)
        assert (after.run.state, after.calls, after.jobs) == (RunState.CANCELLED, (), ())
