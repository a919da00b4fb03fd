"""The tools of long jobs: what a person is shown of them, what they refuse, and what they tell the model."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio
import trio.testing

from palyra_trio.core.errors import Busy, InvalidArgument, NotFound, StateConflict
from palyra_trio.core.jobs import Piece, SessionJob
from palyra_trio.core.session_events import JobEnded, JobStarted
from palyra_trio.tools.process_jobs import MAX_READ_BYTES, TAIL_BYTES, UNCAPTURED, job_tools
from palyra_trio.tools.registry import Plan, Tool, ToolContext, ToolResult
from palyra_trio.tools.sandbox import NO_SANDBOX, Sandbox, SandboxSettings, SandboxTooWeak, open_sandbox
from palyra_trio.tools.sandbox_report import SandboxReport, TierReport
from palyra_trio.tools.session_jobs import NewJob, Work
from palyra_trio.tools.workspace import Workspace
from tests.tools.zoo import NOBODY

PYTHON = JobStarted("J1", "R1", "c1", "/usr/bin/python3", ("python3", "-i"), "/w", 4, "m", 9, "python3 can start any")


@attrs.define
class FakeJobs:
    """A session with one job, whose output and end a test decides."""

    job: SessionJob = SessionJob("S1", "user:me", 0, PYTHON)
    output: bytes = b""
    kept: int = 0
    takes: int = 2**20
    room: bool = True
    started: list[NewJob] = attrs.Factory(list)
    written: list[tuple[bytes, bool]] = attrs.Factory(list)
    waited: list[int] = attrs.Factory(list)
    more_comes: bytes = b""

    def check_room(self) -> None:
        if not self.room:
            raise Busy("the session has 8 jobs")

    async def start(self, new: NewJob, work: Work) -> SessionJob:
        await trio.lowlevel.checkpoint()
        self.started.append(new)
        return self.job

    async def find(self, job_id: str) -> SessionJob:
        await trio.lowlevel.checkpoint()
        if job_id != self.job.job_id:
            raise NotFound(f"the session has no job {job_id!r}")
        return self.job

    async def read(self, job_id: str, since: int, most: int) -> Piece:
        await self.find(job_id)
        size = len(self.output)
        offset = max(size + since if since < 0 else since, size - self.kept if self.kept else 0, 0)
        return Piece(offset, self.output[offset:][:most], size, self.job.ended is not None)

    async def more(self, job_id: str, after: int) -> None:
        self.waited.append(after)
        if not self.more_comes:
            await trio.sleep_forever()
        await trio.lowlevel.checkpoint()
        self.output += self.more_comes

    async def write(self, job_id: str, data: bytes, *, close: bool) -> int:
        await trio.lowlevel.checkpoint()
        self.written.append((data, close))
        return min(len(data), self.takes)

    async def stop(self, job_id: str) -> SessionJob:
        await trio.lowlevel.checkpoint()
        self.job = over(self.job, JobEnded("J1", "stopped", by="run R1", pids_seen=3, elapsed_ms=4))
        return self.job


def over(job: SessionJob, ended: JobEnded) -> SessionJob:
    return attrs.evolve(job, ended=ended, ended_ms=5)


@pytest.fixture
async def sandbox() -> AsyncIterator[Sandbox]:
    async with open_sandbox(SandboxSettings(user=str(NOBODY)), Path("/home/me")) as sandbox:
        yield sandbox


@pytest.fixture
def tools(sandbox: Sandbox) -> dict[str, Tool]:
    return {tool.spec.name: tool for tool in job_tools(sandbox, trio.CapacityLimiter(2))}


@pytest.fixture
def jobs() -> FakeJobs:
    return FakeJobs()


@pytest.fixture
def context(kernel_workspace: Workspace, jobs: FakeJobs) -> ToolContext:
    return ToolContext(kernel_workspace, now=lambda: 0.0, jobs=jobs)


async def plan(tools: dict[str, Tool], context: ToolContext, name: str, **arguments: Any) -> Plan:
    tool = tools[name]
    return await tool.plan(tool.spec.parse(arguments), context)


async def call(tools: dict[str, Tool], context: ToolContext, name: str, **arguments: Any) -> ToolResult:
    tool = tools[name]
    parsed = tool.spec.parse(arguments)
    return await tool.run(parsed, context, await tool.plan(parsed, context))


# --- process.start ---


async def test_a_start_is_judged_as_a_run_of_the_program_is(
    tools: dict[str, Tool], context: ToolContext, root: Path
) -> None:
    planned = await plan(tools, context, "process.start", argv=["sh", "-c", "true"], deadline_s=90)
    assert planned.program is not None
    assert attrs.astuple(planned.program)[1:] == (3, True, False, True)
    assert (planned.sandbox_tier, planned.uncaptured) == (4, UNCAPTURED)
    spec = tools["process.start"].spec
    assert (spec.capability, spec.risk, spec.read_only, spec.idempotent) == ("process.exec", "high", False, False)
    lines = planned.preview.splitlines()
    assert lines[0].startswith("starts /")
    assert lines[2] == f"in {root}, for at most 90 s, also when the run is done"
    assert lines[3:6] == ['  argv[0] "sh"', '  argv[1] "-c"', '  argv[2] "true"']
    assert "NOT captured" in lines[6]


async def test_a_start_tells_the_job_the_tier_and_the_deadline(
    tools: dict[str, Tool], context: ToolContext, jobs: FakeJobs, root: Path
) -> None:
    result = await call(tools, context, "process.start", argv=["sleep", "9"])
    assert result.text.startswith("started job J1, for at most 3600 s; sandbox tier 4 isolated (bubblewrap ")
    (new,) = jobs.started
    assert (new.argv, new.cwd, new.opaque, new.sandbox_tier, new.deadline_s) == (("sleep", "9"), str(root), "", 4, 3600)
    assert len(new.mark) == 32


async def test_nobody_is_asked_for_a_job_that_there_is_no_room_for(
    tools: dict[str, Tool], context: ToolContext, jobs: FakeJobs
) -> None:
    jobs.room = False
    with pytest.raises(Busy):
        await plan(tools, context, "process.start", argv=["sleep", "9"])


async def test_a_program_that_was_changed_since_is_not_started(
    tools: dict[str, Tool], context: ToolContext, jobs: FakeJobs, root: Path
) -> None:
    (root / "tool").write_text("#!/bin/sh\n")
    (root / "tool").chmod(0o755)
    tool = tools["process.start"]
    arguments = tool.spec.parse({"argv": ["./tool"]})
    planned = await tool.plan(arguments, context)
    (root / "tool").write_text("#!/bin/sh\ntouch harm\n")
    with pytest.raises(StateConflict, match="not the program any more"):
        await tool.run(arguments, context, planned)
    assert not jobs.started


async def test_a_sandbox_that_became_weaker_since_is_refused(
    tools: dict[str, Tool], sandbox: Sandbox, context: ToolContext, jobs: FakeJobs
) -> None:
    tool = tools["process.start"]
    arguments = tool.spec.parse({"argv": ["sleep", "9"]})
    planned = await tool.plan(arguments, context)
    weaker = attrs.evolve(sandbox, report=SandboxReport((TierReport(3, True),)))
    (start, *_) = job_tools(weaker, trio.CapacityLimiter(1))
    with pytest.raises(SandboxTooWeak):
        await start.run(arguments, context, planned)
    assert not jobs.started


@pytest.mark.parametrize("deadline_s", [0, 24 * 3600 + 1])
async def test_a_deadline_has_bounds(tools: dict[str, Tool], deadline_s: int) -> None:
    with pytest.raises(InvalidArgument):
        tools["process.start"].spec.parse({"argv": ["sleep"], "deadline_s": deadline_s})


async def test_where_no_session_keeps_jobs_there_are_none(tools: dict[str, Tool], context: ToolContext) -> None:
    with pytest.raises(StateConflict):
        await plan(tools, attrs.evolve(context, jobs=None), "process.start", argv=["sleep", "9"])


# --- process.output ---


async def test_output_is_its_end_unless_a_place_is_named(
    tools: dict[str, Tool], context: ToolContext, jobs: FakeJobs
) -> None:
    jobs.output = b"0123456789"
    tail = await call(tools, context, "process.output", job_id="J1", tail_bytes=3)
    assert tail.text == "job J1 is running; bytes 7 to 10 of 10; sandbox tier 4\n789"
    since = await call(tools, context, "process.output", job_id="J1", since=5)
    assert since.text == "job J1 is running; bytes 5 to 10 of 10; sandbox tier 4\n56789"
    jobs.kept = 2
    gone = await call(tools, context, "process.output", job_id="J1", since=5)
    assert gone.text.startswith("job J1 is running; bytes 8 to 10 of 10 (those from 5 on are not kept any more); ")
    assert TAIL_BYTES <= MAX_READ_BYTES


async def test_it_waits_for_more_and_no_longer_than_it_is_told(
    context: ToolContext, jobs: FakeJobs, autojump_clock: trio.testing.MockClock
) -> None:
    tools = {tool.spec.name: tool for tool in job_tools(NO_SANDBOX, trio.CapacityLimiter(1))}
    jobs.output = b"before\n"
    began = trio.current_time()
    nothing = await call(tools, context, "process.output", job_id="J1", since=7, wait_s=9)
    assert trio.current_time() - began == 9
    assert nothing.text == "job J1 is running; bytes 7 to 7 of 7; sandbox tier 4"
    jobs.more_comes = b"after\n"
    more = await call(tools, context, "process.output", job_id="J1", wait_s=9)
    assert more.text.endswith("\nbefore\nafter\n")
    assert jobs.waited == [7, 7]


async def test_how_a_job_ended_is_told_with_the_receipt(
    tools: dict[str, Tool], context: ToolContext, jobs: FakeJobs
) -> None:
    jobs.job = over(jobs.job, JobEnded("J1", "deadline", pids_seen=2, elapsed_ms=9))
    ended = await call(tools, context, "process.output", job_id="J1")
    assert ended.text.startswith("job J1 killed at its deadline (2 processes killed in 9 ms); ")
    assert tools["process.output"].spec.untrusted_output


# --- process.input ---


async def test_a_person_sees_every_line_that_an_interpreter_is_to_read(
    tools: dict[str, Tool], context: ToolContext
) -> None:
    planned = await plan(
        tools, context, "process.input", job_id="J1", text='import os\nos.system("\x1b[2Krm -r x")\n…', eof=True
    )
    *shown, captured = planned.preview.splitlines()
    assert "NOT captured" in captured
    assert planned.uncaptured == UNCAPTURED
    assert shown == [
        "writes to job J1, which runs /usr/bin/python3",
        "  opaque: python3 can start any, so what it reads may be code",
        "in /w",
        '  argv[0] "python3"',
        '  argv[1] "-i"',
        '  input "import os\\n"',
        '  input "os.system(\\"\\u001b[2Krm -r x\\")\\n"',
        '  input "…"',
        "  and closes its input",
    ]
    assert planned.program is not None
    assert attrs.astuple(planned.program) == ("/usr/bin/python3", 2, True, False, True)
    assert planned.sandbox_tier == 4
    spec = tools["process.input"].spec
    assert (spec.capability, spec.risk, spec.read_only, spec.idempotent) == ("process.exec", "high", False, False)


async def test_input_is_written_as_it_is_and_a_job_that_does_not_read_is_told(
    tools: dict[str, Tool], context: ToolContext, jobs: FakeJobs
) -> None:
    result = await call(tools, context, "process.input", job_id="J1", text="é\n", eof=True)
    assert (result.text, result.error) == ("wrote 3 bytes to job J1, and closed its input; sandbox tier 4", "")
    assert jobs.written == [("é\n".encode(), True)]
    jobs.takes = 1
    stuck = await call(tools, context, "process.input", job_id="J1", text="abc")
    assert (stuck.text, stuck.error) == (
        "job J1 took 1 of 3 bytes and reads no more for now; sandbox tier 4",
        "not_read",
    )


@pytest.mark.parametrize("arguments", [{}, {"text": ""}, {"text": "\ud800"}])
async def test_input_that_cannot_be_is_refused_before_it_is_asked_for(
    tools: dict[str, Tool], context: ToolContext, arguments: dict[str, Any]
) -> None:
    with pytest.raises(InvalidArgument):
        await plan(tools, context, "process.input", job_id="J1", **arguments)


@pytest.mark.parametrize("name", ["process.input", "process.stop"])
async def test_a_job_that_is_over_takes_nothing(
    tools: dict[str, Tool], context: ToolContext, jobs: FakeJobs, name: str
) -> None:
    jobs.job = over(jobs.job, JobEnded("J1", "exited", 0))
    more = {"text": "x"} if name == "process.input" else {}
    with pytest.raises(StateConflict, match="is over: exited with code 0"):
        await plan(tools, context, name, job_id="J1", **more)


# --- process.stop ---


async def test_a_stop_shows_what_it_stops_and_tells_the_receipt(tools: dict[str, Tool], context: ToolContext) -> None:
    planned = await plan(tools, context, "process.stop", job_id="J1")
    assert planned.preview.splitlines() == [
        "stops job J1, which runs /usr/bin/python3",
        '  argv[0] "python3"',
        '  argv[1] "-i"',
    ]
    assert planned.program is None
    result = await call(tools, context, "process.stop", job_id="J1")
    assert result.text == "job J1 stopped by run R1 (3 processes killed in 4 ms); sandbox tier 4"


@pytest.mark.parametrize("name", ["process.output", "process.input", "process.stop"])
async def test_a_job_of_no_session_of_ours_is_none(tools: dict[str, Tool], context: ToolContext, name: str) -> None:
    more = {"text": "x"} if name == "process.input" else {}
    with pytest.raises(NotFound):
        await plan(tools, context, name, job_id="J2", **more)
