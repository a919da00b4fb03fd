r"""Unified diffs of text, made and applied (the format of POSIX diff -u, with `\ No newline at end of file`).

A line ends at "\n" and nowhere else, so that applying what was made gives back every byte. Applying is exact: the
context must be there, character for character. Only the line number of a hunk may be off, and then its lines must
occur in one place alone.
"""

import difflib
import re
from collections.abc import Iterable

import attrs

from palyra_trio.core.errors import InvalidArgument
from palyra_trio.core.text import visible

CONTEXT_LINES = 3
_NO_NEWLINE = "\\ No newline at end of file\n"
_MAX_COMPARED = 4_000_000  # lines before times lines after; difflib may take 0.5 s for so much; more is one hunk

_HUNK = re.compile(r"@@ -(\d+)(?:,(\d+))? \+(\d+)(?:,(\d+))? @@")

_Opcode = tuple[str, int, int, int, int]


def make(path: str, before: str | None, after: str | None) -> str:
    """Return the unified diff of two texts (None where there is no file), "" when they are equal."""
    if before == after:
        return ""
    old, new = split_lines(before or ""), split_lines(after or "")
    shown = visible(path)
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


def apply(diff: str, text: str) -> str:
    """Return `text` with every hunk of `diff` applied. What stands before the first hunk is not looked at.

    Raises InvalidArgument for a diff that is malformed, does not fit or fits in several places; it names the hunk.
    """
    source = split_lines(text)
    result: list[str] = []
    done = 0
    for hunk in _parse(diff):
        at = _place(hunk, source, done)
        result += source[done:at]
        result += hunk.new
        done = at + len(hunk.old)
    result += source[done:]
    if any(not line.endswith("\n") for line in result[:-1]):
        raise InvalidArgument("the diff adds lines after one that it leaves without a newline")
    return "".join(result)


def split_lines(text: str) -> list[str]:
    r"""Return the lines of `text` with their "\n"; the last may be without."""
    *lines, last = text.split("\n")
    return [line + "\n" for line in lines] + ([last] if last else [])


@attrs.define
class _Hunk:
    header: str
    start: int
    old: list[str] = attrs.Factory(list)
    new: list[str] = attrs.Factory(list)


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


def _parse(diff: str) -> list[_Hunk]:
    hunks: list[_Hunk] = []
    old_left = new_left = 0
    last_tag = ""
    for number, line in enumerate(split_lines(diff), 1):
        text = line if line.endswith("\n") else line + "\n"
        if hunks and text.startswith("\\"):
            _drop_newline(hunks[-1], last_tag)
            continue
        if not (old_left or new_left):
            if match := _HUNK.match(text):
                start, old_count, _, new_count = match.groups()
                old_left, new_left = int(old_count or 1), int(new_count or 1)
                # A hunk without old lines names the line after which it inserts.
                hunks.append(_Hunk(match.group(), int(start) - 1 if old_left else int(start)))
            elif hunks and text.strip():
                raise InvalidArgument(
                    f"line {number} of the diff belongs to no hunk: {text.rstrip()!r}",
                    remedy="count the lines in each @@ header; a diff is about one file",
                )
            continue
        # Many programs strip the space from an empty context line.
        last_tag, content = (" ", text) if text == "\n" else (text[0], text[1:])
        if last_tag not in (" ", "-", "+"):
            raise InvalidArgument(f"line {number} of the diff begins with none of ' ', '-', '+': {text.rstrip()!r}")
        if last_tag != "+":
            hunks[-1].old.append(content)
            old_left -= 1
        if last_tag != "-":
            hunks[-1].new.append(content)
            new_left -= 1
        if old_left < 0 or new_left < 0:
            raise _miscounted(hunks[-1])
    if old_left or new_left:
        raise _miscounted(hunks[-1])
    if not hunks:
        raise InvalidArgument("the diff has no hunk", remedy="a hunk begins with @@ -START,COUNT +START,COUNT @@")
    return hunks


def _drop_newline(hunk: _Hunk, tag: str) -> None:
    for wanted, lines in (("+", hunk.old), ("-", hunk.new)):
        if tag != wanted and lines:
            lines[-1] = lines[-1].removesuffix("\n")


def _miscounted(hunk: _Hunk) -> InvalidArgument:
    return InvalidArgument(
        f"hunk {hunk.header} does not hold as many lines as it says",
        remedy="count the lines: old ones begin with ' ' or '-', new ones with ' ' or '+'",
    )


def _place(hunk: _Hunk, source: list[str], done: int) -> int:
    """Return the index in `source` at which the hunk fits, not before `done`."""
    length = len(hunk.old)
    if done <= hunk.start <= len(source) and source[hunk.start : hunk.start + length] == hunk.old:
        return hunk.start
    if not hunk.old:
        raise InvalidArgument(f"hunk {hunk.header} inserts where there is no line", remedy="give context lines")
    places = [at for at in range(done, len(source) - length + 1) if source[at : at + length] == hunk.old]
    if len(places) == 1:
        return places[0]
    if places:
        lines = ", ".join(str(at + 1) for at in places[:10])
        raise InvalidArgument(f"hunk {hunk.header} fits at lines {lines}", remedy="give more context lines")
    raise InvalidArgument(f"hunk {hunk.header} does not fit: {_misfit(hunk, source)}", remedy="read the file again")


def _misfit(hunk: _Hunk, source: list[str]) -> str:
    for offset, wanted in enumerate(hunk.old):
        at = hunk.start + offset
        if at >= len(source):
            return f"the file has {len(source)} lines"
        if source[at] != wanted:
            if source[at].rstrip("\n") == wanted.rstrip("\n"):
                return f"line {at + 1} and the diff differ in the newline at the end of the file"
            return f"line {at + 1} is {source[at]!r}, not {wanted!r}"
    return "its lines come before those of the hunk above it"
