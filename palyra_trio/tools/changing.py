"""A change of one file, planned and then carried out only if the file still is what the plan saw.

What the change is, the caller says as a function of the file's bytes. All of it runs in a worker thread; a cancel
leaves the file either changed or not, never half, and the result says which.
"""

from collections.abc import Callable
from functools import partial

import trio

from palyra_trio.core.chain import digest
from palyra_trio.core.errors import InvalidArgument, StateConflict
from palyra_trio.core.tape import FileChange
from palyra_trio.core.text import clean
from palyra_trio.tools import unified_diff
from palyra_trio.tools.registry import Plan, ToolContext, ToolResult
from palyra_trio.tools.workspace import MAX_CHANGED_BYTES, Workspace
from palyra_trio.tools.workspace_rules import sensitive

CHANGED_SINCE_PLANNED = "changed_since_planned"

Change = Callable[[bytes | None], bytes]
"""From a file's bytes (None where there is none) to its new ones. May raise PalyraError."""


async def plan_change(path: str, change: Change, context: ToolContext, threads: trio.CapacityLimiter) -> Plan:
    """Return what `change` would make of the file at `path`: the diff, the two blobs, and whether it is sensitive."""
    return await trio.to_thread.run_sync(partial(_planned, context.workspace, path, change), limiter=threads)


async def carry_out(path: str, context: ToolContext, plan: Plan, threads: trio.CapacityLimiter) -> ToolResult:
    """Make the planned change of the file at `path`."""
    return await trio.to_thread.run_sync(partial(_carried_out, context.workspace, path, plan), limiter=threads)


def as_text(data: bytes, path: str) -> str:
    """Decode a file for editing so that encoding it again gives back every byte. Raises InvalidArgument if binary."""
    if b"\0" in data:
        raise InvalidArgument(f"{path} is not text", remedy="files.write replaces it whole")
    return data.decode("utf-8", "surrogateescape")


def diff_bytes(path: str, before: bytes | None, after: bytes | None) -> str:
    """Return the unified diff of two contents (None where there is no file); of binary ones, only that they differ."""
    if before == after:
        return ""
    if b"\0" in (before or b"") + (after or b""):
        sizes = " -> ".join("no file" if data is None else f"{len(data)} bytes" for data in (before, after))
        return f"Binary file {path} differs ({sizes})\n"
    old, new = (None if data is None else data.decode("utf-8", "surrogateescape") for data in (before, after))
    return clean(unified_diff.make(path, old, new))


def _planned(workspace: Workspace, path: str, change: Change) -> Plan:
    located = workspace.locate(path)
    before = workspace.content(located)
    after = change(before)
    if len(after) > MAX_CHANGED_BYTES:
        raise InvalidArgument(f"{path} would be larger than {MAX_CHANGED_BYTES} bytes")
    why = sensitive(workspace.relative(path), writing=True) or sensitive(located, writing=True)
    if before == after:
        return Plan(sensitive=why)
    blobs = {digest(data): data for data in (before, after) if data is not None}
    planned = FileChange(located, None if before is None else digest(before), digest(after))
    return Plan(why, diff_bytes(located, before, after), (planned,), blobs)


def _carried_out(workspace: Workspace, path: str, plan: Plan) -> ToolResult:
    if not plan.changes:
        return ToolResult(f"{workspace.relative(path)} has this content already; nothing was written")
    (planned,) = plan.changes
    if planned.after is None:
        raise InvalidArgument(f"the plan for {path} writes nothing")
    try:
        workspace.write(planned.path, plan.blobs[planned.after], before=planned.before)
    except StateConflict as conflict:
        return ToolResult(f"{conflict}; nothing was written", CHANGED_SINCE_PLANNED)
    did = "created" if planned.before is None else "changed"
    return ToolResult(f"{did} {planned.path} ({len(plan.blobs[planned.after])} bytes)")
