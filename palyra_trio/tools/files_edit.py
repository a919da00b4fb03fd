r"""files.edit: a change of a part of a file, as an exact replacement or as a unified diff.

Where every line of a file ends in "\r\n" it is edited as if they ended in "\n", and written back as it was.
"""

from typing import Annotated

import attrs
import trio
from msgspec import Meta

from palyra_trio.core.errors import InvalidArgument, NotFound
from palyra_trio.tools import unified_diff
from palyra_trio.tools.changing import as_text, carry_out, check_whole, plan_change
from palyra_trio.tools.registry import Plan, Tool, ToolContext, ToolResult, ToolSpec

_LINES_NAMED = 10


@attrs.frozen
class EditArguments:
    path: Annotated[str, Meta(description="The file, relative to the workspace.")]
    old: Annotated[
        str, Meta(description="The exact text to replace, white space included. It must occur once, unless all is set.")
    ] = ""
    new: Annotated[str, Meta(description="The text to put in its place. Empty: remove the old text.")] = ""
    all: Annotated[bool, Meta(description="Replace every occurrence of old.")] = False
    diff: Annotated[
        str, Meta(description="Instead of old and new: a unified diff of this one file. Its context must fit exactly.")
    ] = ""


def edit_tool(threads: trio.CapacityLimiter) -> Tool:
    spec = ToolSpec(
        name="files.edit",
        description=(
            "Change a part of a text file: give either old and new (an exact replacement), or diff (a unified diff)."
            " Read the file first."
        ),
        arguments=EditArguments,
        capability="fs.write",
        risk="medium",
        read_only=False,
        idempotent=False,
    )

    async def plan(arguments: EditArguments, context: ToolContext) -> Plan:
        if bool(arguments.old) == bool(arguments.diff) or (arguments.diff and (arguments.new or arguments.all)):
            raise InvalidArgument("files.edit takes either old and new, or diff")

        def change(before: bytes | None) -> bytes:
            if before is None:
                raise NotFound(f"there is no {arguments.path}", remedy="files.write creates it")
            return edited(as_text(before, arguments.path), arguments).encode("utf-8", "surrogateescape")

        return await plan_change(arguments.path, change, context, threads)

    async def run(arguments: EditArguments, context: ToolContext, plan: Plan) -> ToolResult:
        return await carry_out(context, plan, threads)

    return Tool(spec, plan, run)


def edited(text: str, arguments: EditArguments) -> str:
    """Return the text of a file as the edit makes it. Raises InvalidArgument when the edit does not fit exactly."""
    for given in (arguments.old, arguments.new, arguments.diff):
        check_whole(given, "the edit")
    if arguments.diff:
        return unified_diff.apply(arguments.diff, text).text
    newlines = text.count("\n")
    if newlines and newlines == text.count("\r\n"):
        old, new = (each.replace("\r\n", "\n") for each in (arguments.old, arguments.new))
        unix = attrs.evolve(arguments, old=old, new=new)
        return _replaced(text.replace("\r\n", "\n"), unix).replace("\n", "\r\n")
    return _replaced(text, arguments)


def _replaced(text: str, arguments: EditArguments) -> str:
    lines = _lines_of(arguments.old, text)
    if not lines:
        raise InvalidArgument(
            f"{arguments.path} does not hold the old text", remedy="read it again; every space and line break counts"
        )
    if len(lines) > 1 and not arguments.all:
        named = ", ".join(map(str, lines[:_LINES_NAMED])) + (", …" if len(lines) > _LINES_NAMED else "")
        raise InvalidArgument(
            f"{arguments.path} holds the old text {len(lines)} times, at lines {named}",
            remedy="add the lines around the one that is meant, or set all",
        )
    return text.replace(arguments.old, arguments.new)


def _lines_of(old: str, text: str) -> list[int]:
    """Return the line numbers at which `old` occurs, without overlap."""
    lines: list[int] = []
    number, counted = 1, 0
    at = text.find(old)
    while at >= 0:
        number += text.count("\n", counted, at)
        counted = at
        lines.append(number)
        at = text.find(old, at + len(old))
    return lines
