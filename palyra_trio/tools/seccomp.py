"""The system calls that a sandboxed program may not make, as a seccomp filter: bytes of classic BPF, assembled here.

A list of what is refused, not of what is allowed: the namespaces or Landlock are the wall, this takes away the tools
for digging under it. The same bytes serve bubblewrap and the spawner. See seccomp(2), linux/filter.h, linux/seccomp.h.
"""

import errno
import platform
import socket
import struct
from collections.abc import Iterable, Mapping

import attrs

_LD_W_ABS, _JEQ, _JGE, _JSET, _RET = 0x20, 0x15, 0x35, 0x45, 0x06
_ALLOW, _ERRNO, _KILL_PROCESS = 0x7FFF0000, 0x00050000, 0x80000000
_NUMBER, _ARCH, _ARGUMENTS = 0, 4, 16  # offsets in struct seccomp_data; an argument has 8 bytes, the low half first
_X32_BIT = 0x40000000
_CLONE_NEW = 0x7E020000  # CLONE_NEWNS, CGROUP, UTS, IPC, USER, PID, NET: what clone may not make
_TIOCSTI, _TIOCLINUX = 0x5412, 0x541C

# Each by its number on x86_64 and on aarch64 (asm/unistd_64.h, asm-generic/unistd.h); None where there is no such call.
_NEVER = {
    "ptrace": (101, 117),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "pidfd_getfd": (438, 438),
    "kcmp": (312, 272),
    "unshare": (272, 97),
    "setns": (308, 268),
    "mount": (165, 40),
    "umount2": (166, 39),
    "pivot_root": (155, 41),
    "chroot": (161, 51),
    "open_tree": (428, 428),
    "move_mount": (429, 429),
    "fsopen": (430, 430),
    "fsconfig": (431, 431),
    "fsmount": (432, 432),
    "fspick": (433, 433),
    "mount_setattr": (442, 442),
    "open_tree_attr": (467, 467),
    "name_to_handle_at": (303, 264),
    "open_by_handle_at": (304, 265),
    "bpf": (321, 280),
    "perf_event_open": (298, 241),
    "userfaultfd": (323, 282),
    "add_key": (248, 217),
    "request_key": (249, 218),
    "keyctl": (250, 219),
    "init_module": (175, 105),
    "finit_module": (313, 273),
    "delete_module": (176, 106),
    "kexec_load": (246, 104),
    "kexec_file_load": (320, 294),
    "reboot": (169, 142),
    "swapon": (167, 224),
    "swapoff": (168, 225),
    "acct": (163, 89),
    "quotactl": (179, 60),
    "quotactl_fd": (443, 443),
    "syslog": (103, 116),
    "settimeofday": (164, 170),
    "clock_settime": (227, 112),
    "clock_adjtime": (305, 266),
    "adjtimex": (159, 171),
    "iopl": (172, None),
    "ioperm": (173, None),
    "modify_ldt": (154, None),
    "vhangup": (153, 58),
    "fanotify_init": (300, 262),
}
# A filter cannot see what these are asked to do; a program that finds them missing takes an older call instead.
_AS_IF_MISSING = {
    "clone3": (435, 435),
    "io_uring_setup": (425, 425),
    "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427),
}
_CLONE, _IOCTL, _SOCKET = (56, 220), (16, 29), (41, 198)
_FAMILIES = (socket.AF_UNIX, socket.AF_INET, socket.AF_INET6)


@attrs.frozen
class _Machine:
    audit_arch: int
    column: int


_MACHINES = {"x86_64": _Machine(0xC000003E, 0), "aarch64": _Machine(0xC00000B7, 1)}


def is_known(machine: str = "") -> bool:
    """Return whether there is a filter for this kind of machine, by default the one that this runs on."""
    return (machine or platform.machine()) in _MACHINES


def filter_bytes(*, sockets: bool, machine: str = "") -> bytes:
    """Return the filter as an array of struct sock_filter.

    Without `sockets` no socket of any family can be made but a pair that is connected to itself; with them those of
    the Internet and of Unix can, which is for a network namespace of its own. A call of another architecture ends
    the program; a refused one returns EPERM.
    """
    here = _MACHINES[machine or platform.machine()]
    code = _Code()
    code.load(_ARCH)
    code.unless_equal(here.audit_arch, _KILL_PROCESS)
    code.load(_NUMBER)
    if here.column == 0:
        code.when(_JGE, _X32_BIT, _ERRNO | errno.ENOSYS)
    for number in _numbers(_NEVER, here):
        code.when(_JEQ, number, _ERRNO | errno.EPERM)
    for number in _numbers(_AS_IF_MISSING, here):
        code.when(_JEQ, number, _ERRNO | errno.ENOSYS)
    code.for_call(_CLONE[here.column], 0, [(_JSET, _CLONE_NEW, _ERRNO | errno.EPERM)])
    code.for_call(_IOCTL[here.column], 1, [(_JEQ, each, _ERRNO | errno.EPERM) for each in (_TIOCSTI, _TIOCLINUX)])
    families = [(_JEQ, int(each), _ALLOW) for each in _FAMILIES] if sockets else []
    code.for_call(_SOCKET[here.column], 0, families, otherwise=_ERRNO | errno.EPERM)
    code.give(_ALLOW)
    return code.assembled()


def _numbers(calls: Mapping[str, tuple[int, int | None]], machine: _Machine) -> Iterable[int]:
    return (number for each in calls.values() if (number := each[machine.column]) is not None)


class _Code:
    """Instructions, each (code, jump if true, jump if false, operand); jumps are short and only skip a return."""

    def __init__(self) -> None:
        self._lines: list[tuple[int, int, int, int]] = []

    def load(self, offset: int) -> None:
        self._lines.append((_LD_W_ABS, 0, 0, offset))

    def give(self, verdict: int) -> None:
        self._lines.append((_RET, 0, 0, verdict))

    def when(self, test: int, operand: int, verdict: int) -> None:
        self._lines.append((test, 0, 1, operand))
        self.give(verdict)

    def unless_equal(self, operand: int, verdict: int) -> None:
        self._lines.append((_JEQ, 1, 0, operand))
        self.give(verdict)

    def for_call(self, number: int, argument: int, tests: list[tuple[int, int, int]], otherwise: int = _ALLOW) -> None:
        """Decide a call by the low half of one argument: the first test that holds, else `otherwise`."""
        self._lines.append((_JEQ, 0, 2 * len(tests) + 2, number))
        self.load(_ARGUMENTS + 8 * argument)
        for test in tests:
            self.when(*test)
        self.give(otherwise)

    def assembled(self) -> bytes:
        return b"".join(struct.pack("<HBBI", *line) for line in self._lines)
