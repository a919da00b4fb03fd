"""What a run did to files, told as a diff and taken back.

Between the first and the last change of a path only the run may have written it; where somebody else did, taking the
run back would take theirs too, so that is a conflict. What the tape does not hold cannot be taken back, and then nothing
is. Folders that files.* made stay, and so does one that a program made and that holds something now.
"""

import stat
from collections.abc import Sequence
from contextlib import suppress

import attrs

from palyra_trio.core.chain import digest
from palyra_trio.core.errors import NotFound, StateConflict
from palyra_trio.core.tape import FileChange
from palyra_trio.core.text import visible
from palyra_trio.tools.changing import Blobs, diff_bytes, put
from palyra_trio.tools.node import NOT_READ, Node, alike, find
from palyra_trio.tools.node import put as put_node
from palyra_trio.tools.workspace import Workspace

_COMPARED_BYTES = 2 * 1024**3  # of a file whose content was not kept: its digest alone tells whether it is the same
_OBJECTS = ".git/objects/"
_NAMED = 10  # of the paths in a refusal
_NOT_KEPT = "not on the tape: it is too large, or holds a secret"


def net_changes(changes: Sequence[FileChange]) -> tuple[FileChange, ...]:
    """Return one change a path, from its first `before` to its last `after`, in order of first change."""
    net: dict[str, FileChange] = {}
    for change in changes:
        first = net.get(change.path, change)
        net[change.path] = attrs.evolve(
            first, after=change.after, after_mode=change.after_mode, kept=first.kept and change.kept
        )
    return tuple(change for change in net.values() if not alike(_before(change), _after(change)))


def diff(changes: Sequence[FileChange], blobs: Blobs) -> str:
    """Return what the changes of a run, in order, amount to, as one unified diff in Git's extended form.

    Of what is binary, a folder or not kept, only that it changed; of Git's own objects, only how many.
    """
    net = net_changes(changes)
    filled = {change.path.rpartition("/")[0] for change in net}
    parts = [
        _told(change, blobs)
        for change in net
        if not change.path.startswith(_OBJECTS) and not (_is_folder(change) and change.path in filled)
    ]
    if objects := sum(change.path.startswith(_OBJECTS) and not _is_folder(change) for change in net):
        parts.append(f"{objects} files in .git/objects differ (Git's own, not shown)\n")
    return "".join(parts)


def undo(workspace: Workspace, changes: Sequence[FileChange], blobs: Blobs) -> list[FileChange]:
    """Take back the changes of a run, given in order, and return what was done: files put back, files removed.

    What is already as it was before the run is left alone, so that an undo that broke off can be repeated. A change
    that was set out on but did not happen (its file still is what it was before that change) counts as not made.
    Blocks on the disk. Raises StateConflict, before anything is touched, naming every file that is not as the run
    left it or whose content before the run was not kept, and WorkspaceRefused for one that a symlink or a hard link
    leads to now.
    """
    first: dict[str, FileChange] = {}
    for change in changes:
        first.setdefault(change.path, change)
    last = {change.path: change for change in changes}
    conflicts = _interleaved(changes)
    lost: list[str] = []
    pending: list[tuple[Node | None, FileChange]] = []
    for path, begun in reversed(first.items()):
        before, now = _before(begun), _now(workspace, begun, last[path])
        if alike(now, before):
            continue
        if NOT_READ in (begun.before, last[path].after):
            lost.append(path)
        elif not (alike(now, _before(last[path])) or alike(now, _after(last[path]))):
            if not alike(before, _after(last[path])):
                conflicts.append(path)
        elif before is not None and not begun.kept:
            lost.append(path)
        else:
            pending.append((now, _change(path, now, before)))
    if conflicts:
        raise StateConflict(
            f"changed since by somebody else: {_some(conflicts)}; nothing was undone",
            remedy="save those changes elsewhere first, or undo by hand from the diff",
        )
    if lost:
        raise StateConflict(
            f"{_NOT_KEPT}: {_some(lost)}; nothing was undone",
            remedy="`palyra-trio runs diff` shows the rest, to undo by hand",
        )
    return [change for now, change in pending if _put_back(workspace, now, change, blobs)]


