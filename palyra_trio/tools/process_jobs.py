"""process.start, process.output, process.input and process.stop: long jobs, such as a server, a watcher or an interpreter.

A job belongs to its session: it outlives the call, the turn and the run. It is started as `process.run` runs a program:
in the same sandbox, judged by the same facts. What is written to its input is judged so too, since to an interpreter it
is code.
"""

import json
import secrets
from typing import Annotated

import attrs
import trio
from msgspec import Meta

from palyra_trio.core.errors import InvalidArgument, StateConflict
from palyra_trio.core.jobs import Piece, SessionJob, state_of
from palyra_trio.core.policy import ProgramFacts
from palyra_trio.tools.capture import capture_in_words
from palyra_trio.tools.command import Command, argument_lines, check, find
from palyra_trio.tools.job import MIB, Job, Outcome, Take
from palyra_trio.tools.process_tree import Killed
from palyra_trio.tools.registry import Plan, Tool, ToolContext, ToolResult, ToolSpec
from palyra_trio.tools.sandbox import Sandbox
from palyra_trio.tools.session_jobs import NewJob, SessionJobs

DEADLINE_S, MAX_DEADLINE_S = 3600, 24 * 3600
OUTPUT_BYTES = 256 * MIB  # of a whole job, which is killed beyond it; the last of them are kept
TAIL_BYTES, MAX_READ_BYTES = 16 * 1024, 64 * 1024
MAX_WAIT_S = 300
UNCAPTURED = "a long job works in the workspace itself, so that editors and watchers see what it does at once"
MAX_INPUT_CHARACTERS = 64 * 1024

JobId = Annotated[str, Meta(min_length=1, description="The id that process.start returned.")]


@attrs.frozen
class StartArguments:
    argv: Annotated[
        tuple[str, ...],
        Meta(
            min_length=1,
            description='The program and its arguments, each by itself: ["npm", "run", "dev"]. No shell reads it.',
        ),
    ]
    cwd: Annotated[str, Meta(description="The folder to run it in, relative to the workspace.")] = "."
    deadline_s: Annotated[
        int, Meta(ge=1, le=MAX_DEADLINE_S, description="Kill it and all that it started after so many seconds.")
    ] = DEADLINE_S


@attrs.frozen
class OutputArguments:
    job_id: JobId
    since: (
        Annotated[int, Meta(ge=0, description="Read from this byte of the output on, instead of its end.")] | None
    ) = None
    tail_bytes: Annotated[
        int, Meta(ge=1, le=MAX_READ_BYTES, description="Without `since`: read so many bytes of the output's end.")
    ] = TAIL_BYTES
    wait_s: Annotated[
        int,
        Meta(
            ge=0,
            le=MAX_WAIT_S,
            description="Wait at most so many seconds for output after `since` (without it: after all that there is "
            "now), or for the job's end.",
        ),
    ] = 0


@attrs.frozen
class InputArguments:
    job_id: JobId
    text: Annotated[
        str,
        Meta(max_length=MAX_INPUT_CHARACTERS, description='What to write, exactly: end a line with "\\n".'),
    ] = ""
    eof: Annotated[bool, Meta(description="Close the job's input after it.")] = False


@attrs.frozen
class StopArguments:
    job_id: JobId


def job_tools(sandbox: Sandbox, threads: trio.CapacityLimiter) -> tuple[Tool, ...]:
    """Return the four tools. A job runs in the tier in force."""
    return _start(sandbox, threads), _OUTPUT, _INPUT, _STOP


# --- process.start ---


def _start(sandbox: Sandbox, threads: trio.CapacityLimiter) -> Tool:
    spec = ToolSpec(
        name="process.start",
        description=(
            "Start a program that goes on while you do other things, such as a server or an interpreter, and return its "
            "job id at once. process.output reads what it writes, process.input writes to it, process.stop ends it. It "
            "sees the workspace and the system's programs, and has no network beyond itself. It lives on when the run "
            "is done, until its deadline, the session's end or the daemon's."
        ),
        arguments=StartArguments,
        capability="process.exec",
        risk="high",
        read_only=False,
        idempotent=False,
    )

    async def found(arguments: StartArguments, context: ToolContext) -> Command:
        return await trio.to_thread.run_sync(find, sandbox, arguments.argv, arguments.cwd, context, limiter=threads)

    def shown(command: Command, arguments: StartArguments) -> str:
        limit = f", for at most {arguments.deadline_s} s, also when the run is done"
        return "\n".join((command.shown("starts", limit), capture_in_words(UNCAPTURED)))

    async def plan(arguments: StartArguments, context: ToolContext) -> Plan:
        await sandbox.prove()
        check(sandbox, arguments.argv)
        _jobs(context).check_room()
        command = await found(arguments, context)
        words = shown(command, arguments)
        return Plan(words, program=command.facts, sandbox_tier=sandbox.tier, uncaptured=UNCAPTURED)

    async def run(arguments: StartArguments, context: ToolContext, plan: Plan) -> ToolResult:
        command = await found(arguments, context)
        if shown(command, arguments) != plan.preview:
            raise StateConflict(
                f"{arguments.argv[0]} is not the program any more that was looked at", remedy="call it again"
            )
        sandbox.check(plan.sandbox_tier)
        program, mark = command.program, secrets.token_hex(16)
        bounds = attrs.evolve(sandbox.bounds, output_bytes=OUTPUT_BYTES)
        job = Job(program.path, command.argv, str(context.workspace.root), command.cwd, mark, bounds=bounds)

        async def work(take: Take, killed: Killed, stdin: int) -> Outcome:
            return await sandbox.run(job, plan.sandbox_tier, take, killed, stdin)

        new = NewJob(
            program.path, command.argv, command.cwd, program.why_opaque, sandbox.tier, mark, arguments.deadline_s
        )
        begun = await _jobs(context).start(new, work)
        return ToolResult(
            f"started job {begun.job_id}, for at most {arguments.deadline_s} s; {sandbox.report.in_force}\n"
            "process.output reads what it writes"
        )

    return Tool(spec, plan, run)


