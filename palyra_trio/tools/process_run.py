"""process.run: one program with its arguments, in the sandbox, to its end.

There is no shell in between: a shell is a program like any other, and is judged as one.
"""

import json
import secrets
import signal
from typing import Annotated

import attrs
import trio
from msgspec import Meta

from palyra_trio.core.errors import InvalidArgument, PalyraError, StateConflict
from palyra_trio.core.policy import ProgramFacts
from palyra_trio.tools.job import Job, KillReceipt, Outcome, Stream
from palyra_trio.tools.programs import Program, look_up
from palyra_trio.tools.registry import Plan, Tool, ToolContext, ToolResult, ToolSpec
from palyra_trio.tools.sandbox import Sandbox, SandboxTooWeak

MAX_TIMEOUT_S = 24 * 3600


@attrs.frozen
class RunArguments:
    argv: Annotated[
        tuple[str, ...],
        Meta(
            min_length=1,
            description='The program and its arguments, each by itself: ["ls", "-l", "src"]. No shell reads it.',
        ),
    ]
    cwd: Annotated[str, Meta(description="The folder to run it in, relative to the workspace.")] = "."
    timeout_s: (
        Annotated[
            int, Meta(ge=1, le=MAX_TIMEOUT_S, description="Kill it and all that it started after so many seconds.")
        ]
        | None
    ) = None


def run_tool(sandbox: Sandbox, threads: trio.CapacityLimiter) -> Tool:
    """Return the tool. It plans for the tier in force, and runs in that one or a higher one."""
    spec = ToolSpec(
        name="process.run",
        description=(
            "Run a program in the workspace and wait for its end. It gets no input. It sees the workspace and the "
            "system's programs, has no network, and what it started is killed with it. Returns its exit code and output."
        ),
        arguments=RunArguments,
        capability="process.exec",
        risk="high",
        read_only=False,
        idempotent=False,
        untrusted_output=True,
    )

    async def plan(arguments: RunArguments, context: ToolContext) -> Plan:
        if not sandbox.tier:
            strongest = sandbox.report.tiers[0]
            raise SandboxTooWeak(f"no program can be run here: {strongest.reason}", remedy=strongest.remedy)
        _check(arguments.argv)
        program, cwd = await trio.to_thread.run_sync(_look, sandbox, arguments, context, limiter=threads)
        facts = ProgramFacts(
            program.path, len(arguments.argv), bool(program.why_opaque), network=False, cwd_inside=True
        )
        return Plan(_preview(program, arguments, cwd), program=facts, sandbox_tier=sandbox.tier)

    async def run(arguments: RunArguments, context: ToolContext, plan: Plan) -> ToolResult:
        program, cwd = await trio.to_thread.run_sync(_look, sandbox, arguments, context, limiter=threads)
        if plan.program is None or _preview(program, arguments, cwd) != plan.preview:
            raise StateConflict(
                f"{arguments.argv[0]} is not the program any more that was looked at", remedy="call it again"
            )
        root = str(context.workspace.root)
        job = Job(program.path, arguments.argv, root, cwd, secrets.token_hex(16), bounds=sandbox.bounds)
        transcript = _Transcript(context)
        began = trio.current_time()
        outcome: Outcome | None = None
        with trio.move_on_after(arguments.timeout_s or float("inf")):
            try:
                outcome = await sandbox.run(job, plan.sandbox_tier, transcript.take, transcript.killed)
            except PalyraError as error:
                return ToolResult("\n".join((str(error), *transcript.lines())), error.code)
        head = f"{_ending(outcome, arguments, sandbox)}; {trio.current_time() - began:.1f} s; {sandbox.report.in_force}"
        return ToolResult("\n".join((head, *transcript.lines())), "timeout" if outcome is None else "")

    return Tool(spec, plan, run)


def _check(argv: tuple[str, ...]) -> None:
    for number, word in enumerate(argv):
        if "\0" in word:
            raise InvalidArgument(f"argv[{number}] holds a zero byte, which no argument can")
        if any("\ud800" <= char <= "\udfff" for char in word):
            raise InvalidArgument(f"argv[{number}] holds half a character (a surrogate)")
    if not argv[0]:
        raise InvalidArgument("argv[0] is empty", remedy="name a program")


def _look(sandbox: Sandbox, arguments: RunArguments, context: ToolContext) -> tuple[Program, str]:
    """Return the program, and the folder to run it in as an absolute path without symlinks."""
    found = context.workspace.stat(arguments.cwd)
    root = context.workspace.root
    if found.kind != "folder":
        raise InvalidArgument(f"{arguments.cwd} is no folder", remedy="cwd names a folder of the workspace")
    if not context.workspace.lies_at(root):
        raise StateConflict(f"the workspace is not at {root} any more", remedy="open it again")
    cwd = str(root) if found.path == "." else str(root / found.path)
    return look_up(sandbox.view, arguments.argv[0], cwd, str(root)), cwd


def _preview(program: Program, arguments: RunArguments, cwd: str) -> str:
    lines = [f"runs {program.path}"]
    if program.digest:
        lines.append(f"  its content now: sha256 {program.digest}")
    if program.why_opaque:
        lines.append(f"  opaque: {program.why_opaque}")
    lines.append(f"in {cwd}, for at most {arguments.timeout_s} s" if arguments.timeout_s else f"in {cwd}")
    lines += [f"  argv[{number}] {json.dumps(word, ensure_ascii=False)}" for number, word in enumerate(arguments.argv)]
    return "\n".join(lines)


def _ending(outcome: Outcome | None, arguments: RunArguments, sandbox: Sandbox) -> str:
    if outcome is None:
        return f"killed with all that it started after {arguments.timeout_s} s"
    if outcome.capped:
        return f"killed with all that it started: it wrote more than {sandbox.bounds.output_bytes} bytes"
    ending = f"exit code {outcome.code}"
    if outcome.code > 128 and outcome.code - 128 in set(signal.Signals):
        ending += f" ({signal.Signals(outcome.code - 128).name})"
    if outcome.receipt is not None:
        ending += f", and {outcome.receipt.pids_seen} processes that it had left were killed"
    return ending


class _Transcript:
    """The output of a program as it was read, in runs of one stream each, and what became of its tree."""

    def __init__(self, context: ToolContext) -> None:
        self._context = context
        self._runs: list[tuple[Stream, bytearray]] = []
        self._receipts: list[KillReceipt] = []

    def take(self, stream: Stream, data: bytes) -> None:
        if not self._runs or self._runs[-1][0] != stream:
            self._runs.append((stream, bytearray()))
        self._runs[-1][1].extend(data)
        self._context.output(stream, data)

    def killed(self, receipt: KillReceipt) -> None:
        self._receipts.append(receipt)
        self._context.killed(receipt)

    def lines(self) -> list[str]:
        lines = [
            f"[{each.survivors} of {each.pids_seen} processes are still alive]"
            for each in self._receipts
            if each.survivors
        ]
        for stream, data in self._runs:
            lines += [f"[{stream}]", data.decode(errors="replace").removesuffix("\n")]
        return lines
