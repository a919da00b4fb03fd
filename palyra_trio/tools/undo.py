"""What a run did to files, told as a diff and taken back.

Between the first and the last change of a path only the run may have written it; where somebody else did, taking the
run back would take theirs too, so that is a conflict. Folders that a run made stay.
"""

from collections.abc import Callable, Sequence

from palyra_trio.core.chain import digest
from palyra_trio.core.errors import StateConflict
from palyra_trio.core.tape import FileChange
from palyra_trio.tools.changing import diff_bytes
from palyra_trio.tools.workspace import Workspace

Blobs = Callable[[str], bytes]


def net_changes(changes: Sequence[FileChange]) -> tuple[FileChange, ...]:
    """Return one change a path, from its first `before` to its last `after`, in order of first change."""
    net: dict[str, FileChange] = {}
    for change in changes:
        first = net.get(change.path, change)
        net[change.path] = FileChange(change.path, first.before, change.after)
    return tuple(change for change in net.values() if change.before != change.after)


def diff(changes: Sequence[FileChange], blobs: Blobs) -> str:
    """Return what the changes of a run, in order, amount to, as one unified diff; binary files are only named."""
    return "".join(
        diff_bytes(
            change.path,
            None if change.before is None else blobs(change.before),
            None if change.after is None else blobs(change.after),
        )
        for change in net_changes(changes)
    )


def undo(workspace: Workspace, changes: Sequence[FileChange], blobs: Blobs) -> list[FileChange]:
    """Take back the changes of a run, given in order, and return what was done: files put back, files removed.

    What is already as it was before the run is left alone, so that an undo that broke off can be repeated. Blocks
    on the disk. Raises StateConflict, before anything is touched, naming every file that is not as the run left it,
    and WorkspaceRefused for one that a symlink or a hard link leads to now.
    """
    pending = [change for change in reversed(net_changes(changes)) if _digest(workspace, change.path) != change.before]
    conflicts = [*_interleaved(changes), *(c.path for c in pending if _digest(workspace, c.path) != c.after)]
    if conflicts:
        raise StateConflict(
            f"changed since by somebody else: {', '.join(dict.fromkeys(conflicts))}; nothing was undone",
            remedy="save those changes elsewhere first, or undo by hand from the diff",
        )
    return [_taken_back(workspace, change, blobs) for change in pending]


def _taken_back(workspace: Workspace, change: FileChange, blobs: Blobs) -> FileChange:
    if change.before is not None:
        workspace.write(change.path, blobs(change.before), before=change.after)
    elif change.after is not None:
        workspace.remove(change.path, before=change.after)
    return FileChange(change.path, change.after, change.before)


def _interleaved(changes: Sequence[FileChange]) -> list[str]:
    """Return the paths that somebody else changed between two changes of the run."""
    left: dict[str, str | None] = {}
    found: list[str] = []
    for change in changes:
        if left.get(change.path, change.before) != change.before:
            found.append(change.path)
        left[change.path] = change.after
    return found


def _digest(workspace: Workspace, path: str) -> str | None:
    workspace.locate(path)  # refuses what cannot be written back, before anything is
    content = workspace.content(path)
    return None if content is None else digest(content)
