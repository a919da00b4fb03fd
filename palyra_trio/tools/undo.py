"""What a run did to files, told as a diff and taken back.

Between the first and the last change of a path only the run may have written it; where somebody else did, taking the
run back would take theirs too, so that is a conflict. Folders that a run made stay.
"""

from collections.abc import Sequence

from palyra_trio.core.errors import StateConflict
from palyra_trio.core.tape import FileChange
from palyra_trio.tools.changing import Blobs, diff_bytes, digest_of, put
from palyra_trio.tools.workspace import Workspace


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

    What is already as it was before the run is left alone, so that an undo that broke off can be repeated. A change
    that was set out on but did not happen (its file still is what it was before that change) counts as not made.
    Blocks on the disk. Raises StateConflict, before anything is touched, naming every file that is not as the run
    left it, and WorkspaceRefused for one that a symlink or a hard link leads to now.
    """
    first: dict[str, str | None] = {}
    for change in changes:
        first.setdefault(change.path, change.before)
    last = {change.path: change for change in changes}
    conflicts = _interleaved(changes)
    pending: list[FileChange] = []
    for path, before in reversed(first.items()):
        workspace.locate(path)  # refuses what cannot be written back, before anything is
        now = digest_of(workspace, path)
        if now == before:
            continue
        if now in (last[path].before, last[path].after):
            pending.append(FileChange(path, now, before))
        elif before != last[path].after:
            conflicts.append(path)
    if conflicts:
        raise StateConflict(
            f"changed since by somebody else: {', '.join(dict.fromkeys(conflicts))}; nothing was undone",
            remedy="save those changes elsewhere first, or undo by hand from the diff",
        )
    for change in pending:
        put(workspace, change, blobs)
    return pending


def _interleaved(changes: Sequence[FileChange]) -> list[str]:
    """Return the paths that somebody else changed between two changes of the run."""
    last: dict[str, FileChange] = {}
    found: list[str] = []
    for change in changes:
        previous = last.get(change.path)
        if previous is not None and change.before not in (previous.before, previous.after):
            found.append(change.path)
        last[change.path] = change
    return found
