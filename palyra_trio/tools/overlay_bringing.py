"""Bringing what a program changed from its layer into the workspace, step by step, as it was read.

On one file system each file is moved, which is atomic and costs the same for any size; onto another it is copied, holes
as holes, and then moved there. Every step looks again at what it replaces, and stops at what is another now. What is
brought has no setuid bit and no mark of overlayfs. What the tape must hold of it is on the tape before.
"""

import errno
import os
import secrets
import stat
from collections.abc import Sequence
from contextlib import suppress
from io import FileIO

from palyra_trio.core.errors import NotFound, PalyraError, StateConflict, WorkspaceRefused
from palyra_trio.tools.node import PERMISSIONS, set_folder, status, writable
from palyra_trio.tools.overlay_reading import Step, Was, conflict
from palyra_trio.tools.workspace import Workspace

_MARKS = "user.overlay."
_BLOCK_BYTES = 1024 * 1024
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC


def check(workspace: Workspace, steps: Sequence[Step]) -> None:
    """Raise StateConflict where what a step replaces is not what was read. Blocks on the disk."""
    if changed := [step.path for step in steps if not _holds(workspace, step)]:
        raise conflict(changed)


def bring(upper: Workspace, workspace: Workspace, steps: Sequence[Step]) -> None:
    """Take every step, in order. Blocks on the disk.

    Raises StateConflict where one cannot be taken; those before it were taken then, and undoing the run takes them back.
    """
    try:
        for step in steps:
            _bring(upper, workspace, step)
        for step in reversed(steps):
            if step.act == "folder":
                with workspace.within(step.path) as (folder, own), upper.within(step.path) as (source, name):
                    set_folder(folder, own, step.mode, os.stat(name, dir_fd=source, follow_symlinks=False))
    except PalyraError as error:
        raise StateConflict(
            f"{error.message}; not all that the program changed was brought into the workspace",
            remedy="`palyra-trio runs undo` takes back what was",
        ) from error


def _bring(upper: Workspace, workspace: Workspace, step: Step) -> None:
    with writable(workspace, step.path) as (folder, own):
        if not _is(status(folder, own), step):
            raise StateConflict(f"{step.path} was changed by somebody else just now")
        if step.act == "remove":
            _clear(folder, own, step)
        elif step.act == "folder":
            _make(folder, own, step)
        else:
            with upper.within(step.path) as (source, name):
                _take(source, name, folder, own, step)


def _holds(workspace: Workspace, step: Step) -> bool:
    try:
        with workspace.within(step.path) as (folder, own):
            return _is(status(folder, own), step)
    except NotFound:  # a folder that is yet to be made
        return step.was is None


def _is(found: os.stat_result | None, step: Step) -> bool:
    return (found and Was.of(found)) == step.was


def _clear(folder: int, own: bytes, step: Step) -> None:
    """Remove what was there."""
    if step.was is None:
        return
    if stat.S_ISDIR(step.was.mode):
        os.rmdir(own, dir_fd=folder)
    else:
        os.unlink(own, dir_fd=folder)


def _make(folder: int, own: bytes, step: Step) -> None:
    """Make a folder that can be filled; it gets its own permissions when all is in it."""
    if step.was is not None and stat.S_ISDIR(step.was.mode):
        return
    _clear(folder, own, step)
    os.mkdir(own, 0o700, dir_fd=folder)


def _take(source: int, name: bytes, folder: int, own: bytes, step: Step) -> None:
    if step.was is not None and stat.S_ISDIR(step.was.mode):
        os.rmdir(own, dir_fd=folder)
    if stat.S_ISREG(step.mode):
        _wash(source, name, step.mode)
    try:
        os.rename(name, own, src_dir_fd=source, dst_dir_fd=folder)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        _copy(source, name, folder, own)


def _wash(source: int, name: bytes, mode: int) -> None:
    """Leave nothing of a file but its bytes, its times, its permissions and the marks of its own."""
    fd = os.open(name, _READ, dir_fd=source)
    try:
        marks = [mark for mark in os.listxattr(fd) if mark.startswith(_MARKS)]
        if _MARKS + "metacopy" in marks:
            raise WorkspaceRefused("the layer of the program's changes has files without their content")
        os.fchmod(fd, mode & PERMISSIONS)
        for mark in marks:
            os.removexattr(fd, mark)
    finally:
        os.close(fd)


def _copy(source: int, name: bytes, folder: int, own: bytes) -> None:
    """Copy a file or a symlink to another file system, and put it in its place at once."""
    found = os.stat(name, dir_fd=source, follow_symlinks=False)
    temporary = f".palyra-{secrets.token_hex(8)}.tmp".encode()
    try:
        if stat.S_ISLNK(found.st_mode):
            os.symlink(os.readlink(name, dir_fd=source), temporary, dir_fd=folder)
        else:
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
            with (
                FileIO(os.open(name, _READ, dir_fd=source)) as old,
                FileIO(os.open(temporary, flags, 0o600, dir_fd=folder), "w") as new,
            ):
                _copy_data(old, new)
                os.fchmod(new.fileno(), found.st_mode & PERMISSIONS)
        with suppress(PermissionError):
            os.chown(temporary, found.st_uid, found.st_gid, dir_fd=folder, follow_symlinks=False)
        os.utime(temporary, ns=(found.st_atime_ns, found.st_mtime_ns), dir_fd=folder, follow_symlinks=False)
        os.rename(temporary, own, src_dir_fd=folder, dst_dir_fd=folder)
    except BaseException:
        with suppress(FileNotFoundError):
            os.unlink(temporary, dir_fd=folder)
        raise


def _copy_data(old: FileIO, new: FileIO) -> None:
    """Copy the data of a file; where it has holes, so has the copy."""
    size, at = os.fstat(old.fileno()).st_size, 0
    new.truncate(size)
    while at < size:
        try:
            at = os.lseek(old.fileno(), at, os.SEEK_DATA)
        except OSError as error:
            if error.errno != errno.ENXIO:
                raise
            return  # the rest is a hole
        end = os.lseek(old.fileno(), at, os.SEEK_HOLE)
        new.seek(at)
        while at < end:
            sent = os.sendfile(new.fileno(), old.fileno(), at, min(end - at, 64 * _BLOCK_BYTES))
            if sent == 0:
                return
            at += sent
