r"""Unified diffs of text, made and applied (the format of POSIX diff -u, with `\ No newline at end of file`).

A line ends at "\n" and nowhere else, so that applying what was made gives back every byte. Applying is exact: the
context must be there, character for character. Only the line number of a hunk may be off, and then its lines must
occur in one place alone.
"""

import difflib
import re
from collections.abc import Iterable, Sequence

from palyra_trio.core.errors import InvalidArgument
from palyra_trio.core.text import visible
from palyra_trio.tools.patch import MAX_HUNKS, Applied, Hunk, apply_hunks, split_lines

CONTEXT_LINES = 3
_NO_NEWLINE = "\\ No newline at end of file\n"
_MAX_COMPARED = 4_000_000  # lines before times lines after; difflib may take 0.5 s for so much; more is one hunk

HUNK = re.compile(r"@@ -([0-9]{1,9})(?:,([0-9]{1,9}))? \+([0-9]{1,9})(?:,([0-9]{1,9}))? @@")

_Opcode = tuple[str, int, int, int, int]


def make(path: str, before: str | None, after: str | None) -> str:
    """Return the unified diff of two texts (None where there is no file), "" when they are equal."""
    if before == after:
        return ""
    old, new = split_lines(before or ""), split_lines(after or "")
    shown = visible(path).replace("\n", "\\n")
    out = [f"--- {'/dev/null' if before is None else 'a/' + shown}\n"]
    out.append(f"+++ {'/dev/null' if after is None else 'b/' + shown}\n")
    for group in _groups(old, new):
        out.append(f"@@ -{_range(group[0][1], group[-1][2])} +{_range(group[0][3], group[-1][4])} @@\n")
        for tag, old_from, old_to, new_from, new_to in group:
            if tag == "equal":
                out += (_marked(" ", line) for line in old[old_from:old_to])
                continue
            out += (_marked("-", line) for line in old[old_from:old_to])
            out += (_marked("+", line) for line in new[new_from:new_to])
    return "".join(out)


def apply(diff: str, text: str) -> Applied:
    """Return `text` with every hunk of `diff` applied. What stands before the first hunk is not looked at.

    Raises InvalidArgument for a diff that is malformed, does not fit or fits in several places; it names the hunk.
    """
    lines = split_lines(diff)
    first = next((at for at, line in enumerate(lines) if HUNK.match(line)), len(lines))
    hunks, stop = parse_hunks(lines, first)
    if stop < len(lines):
        raise stray(lines, stop, "a diff is about one file; files.apply_patch takes several")
    if not hunks:
        raise InvalidArgument("the diff has no hunk", remedy="a hunk begins with @@ -START,COUNT +START,COUNT @@")
    return apply_hunks(hunks, text)


def parse_hunks(lines: Sequence[str], at: int) -> tuple[tuple[Hunk, ...], int]:
    """Return the hunks that begin at line `at`, and the first line after them that is not blank.

    Raises InvalidArgument, naming the line or the hunk, where one does not hold what its header says.
    """
    hunks: list[Hunk] = []
    while at < len(lines):
        if match := HUNK.match(lines[at]):
            hunk, at = _parse_hunk(match, lines, at + 1)
            hunks.append(hunk)
        elif lines[at].strip():
            break
        else:
            at += 1
    if len(hunks) > MAX_HUNKS:
        raise InvalidArgument(f"the diff has more than {MAX_HUNKS} hunks", remedy="apply it in parts")
    return tuple(hunks), at


def stray(lines: Sequence[str], at: int, remedy: str) -> InvalidArgument:
    """Return the refusal of a line that stands between hunks and is none."""
    return InvalidArgument(
        f"line {at + 1} of the diff belongs to no hunk: {lines[at].rstrip()!r}",
        remedy=f"count the lines in each @@ header; {remedy}",
    )


def _groups(old: list[str], new: list[str]) -> list[list[_Opcode]]:
    """Return the hunks as difflib's opcodes. Only what the common beginning and end leave over is compared."""
    head = _shared(zip(old, new, strict=False))
    tail = _shared(zip(reversed(old[head:]), reversed(new[head:]), strict=False))
    old_to, new_to = len(old) - tail, len(new) - tail
    before, after = min(head, CONTEXT_LINES), min(tail, CONTEXT_LINES)
    start = head - before
    if (old_to - head) * (new_to - head) > _MAX_COMPARED:
        equal_before = ("equal", start, head, start, head)
        equal_after = ("equal", old_to, old_to + after, new_to, new_to + after)
        return [[equal_before, ("replace", head, old_to, head, new_to), equal_after]]
    matcher = difflib.SequenceMatcher(None, old[start : old_to + after], new[start : new_to + after], autojunk=False)
    return [
        [(tag, start + a, start + b, start + c, start + d) for tag, a, b, c, d in group]
        for group in matcher.get_grouped_opcodes(CONTEXT_LINES)
    ]


def _shared(pairs: Iterable[tuple[str, str]]) -> int:
    count = 0
    for one, other in pairs:
        if one != other:
            break
        count += 1
    return count


def _range(start: int, stop: int) -> str:
    length = stop - start
    if length == 1:
        return f"{start + 1}"
    return f"{start + 1 if length else start},{length}"


def _marked(tag: str, line: str) -> str:
    return tag + line if line.endswith("\n") else f"{tag}{line}\n{_NO_NEWLINE}"


def _parse_hunk(header: re.Match[str], lines: Sequence[str], at: int) -> tuple[Hunk, int]:
    """Return the hunk whose lines begin at line `at`, and the line after it."""
    start, old_count, _, new_count = header.groups()
    old_left, new_left = int(old_count or 1), int(new_count or 1)
    # A hunk without old lines names the line after which it inserts.
    first = int(start) - 1 if old_left else int(start)
    old: list[str] = []
    new: list[str] = []
    tag = ""
    while old_left or new_left or (at < len(lines) and lines[at].startswith("\\")):
        if at == len(lines) or HUNK.match(lines[at]):
            raise _miscounted(header.group())
        line = lines[at].removesuffix("\n") + "\n"
        at += 1
        if line.startswith("\\"):
            for other, side in (("+", old), ("-", new)):
                if tag != other and side:
                    side[-1] = side[-1].removesuffix("\n")
            continue
        # Many programs strip the space from an empty context line.
        tag, content = (" ", line) if line == "\n" else (line[0], line[1:])
        if tag not in (" ", "-", "+"):
            raise InvalidArgument(
                f"line {at} of the diff begins with none of ' ', '-', '+': {line.rstrip()!r}",
                remedy=f"hunk {header.group()} lacks lines that its header counts",
            )
        if tag != "+":
            old.append(content)
            old_left -= 1
        if tag != "-":
            new.append(content)
            new_left -= 1
        if old_left < 0 or new_left < 0:
            raise _miscounted(header.group())
    if any(not line.endswith("\n") for side in (old, new) for line in side[:-1]):
        raise InvalidArgument(f"hunk {header.group()} has lines after one without a newline")
    return Hunk(header.group(), tuple(old), tuple(new), first), at


def _miscounted(header: str) -> InvalidArgument:
    return InvalidArgument(
        f"hunk {header} does not hold as many lines as it says",
        remedy="count the lines: old ones begin with ' ' or '-', new ones with ' ' or '+'",
    )
