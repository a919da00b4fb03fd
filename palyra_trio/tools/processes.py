"""Who is alive, as /proc tells: the processes beneath one, those that carry the mark of a job, and what each is at.

Looks and signals; waits for nobody.
"""

import os
import signal
from collections.abc import Iterable, Iterator
from contextlib import suppress

import attrs

from palyra_trio.tools.job import MARK, Identity

_GONE = (FileNotFoundError, ProcessLookupError)
_COMMAND_BYTES = 4096


@attrs.frozen
class Process:
    """A process as it is now. `state` is the letter of proc(5); `argv` is cut where it is long, and not to be trusted."""

    pid: int
    parent: int
    argv: tuple[str, ...]
    state: str
    rss_bytes: int
    cpu_ms: int
    age_ms: int


def identify(pid: int) -> Identity | None:
    """Return the identity of a live process, None when it is gone or dead and not yet waited for."""
    found = _look(pid)
    return None if found is None or found[1] else found[0]


def tree(root: int) -> set[Identity]:
    """Return `root` and all that descend from it now, without those whose parents ended and that another process took in."""
    found, left = set[Identity](), [root]
    while left:
        pid = left.pop()
        look = _look(pid)
        if look is not None and look[0] not in found:
            if not look[1]:
                found.add(look[0])
            left += _children(pid, alone=look[2] <= 1)
    return found


def alive(identities: Iterable[Identity]) -> set[Identity]:
    return {each for each in identities if identify(each.pid) == each}


def marked(token: str) -> set[Identity]:
    """Return the processes whose first environment has this job's mark, of those that this process may look at."""
    mark = f"{MARK}={token}".encode()
    found = set[Identity]()
    for pid in _all():
        with suppress(*_GONE, PermissionError), open(f"/proc/{pid}/environ", "rb") as file:
            if mark in file.read().split(b"\0") and (identity := identify(pid)) is not None:
                found.add(identity)
    return found


def of_job(token: str) -> tuple[Process, ...]:
    """Return the processes with a job's mark and all beneath them, the oldest first, of those that can be looked at."""
    found = marked(token)
    found = found.union(*(tree(each.pid) for each in found))
    with open("/proc/uptime") as file:
        now_ms = int(float(file.read().split()[0]) * 1000)
    ordered = sorted(found, key=lambda each: (each.started, each.pid))
    return tuple(each for identity in ordered if (each := _describe(identity, now_ms)) is not None)


def kill(identities: Iterable[Identity]) -> None:
    """Send SIGKILL to each that is still the process it was."""
    for each in identities:
        with suppress(ProcessLookupError, PermissionError):
            fd = os.pidfd_open(each.pid)
            try:
                if identify(each.pid) == each:
                    signal.pidfd_send_signal(fd, signal.SIGKILL)
            finally:
                os.close(fd)


def _describe(identity: Identity, now_ms: int) -> Process | None:
    """Return what a process is at; `now_ms` is since boot. None when it is gone."""
    tick_ms = 1000 // os.sysconf("SC_CLK_TCK")
    try:
        with open(f"/proc/{identity.pid}/stat", "rb", buffering=0) as file:
            fields = file.readall().rpartition(b")")[2].split()
        with open(f"/proc/{identity.pid}/cmdline", "rb", buffering=0) as file:
            command = file.read(_COMMAND_BYTES).removesuffix(b"\0")
    except _GONE:
        return None
    return Process(
        identity.pid,
        int(fields[1]),
        tuple(os.fsdecode(word) for word in command.split(b"\0")),
        fields[0].decode(),
        int(fields[21]) * os.sysconf("SC_PAGE_SIZE"),
        (int(fields[11]) + int(fields[12])) * tick_ms,
        max(0, now_ms - identity.started * tick_ms),
    )


def _all() -> Iterator[int]:
    return (int(name) for name in os.listdir("/proc") if name.isdecimal())


def _look(pid: int) -> tuple[Identity, bool, int] | None:
    """Return who a process is, whether it is dead and not waited for yet, and its threads; None when it is gone."""
    try:
        with open(f"/proc/{pid}/stat", "rb", buffering=0) as file:
            fields = file.readall().rpartition(b")")[2].split()
    except _GONE:
        return None
    return Identity(pid, int(fields[19])), fields[0] in (b"Z", b"X"), int(fields[17])


def _children(pid: int, *, alone: bool) -> list[int]:
    """Return the children of all threads of a process; `alone` says that it has but one."""
    children: list[int] = []
    with suppress(*_GONE):
        for task in (pid,) if alone else os.listdir(f"/proc/{pid}/task"):
            with suppress(*_GONE), open(f"/proc/{pid}/task/{task}/children", "rb", buffering=0) as file:
                children += map(int, file.readall().split())
    return children
