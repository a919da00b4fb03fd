"""Patches between `*** Begin Patch` and `*** End Patch`, as many models write them: parsed, not applied.

The format counts no lines. A hunk is found by its context, in order; the text after @@ names a line that comes before
it. Each file is added (every line with a +), updated (and perhaps moved), or deleted.
"""

from collections.abc import Sequence

import attrs

from palyra_trio.core.errors import InvalidArgument
from palyra_trio.tools.patch import MAX_HUNKS, FilePatch, Hunk
from palyra_trio.tools.unified_diff import HUNK

BEGIN = "*** Begin Patch"
_END = "*** End Patch"
_ADD, _UPDATE, _DELETE = "*** Add File: ", "*** Update File: ", "*** Delete File: "
_MOVE = "*** Move to: "
_END_OF_FILE = "*** End of File"


def parse(patch: str) -> tuple[FilePatch, ...]:
    """Return what the patch does to each file, in its order. Raises InvalidArgument naming the line or the file."""
    lines = [line.removesuffix("\r") for line in patch.strip().split("\n")]
    if lines[0].rstrip() != BEGIN or lines[-1].rstrip() != _END:
        raise InvalidArgument(f"the patch does not end with {_END!r}", remedy=f"it goes from {BEGIN!r} to {_END!r}")
    patches: list[FilePatch] = []
    at, stop = 1, len(lines) - 1
    while at < stop:
        header = lines[at].rstrip()
        end = next((each for each in range(at + 1, stop) if lines[each].startswith((_ADD, _UPDATE, _DELETE))), stop)
        body = lines[at + 1 : end]
        if header.startswith(_ADD):
            patches.append(_added(header.removeprefix(_ADD), body))
        elif header.startswith(_UPDATE):
            patches.append(_updated(header.removeprefix(_UPDATE), body))
        elif header.startswith(_DELETE) and not any(line.strip() for line in body):
            patches.append(FilePatch(header.removeprefix(_DELETE), ""))
        elif header:
            raise InvalidArgument(
                f"line {at + 1} of the patch belongs to no file: {lines[at]!r}",
                remedy=f"a file begins with {_ADD!r}, {_UPDATE!r} or {_DELETE!r} and its path",
            )
        at = end
    if sum(len(each.hunks) for each in patches) > MAX_HUNKS:
        raise InvalidArgument(f"the patch has more than {MAX_HUNKS} hunks", remedy="apply it in parts")
    if not patches:
        raise InvalidArgument("the patch names no file")
    return tuple(patches)


def _added(path: str, body: Sequence[str]) -> FilePatch:
    while body and not body[-1].strip():
        body = body[:-1]
    if any(not line.startswith("+") for line in body):
        raise InvalidArgument(f"a line of the new file {path} begins without '+'")
    content = tuple(line[1:] + "\n" for line in body)
    return FilePatch("", path, (Hunk("1", (), content, start=0),) if content else ())


@attrs.define
class _Open:
    """A hunk as its lines are read."""

    number: int
    anchors: list[str] = attrs.Factory(list)
    old: list[str] = attrs.Factory(list)
    new: list[str] = attrs.Factory(list)
    at_end: bool = False

    def closed(self) -> Hunk:
        header = f"{self.number} (@@ {self.anchors[-1]})" if self.anchors else str(self.number)
        return Hunk(header, tuple(self.old), tuple(self.new), None, tuple(self.anchors), self.at_end)


def _updated(path: str, body: Sequence[str]) -> FilePatch:
    target = path
    if body and body[0].startswith(_MOVE):
        target, body = body[0].removeprefix(_MOVE).strip(), body[1:]
    while body and not body[-1].strip():
        body = body[:-1]
    hunks = [_Open(1)]
    for line in body:
        hunk = hunks[-1]
        if (line.startswith("@@") and (hunk.old or hunk.new)) or (hunk.at_end and line.strip()):
            hunk = _Open(hunk.number + 1)
            hunks.append(hunk)
        if line.startswith("@@"):
            # Models mix in the line numbers of a unified diff; what they say is not needed.
            if anchor := HUNK.sub("", line).removeprefix("@@").strip():
                hunk.anchors.append(anchor)
        elif line.rstrip() == _END_OF_FILE:
            hunk.at_end = True
        elif not line or line[0] in " -+":
            if line[:1] != "+":
                hunk.old.append(line[1:] + "\n")
            if line[:1] != "-":
                hunk.new.append(line[1:] + "\n")
        else:
            raise InvalidArgument(f"a line in the patch of {path} begins with none of ' ', '-', '+', '@@': {line!r}")
    if not (hunks[0].old or hunks[0].new) and target == path:
        raise InvalidArgument(f"the patch of {path} changes nothing")
    return FilePatch(path, target, tuple(hunk.closed() for hunk in hunks if hunk.old or hunk.new))
