"""What lies at a path of the workspace, as the tape tells it: its content as a digest, its kind and its permissions.

Files, symlinks (as such, never followed) and folders, for which `Workspace` is about files alone. Whether it may be
changed is not asked here, and what a folder holds is not looked at.
"""

import errno
import hashlib
import os
import secrets
import stat
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from io import FileIO

import attrs

from palyra_trio.core.chain import digest
from palyra_trio.core.errors import NotFound, StateConflict
from palyra_trio.tools.workspace import Workspace

PERMISSIONS = 0o777  # no program may leave a setuid, setgid or sticky bit
EMPTY = digest(b"")
NOT_READ = ""

_BLOCK_BYTES = 1024 * 1024
_CHANGES = stat.S_IWUSR | stat.S_IXUSR
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC


@attrs.frozen
class Node:
    """`content` is the digest of a file's bytes, of a symlink's target, of nothing for a folder; NOT_READ for all else.

    `mode` is kind and permissions, as stat(2) has them; 0 for a regular file whose permissions do not matter.
    """

    content: str
    mode: int

    def fits(self, other: "Node") -> bool:
        """Whether they are the same as far as both tell."""
        if self.content != other.content or self.content == NOT_READ:
            return False
        if 0 in (self.mode, other.mode):
            return stat.S_ISREG(self.mode or other.mode or stat.S_IFREG)
        return self.mode == other.mode


def alike(one: Node | None, other: Node | None) -> bool:
    """Whether two nodes, None for nothing, are the same as far as both tell."""
    return one is other if one is None or other is None else one.fits(other)


def mode_of(found: os.stat_result) -> int:
    """Return a mode as the tape has it. A symlink has no permissions of its own."""
    kind = stat.S_IFMT(found.st_mode)
    return kind if kind == stat.S_IFLNK else kind | found.st_mode & PERMISSIONS


def status(folder_fd: int, name: bytes) -> os.stat_result | None:
    """Return the status of a name itself, None where there is none."""
    try:
        return os.stat(name, dir_fd=folder_fd, follow_symlinks=False)
    except FileNotFoundError:
        return None


def read(
    folder_fd: int, name: bytes, found: os.stat_result, most_bytes: int, keep_bytes: int
) -> tuple[str, bytes | None]:
    """Return the digest of what `found` is the status of, and its bytes where they are at most `keep_bytes`.

    Of more than `most_bytes`, and of what may not be read, NOT_READ. Follows no symlink. Raises OSError.
    """
    if stat.S_ISDIR(found.st_mode):
        return EMPTY, b""
    if stat.S_ISLNK(found.st_mode):
        target = os.readlink(name, dir_fd=folder_fd)
        return digest(target), target
    if not stat.S_ISREG(found.st_mode) or found.st_size > most_bytes:
        return NOT_READ, None
    try:
        fd = os.open(name, _READ, dir_fd=folder_fd)
    except PermissionError:
        return NOT_READ, None
    with FileIO(fd) as file:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            return NOT_READ, None
        return _read(file, most_bytes, keep_bytes)


def _read(file: FileIO, most_bytes: int, keep_bytes: int) -> tuple[str, bytes | None]:
    taken, kept, size = hashlib.sha256(), bytearray(), 0
    while block := file.read(_BLOCK_BYTES):
        size += len(block)
        if size > most_bytes:
            return NOT_READ, None
        taken.update(block)
        if size <= keep_bytes:
            kept += block
    return taken.hexdigest(), bytes(kept) if size <= keep_bytes else None


def find(workspace: Workspace, path: str, most_bytes: int) -> Node | None:
    """Return what lies at a path, None where nothing does. Raises WorkspaceRefused where a symlink leads there."""
    try:
        with workspace.within(path) as (folder, own):
            found = status(folder, own)
            return found and Node(read(folder, own, found, most_bytes, 0)[0], mode_of(found))
    except NotFound:
        return None


