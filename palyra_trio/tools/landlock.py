"""What Landlock is to hold a program to, as numbers for the kernel: which version there is, which paths, which rights.

The spawner makes the calls, in the process that is to be held. See landlock(7), linux/landlock.h.
"""

import ctypes
import errno
from collections.abc import Sequence

import attrs

ABI_NEEDED = (
    6  # 5.13 has 1; 6 (Linux 6.12) keeps signals and abstract sockets inside, without which a kill can be evaded
)
_SYS_CREATE_RULESET = 444  # the same on every architecture
_CREATE_RULESET_VERSION = 1

_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR = 1 << 0, 1 << 1, 1 << 2, 1 << 3
_REFER, _IOCTL_DEV = 1 << 13, 1 << 15
_ALL = (1 << 16) - 1  # each right of ABI 5: to 7 no more were added
_BIND_TCP, _CONNECT_TCP = 1, 2
_SCOPE_ABSTRACT_SOCKETS, _SCOPE_SIGNALS = 1, 2

READ = _EXECUTE | _READ_FILE | _READ_DIR
DEVICE = _READ_FILE | _WRITE_FILE
CHANGE = _ALL & ~_IOCTL_DEV


@attrs.frozen
class Ruleset:
    """What is held back (`filesystem`, `network`, `scoped`), and the `paths` where the rights beside them are given back."""

    filesystem: int
    network: int
    scoped: int
    paths: tuple[tuple[str, int], ...] = ()


# Landlock refuses to move files between folders unless that is given back, even by rules that are not about files.
SIGNALS_ONLY = Ruleset(_REFER, 0, _SCOPE_SIGNALS, (("/", _REFER),))


def confinement(readable: Sequence[str], writable: Sequence[str], devices: Sequence[str]) -> Ruleset:
    """Return the rules for a program that sees these folders and files, may change what is in `writable`, and talks to nobody."""
    paths = (
        *((path, READ) for path in readable),
        *((path, CHANGE) for path in writable),
        *((path, DEVICE) for path in devices),
    )
    return Ruleset(_ALL, _BIND_TCP | _CONNECT_TCP, _SCOPE_ABSTRACT_SOCKETS | _SCOPE_SIGNALS, paths)


def kernel_abi() -> int:
    """Return the version of Landlock in this kernel, 0 where there is none or it is switched off."""
    libc = ctypes.CDLL(None, use_errno=True)
    version: int = libc.syscall(_SYS_CREATE_RULESET, None, ctypes.c_size_t(0), ctypes.c_uint32(_CREATE_RULESET_VERSION))
    if version < 0 and ctypes.get_errno() not in (errno.ENOSYS, errno.EOPNOTSUPP, errno.EPERM):
        raise OSError(ctypes.get_errno(), "landlock_create_ruleset")
    return max(version, 0)