def _put_back(workspace: Workspace, now: Node | None, change: FileChange, blobs: Blobs) -> bool:
    """Take one path back, and return whether that was done: a folder that holds something is left.

    Raises StateConflict where it is not `now` any more: to look at all paths may have taken a while.
    """
    if change.before_mode == change.after_mode == 0:
        put(workspace, change, blobs)
        return True
    if not alike(find(workspace, change.path, _COMPARED_BYTES), now):
        raise StateConflict(
            f"{change.path} was changed by somebody else just now; not all was undone",
            remedy="look at it, then undo again",
        )
    return put_node(workspace, change.path, now, _after(change), blobs)


def _now(workspace: Workspace, first: FileChange, last: FileChange) -> Node | None:
    """Return what lies at a path now. Where files.* alone changed it, it must be what they could write to."""
    if not any((first.before_mode, first.after_mode, last.before_mode, last.after_mode)):
        workspace.locate(first.path)  # refuses what cannot be written back, before anything is
        data = workspace.content(first.path)
        return None if data is None else Node(digest(data), 0)
    return find(workspace, first.path, _COMPARED_BYTES)


def _change(path: str, now: Node | None, want: Node | None) -> FileChange:
    before, before_mode = (now.content, now.mode) if now else (None, 0)
    after, after_mode = (want.content, want.mode) if want else (None, 0)
    return FileChange(path, before, after, before_mode, after_mode)


def _before(change: FileChange) -> Node | None:
    return None if change.before is None else Node(change.before, change.before_mode)


def _after(change: FileChange) -> Node | None:
    return None if change.after is None else Node(change.after, change.after_mode)


def _interleaved(changes: Sequence[FileChange]) -> list[str]:
    """Return the paths that somebody else changed between two changes of the run."""
    last: dict[str, FileChange] = {}
    found: list[str] = []
    for change in changes:
        previous = last.get(change.path, change)
        before = _before(change)
        told = NOT_READ not in (change.before, previous.after)
        if told and not (alike(before, _before(previous)) or alike(before, _after(previous))):
            found.append(change.path)
        last[change.path] = change
    return found


def _is_folder(change: FileChange) -> bool:
    return all(node is None or stat.S_ISDIR(node.mode) for node in (_before(change), _after(change)))


def _some(paths: Sequence[str]) -> str:
    unique = list(dict.fromkeys(paths))
    return ", ".join(unique[:_NAMED]) + (f" and {len(unique) - _NAMED} more" if len(unique) > _NAMED else "")


# --- the diff of one path ---


def _told(change: FileChange, blobs: Blobs) -> str:
    shown = visible(change.path).replace("\n", "\\n")
    if _is_folder(change):
        if change.before is None or change.after is None:
            return f"Folder {shown} {'removed' if change.after is None else 'created'}\n"
        return f"{_modes(change, shown)}Folder {shown} has other permissions\n"
    if change.kept:
        with suppress(NotFound):  # it was erased
            before, after = (None if name is None else blobs(name) for name in (change.before, change.after))
            return _modes(change, shown) + diff_bytes(change.path, before, after)
    did = "was created" if change.before is None else "was removed" if change.after is None else "differs"
    return f"{_modes(change, shown)}File {shown} {did} (its content is {_NOT_KEPT})\n"


def _modes(change: FileChange, shown: str) -> str:
    """Return the header of Git's extended diff where a mode is told that is not a plain file's, or has changed."""
    old, new = change.before_mode, change.after_mode
    plain = stat.S_IFREG | 0o644
    if change.before is None:
        lines = [f"new file mode {new:o}"] if new not in (0, plain) else []
    elif change.after is None:
        lines = [f"deleted file mode {old:o}"] if old not in (0, plain) else []
    else:
        lines = [f"old mode {old:o}", f"new mode {new:o}"] if old and new and old != new else []
    return "\n".join((f"diff --git a/{shown} b/{shown}", *lines, "")) if lines else ""
