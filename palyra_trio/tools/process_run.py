"""process.run: one program with its arguments, in the sandbox, to its end.

There is no shell in between: a shell is a program like any other, and is judged as one.
"""

import secrets
from typing import Annotated

import attrs
import trio
from msgspec import Meta

from palyra_trio.core.errors import PalyraError, StateConflict
from palyra_trio.core.jobs import code_in_words
from palyra_trio.core.policy import ToolResource
from palyra_trio.tools.capture import capture_in_words, captured
from palyra_trio.tools.command import Command, check, find
from palyra_trio.tools.egress import Egress
from palyra_trio.tools.job import HostUse, Job, KillReceipt, Outcome
from palyra_trio.tools.reach import MAX_HOSTS, MAX_VARIABLES, Reach, opened, plan_reach, told
from palyra_trio.tools.registry import Plan, Tool, ToolContext, ToolResult, ToolSpec
from palyra_trio.tools.sandbox import Sandbox

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
    network: Annotated[
        tuple[str, ...],
        Meta(
            max_length=MAX_HOSTS,
            description=(
                "The hosts that it may talk to, as HOST or HOST:PORT (without one, 443), through the HTTP proxy that its"
                ' environment names: ["index.example", "files.example"]. It reaches no others.'
            ),
        ),
    ] = ()
    env: Annotated[
        dict[str, str],
        Meta(
            max_length=MAX_VARIABLES,
            description='Variables that a secret of the user fills, which you name: {"API_TOKEN": "secret:NAME"}.',
        ),
    ] = attrs.Factory(dict)


@attrs.frozen(kw_only=True)
class RunPlan(Plan):
    """What would be run, and what it is given beyond the workspace."""

    reach: Reach


def run_tool(sandbox: Sandbox, threads: trio.CapacityLimiter, egress: Egress | None = None) -> Tool:
    """Return the tool. It plans for the tier in force, and runs in that one or a higher one."""
    way_out = egress or Egress()
    spec = ToolSpec(
        name="process.run",
        description=(
            "Run a program in the workspace and wait for its end. It gets no input. It sees the workspace and the "
            "system's programs, has no network but to the hosts in `network`, and what it started is killed with it. "
            "Returns its exit code and output."
        ),
        arguments=RunArguments,
        capability="process.exec",
        risk="high",
        read_only=False,
        idempotent=False,
        untrusted_output=True,
    )

    async def plan(arguments: RunArguments, context: ToolContext) -> Plan:
        await sandbox.prove()
        check(sandbox, arguments.argv)
        reach = await plan_reach(arguments.network, arguments.env, sandbox, way_out, context.secrets)
        command = await found(arguments, context)
        uncaptured = await trio.to_thread.run_sync(sandbox.uncaptured, str(context.workspace.root), limiter=threads)
        return RunPlan(
            _shown(command, arguments, uncaptured, reach),
            resources=(ToolResource(spec.name), *reach.resources),
            program=attrs.evolve(command.facts, network=bool(reach.ways)),
            sandbox_tier=sandbox.tier,
            uncaptured=uncaptured,
            reach=reach,
        )

    async def run(arguments: RunArguments, context: ToolContext, plan: Plan) -> ToolResult:
        assert isinstance(plan, RunPlan)
        command = await found(arguments, context)
        if _shown(command, arguments, plan.uncaptured, plan.reach) != plan.preview:
            raise StateConflict(
                f"{arguments.argv[0]} is not the program any more that was looked at", remedy="call it again"
            )
        mark = secrets.token_hex(16)
        root = str(context.workspace.root)
        job = Job(command.program.path, command.argv, root, command.cwd, mark, bounds=sandbox.bounds)
        context.marked(mark)
        after = _Aftermath(context)
        began = trio.current_time()
        outcome: Outcome | None = None
        changed: tuple[str, ...] = ()
        layers = None if plan.uncaptured or isinstance(sandbox.layers, str) else sandbox.layers
        async with captured(layers, job, context, threads) as capture:
            try:
                with trio.move_on_after(arguments.timeout_s or float("inf")):
                    async with opened(plan.reach, context.secrets, after.contacted) as given:
                        job = attrs.evolve(capture.job, env=given.env, door=given.door)
                        outcome = await sandbox.run(
                            job, plan.sandbox_tier, context.output, after.killed, room=context.room
                        )
                if outcome is not None and not outcome.capped and not after.survivors:
                    changed = await capture.bring()
            except PalyraError as error:
                return ToolResult("\n".join((str(error), *after.lines())), error.code)
        head = f"{_ending(outcome, arguments, sandbox)}; {trio.current_time() - began:.1f} s; {sandbox.report.in_force}"
        if capture.discarded:
            head += f"; the workspace is as it was: its {capture.discarded} changes were thrown away"
        lines = (head, *after.lines(), *(["[workspace]", *changed] if changed else ()))
        return ToolResult("\n".join(lines), "timeout" if outcome is None else "")

    async def found(arguments: RunArguments, context: ToolContext) -> Command:
        return await trio.to_thread.run_sync(find, sandbox, arguments.argv, arguments.cwd, context, limiter=threads)

    return Tool(spec, plan, run)


def _shown(command: Command, arguments: RunArguments, uncaptured: str, reach: Reach) -> str:
    limit = f", for at most {arguments.timeout_s} s" if arguments.timeout_s else ""
    return "\n".join((command.shown("runs", limit), *reach.lines, capture_in_words(uncaptured)))


def _ending(outcome: Outcome | None, arguments: RunArguments, sandbox: Sandbox) -> str:
    if outcome is None:
        return f"killed with all that it started after {arguments.timeout_s} s"
    if outcome.capped:
        return f"killed with all that it started: it wrote more than {sandbox.bounds.output_bytes} bytes"
    ending = f"exit code {code_in_words(outcome.code)}"
    if outcome.receipt is not None:
        ending += f", and {outcome.receipt.pids_seen} processes that it had left were killed"
    return ending


class _Aftermath:
    """What became of a program's tree and whom it talked to, besides its output, which the context takes."""

    def __init__(self, context: ToolContext) -> None:
        self._context = context
        self._receipts: list[KillReceipt] = []
        self._uses: list[HostUse] = []

    def killed(self, receipt: KillReceipt) -> None:
        self._receipts.append(receipt)
        self._context.killed(receipt)

    def contacted(self, use: HostUse) -> None:
        self._uses.append(use)
        self._context.contacted(use)

    @property
    def survivors(self) -> bool:
        return any(each.survivors for each in self._receipts)

    def lines(self) -> list[str]:
        lines = [
            f"[{each.survivors} of {each.pids_seen} processes are still alive]"
            for each in self._receipts
            if each.survivors
        ]
        excerpt = self._context.excerpt()
        return [*lines, *([excerpt] if excerpt else ()), *map(told, self._uses)]
