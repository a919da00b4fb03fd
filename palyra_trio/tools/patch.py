r"""What a patch of text is, and what it makes of a text: hunks that fit exactly, or nothing.

A line ends at "\n" and nowhere else. The lines of a hunk must be there, character for character; only the place may
be another than the patch says, and then it must be the only one. Where every line of the text ends in "\r\n" and no
line of the hunks does, the text is patched as if it ended in "\n", and comes back as it was.

How a patch is written down is said elsewhere (unified_diff, patch_git, patch_envelope); no file is opened here.
"""

from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from functools import cached_property
from itertools import accumulate

import attrs

from palyra_trio.core.errors import InvalidArgument

MAX_HUNKS = 1000  # of one patch: each may cost a search through its file
_PLACES_NAMED = 10
_SHOWN_CHARACTERS = 200  # of a line that is quoted in an error
_COMMON = 100  # a line that occurs more often says little about where a hunk belongs


@attrs.frozen
class Hunk:
    r"""Lines to find, and the lines to put in their place; each with its "\n", which the last of a text may lack.

    `header` is what the patch calls it. `start` is the index of the line at which the patch says that the old lines
    begin. A patch that counts no lines (`start` is None) says instead after which lines they come, white space at the
    ends aside (`anchors`, the outermost first), or that they are the last of the text (`at_end`); it has no way to
    say that a last line lacks its newline, so that stays as it is.
    """

    header: str
    old: tuple[str, ...]
    new: tuple[str, ...]
    start: int | None = None
    anchors: tuple[str, ...] = ()
    at_end: bool = False


@attrs.frozen
class FilePatch:
    """What a patch does to one file: `old` is its path before, "" where it makes one; `new` after, "" to delete it."""

    old: str
    new: str
    hunks: tuple[Hunk, ...] = ()


@attrs.frozen
class Applied:
    """What became of a text, and in words which hunks fit at another line than the patch says."""

    text: str
    moved: tuple[str, ...] = ()


def apply_hunks(hunks: Sequence[Hunk], text: str) -> Applied:
    """Return `text` with every hunk applied, in order. Raises InvalidArgument naming each hunk that does not fit."""
    newlines = text.count("\n")
    if newlines and newlines == text.count("\r\n") and not any(line.endswith("\r\n") for line in _lines(hunks)):
        unix = apply_hunks(hunks, text.replace("\r\n", "\n"))
        return attrs.evolve(unix, text=unix.text.replace("\n", "\r\n"))
    if text and not text.endswith("\n") and any(hunk.start is None for hunk in hunks):
        ended = _applied(hunks, text + "\n")
        return attrs.evolve(ended, text=ended.text.removesuffix("\n"))
    return _applied(hunks, text)


def split_lines(text: str) -> list[str]:
    r"""Return the lines of `text` with their "\n"; the last may be without."""
    *lines, last = text.split("\n")
    return [line + "\n" for line in lines] + ([last] if last else [])


