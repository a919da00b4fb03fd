"""files.write: a file's whole content."""

from typing import Annotated

import attrs
import trio
from msgspec import Meta

from palyra_trio.core.errors import StateConflict
from palyra_trio.tools.changing import carry_out, check_whole, plan_change
from palyra_trio.tools.registry import Plan, Tool, ToolContext, ToolResult, ToolSpec


@attrs.frozen
class WriteArguments:
    path: Annotated[str, Meta(description="The file, relative to the workspace. Missing folders are made.")]
    text: Annotated[str, Meta(description="All that the file is to hold.")]
    overwrite: Annotated[bool, Meta(description="Whether a file that exists may be replaced.")] = True


def write_tool(threads: trio.CapacityLimiter) -> Tool:
    spec = ToolSpec(
        name="files.write",
        description="Create a text file, or replace all that it holds. To change a part of a file use files.edit.",
        arguments=WriteArguments,
        capability="fs.write",
        risk="medium",
        read_only=False,
        idempotent=False,
    )

    async def plan(arguments: WriteArguments, context: ToolContext) -> Plan:
        check_whole(arguments.text, "the text")

        def change(before: bytes | None) -> bytes:
            if before is not None and not arguments.overwrite:
                raise StateConflict(f"{arguments.path} exists", remedy="set overwrite, or choose another name")
            return arguments.text.encode()

        return await plan_change(arguments.path, change, context, threads)

    async def run(arguments: WriteArguments, context: ToolContext, plan: Plan) -> ToolResult:
        return await carry_out(context, plan, threads)

    return Tool(spec, plan, run)
