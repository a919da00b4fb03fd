"""files.search: the lines that hold a text or fit a regular expression, or the files whose names fit a glob.

It reads what nobody needs to be asked for: secret files and hard links are left to files.read, by name.
"""

from collections import Counter
from collections.abc import Iterator
from functools import partial
from typing import Annotated, Any

import attrs
import re2
import trio
from msgspec import Meta

from palyra_trio.core.errors import InvalidArgument, PalyraError
from palyra_trio.core.text import clean
from palyra_trio.tools.gitignore import compile_patterns, walk
from palyra_trio.tools.reading import asked_for, check_asked, plan_read, why_ask
from palyra_trio.tools.registry import Plan, Tool, ToolContext, ToolResult, ToolSpec
from palyra_trio.tools.workspace import Entry, Workspace
from palyra_trio.tools.workspace_rules import sensitive

MAX_SEARCHED_BYTES = 16 * 1024 * 1024
MAX_LINE_BYTES = 400
_MAX_DEPTH = 100
_SNIFFED_BYTES = 8192


@attrs.frozen
class SearchArguments:
    pattern: Annotated[
        str, Meta(description="The text to find; letter case counts. Empty: only list the files that fit the glob.")
    ] = ""
    path: Annotated[str, Meta(description="The folder or file to search, relative to the workspace.")] = "."
    glob: Annotated[
        str, Meta(description="Only files that fit, as in .gitignore: *.py, src/**/*.md. Empty: all files.")
    ] = ""
    regex: Annotated[
        bool, Meta(description="Whether the pattern is a regular expression (RE2 syntax); (?i) ignores case.")
    ] = False
    max_matches: Annotated[int, Meta(description="How many matches to show.", ge=1, le=1000)] = 200


def search_tool(threads: trio.CapacityLimiter) -> Tool:
    spec = ToolSpec(
        name="files.search",
        description=(
            "Search the text files of a folder, and show each line that matches as path:line: text; or, without a"
            " pattern, find files by glob. What .gitignore excludes is left out."
        ),
        arguments=SearchArguments,
        capability="fs.read",
        risk="low",
        read_only=True,
        idempotent=True,
    )

    async def plan(arguments: SearchArguments, context: ToolContext) -> Plan:
        await trio.lowlevel.checkpoint_if_cancelled()
        return plan_read(context.workspace, arguments.path)

    async def run(arguments: SearchArguments, context: ToolContext, plan: Plan) -> ToolResult:
        search = partial(_search, context.workspace, arguments, plan)
        return ToolResult(await trio.to_thread.run_sync(search, limiter=threads))

    return Tool(spec, plan, run)


def _search(workspace: Workspace, arguments: SearchArguments, plan: Plan) -> str:
    if not arguments.pattern and not arguments.glob:
        raise InvalidArgument("files.search needs a pattern, a glob or both")
    pattern = _compiled(arguments) if arguments.pattern else None
    skipped: Counter[str] = Counter()
    lines: list[str] = []
    more = False
    for line in _matches(workspace, arguments, plan, pattern, skipped):
        if len(lines) == arguments.max_matches:
            more = True
            break
        lines.append(line)
    if not lines:
        lines.append("nothing matches")
    if more:
        lines.append(f"… there are more than {arguments.max_matches} matches; narrow the search")
    lines += (f"not searched: {count} {why}" for why, count in skipped.items())
    return clean("\n".join(lines))


def _matches(
    workspace: Workspace, arguments: SearchArguments, plan: Plan, pattern: Any, skipped: Counter[str]
) -> Iterator[str]:
    for entry in _files(workspace, arguments, plan, skipped):
        trio.from_thread.check_cancelled()
        if pattern is None:
            yield entry.path
            continue
        data = _text(workspace, entry, plan, skipped)
        if data:
            yield from _matching_lines(entry.path, data, pattern)


def _files(workspace: Workspace, arguments: SearchArguments, plan: Plan, skipped: Counter[str]) -> Iterator[Entry]:
    found = workspace.stat(arguments.path)
    check_asked(workspace.relative(arguments.path), found, plan)
    if found.kind == "file":
        yield Entry(found.path, found.path, "file", found.size_bytes)
        return
    fits = _glob(arguments.glob) if arguments.glob else None
    for entry in walk(workspace, found.path, _MAX_DEPTH):
        if entry.kind == "file" and (fits is None or fits.match_file(entry.path)):
            yield entry
        elif entry.kind == "folder" and sensitive(entry.path) and not sensitive(found.path):
            skipped["folders for secrets"] += 1


def _text(workspace: Workspace, entry: Entry, plan: Plan, skipped: Counter[str]) -> bytes:
    """Return what is in a file, nothing if it is not to be searched."""
    try:
        with workspace.reading(entry.path, follow=False) as (file, found):
            if not asked_for(plan) and why_ask(entry.path, found):
                skipped["to be asked for, with files.read"] += 1
                return b""
            if found.size_bytes > MAX_SEARCHED_BYTES:
                skipped[f"larger than {MAX_SEARCHED_BYTES} bytes"] += 1
                return b""
            head = file.read(_SNIFFED_BYTES)
            return b"" if b"\0" in head else head + file.read(found.size_bytes)
    except (PalyraError, OSError):
        skipped["unreadable"] += 1
        return b""


def _matching_lines(path: str, data: bytes, pattern: Any) -> Iterator[str]:
    number, start = 1, 0
    while start < len(data) and (match := pattern.search(data, start)):
        at = match.start()
        if at == len(data):
            return  # an empty match after the last line
        number += data.count(b"\n", start, at)
        first = data.rfind(b"\n", 0, at) + 1
        start = data.find(b"\n", at) + 1 or len(data)
        line = data[first:start].rstrip(b"\r\n")
        cut = "…" if len(line) > MAX_LINE_BYTES else ""
        yield f"{path}:{number}: {line[:MAX_LINE_BYTES].decode('utf-8', 'surrogateescape')}{cut}"
        number += 1


def _compiled(arguments: SearchArguments) -> Any:
    options = re2.Options()
    options.literal = not arguments.regex
    options.never_nl = True
    options.log_errors = False
    # Without (?m) ^ and $ mean the ends of the whole file; a literal pattern takes no flags.
    pattern = f"(?m){arguments.pattern}" if arguments.regex else arguments.pattern
    try:
        return re2.compile(pattern.encode(), options)
    except re2.error as error:
        why = error.args[0].decode("utf-8", "replace")
        raise InvalidArgument(f"the pattern does not compile: {why}", remedy="the syntax is RE2's") from error
    except UnicodeEncodeError as error:
        raise InvalidArgument(f"the pattern holds half a character: {error}") from error


def _glob(glob: str) -> Any:
    try:
        spec = compile_patterns([glob])
    except ValueError as error:
        raise InvalidArgument(f"the glob does not compile: {error}") from error
    if not any(pattern.include for pattern in spec.patterns):
        raise InvalidArgument(f"the glob {glob!r} fits no file", remedy="it may not begin with ! or #")
    return spec
