"""Reading the layer that a program wrote: what it makes of the workspace, as changes for the tape and as steps to take.

The layer is what overlayfs leaves (Documentation/filesystems/overlayfs.rst): what is new or changed as itself, what was
removed as a device 0/0, a replaced folder marked opaque. All of it is a stranger's: no symlink is followed, nothing but
files, symlinks and folders is taken, and how much is read, kept and listed is bounded. Nothing is written but the
permissions that are needed to read the layer. What is read is in proportion to what changed, not to the workspace.
"""

import os
import stat
from collections.abc import Callable
from contextlib import suppress
from itertools import islice
from typing import Literal

import attrs

from palyra_trio.core.errors import NotFound, StateConflict, WorkspaceRefused
from palyra_trio.core.tape import FileChange
from palyra_trio.core.text import name_to_text
from palyra_trio.tools.node import NOT_READ, mode_of, read, status
from palyra_trio.tools.workspace import MAX_CHANGED_BYTES, Workspace

_OPAQUE, _REDIRECT = "user.overlay.opaque", "user.overlay.redirect"
_PATH_BYTES = 4000  # longer ones cannot be named to the system
_NAMED = 5  # of the paths in a refusal


@attrs.frozen
class Most:
    """The bounds of one call. `entries` are steps, and names in a folder; beyond it nothing is brought. `changes` are told on the tape.

    Contents up to `file_bytes` are kept, of all together `kept_bytes`; of larger ones the digest, until `read_bytes` are
    read.
    """

    entries: int = 200_000
    changes: int = 10_000
    file_bytes: int = MAX_CHANGED_BYTES
    kept_bytes: int = 64 * 1024**2
    read_bytes: int = 1024**3


@attrs.frozen
class Was:
    """What lay at a path of the workspace when it was read, so that it can be told from another."""

    mode: int
    inode: int
    size: int
    mtime_ns: int
    ctime_ns: int

    @classmethod
    def of(cls, found: os.stat_result) -> "Was":
        if stat.S_ISDIR(found.st_mode):  # what happens in a folder does not make it another
            return cls(stat.S_IFDIR, found.st_ino, 0, 0, 0)
        return cls(found.st_mode, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)


@attrs.frozen
class Step:
    """One thing to do at a path of the workspace, where `was` is (None: nothing).

    `take` brings the layer's file or symlink there, `folder` makes a folder or gives it its permissions, `remove` removes.
    """

    path: str
    act: Literal["take", "folder", "remove"]
    mode: int
    was: Was | None


@attrs.define
class Reading:
    """What was read. `contents` are blobs by digest; `missed` changes are brought, and not among `changes`.

    `left` are paths of the layer that are not brought: devices, pipes and sockets.
    """

    steps: list[Step] = attrs.Factory(list)
    changes: list[FileChange] = attrs.Factory(list)
    contents: dict[str, bytes] = attrs.Factory(dict)
    missed: int = 0
    left: list[str] = attrs.Factory(list)


def read_layer(
    upper: Workspace,
    workspace: Workspace,
    began_ns: int,
    check: Callable[[], None] = lambda: None,
    most: Most | None = None,
) -> Reading:
    """Read the layer `upper` over `workspace`. `began_ns` is when its program began, by the clock of the file system.

    `check` is called between two entries, and may raise to break off. Raises StateConflict naming what somebody else
    changed in the workspace since then, of all that the program changed; WorkspaceRefused for a layer that cannot be
    brought.
    """
    reader = _Reader(upper, workspace, began_ns, check, most or Most())
    reader.walk()
    if reader.conflicts:
        raise conflict(reader.conflicts)
    return reader.reading


def conflict(paths: list[str]) -> StateConflict:
    named = ", ".join(paths[:_NAMED]) + (f" and {len(paths) - _NAMED} more" if len(paths) > _NAMED else "")
    return StateConflict(
        f"changed by somebody else while the program ran, and by the program too: {named}",
        remedy="nothing of what the program changed was brought into the workspace; look, then run it again",
    )


@attrs.frozen
class _Folder:
    """A folder of the layer. `merged`: the workspace has one there; `opaque`: but nothing in it shows through."""

    path: bytes
    merged: bool
    opaque: bool