@contextmanager
def writable(workspace: Workspace, path: str, *, make: bool = False) -> Generator[tuple[int, bytes]]:
    """Open the folder of `path` as `Workspace.within` does. One that is closed even to its owner is open while the block runs."""
    with workspace.within(path, make=make) as (folder, own):
        mode = stat.S_IMODE(os.fstat(folder).st_mode)
        closed = mode & _CHANGES != _CHANGES
        if closed:
            with suppress(PermissionError):  # another's: whether it may be changed is seen then
                os.chmod(f"/proc/self/fd/{folder}", mode | _CHANGES)
        try:
            yield folder, own
        finally:
            if closed:
                with suppress(PermissionError):
                    os.chmod(f"/proc/self/fd/{folder}", mode)


def put(workspace: Workspace, path: str, now: Node | None, want: Node | None, content: Callable[[str], bytes]) -> bool:
    """Bring what lies at a path from `now`, as it was just found, to `want`; `content` returns the bytes of a digest.

    At once and durably; missing folders are made. A folder that is not empty is not removed: then, False. Raises
    StateConflict where a folder in the way is not empty, and as Workspace.write does.
    """
    if now is None and want is None:
        return True
    with writable(workspace, path, make=want is not None) as (folder, own):
        if now is not None and stat.S_ISDIR(now.mode) and not (want is not None and stat.S_ISDIR(want.mode)):
            try:
                os.rmdir(own, dir_fd=folder)
            except OSError as error:
                if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                    raise
                if want is not None:
                    raise StateConflict(f"{path} is a folder that holds files", remedy="move them elsewhere") from error
                return False
        elif now is not None and (want is None or stat.S_ISDIR(want.mode)) and not stat.S_ISDIR(now.mode):
            os.unlink(own, dir_fd=folder)
        if want is not None:
            _place(folder, own, now, want, content)
        with suppress(OSError):  # where the folder may not be read, its entries are as durable as they get
            opened = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=folder)
            try:
                os.fsync(opened)
            finally:
                os.close(opened)
    return True


def _place(folder: int, own: bytes, now: Node | None, want: Node, content: Callable[[str], bytes]) -> None:
    owner = status(folder, own) or os.fstat(folder)
    if stat.S_ISDIR(want.mode):
        with suppress(FileExistsError):
            os.mkdir(own, dir_fd=folder)
        set_folder(folder, own, want.mode, owner)
        return
    temporary = f".palyra-{secrets.token_hex(8)}.tmp".encode()
    try:
        if stat.S_ISLNK(want.mode):
            os.symlink(content(want.content), temporary, dir_fd=folder)
            with suppress(PermissionError):
                os.chown(temporary, owner.st_uid, owner.st_gid, dir_fd=folder, follow_symlinks=False)
        else:
            _write(folder, temporary, now, want, content(want.content), owner)
        os.rename(temporary, own, src_dir_fd=folder, dst_dir_fd=folder)
    except BaseException:
        with suppress(FileNotFoundError):
            os.unlink(temporary, dir_fd=folder)
        raise


def _write(folder: int, name: bytes, now: Node | None, want: Node, data: bytes, owner: os.stat_result) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    with FileIO(os.open(name, flags, 0o600, dir_fd=folder), "w") as file:
        view = memoryview(data)
        while view:
            view = view[file.write(view) :]
        with suppress(PermissionError):
            os.fchown(file.fileno(), owner.st_uid, owner.st_gid)
        before = now.mode if now is not None and stat.S_ISREG(now.mode) else 0o644
        os.fchmod(file.fileno(), (want.mode or before) & PERMISSIONS)
        os.fsync(file.fileno())


def set_folder(folder: int, own: bytes, mode: int, owner: os.stat_result) -> None:
    """Give the folder `own` its permissions, and the owner of `owner` where this process may say so."""
    fd = os.open(own, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
    try:
        with suppress(PermissionError):
            os.chown(f"/proc/self/fd/{fd}", owner.st_uid, owner.st_gid)
        inherited = os.fstat(fd).st_mode & ~PERMISSIONS & 0o7777  # a setgid folder hands its group on
        os.chmod(f"/proc/self/fd/{fd}", mode & PERMISSIONS | inherited)
    finally:
        os.close(fd)
