"""files.delete: one file, whose content is kept so that it can be brought back. Folders stay."""

from functools import partial
from typing import Annotated

import attrs
import trio
from msgspec import Meta

from palyra_trio.core.errors import InvalidArgument, NotFound
from palyra_trio.tools.changing import carry_out, plan_change
from palyra_trio.tools.registry import Plan, Tool, ToolContext, ToolResult, ToolSpec
from palyra_trio.tools.workspace import MAX_CHANGED_BYTES, Workspace

MAX_PREVIEW_LINES = 100


@attrs.frozen
class DeleteArguments:
    path: Annotated[str, Meta(description="The file, relative to the workspace.")]


def delete_tool(threads: trio.CapacityLimiter) -> Tool:
    spec = ToolSpec(
        name="files.delete",
        description="Delete one file. Folders cannot be deleted.",
        arguments=DeleteArguments,
        capability="fs.delete",
        risk="high",
        read_only=False,
        idempotent=False,
    )

    async def plan(arguments: DeleteArguments, context: ToolContext) -> Plan:
        def change(before: bytes | None) -> None:
            if before is None:
                raise NotFound(f"there is no {arguments.path}", remedy="files.list shows what there is")

        await trio.to_thread.run_sync(partial(_check_size, context.workspace, arguments.path), limiter=threads)
        planned = await plan_change(arguments.path, change, context, threads)
        (deleted,) = planned.blobs.values()
        return attrs.evolve(planned, preview=_preview(planned, len(deleted)))

    async def run(arguments: DeleteArguments, context: ToolContext, plan: Plan) -> ToolResult:
        return await carry_out(context, plan, threads)

    return Tool(spec, plan, run)


def _check_size(workspace: Workspace, path: str) -> None:
    found = workspace.stat(workspace.locate(path))
    if found.size_bytes > MAX_CHANGED_BYTES:
        raise InvalidArgument(
            f"{path} has {found.size_bytes} bytes, more than the {MAX_CHANGED_BYTES} that can be brought back",
            remedy="leave it to the person to delete it",
        )


def _preview(plan: Plan, size_bytes: int) -> str:
    (change,) = plan.changes
    lines = plan.preview.splitlines(keepends=True)
    left_out = len(lines) - MAX_PREVIEW_LINES
    if left_out > 0:
        lines[MAX_PREVIEW_LINES:] = [f"… and {left_out} more lines\n"]
    shown = change.path.replace("\n", "\\n")
    return f"deletes {shown} ({size_bytes} bytes)\n{''.join(lines)}"