# --- process.output ---


async def _plan_output(arguments: OutputArguments, context: ToolContext) -> Plan:
    job = await _jobs(context).find(arguments.job_id)
    return Plan(f"reads what job {job.job_id} wrote")


async def _read(arguments: OutputArguments, context: ToolContext, plan: Plan) -> ToolResult:
    jobs = _jobs(context)
    since = -arguments.tail_bytes if arguments.since is None else arguments.since
    if arguments.wait_s:
        after = since
        if arguments.since is None:
            after = (await jobs.read(arguments.job_id, -1, 1)).size
        with trio.move_on_after(arguments.wait_s):
            await jobs.more(arguments.job_id, after)
    piece = await jobs.read(arguments.job_id, since, MAX_READ_BYTES)
    job = await jobs.find(arguments.job_id)
    head = f"job {job.job_id} {_standing(job)}; {_range(piece, since)}; {_tier(job)}"
    return ToolResult("\n".join((head, *([piece.data.decode(errors="replace")] if piece.data else []))))


def _standing(job: SessionJob) -> str:
    return "is running" if job.ended is None else state_of(job)


def _range(piece: Piece, since: int) -> str:
    words = f"bytes {piece.offset} to {piece.after} of {piece.size}"
    if 0 <= since < piece.offset:
        words += f" (those from {since} on are not kept any more)"
    return words


_OUTPUT = Tool(
    ToolSpec(
        name="process.output",
        description=(
            "Read what a job wrote, both of its streams together: the end of it, or what follows byte `since`. With "
            "`wait_s`, wait for more, or for the job's end. Returns how the job stands, which bytes these are, and them."
        ),
        arguments=OutputArguments,
        capability="run.local",
        risk="low",
        read_only=True,
        idempotent=True,
        untrusted_output=True,
    ),
    _plan_output,
    _read,
)


# --- process.input ---


async def _plan_input(arguments: InputArguments, context: ToolContext) -> Plan:
    if not arguments.text and not arguments.eof:
        raise InvalidArgument("there is nothing to write", remedy="give text, or eof to close the job's input")
    if any("\ud800" <= char <= "\udfff" for char in arguments.text):
        raise InvalidArgument("text holds half a character (a surrogate)")
    job = await _running(arguments.job_id, context)
    started = job.started
    facts = ProgramFacts(started.program, len(started.argv), bool(started.opaque), network=False, cwd_inside=True)
    words = _input_shown(job, arguments)
    return Plan(words, program=facts, sandbox_tier=started.sandbox_tier, uncaptured=UNCAPTURED)


def _input_shown(job: SessionJob, arguments: InputArguments) -> str:
    started = job.started
    lines = [f"writes to job {job.job_id}, which runs {started.program}"]
    if started.opaque:
        lines.append(f"  opaque: {started.opaque}, so what it reads may be code")
    lines += [f"in {started.cwd}", *argument_lines(started.argv)]
    lines += [f"  input {json.dumps(line, ensure_ascii=False)}" for line in arguments.text.splitlines(keepends=True)]
    if arguments.eof:
        lines.append("  and closes its input")
    return "\n".join((*lines, capture_in_words(UNCAPTURED)))


async def _write(arguments: InputArguments, context: ToolContext, plan: Plan) -> ToolResult:
    job = await _running(arguments.job_id, context)
    data = arguments.text.encode()
    taken = await _jobs(context).write(job.job_id, data, close=arguments.eof)
    if taken < len(data):
        text = f"job {job.job_id} took {taken} of {len(data)} bytes and reads no more for now; {_tier(job)}"
        return ToolResult(text, "not_read")
    closed = ", and closed its input" if arguments.eof else ""
    return ToolResult(f"wrote {taken} bytes to job {job.job_id}{closed}; {_tier(job)}")


_INPUT = Tool(
    ToolSpec(
        name="process.input",
        description="Write text to what a job reads (its standard input), and close that if nothing more will come.",
        arguments=InputArguments,
        capability="process.exec",
        risk="high",
        read_only=False,
        idempotent=False,
    ),
    _plan_input,
    _write,
)


# --- process.stop ---


async def _plan_stop(arguments: StopArguments, context: ToolContext) -> Plan:
    job = await _running(arguments.job_id, context)
    return Plan(
        "\n".join((f"stops job {job.job_id}, which runs {job.started.program}", *argument_lines(job.started.argv)))
    )


async def _stop(arguments: StopArguments, context: ToolContext, plan: Plan) -> ToolResult:
    job = await _jobs(context).stop(arguments.job_id)
    return ToolResult(f"job {job.job_id} {state_of(job)}; {_tier(job)}")


_STOP = Tool(
    ToolSpec(
        name="process.stop",
        description="Kill a job and all that it started.",
        arguments=StopArguments,
        capability="run.local",
        risk="low",
        read_only=False,
        idempotent=False,
    ),
    _plan_stop,
    _stop,
)


def _jobs(context: ToolContext) -> SessionJobs:
    if context.jobs is None:
        raise StateConflict("no session keeps jobs here")
    return context.jobs


async def _running(job_id: str, context: ToolContext) -> SessionJob:
    job = await _jobs(context).find(job_id)
    if job.ended is not None:
        raise StateConflict(f"job {job.job_id} is over: {state_of(job)}", remedy="process.start starts another")
    return job


def _tier(job: SessionJob) -> str:
    return f"sandbox tier {job.started.sandbox_tier}"
