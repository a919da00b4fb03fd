"""Opening a path beneath a directory so that nothing on the way, at that very moment, leads out of it.

Two ways: the kernel's own (`openat2(2)` with RESOLVE_BENEATH, Linux 5.6), and a walk that opens one component at a
time and follows no symlink, for kernels and seccomp profiles without it. What may be opened is not decided here.
"""

import ctypes
import errno
import os
import stat
from typing import Protocol

_SYS_OPENAT2 = 437  # the same on every architecture
_RESOLVE_NO_MAGICLINKS = 0x02
_RESOLVE_NO_SYMLINKS = 0x04
_RESOLVE_BENEATH = 0x08
_ATTEMPTS = 64  # openat2 gives EAGAIN while a directory on its way is being renamed

_libc = ctypes.CDLL(None, use_errno=True)


class Opener(Protocol):
    """Opens `path` (relative, without `..`; empty for the root) beneath `root_fd` and returns a file descriptor.

    `flags` are those of open(2), without O_CREAT; O_CLOEXEC is added. With `follow`, symlinks that stay beneath the
    root may be followed; without it none is. Raises OSError: ELOOP for a symlink that is not followed, EXDEV for a
    path that leaves the root.
    """

    def __call__(self, root_fd: int, path: bytes, flags: int, *, follow: bool = True) -> int: ...


class _OpenHow(ctypes.Structure):
    _fields_ = (("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64))


def by_kernel(root_fd: int, path: bytes, flags: int, *, follow: bool = True) -> int:
    """An Opener: one system call, which follows symlinks that stay beneath the root."""
    resolve = _RESOLVE_BENEATH | _RESOLVE_NO_MAGICLINKS | (0 if follow else _RESOLVE_NO_SYMLINKS)
    how = _OpenHow(flags | os.O_CLOEXEC, 0, resolve)
    code = errno.EAGAIN
    for _ in range(_ATTEMPTS):
        fd: int = _libc.syscall(_SYS_OPENAT2, root_fd, path or b".", ctypes.byref(how), ctypes.sizeof(how))
        if fd >= 0:
            return fd
        code = ctypes.get_errno()
        if code not in (errno.EAGAIN, errno.EINTR):
            break
    raise OSError(code, os.strerror(code), path)


def by_walk(root_fd: int, path: bytes, flags: int, *, follow: bool = True) -> int:
    """An Opener: one open(2) with O_NOFOLLOW a component. It follows no symlink, whatever `follow` allows."""
    *folders, name = path.split(b"/") if path else [b"."]
    fd = root_fd
    try:
        for folder in folders:
            below = _step(fd, folder, os.O_PATH | os.O_DIRECTORY)
            if fd != root_fd:
                os.close(fd)
            fd = below
        return _step(fd, name, flags)
    finally:
        if fd != root_fd:
            os.close(fd)


def choose(root_fd: int) -> Opener:
    """Return `by_kernel` where the kernel has it and /proc can name what it opened, else `by_walk`."""
    try:
        os.close(by_kernel(root_fd, b".", os.O_PATH | os.O_DIRECTORY))
        os.readlink(f"/proc/self/fd/{root_fd}")
    except OSError:
        return by_walk
    return by_kernel


def _step(folder_fd: int, name: bytes, flags: int) -> int:
    if name in (b"", b".."):
        raise OSError(errno.EXDEV, os.strerror(errno.EXDEV), name)
    try:
        fd = os.open(name, flags | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder_fd)
    except NotADirectoryError:
        # O_DIRECTORY hides that the thing in the way is a symlink.
        if stat.S_ISLNK(os.stat(name, dir_fd=folder_fd, follow_symlinks=False).st_mode):
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), name) from None
        raise
    if flags & os.O_PATH and stat.S_ISLNK(os.fstat(fd).st_mode):
        os.close(fd)
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), name)
    return fd