class _Source:
    """A text by its lines, and the offset at which each begins; one more offset for the end."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.lines = split_lines(text)
        self.starts = [0, *accumulate(map(len, self.lines))]

    @cached_property
    def rare(self) -> dict[str, list[int]]:
        """Where each line stands, but for those that stand in so many places that they say little about one."""
        places: defaultdict[str, list[int]] = defaultdict(list)
        for at, line in enumerate(self.lines):
            places[line].append(at)
        return {line: found for line, found in places.items() if len(found) <= _COMMON}

    def holds(self, wanted: tuple[str, ...], at: int) -> bool:
        return 0 <= at <= len(self.lines) and tuple(self.lines[at : at + len(wanted)]) == wanted

    def find(self, wanted: tuple[str, ...], first: int) -> list[int]:
        """Return the lines, from `first` on, at which `wanted` stands; one more than are named, if there are more."""
        if not wanted[-1].endswith("\n"):
            at = len(self.lines) - len(wanted)
            return [at] if at >= first and self.holds(wanted, at) else []
        # Searched as text, each line with the newline before it: that is linear, whatever the lines are.
        padded, needle = "\n" + self.text, "\n" + "".join(wanted)
        found: list[int] = []
        offset = padded.find(needle, self.starts[first])
        while offset >= 0 and len(found) <= _PLACES_NAMED:
            found.append(bisect_left(self.starts, offset))
            offset = padded.find(needle, offset + 1)
        return found


def _lines(hunks: Iterable[Hunk]) -> Iterable[str]:
    for hunk in hunks:
        yield from hunk.old
        yield from hunk.new


def _applied(hunks: Sequence[Hunk], text: str) -> Applied:
    source = _Source(text)
    pieces: list[str] = []
    moved: list[str] = []
    refusals: list[InvalidArgument] = []
    done = 0
    for hunk in hunks:
        try:
            at = _place(hunk, source, done)
        except InvalidArgument as refusal:
            refusals.append(refusal)
            continue
        if hunk.start not in (None, at):
            moved.append(f"hunk {hunk.header} fits at line {at + 1} only, and went there")
        pieces += (text[source.starts[done] : source.starts[at]], "".join(hunk.new))
        done = at + len(hunk.old)
    if refusals:
        raise InvalidArgument("; ".join(each.message for each in refusals), remedy=refusals[0].remedy)
    pieces = [piece for piece in (*pieces, text[source.starts[done] :]) if piece]
    if any(not piece.endswith("\n") for piece in pieces[:-1]):
        raise InvalidArgument("the diff adds lines after one that it leaves without a newline")
    return Applied("".join(pieces), tuple(moved))


def _place(hunk: Hunk, source: _Source, done: int) -> int:
    """Return the index of the line at which the hunk fits, not before `done`."""
    if hunk.start is not None and hunk.start >= done and source.holds(hunk.old, hunk.start):
        return hunk.start
    anchored = _anchored(hunk, source, done)
    if hunk.at_end:
        places = [len(source.lines) - len(hunk.old)]
        places = [at for at in places if at >= anchored and source.holds(hunk.old, at)]
    elif hunk.old:
        places = source.find(hunk.old, anchored)
    elif hunk.anchors:
        return anchored + 1
    else:
        raise InvalidArgument(f"hunk {hunk.header} inserts where there is no line", remedy="give context lines")
    if len(places) == 1 or (places and hunk.anchors):
        return places[0]
    if places:
        named = ", ".join(str(at + 1) for at in places[:_PLACES_NAMED]) + (", …" if places[_PLACES_NAMED:] else "")
        raise InvalidArgument(f"hunk {hunk.header} fits at lines {named}", remedy="give more context lines")
    raise InvalidArgument(f"hunk {hunk.header} does not fit: {_misfit(hunk, source)}", remedy="read the file again")


def _anchored(hunk: Hunk, source: _Source, done: int) -> int:
    """Return the index of the last anchor's line, or `done` where there is none."""
    at = done - 1
    for anchor in hunk.anchors:
        lines = range(at + 1, len(source.lines))
        at = next((each for each in lines if source.lines[each].strip() == anchor.strip()), -1)
        if at < 0:
            raise InvalidArgument(f"hunk {hunk.header} does not fit: no line is {anchor!r}", remedy="read it again")
    return at if hunk.anchors else done


def _misfit(hunk: Hunk, source: _Source) -> str:
    """Return what stands in the way at the place where the most lines of the hunk fit."""
    start = hunk.start or 0
    closest = _closest(hunk, source, start)
    where = "" if closest == start else f"it comes closest at line {closest + 1}, but "
    for offset, wanted in enumerate(hunk.old):
        at = closest + offset
        if at >= len(source.lines):
            return f"{where}the file has {len(source.lines)} lines"
        found = source.lines[at]
        if found != wanted:
            if found.rstrip("\n") == wanted.rstrip("\n"):
                return f"{where}line {at + 1} and the diff differ in the newline at the end of the file"
            return f"{where}line {at + 1} is {_shown(found)}, not {_shown(wanted)}"
    return "its lines come before those of the hunk above it" if not hunk.at_end else "its lines are not the last"


def _closest(hunk: Hunk, source: _Source, start: int) -> int:
    scores = Counter(
        at - offset for offset, line in enumerate(hunk.old) for at in source.rare.get(line, ()) if at >= offset
    )
    return max(scores, key=lambda at: (scores[at], -abs(at - start)), default=start)


def _shown(line: str) -> str:
    return repr(line if len(line) <= _SHOWN_CHARACTERS else line[:_SHOWN_CHARACTERS] + "…")
