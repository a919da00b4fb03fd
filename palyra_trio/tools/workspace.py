"""The workspace: the one folder that the file tools can reach, and every way in which they reach it.

A path is text as `core.text.name_to_text` spells it, relative to the root; an absolute path inside the root is taken
as relative, and `..` is taken away as text before anything is opened. Reading follows symlinks that stay beneath the
root (none, where the kernel cannot vouch for that); writing follows none: `locate` says first where a write would
land. Only regular files are opened.

Hard links: a file with several names may belong to a place outside. It is not written (a rename would silently part
the names), and not read when its owner is neither this process's user nor the root folder's. Other reads of it are
the caller's to ask for: `Found.links` says so.

Nothing here waits for anyone, and nothing decides what may be done; that a file is secret is in workspace_rules.
"""

import errno
import os
import secrets
import stat
from collections.abc import Generator
from contextlib import AbstractContextManager, contextmanager, suppress
from io import FileIO
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

import attrs

from palyra_trio.core.chain import digest
from palyra_trio.core.errors import (
    Busy,
    DiskLow,
    InvalidArgument,
    NotFound,
    PalyraError,
    StateConflict,
    WorkspaceRefused,
)
from palyra_trio.core.text import name_to_text, text_to_name
from palyra_trio.tools.beneath import Opener, by_walk, choose

Kind = Literal["file", "folder", "symlink", "special"]

MAX_FOLDER_ENTRIES = 100_000  # a listing is sorted, so it is held in memory
MAX_CHANGED_BYTES = 8 * 1024 * 1024  # the bytes before and after a change are kept in the journal

_FOLDER = os.O_RDONLY | os.O_DIRECTORY
_READ = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY  # a FIFO or a device must not hold up the open


@attrs.frozen
class Found:
    """What a path leads to. `path` is where it really is, symlinks resolved, relative to the root (`.`)."""

    path: str
    kind: Kind
    size_bytes: int
    links: int


@attrs.frozen
class Entry:
    """A name in a folder. `path` is relative to the root; `size_bytes` is 0 for all but files."""

    path: str
    name: str
    kind: Kind
    size_bytes: int


