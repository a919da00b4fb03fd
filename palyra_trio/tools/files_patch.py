"""files.apply_patch: changes of several files, all of them or none.

A path that the patch takes away is always asked for: with this tool alone a policy could not tell it from a write.
"""

from functools import partial
from typing import Annotated

import attrs
import trio
from msgspec import Meta

from palyra_trio.core.errors import (
    CallerError,
    InvalidArgument,
    NotFound,
    PolicyError,
    StateConflict,
    WorkspaceRefused,
)
from palyra_trio.tools import patch_envelope, patch_git
from palyra_trio.tools.changing import Edit, as_text, carry_out, check_whole, plan_edits
from palyra_trio.tools.patch import FilePatch, apply_hunks
from palyra_trio.tools.registry import Plan, Tool, ToolContext, ToolResult, ToolSpec
from palyra_trio.tools.workspace import Workspace

MAX_FILES = 100
MAX_PATCHED_BYTES = 32 * 1024 * 1024  # of all files, before and after: the journal takes them in one commit


@attrs.frozen
class PatchArguments:
    patch: Annotated[
        str,
        Meta(
            description="A unified diff as git writes it (--- a/PATH, +++ b/PATH, /dev/null for none, rename from and to),"
            " or one from *** Begin Patch to *** End Patch. Its context must fit exactly."
        ),
    ]


@attrs.frozen
class PatchPlan(Plan):
    """A plan that also says, in words, which hunks fit at another line than the patch names."""

    moved: tuple[str, ...] = ()


def patch_tool(threads: trio.CapacityLimiter) -> Tool:
    spec = ToolSpec(
        name="files.apply_patch",
        description=(
            "Change, create, rename and delete several text files by one patch. Either all of it fits and is done, or"
            " nothing is. Read the files first."
        ),
        arguments=PatchArguments,
        capability="fs.write",
        risk="medium",
        read_only=False,
        idempotent=False,
    )

    async def plan(arguments: PatchArguments, context: ToolContext) -> Plan:
        return await trio.to_thread.run_sync(partial(_planned, context.workspace, arguments.patch), limiter=threads)

    async def run(arguments: PatchArguments, context: ToolContext, plan: Plan) -> ToolResult:
        result = await carry_out(context, plan, threads)
        assert isinstance(plan, PatchPlan)
        return result if result.error else attrs.evolve(result, text="\n".join((result.text, *plan.moved)))

    return Tool(spec, plan, run)


class _Patching:
    """The files that a patch names, each of them once, as they are read and patched."""

    def __init__(self, workspace: Workspace) -> None:
        self.edits: list[Edit] = []
        self.moved: list[str] = []
        self._workspace = workspace
        self._seen: set[str] = set()
        self._bytes = 0

    def add(self, patch: FilePatch) -> None:
        """Plan what the patch does to one file. Raises PalyraError when it does not fit."""
        if not patch.old:
            self._create(patch.new, self._patched(patch, b""))
            return
        path, before = self._read(patch.old)
        if before is None:
            raise NotFound(f"there is no {patch.old}", remedy="a new file has --- /dev/null")
        after = self._patched(patch, before)
        if not patch.new and patch.hunks and after:
            raise InvalidArgument(f"the patch deletes {patch.old}, but not all that it holds")
        if patch.new == patch.old:
            self._edit(patch.old, path, before, after)
            return
        self._edit(patch.old, path, before, None, f"the patch takes {patch.old} away")
        if patch.new:
            self._create(patch.new, after)

    def _create(self, asked: str, after: bytes) -> None:
        path, before = self._read(asked)
        if before is not None:
            raise StateConflict(f"{asked} exists, and the patch makes it", remedy="patch what it holds, or delete it")
        self._edit(asked, path, None, after)

    def _read(self, asked: str) -> tuple[str, bytes | None]:
        path = self._workspace.locate(asked)
        if path in self._seen:
            raise InvalidArgument(f"the patch names {asked} twice", remedy="put all its hunks under one header")
        self._seen.add(path)
        return path, self._workspace.content(path)

    def _patched(self, patch: FilePatch, before: bytes) -> bytes:
        if not patch.hunks:
            return before
        applied = apply_hunks(patch.hunks, as_text(before, patch.old))
        self.moved += (f"{patch.old}: {each}" for each in applied.moved)
        return applied.text.encode("utf-8", "surrogateescape")

    def _edit(self, asked: str, path: str, before: bytes | None, after: bytes | None, why: str = "") -> None:
        self._bytes += len(before or b"") + len(after or b"")
        if self._bytes > MAX_PATCHED_BYTES:
            raise InvalidArgument(f"the patch changes more than {MAX_PATCHED_BYTES} bytes", remedy="apply it in parts")
        self.edits.append(Edit(self._workspace.relative(asked), path, before, after, why))


def _planned(workspace: Workspace, text: str) -> PatchPlan:
    check_whole(text, "the patch")
    parse = patch_envelope.parse if text.lstrip().startswith(patch_envelope.BEGIN) else patch_git.parse
    patches = parse(text)
    if len(patches) > MAX_FILES:
        raise InvalidArgument(f"the patch names more than {MAX_FILES} files", remedy="apply it in parts")
    patching = _Patching(workspace)
    refusals: list[str] = []
    outside = False
    for patch in patches:
        try:
            patching.add(patch)
        except (CallerError, PolicyError) as refusal:
            refusals.append(f"{patch.old or patch.new}: {refusal}")
            outside |= isinstance(refusal, PolicyError)
    if refusals:
        kind = WorkspaceRefused if outside else InvalidArgument
        raise kind("\n".join(("the patch cannot be applied, and nothing was written", *refusals)))
    plan = plan_edits(patching.edits)
    told = "".join(each.replace("\n", "\\n") + "\n" for each in patching.moved)
    return PatchPlan(
        preview=told + plan.preview,
        changes=plan.changes,
        blobs=plan.blobs,
        resources=plan.resources,
        moved=tuple(patching.moved),
    )
