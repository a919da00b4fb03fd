"""Which of the files and folders that should be their owner's alone let others in; and, when asked to, closing them.

Each is looked at, and changed, through a descriptor of its own, opened beneath that of its folder and not through a
link: whatever is put into its place meanwhile, nothing else is changed. One that is a link, or somebody else's, or has
another name, is told of and left.
"""

import os
import stat
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path

import attrs

_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
FILE_MODE, FOLDER_MODE = 0o600, 0o700


@attrs.frozen
class PrivateFolder:
    """A folder that should be its owner's alone, and what should be in it: files by pattern, and more such folders.

    `path` is one name where it lies in another. A `shared` one may itself be looked into.
    """

    path: str
    files: tuple[str, ...] = ("*",)
    folders: tuple["PrivateFolder", ...] = ()
    shared: bool = False


@attrs.frozen
class Exposed:
    """What others can get at, with the mode it was found with and the one it should have; `left` says why it is left.

    Without a `left`, it can be closed, or was.
    """

    path: Path
    mode: int
    wanted: int
    left: str = ""


def exposed(folder: PrivateFolder, *, close: bool = False) -> Iterator[Exposed]:
    """Yield what others can get at in a folder and below, outermost first; with `close`, after it was given its mode.

    What is not there is in order. The outermost may be a link, if it is one's own. Raises nothing: what cannot be looked at
    is yielded as left.
    """
    path = folder.path
    if os.path.islink(path) and os.lstat(path).st_uid == os.geteuid():
        path = os.path.realpath(path)
    return _look(None, attrs.evolve(folder, path=path), Path(path), close)


def _look(parent: int | None, each: str | PrivateFolder, path: Path, close: bool) -> Iterator[Exposed]:
    """Open a file, by its name, or a folder, and yield what is to be told of it."""
    name, wanted = (each, FILE_MODE) if isinstance(each, str) else (each.path, FOLDER_MODE)
    opened = _open(parent, name, path, wanted)
    if not isinstance(opened, int):
        yield from opened
        return
    try:
        status = os.fstat(opened)
        if isinstance(each, str):
            yield from _file(opened, status, path, close)
        else:
            yield from _folder(opened, status, each, path, close)
    except OSError as error:
        yield Exposed(path, 0, wanted, error.strerror or str(error))
    finally:
        os.close(opened)


def _file(opened: int, status: os.stat_result, path: Path, close: bool) -> Iterator[Exposed]:
    mode = stat.S_IMODE(status.st_mode)
    if not stat.S_ISREG(status.st_mode):
        yield Exposed(path, mode, FILE_MODE, "it is no regular file")
    elif status.st_uid != os.geteuid() or mode & 0o077:
        yield _closed(opened, status, path, FILE_MODE, close)


def _folder(opened: int, status: os.stat_result, folder: PrivateFolder, path: Path, close: bool) -> Iterator[Exposed]:
    mode = stat.S_IMODE(status.st_mode)
    if not stat.S_ISDIR(status.st_mode):
        yield Exposed(path, mode, FOLDER_MODE, "it is no folder")
        return
    own = status.st_uid == os.geteuid() and mode & 0o777 == FOLDER_MODE
    if not folder.shared and not own:
        if mode & (stat.S_ISVTX | stat.S_ISGID):  # such as /tmp: to close it would lock others out
            yield Exposed(path, mode, FOLDER_MODE, "others are meant to use it, name another folder")
        else:
            yield _closed(opened, status, path, FOLDER_MODE, close)
    for name in sorted(os.listdir(opened)):
        if any(fnmatch(name, pattern) for pattern in folder.files):
            yield from _look(opened, name, path / name, close)
    for each in folder.folders:
        yield from _look(opened, each, path / each.path, close)


def _open(parent: int | None, name: str, path: Path, wanted: int) -> int | tuple[Exposed, ...]:
    """Return a descriptor, or what is to be told where there can be none."""
    try:
        return os.open(name, _FLAGS, dir_fd=parent)
    except FileNotFoundError:
        return ()
    except OSError as error:
        try:
            status = os.stat(name, dir_fd=parent, follow_symlinks=False)
        except FileNotFoundError:
            return ()
        except OSError:
            return (Exposed(path, 0, wanted, error.strerror or str(error)),)
        mode = stat.S_IMODE(status.st_mode)
        if stat.S_ISLNK(status.st_mode):
            return (Exposed(path, mode, wanted, "it is a symbolic link"),)
        return (Exposed(path, mode, wanted, _of_others(status) or error.strerror or str(error)),)


def _closed(opened: int, status: os.stat_result, path: Path, wanted: int, close: bool) -> Exposed:
    found = Exposed(path, stat.S_IMODE(status.st_mode), wanted, _of_others(status))
    if found.left or not close:
        return found
    try:
        os.fchmod(opened, wanted)
    except OSError as error:
        return attrs.evolve(found, left=error.strerror or str(error))
    return found


def _of_others(status: os.stat_result) -> str:
    """Return why this may not be ours alone to change, or ""."""
    if status.st_uid != os.geteuid():
        return f"it belongs to user {status.st_uid}"
    if stat.S_ISREG(status.st_mode) and status.st_nlink > 1:
        return "it has another name, in this folder or elsewhere"
    return ""