class Workspace:
    """A folder held open. Close it, or use it as a context manager; no method may run in a thread after that."""

    def __init__(self, fd: int, spellings: tuple[bytes, ...], opener: Opener) -> None:
        self._fd = fd
        self._spellings = spellings
        self._open = opener
        self._owners = (os.geteuid(), os.fstat(fd).st_uid)

    @classmethod
    def open(cls, root: str | Path, opener: Opener | None = None) -> Self:
        """Open the folder `root`. Without `opener`, the best that this kernel offers is taken.

        Raises NotFound, or WorkspaceRefused for what is no folder.
        """
        with _refusals(str(root)):
            fd = os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        return cls(fd, (os.fsencode(os.path.realpath(root)), os.fsencode(os.path.abspath(root))), opener or choose(fd))

    @property
    def root(self) -> Path:
        return Path(os.fsdecode(self._spellings[0]))

    def lies_at(self, path: str | Path) -> bool:
        """Whether the opened folder still lies at `path`, which is absolute and resolved: no link leads there."""
        return os.readlink(f"/proc/self/fd/{self._fd}") == os.fspath(path)

    def close(self) -> None:
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def relative(self, path: str) -> str:
        """Return `path` in its one spelling, from the root. Opens nothing. Raises WorkspaceRefused, InvalidArgument."""
        return name_to_text(self._name(path) or b".")

    def stat(self, path: str) -> Found:
        """Return what `path` leads to. Raises NotFound, WorkspaceRefused, InvalidArgument."""
        name = self._name(path)
        with _refusals(path), self._opened(name, os.O_PATH) as fd:
            return self._found(fd, name)

    def list_dir(self, path: str, *, follow: bool = True) -> list[Entry]:
        """Return the names in a folder in code-point order. Raises NotFound, WorkspaceRefused, InvalidArgument."""
        name = self._name(path)
        with _refusals(path), self._opened(name, _FOLDER, follow=follow) as fd, os.scandir(fd) as entries:
            prefix = name + b"/" if name else b""
            listed: list[Entry] = []
            for entry in entries:
                if len(listed) == MAX_FOLDER_ENTRIES:
                    raise InvalidArgument(f"{path} holds more than {MAX_FOLDER_ENTRIES} names")
                with suppress(FileNotFoundError):  # removed since
                    found = entry.stat(follow_symlinks=False)
                    own = os.fsencode(entry.name)
                    kind = _kind(found.st_mode)
                    size_bytes = found.st_size if kind == "file" else 0
                    listed.append(Entry(name_to_text(prefix + own), name_to_text(own), kind, size_bytes))
        return sorted(listed, key=lambda entry: entry.name)

    @contextmanager
    def reading(self, path: str, *, follow: bool = True) -> Generator[tuple[FileIO, Found]]:
        """Open a file and say where it really is: the two are about one file, however the path changes meanwhile.

        Raises NotFound, WorkspaceRefused, and InvalidArgument for a folder.
        """
        name = self._name(path)
        with _refusals(path), self._opened(name, _READ, follow=follow) as fd:
            self._check_readable(os.fstat(fd), path)
            yield FileIO(fd, closefd=False), self._found(fd, name)

    def read_bytes(self, path: str, limit_bytes: int, *, follow: bool = True) -> bytes:
        """Return a whole file. Raises InvalidArgument when it is larger than `limit_bytes`, and as `reading` does."""
        with self.reading(path, follow=follow) as (file, _):
            return _read(file, path, limit_bytes)

    def locate(self, path: str) -> str:
        """Return where a write to `path` lands: relative to the root, on a way without symlinks.

        Neither the file nor its folders need exist. Raises WorkspaceRefused for a symlink, a special file and a hard
        link, InvalidArgument for a folder.
        """
        folders, own = self._split(path)
        for depth in range(len(folders), -1, -1):
            name = b"/".join(folders[:depth])
            with _refusals(path), suppress(FileNotFoundError), self._opened(name, os.O_PATH | os.O_DIRECTORY) as fd:
                if depth == len(folders):
                    self._replaceable(fd, own, path)
                return name_to_text(b"/".join((*self._where(fd, name), *folders[depth:], own)))
        raise NotFound("the workspace folder is gone", remedy="open it again")

    def content(self, path: str) -> bytes | None:
        """Return the bytes of a file that `locate` named, None where there is none; at most MAX_CHANGED_BYTES."""
        try:
            return self.read_bytes(path, MAX_CHANGED_BYTES, follow=False)
        except NotFound:
            return None

    def write(self, path: str, data: bytes, *, before: str | None) -> None:
        """Make `data` the content of a file that `locate` named, all at once and durably; its folders are made.

        `before` is the digest of the content that this replaces, None for a file that does not exist yet: raises
        StateConflict when it is another. A replaced file keeps its permissions and, where this process may say so,
        its owner (not its extended attributes). Raises WorkspaceRefused when a symlink is on the way now; DiskLow.
        After a failure the file holds the old bytes or the new, never some of each.
        """
        folders, own = self._split(path)
        with _refusals(path), self._made(folders) as fd:
            old = self._check_before(fd, own, path, before)
            temporary = f".palyra-{secrets.token_hex(8)}.tmp"
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
            new = os.open(temporary, flags, 0o600 if old else 0o666, dir_fd=fd)
            try:
                with FileIO(new, "w") as file:
                    if old:
                        with suppress(PermissionError):
                            os.fchown(new, old.st_uid, old.st_gid)
                        os.fchmod(new, old.st_mode & 0o777)
                    view = memoryview(data)
                    while view:
                        view = view[file.write(view) :]
                    os.fsync(new)
                os.rename(temporary, own, src_dir_fd=fd, dst_dir_fd=fd)
            except BaseException:
                with suppress(FileNotFoundError):
                    os.unlink(temporary, dir_fd=fd)
                raise
            os.fsync(fd)

    def remove(self, path: str, *, before: str) -> None:
        """Remove a file that `locate` named, durably. Raises StateConflict when its digest is not `before`."""
        folders, own = self._split(path)
        with _refusals(path), self._opened(b"/".join(folders), _FOLDER, follow=False) as fd:
            self._check_before(fd, own, path, before)
            os.unlink(own, dir_fd=fd)
            os.fsync(fd)

    @contextmanager
    def within(self, path: str, *, make: bool = False) -> Generator[tuple[int, bytes]]:
        """Open the folder that `path` lies in, following no symlink, and give it with the name there: any kind of thing.

        With `make`, missing folders are made. An OSError of the block becomes what the other methods raise.
        """
        folders, own = self._split(path)
        with _refusals(path):
            flags = os.O_PATH | os.O_DIRECTORY
            opened = self._made(folders) if make else self._opened(b"/".join(folders), flags, follow=False)
            with opened as fd:
                yield fd, own

    def _name(self, path: str) -> bytes:
        try:
            name = text_to_name(path)
        except ValueError as error:
            raise InvalidArgument(f"{path!r} is no path: {error}") from error
        if b"\0" in name:
            raise InvalidArgument(f"{path!r} is no path: it holds a zero byte")
        if name.startswith(b"/"):
            clean = os.path.normpath(name)
            for root in self._spellings:
                if clean == root or clean.startswith(root.rstrip(b"/") + b"/"):
                    return clean[len(root) :].strip(b"/")
            raise WorkspaceRefused(f"{path} is outside the workspace", remedy="use a path relative to the workspace")
        clean = os.path.normpath(name) if name else b"."
        if clean == b".." or clean.startswith(b"../"):
            raise WorkspaceRefused(f"{path} leaves the workspace", remedy="use a path beneath it")
        return b"" if clean == b"." else clean

    def _split(self, path: str) -> tuple[list[bytes], bytes]:
        name = self._name(path)
        if not name:
            raise InvalidArgument("the path is the workspace folder itself", remedy="name a file in it")
        *folders, own = name.split(b"/")
        return folders, own

    def _opened(self, name: bytes, flags: int, *, follow: bool = True) -> AbstractContextManager[int]:
        return _closing(self._open(self._fd, name, flags, follow=follow))

    @contextmanager
    def _made(self, folders: list[bytes]) -> Generator[int]:
        """Open a folder without following a symlink, and make those on the way that are missing."""
        fd = self._open(self._fd, b"", _FOLDER)
        try:
            for folder in folders:
                try:
                    below = by_walk(fd, folder, _FOLDER)
                except FileNotFoundError:
                    with suppress(FileExistsError):
                        os.mkdir(folder, dir_fd=fd)
                        os.fsync(fd)
                    below = by_walk(fd, folder, _FOLDER)
                os.close(fd)
                fd = below
            yield fd
        finally:
            os.close(fd)

    def _where(self, fd: int, name: bytes) -> tuple[bytes, ...]:
        """Return the components of the real path of `fd`, which was opened as `name`."""
        if self._open is by_walk:
            return tuple(filter(None, name.split(b"/")))
        root = os.readlink(f"/proc/self/fd/{self._fd}".encode()).rstrip(b"/")
        real = os.readlink(f"/proc/self/fd/{fd}".encode())
        if os.fstat(fd).st_nlink == 0:
            raise OSError(errno.ENOENT, os.strerror(errno.ENOENT))
        if real != root and not real.startswith(root + b"/"):
            raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))
        return tuple(filter(None, real[len(root) :].split(b"/")))

    def _found(self, fd: int, name: bytes) -> Found:
        found = os.fstat(fd)
        real = b"/".join(self._where(fd, name)) or b"."
        return Found(name_to_text(real), _kind(found.st_mode), found.st_size, found.st_nlink)

    def _check_readable(self, found: os.stat_result, path: str) -> None:
        if stat.S_ISDIR(found.st_mode):
            raise InvalidArgument(f"{path} is a folder", remedy="name a file")
        if not stat.S_ISREG(found.st_mode):
            raise WorkspaceRefused(f"{path} is no regular file but a device, a pipe or a socket")
        if found.st_nlink > 1 and found.st_uid not in self._owners:
            raise WorkspaceRefused(
                f"{path} is a hard link to a file of another user", remedy="copy it, if it belongs in the workspace"
            )

    def _replaceable(self, folder_fd: int, own: bytes, path: str) -> os.stat_result | None:
        """Return the status of the file that a write would replace, None where there is none."""
        try:
            found = os.stat(own, dir_fd=folder_fd, follow_symlinks=False)
        except FileNotFoundError:
            return None
        if stat.S_ISLNK(found.st_mode):
            raise WorkspaceRefused(f"{path} is a symlink", remedy="write to the file that it names")
        self._check_readable(found, path)
        if found.st_nlink > 1:
            raise WorkspaceRefused(
                f"{path} is a hard link: {found.st_nlink} names share one file, and some may be outside the workspace",
                remedy="replace it by a copy first",
            )
        return found

    def _check_before(self, folder_fd: int, own: bytes, path: str, before: str | None) -> os.stat_result | None:
        found = self._replaceable(folder_fd, own, path)
        now = None
        if found is not None:
            with _closing(by_walk(folder_fd, own, _READ)) as fd:
                self._check_readable(os.fstat(fd), path)
                now = digest(_read(FileIO(fd, closefd=False), path, MAX_CHANGED_BYTES))
        if now != before:
            raise StateConflict(f"{path} has changed since", remedy="look at it again, then decide")
        return found


