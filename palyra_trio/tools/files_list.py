"""files.list: the names in a folder of the workspace."""

from functools import partial
from itertools import islice
from typing import Annotated

import attrs
import trio
from msgspec import Meta

from palyra_trio.tools.gitignore import walk
from palyra_trio.tools.reading import check_asked, plan_read
from palyra_trio.tools.registry import Plan, Tool, ToolContext, ToolResult, ToolSpec
from palyra_trio.tools.workspace import Entry, Workspace

MAX_LISTED = 1000


@attrs.frozen
class ListArguments:
    path: Annotated[str, Meta(description="The folder, relative to the workspace.")] = "."
    depth: Annotated[int, Meta(description="How many levels of folders to show.", ge=1, le=5)] = 1


def list_tool(threads: trio.CapacityLimiter) -> Tool:
    spec = ToolSpec(
        name="files.list",
        description=(
            "List the files and folders in a folder, with sizes. What .gitignore excludes is left out,"
            f" and at most {MAX_LISTED} names are shown."
        ),
        arguments=ListArguments,
        capability="fs.read",
        risk="low",
        read_only=True,
        idempotent=True,
    )

    async def plan(arguments: ListArguments, context: ToolContext) -> Plan:
        await trio.lowlevel.checkpoint_if_cancelled()
        return plan_read(context.workspace, arguments.path)

    async def run(arguments: ListArguments, context: ToolContext, plan: Plan) -> ToolResult:
        listed = partial(_listed, context.workspace, arguments, plan)
        return ToolResult(await trio.to_thread.run_sync(listed, limiter=threads))

    return Tool(spec, plan, run)


def _listed(workspace: Workspace, arguments: ListArguments, plan: Plan) -> str:
    found = workspace.stat(arguments.path)
    check_asked(workspace.relative(arguments.path), found, plan)
    lines: list[str] = []
    for entry in islice(walk(workspace, found.path, arguments.depth), MAX_LISTED + 1):
        trio.from_thread.check_cancelled()
        lines.append(_line(entry))
    if len(lines) > MAX_LISTED:
        lines[-1] = f"… there are more than {MAX_LISTED}; list a folder below, or use files.search with a glob"
    return "\n".join(lines) or f"{found.path} holds no files (but perhaps some that .gitignore excludes)"


def _line(entry: Entry) -> str:
    match entry.kind:
        case "folder":
            return f"{entry.path}/"
        case "file":
            return f"{entry.path}  ({entry.size_bytes} bytes)"
        case other:
            return f"{entry.path}  ({other})"
