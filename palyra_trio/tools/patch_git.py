r"""Patches of several files as git writes them, and as `diff -u` does: parsed, not applied.

What git can say and this program cannot do is refused, not passed over: binary content, symlinks, submodules, copies,
changes of permissions. So is a line between hunks that belongs to none, because a miscounted @@ header would otherwise
drop lines silently.

Format: git-diff(1), "Generating patch text with -p".
"""

import re
from collections.abc import Sequence

import attrs

from palyra_trio.core.errors import InvalidArgument
from palyra_trio.core.text import name_to_text
from palyra_trio.tools.patch import FilePatch, Hunk, split_lines
from palyra_trio.tools.unified_diff import HUNK, parse_hunks, stray

_GIT = "diff --git "
_NOWHERE = "/dev/null"
_EXTENDED = re.compile(
    "(new file mode|deleted file mode|old mode|new mode|rename from|rename to|copy from|copy to"
    "|index|similarity index|dissimilarity index) (.*)"
)
_BINARY = ("Binary file", "GIT binary patch")
_BETWEEN = ("diff ", "Index: ", "====")  # what other programs write before the --- of a file
_QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"')
_ESCAPE = re.compile(rb"\\([0-7]{3}|.)")
_ESCAPED = {b"a": b"\a", b"b": b"\b", b"t": b"\t", b"n": b"\n", b"v": b"\v", b"f": b"\f", b"r": b"\r"}


def parse(patch: str) -> tuple[FilePatch, ...]:
    """Return what the patch does to each file, in its order. What stands before the first header is not looked at.

    Raises InvalidArgument, naming the line, the hunk or the file.
    """
    lines = split_lines(patch)
    at = next((at for at, line in enumerate(lines) if _begins(lines, at) or HUNK.match(line)), len(lines))
    if at == len(lines) or HUNK.match(lines[at]):
        raise InvalidArgument(
            "the patch names no file", remedy="begin each file with two lines: --- a/PATH and +++ b/PATH"
        )
    patches: list[FilePatch] = []
    while at < len(lines):
        if _begins(lines, at):
            header = _Header()
            at = header.read(lines, at)
            hunks, at = parse_hunks(lines, at)
            patches.append(header.patch(hunks))
        elif lines[at].startswith(_BETWEEN):
            at += 1
        elif lines[at].startswith(_BINARY):
            raise InvalidArgument(f"{patches[-1].new or patches[-1].old} is binary, which a patch cannot change here")
        else:
            raise stray(lines, at, "each file begins with --- a/PATH and +++ b/PATH")
    return tuple(patches)


def _begins(lines: Sequence[str], at: int) -> bool:
    return lines[at].startswith(_GIT) or (
        lines[at].startswith("--- ") and at + 1 < len(lines) and lines[at + 1].startswith("+++ ")
    )


@attrs.define
class _Header:
    """The lines before the hunks of one file, as they are read."""

    old: str = ""
    new: str = ""
    created: bool = False
    deleted: bool = False
    renamed: bool = False

    def read(self, lines: Sequence[str], at: int) -> int:
        """Take in the header that begins at line `at`, and return the line after it."""
        if lines[at].startswith(_GIT):
            self.old, self.new = _unprefixed(*_both(lines[at].removeprefix(_GIT).rstrip("\r\n")))
            at += 1
            while at < len(lines) and (match := _EXTENDED.match(lines[at].rstrip("\r\n"))):
                self._extend(*match.groups())
                at += 1
        if at < len(lines) and lines[at].startswith("--- ") and _begins(lines, at):
            old, new = (_name(lines[each][4:].rstrip("\r\n")) for each in (at, at + 1))
            self.created |= old == _NOWHERE
            self.deleted |= new == _NOWHERE
            if not self.renamed:
                self.old, self.new = _unprefixed(old, new)
            at += 2
        return at

    def patch(self, hunks: tuple[Hunk, ...]) -> FilePatch:
        old, new = "" if self.created else self.old, "" if self.deleted else self.new
        if not old and not new:
            raise InvalidArgument("a file of the patch has no name", remedy="give --- a/PATH and +++ b/PATH")
        if old and new and old != new and not self.renamed:
            raise InvalidArgument(
                f"the patch calls one file {old} and {new}", remedy="give both the same name, or say rename from and to"
            )
        if old == new and not hunks:
            raise InvalidArgument(f"the patch of {new} has no hunk", remedy="a hunk begins with @@ -START,COUNT …")
        return FilePatch(old, new, hunks)

    def _extend(self, keyword: str, rest: str) -> None:
        match keyword:
            case "new file mode":
                self.created = True
                if rest != "100644":
                    raise InvalidArgument(
                        f"the patch makes {self.new} with the mode {rest}",
                        remedy="only plain files of mode 100644 can be made; change the mode afterwards",
                    )
            case "deleted file mode":
                self.deleted = True
            case "old mode" | "new mode":
                raise InvalidArgument(f"the patch changes the mode of {self.new}", remedy="leave the modes out")
            case "copy from" | "copy to":
                raise InvalidArgument("the patch copies a file", remedy="add the copy as a new file")
            case "rename from":
                self.renamed, self.old = True, _name(rest)
            case "rename to":
                self.renamed, self.new = True, _name(rest)


def _both(names: str) -> tuple[str, str]:
    """Return the two names of a `diff --git` line. They are needed only where no other line names the file."""
    if match := _QUOTED.match(names):
        return _name(match.group()), _name(names[match.end() + 1 :])
    half = (len(names) - 1) // 2
    return names[:half], names[half + 1 :]


def _name(spelled: str) -> str:
    """Return a file name that may be quoted as in C, or be followed by a tab and a time."""
    match = _QUOTED.match(spelled)
    if match is None:
        return spelled.partition("\t")[0]
    return name_to_text(_ESCAPE.sub(_unescape, match.group(1).encode("utf-8", "surrogateescape")))


def _unescape(match: re.Match[bytes]) -> bytes:
    escape = match.group(1)
    return bytes([int(escape, 8) & 0xFF]) if len(escape) == 3 else _ESCAPED.get(escape, escape)


def _unprefixed(old: str, new: str) -> tuple[str, str]:
    """Return the names without git's a/ and b/, where they have both."""
    if (old.startswith("a/") or old == _NOWHERE) and (new.startswith("b/") or new == _NOWHERE):
        return old.removeprefix("a/"), new.removeprefix("b/")
    return old, new