@contextmanager
def _closing(fd: int) -> Generator[int]:
    try:
        yield fd
    finally:
        os.close(fd)


def _read(file: FileIO, path: str, limit_bytes: int) -> bytes:
    data = bytearray()
    while block := file.read(limit_bytes + 1 - len(data)):
        data += block
        if len(data) > limit_bytes:
            raise InvalidArgument(f"{path} is larger than {limit_bytes} bytes", remedy="work on a part of it")
    return bytes(data)


def _kind(mode: int) -> Kind:
    if stat.S_ISREG(mode):
        return "file"
    if stat.S_ISDIR(mode):
        return "folder"
    return "symlink" if stat.S_ISLNK(mode) else "special"


@contextmanager
def _refusals(path: str) -> Generator[None]:
    try:
        yield
    except OSError as error:
        raise _refusal(error, path) from error


def _refusal(error: OSError, path: str) -> PalyraError:
    reason = f"{path}: {os.strerror(error.errno) if error.errno else error}"
    match error.errno:
        case errno.ENOENT:
            return NotFound(f"there is no {path}", remedy="files.list shows what there is")
        case errno.ENOTDIR:
            return NotFound(f"{path} is no folder, or a part of it is none", remedy="files.list shows what there is")
        case errno.EXDEV:
            return WorkspaceRefused(f"{path} leads out of the workspace", remedy="use a path beneath it")
        case errno.ELOOP:
            return WorkspaceRefused(f"{path} leads over a symlink that is not followed", remedy="use the real path")
        case errno.ENAMETOOLONG | errno.EISDIR | errno.EINVAL:
            return InvalidArgument(reason)
        case errno.EACCES | errno.EPERM | errno.EROFS | errno.ENXIO | errno.ENODEV | errno.ETXTBSY:
            return WorkspaceRefused(reason, remedy="the operating system forbids it")
        case errno.ENOSPC | errno.EDQUOT:
            return DiskLow(reason, remedy="free some space")
        case errno.EAGAIN | errno.EMFILE | errno.ENFILE | errno.ENOMEM:
            return Busy(reason, remedy="try again later")
    return PalyraError(reason)
