"""files.read: the text of a file, or a range of its lines. A file that is not text is described."""

import math
from collections.abc import Callable
from functools import partial
from io import BufferedReader
from typing import Annotated, BinaryIO

import attrs
import trio
from msgspec import Meta

from palyra_trio.core.text import clean
from palyra_trio.tools.reading import check_asked, plan_read
from palyra_trio.tools.registry import Plan, Tool, ToolContext, ToolResult, ToolSpec
from palyra_trio.tools.workspace import Workspace

MAX_SHOWN_BYTES = 256 * 1024
MAX_COUNTED_BYTES = 1024 * 1024 * 1024  # the lines of a larger file are not counted to the end
SMALL_BYTES = 1024 * 1024  # reading less than this does not hold up the loop
_SNIFFED_BYTES = 8192
_BLOCK_BYTES = 1024 * 1024
_LINES_A_CHECKPOINT = 10_000


@attrs.frozen
class ReadArguments:
    path: Annotated[str, Meta(description="The file, relative to the workspace.")]
    start_line: Annotated[int, Meta(description="The first line to show, counted from 1.", ge=1)] = 1
    max_lines: Annotated[
        Annotated[int, Meta(ge=1)] | None, Meta(description="How many lines to show; all when left out.")
    ] = None


def read_tool(threads: trio.CapacityLimiter) -> Tool:
    spec = ToolSpec(
        name="files.read",
        description=(
            "Read a text file, whole or a range of its lines (start_line, max_lines). The first line of the result"
            " says which lines follow and how many there are; at most"
            f" {MAX_SHOWN_BYTES // 1024} KiB are shown at once. A byte that is not UTF-8 is shown as \\xNN."
        ),
        arguments=ReadArguments,
        capability="fs.read",
        risk="low",
        read_only=True,
        idempotent=True,
    )

    async def plan(arguments: ReadArguments, context: ToolContext) -> Plan:
        await trio.lowlevel.checkpoint_if_cancelled()
        return plan_read(context.workspace, arguments.path)

    async def run(arguments: ReadArguments, context: ToolContext, plan: Plan) -> ToolResult:
        await trio.lowlevel.checkpoint_if_cancelled()
        shown = partial(_shown, context.workspace, arguments, plan)
        if context.workspace.stat(arguments.path).size_bytes < SMALL_BYTES:
            return ToolResult(shown(_carry_on))
        in_thread = partial(shown, trio.from_thread.check_cancelled)
        return ToolResult(await trio.to_thread.run_sync(in_thread, limiter=threads))

    return Tool(spec, plan, run)


def _carry_on() -> None:
    """The checkpoint of a read that is too short to be cancelled."""


def _shown(workspace: Workspace, arguments: ReadArguments, plan: Plan, checkpoint: Callable[[], None]) -> str:
    with workspace.reading(arguments.path) as (file, found):
        path = workspace.relative(arguments.path)
        check_asked(path, found, plan)
        reader = BufferedReader(file, _BLOCK_BYTES)
        head = reader.peek(_SNIFFED_BYTES)[:_SNIFFED_BYTES]
        if b"\0" in head:
            return f"{path} is not text: {found.size_bytes} bytes that begin with {head[:16].hex(' ')}"
        if not head:
            return f"{path} is empty"
        return _range(path, reader, arguments, checkpoint)


def _range(path: str, reader: BinaryIO, arguments: ReadArguments, checkpoint: Callable[[], None]) -> str:
    first = arguments.start_line
    stop = math.inf if arguments.max_lines is None else first + arguments.max_lines
    number, shown, piece = 1, bytearray(), b"\n"
    while number < stop and len(shown) <= MAX_SHOWN_BYTES:
        block = reader.readline(_BLOCK_BYTES)
        if not block:
            break
        piece = block
        if number >= first:
            shown += piece
        if piece.endswith(b"\n"):
            number += 1
            if number % _LINES_A_CHECKPOINT == 0:
                checkpoint()
        else:
            checkpoint()
    total, exact = _count(reader, number - 1, piece, checkpoint)
    if not shown:
        return f"{path} has {total} lines, so none from line {first} on"
    cut = ""
    if len(shown) > MAX_SHOWN_BYTES:
        whole = shown.rfind(b"\n", 0, MAX_SHOWN_BYTES) + 1
        cut = "" if whole else f"; line {first} is longer than is shown"
        del shown[whole or MAX_SHOWN_BYTES :]
    last = first + shown.removesuffix(b"\n").count(b"\n")
    more = f"; start_line={last + 1} reads on" if last < total and not cut else ""
    text = shown.decode("utf-8", "surrogateescape")
    ends = ""
    if "\r\n" in text and text.count("\r\n") == text.count("\n"):
        text, ends = text.replace("\r\n", "\n"), "; lines end in CRLF"
    of = f"{total}" if exact else f"at least {total}"
    return clean(f"{path}: lines {first}-{last} of {of}{cut}{more}{ends}\n{text}")


def _count(reader: BinaryIO, newlines: int, last: bytes, checkpoint: Callable[[], None]) -> tuple[int, bool]:
    """Return how many lines there are, given the newlines so far and what was read last; and whether that is all."""
    counted = 0
    while counted < MAX_COUNTED_BYTES and (block := reader.read(_BLOCK_BYTES)):
        checkpoint()
        newlines += block.count(b"\n")
        counted += len(block)
        last = block
    return newlines + (not last.endswith(b"\n")), counted < MAX_COUNTED_BYTES
