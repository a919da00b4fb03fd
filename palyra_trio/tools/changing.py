"""Changes of files, planned and then carried out only if the files still are what the plan saw.

What a change makes of a file, the caller says as a function of its bytes, or as `Edit`s of several files. All of it
runs in a worker thread, which a cancel does not break off: each file is left either changed or not, never half, and
several are left all changed or, where one write fails, as they were. The result says which.
"""

from collections.abc import Callable, Sequence
from functools import partial

import attrs
import trio

from palyra_trio.core.chain import digest
from palyra_trio.core.errors import InvalidArgument, PalyraError, StateConflict
from palyra_trio.core.policy import PathResource
from palyra_trio.core.tape import FileChange
from palyra_trio.core.text import clean
from palyra_trio.tools import unified_diff
from palyra_trio.tools.registry import Plan, ToolContext, ToolResult
from palyra_trio.tools.workspace import MAX_CHANGED_BYTES, Workspace
from palyra_trio.tools.workspace_rules import sensitive

CHANGED_SINCE_PLANNED = "changed_since_planned"

Blobs = Callable[[str], bytes]
Change = Callable[[bytes | None], bytes | None]
"""From a file's bytes (None where there is none) to its new ones (None to remove it). May raise PalyraError."""


@attrs.frozen
class Edit:
    """A file before and after: `asked` is the path as the call names it, `path` where a write to it lands.

    `why` says why the change is asked for in any case, "" where its path alone decides.
    """

    asked: str
    path: str
    before: bytes | None
    after: bytes | None
    why: str = ""


async def plan_change(path: str, change: Change, context: ToolContext, threads: trio.CapacityLimiter) -> Plan:
    """Return what `change` would make of the file at `path`: the diff, the two blobs, and the path for the gate."""
    return await trio.to_thread.run_sync(partial(_planned, context.workspace, path, change), limiter=threads)


def plan_edits(edits: Sequence[Edit]) -> Plan:
    """Return the plan of several edits: first what is written, then what is removed."""
    for edit in edits:
        if edit.after is not None and len(edit.after) > MAX_CHANGED_BYTES:
            raise InvalidArgument(f"{edit.asked} would be larger than {MAX_CHANGED_BYTES} bytes")
    real = sorted((edit for edit in edits if edit.before != edit.after), key=lambda edit: edit.after is None)
    return Plan(
        preview="".join(_preview(edit, moved=edit.after in [each.before for each in real]) for edit in real),
        changes=tuple(FileChange(edit.path, _name(edit.before), _name(edit.after)) for edit in real),
        blobs={digest(data): data for edit in real for data in (edit.before, edit.after) if data is not None},
        resources=tuple(resource for edit in edits for resource in _resources(edit)),
    )


async def carry_out(context: ToolContext, plan: Plan, threads: trio.CapacityLimiter) -> ToolResult:
    """Make the planned changes, all of them or none. Raises PalyraError when the first cannot be made."""
    return await trio.to_thread.run_sync(partial(_carried_out, context.workspace, plan), limiter=threads)


def put(workspace: Workspace, change: FileChange, blobs: Blobs) -> None:
    """Bring one file from `before` to `after`. Blocks on the disk. Raises as Workspace.write and remove do."""
    if change.after is not None:
        workspace.write(change.path, blobs(change.after), before=change.before)
    elif change.before is not None:
        workspace.remove(change.path, before=change.before)


def digest_of(workspace: Workspace, path: str) -> str | None:
    """Return the digest of the file that `locate` named, None where there is none."""
    return _name(workspace.content(path))


def check_whole(text: str, what: str) -> None:
    """Raise InvalidArgument where `text`, which is called `what`, cannot be encoded."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise InvalidArgument(f"{what} holds half a character: {error}") from error


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
        shown = path.replace("\n", "\\n")
        return f"Binary file {shown} differs ({sizes})\n"
    old, new = (None if data is None else data.decode("utf-8", "surrogateescape") for data in (before, after))
    return clean(unified_diff.make(path, old, new))


def _planned(workspace: Workspace, path: str, change: Change) -> Plan:
    located = workspace.locate(path)
    before = workspace.content(located)
    return plan_edits([Edit(workspace.relative(path), located, before, change(before))])


def _preview(edit: Edit, *, moved: bool) -> str:
    """Return the diff of an edit, with all that is written also where that, or what was there, is binary.

    What was only `moved` there, from another file of the plan, is not shown again.
    """
    told = diff_bytes(edit.path, edit.before, edit.after)
    if moved or edit.after is None or b"\0" not in (edit.before or b"") + edit.after:
        return told
    return told + clean(unified_diff.make(edit.path, None, edit.after.decode("utf-8", "surrogateescape")))


def _resources(edit: Edit) -> tuple[PathResource, ...]:
    """Return the path as it was asked for and as it is, which differ where a symlink is on the way."""
    paths = dict.fromkeys((edit.asked, edit.path))
    why = next(filter(None, (sensitive(path, writing=True) for path in paths)), edit.why)
    return tuple(PathResource(path, exists=edit.before is not None, sensitive=why) for path in paths)


def _name(data: bytes | None) -> str | None:
    return None if data is None else digest(data)


def _carried_out(workspace: Workspace, plan: Plan) -> ToolResult:
    if not plan.changes:
        return ToolResult(f"{', '.join(_asked(plan))}: the content is this already; nothing was written")
    if stale := [each.path for each in plan.changes if digest_of(workspace, each.path) != each.before]:
        told = f"{', '.join(stale)} changed since it was planned; nothing was written (look at it again, then decide)"
        return ToolResult(told, CHANGED_SINCE_PLANNED)
    done: list[FileChange] = []
    for change in plan.changes:
        try:
            put(workspace, change, plan.blobs.__getitem__)
        except PalyraError as error:
            if _took_effect(workspace, change):
                done.append(change)
            if not done and not isinstance(error, StateConflict):
                raise
            code = CHANGED_SINCE_PLANNED if isinstance(error, StateConflict) else error.code
            return ToolResult(f"{error}; {_rolled_back(workspace, done, plan)}", code)
        done.append(change)
    return ToolResult("\n".join(_in_words(change, plan) for change in done))


def _took_effect(workspace: Workspace, change: FileChange) -> bool:
    """Whether the file is what a change that failed was to make of it: the failure may have come after the rename."""
    try:
        return digest_of(workspace, change.path) == change.after
    except PalyraError:
        return False


def _rolled_back(workspace: Workspace, done: Sequence[FileChange], plan: Plan) -> str:
    """Take back what was done, newest first, and return in words what became of it."""
    kept: list[str] = []
    for change in reversed(done):
        try:
            put(workspace, FileChange(change.path, change.after, change.before), plan.blobs.__getitem__)
        except PalyraError as error:
            kept.append(f"{change.path} stays changed, because it could not be put back: {error}")
    return "; ".join(kept) or ("what was written before it was put back" if done else "nothing was written")


def _asked(plan: Plan) -> list[str]:
    return [resource.name for resource in plan.resources]


def _in_words(change: FileChange, plan: Plan) -> str:
    if change.after is None:
        return f"deleted {change.path}"
    did = "created" if change.before is None else "changed"
    return f"{did} {change.path} ({len(plan.blobs[change.after])} bytes)"