class _Reader:
    def __init__(
        self, upper: Workspace, workspace: Workspace, began_ns: int, check: Callable[[], None], most: Most
    ) -> None:
        self.reading = Reading()
        self.conflicts: list[str] = []
        self._upper = upper
        self._workspace = workspace
        self._began_ns = began_ns
        self._check = check
        self._most = most
        self._kept_bytes = 0
        self._read_bytes = 0

    def walk(self) -> None:
        folders = [_Folder(b"", merged=True, opaque=False)]
        while folders:
            folder = folders.pop()
            self._check()
            names = self._names(self._upper, folder.path)
            for name in names:
                below = self._entry(folder, name)
                if below is not None:
                    folders.append(below)
            if folder.merged and folder.opaque:
                for name in set(self._names(self._workspace, folder.path)).difference(names):
                    self._removed(_join(folder.path, name))

    def _entry(self, folder: _Folder, name: bytes) -> _Folder | None:
        """Take in one name of the layer, and return the folder to go on in, if it is one."""
        self._check()
        path = _join(folder.path, name)
        if len(path) > _PATH_BYTES:
            raise WorkspaceRefused("the program made folders deeper than can be reached; nothing of it was brought")
        text = name_to_text(path)
        below = self._below(text) if folder.merged else None
        with self._upper.within(text) as (fd, own):
            found = os.stat(own, dir_fd=fd, follow_symlinks=False)
            if stat.S_ISDIR(found.st_mode):
                _open_up(fd, own, found.st_mode, stat.S_IRWXU)
                opaque = folder.opaque or _marked(fd, own)
                merged = below is not None and stat.S_ISDIR(below.st_mode)
                if below is None or mode_of(below) != mode_of(found):
                    self._changed(text, "folder", below, found, fd, own)
                return _Folder(path, merged, opaque)
            if stat.S_ISREG(found.st_mode) or stat.S_ISLNK(found.st_mode):
                if below is not None and stat.S_ISDIR(below.st_mode):
                    self._emptied(path)
                if stat.S_ISREG(found.st_mode):
                    _open_up(fd, own, found.st_mode, stat.S_IRUSR)
                self._changed(text, "take", below, found, fd, own)
            elif stat.S_ISCHR(found.st_mode) and found.st_rdev == 0:
                if below is not None:
                    self._removed(path)
            else:
                if len(self.reading.left) >= self._most.entries:
                    raise self._too_many()
                self.reading.left.append(text)
                if below is not None:
                    self._removed(path)
        return None

    def _below(self, path: str) -> os.stat_result | None:
        with suppress(NotFound), self._workspace.within(path) as (fd, own):
            return status(fd, own)
        return None

    def _removed(self, path: bytes) -> None:
        """Take in that the workspace's name `path` is to go, with all that is in it."""
        text = name_to_text(path)
        below = self._below(text)
        if below is None:
            return
        if stat.S_ISDIR(below.st_mode):
            self._emptied(path)
        self._changed(text, "remove", below)

    def _emptied(self, path: bytes) -> None:
        """Take in that all in a folder of the workspace is to go: files first, then folders from the bottom."""
        folders, left = list[tuple[str, os.stat_result]](), [path]
        while left:
            folder = left.pop()
            for name in self._names(self._workspace, folder):
                self._check()
                below = _join(folder, name)
                text = name_to_text(below)
                found = self._below(text)
                if found is not None and stat.S_ISDIR(found.st_mode):
                    folders.append((text, found))
                    left.append(below)
                elif found is not None:
                    self._changed(text, "remove", found)
        for text, found in reversed(folders):
            self._changed(text, "remove", found)

    def _changed(
        self,
        path: str,
        act: Literal["take", "folder", "remove"],
        below: os.stat_result | None,
        found: os.stat_result | None = None,
        fd: int = -1,
        own: bytes = b"",
    ) -> None:
        """Take in one change: the workspace's `below` becomes `found`, which is `own` in `fd` of the layer."""
        if below is not None and not stat.S_ISDIR(below.st_mode) and _changed_since(below, self._began_ns):
            self.conflicts.append(path)
            return
        if len(self.reading.steps) >= self._most.entries:
            raise self._too_many()
        mode = mode_of(found) if found is not None else 0
        step = Step(path, act, mode, Was.of(below) if below is not None else None)
        if len(self.reading.changes) >= self._most.changes:
            self.reading.missed += 1
            self.reading.steps.append(step)
            return
        before, old = self._before(path, below)
        after, new = (None, None) if found is None else self._read(fd, own, found)
        before_mode = mode_of(below) if below is not None else 0
        if before != after or before_mode != mode or before == NOT_READ:
            change = self._kept(FileChange(path, before, after, before_mode, mode), old, new)
            self.reading.changes.append(change)
        elif below is not None and found is not None and below.st_mtime_ns == found.st_mtime_ns:
            return
        self.reading.steps.append(step)

    def _names(self, place: Workspace, folder: bytes) -> list[bytes]:
        """Return the names in a folder, none where it is gone. Raises WorkspaceRefused for more than could be brought."""
        with suppress(NotFound), place.within(name_to_text(_join(folder, b"any"))) as (fd, _):
            opened = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=fd)
            try:
                with os.scandir(opened) as entries:
                    names = [os.fsencode(each.name) for each in islice(entries, self._most.entries + 1)]
            finally:
                os.close(opened)
            if len(names) > self._most.entries:
                raise self._too_many()
            return sorted(names)
        return []

    def _too_many(self) -> WorkspaceRefused:
        return WorkspaceRefused(
            f"the program changed more than {self._most.entries} files and folders; nothing of it was brought",
            remedy="do it in parts",
        )

    def _before(self, path: str, below: os.stat_result | None) -> tuple[str | None, bytes | None]:
        if below is None:
            return None, None
        with self._workspace.within(path) as (fd, own):
            return self._read(fd, own, below)

    def _read(self, fd: int, own: bytes, found: os.stat_result) -> tuple[str, bytes | None]:
        left = self._most.read_bytes - self._read_bytes
        content, data = read(fd, own, found, left, self._most.file_bytes)
        if content != NOT_READ:
            self._read_bytes += found.st_size
        return content, data

    def _kept(self, change: FileChange, old: bytes | None, new: bytes | None) -> FileChange:
        """Keep the contents of a change, or say of it that they were not kept."""
        if (change.before is not None and old is None) or (change.after is not None and new is None):
            return attrs.evolve(change, kept=False)
        contents = {
            name: data for name, data in ((change.before, old), (change.after, new)) if name and data is not None
        }
        fresh = sum(len(data) for name, data in contents.items() if name not in self.reading.contents)
        if self._kept_bytes + fresh > self._most.kept_bytes:
            return attrs.evolve(change, kept=False)
        self._kept_bytes += fresh
        self.reading.contents |= contents
        return change


def _changed_since(found: os.stat_result, began_ns: int) -> bool:
    if found.st_ctime_ns % 10**9:
        return found.st_ctime_ns > began_ns
    return found.st_ctime_ns > began_ns - 10**9  # a file system that keeps whole seconds


def _join(folder: bytes, name: bytes) -> bytes:
    return folder + b"/" + name if folder else name


def _open_up(fd: int, own: bytes, mode: int, wanted: int) -> None:
    """Let this process read what a program has closed to its owner."""
    if mode & wanted != wanted:
        held = os.open(own, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=fd)
        try:
            os.chmod(f"/proc/self/fd/{held}", stat.S_IMODE(mode) & 0o777 | wanted)
        finally:
            os.close(held)


def _marked(fd: int, own: bytes) -> bool:
    """Whether a folder of the layer is opaque. Raises WorkspaceRefused for one whose content is said to be elsewhere."""
    opened = os.open(own, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=fd)
    try:
        marks = os.listxattr(opened)
        if _REDIRECT in marks:
            raise WorkspaceRefused("the layer of the program's changes has redirects, which are not followed")
        return _OPAQUE in marks and os.getxattr(opened, _OPAQUE) == b"y"
    finally:
        os.close(opened)
