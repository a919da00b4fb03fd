"""The resident process that starts the programs of tiers 3 and 2: exec'd once, single-threaded, nothing but the standard library.

It is run as a file (`python -I -S spawner.py FD [USER]`), not imported. FD is a SOCK_SEQPACKET socket; each message on
it carries four descriptors: the control socket of one job, what the job reads, and what it writes its output to. For each
the spawner forks a supervisor, and knows no more of it.

The supervisor takes in what its program orphans, and ends the whole tree when the program has ended, or when the other
side of the control socket is shut or gone: a daemon that was killed leaves nothing behind. (It does not ask for a signal
at its parent's death: that would end it before the tree.) It is one Landlock domain and its program another within, so
that the program cannot signal it, while its own `kill(-1)` reaches all of the tree at once, which no fork can outrun.
Where the kernel has no such scope, it kills what it finds until it has no children left.

On the control socket, in lines of JSON: the job, from the daemon; {"pid"}, of the process that is to become the program,
from the supervisor; "go" from the daemon; and at the end {"code", "seen", "survivors", "elapsed_ms"} or {"failed"}.
"""

import ctypes
import errno
import json
import os
import resource
import select
import shutil
import signal
import socket
import struct
import sys
import tempfile
import time
from contextlib import suppress
from typing import Any, BinaryIO

SYS_CREATE_RULESET, SYS_ADD_RULE, SYS_RESTRICT_SELF = 444, 445, 446
RULE_PATH_BENEATH = 1
PR_SET_NO_NEW_PRIVS, PR_SET_CHILD_SUBREAPER, PR_SET_SECCOMP, SECCOMP_MODE_FILTER = 38, 36, 22, 2
KILL_S = 8.0  # less than the daemon waits for the answer
FILES_ONLY = 1 << 0 | 1 << 1 | 1 << 2 | 1 << 14 | 1 << 15  # the rights that Landlock knows of what is no folder

Job = dict[str, Any]  # as confined.py writes it
Ruleset = dict[str, Any]  # landlock.Ruleset

libc = ctypes.CDLL(None, use_errno=True)


def main() -> None:
    channel = socket.socket(fileno=int(sys.argv[1]))
    if len(sys.argv) > 2:
        user = int(sys.argv[2])
        os.setgroups([])
        os.setresgid(user, user, user)
        os.setresuid(user, user, user)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal's; the daemon says when it is over
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    channel.send(b"ready")
    while True:
        message, fds, _, _ = socket.recv_fds(channel, 16, 4)
        if not message:
            return
        for fd in fds:
            os.set_inheritable(fd, False)  # no program may hold them, its control socket least of all
        if os.fork() == 0:
            channel.close()
            supervise(socket.socket(fileno=fds[0]), fds[1:])
        for fd in fds:
            os.close(fd)


# --- the supervisor ---


def supervise(control: socket.socket, standard: list[int]) -> None:
    """Run one job, and exit. `standard` are what its program has as descriptors 0, 1 and 2."""
    try:
        lines = control.makefile("rb")
        job = json.loads(lines.readline())
        os.setsid()
        call("prctl", PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        call("prctl", PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
        fenced = bool(job["fence"]) and fence(job["fence"])
        scratch = tempfile.mkdtemp(prefix="palyra-trio-")
        try:
            tell(control, Supervisor(job, control, fenced).run(lines, standard, scratch))
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
    except Exception as error:
        tell(control, {"failed": f"{type(error).__name__}: {error}"})
    finally:
        os._exit(0)


class Supervisor:
    def __init__(self, job: Job, control: socket.socket, fenced: bool) -> None:
        self.job = job
        self.control = control
        self.fenced = fenced
        self.status: int | None = None
        self.seen = set[int]()

    def run(self, lines: BinaryIO, standard: list[int], scratch: str) -> dict[str, object]:
        woken, wake = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        failed, fail = os.pipe2(os.O_CLOEXEC)
        held, go = os.pipe2(os.O_CLOEXEC)
        self.program = os.fork()
        if self.program == 0:
            os.close(go)
            if os.read(held, 1):
                become(self.job, scratch, standard, fail)
            os._exit(127)
        for fd in (*standard, fail, held):
            os.close(fd)
        tell(self.control, {"pid": self.program})
        if lines.readline():
            os.write(go, b".")
        os.close(go)
        if said := os.read(failed, 4096):
            self.kill(woken)
            return {"failed": said.decode()}
        while self.status is None:
            ready, _, _ = select.select([woken, self.control.fileno()], [], [])
            if self.control.fileno() in ready:
                break
            drain(woken)
            self.reap(set())
        began = time.monotonic()
        survivors = self.kill(woken)
        elapsed_ms = (time.monotonic() - began) * 1000
        code = os.waitstatus_to_exitcode(self.status) if self.status is not None else -signal.SIGKILL
        return {"code": code, "seen": len(self.seen), "survivors": survivors, "elapsed_ms": elapsed_ms}

    def kill(self, woken: int) -> int:
        """Kill all of the tree and wait for it. Returns how many outlived that."""
        deadline = time.monotonic() + KILL_S
        self.seen = descendants(os.getpid())
        while time.monotonic() < deadline:
            if self.fenced:
                with suppress(OSError):  # there is nobody left to be killed
                    os.kill(-1, signal.SIGKILL)
            else:
                for pid in descendants(os.getpid()):
                    self.seen.add(pid)
                    with suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
            if not self.reap(self.seen):
                return 0
            select.select([woken], [], [], 0.01)
            drain(woken)
        return len(descendants(os.getpid()))

    def reap(self, seen: set[int]) -> bool:
        """Wait for every child that has ended, and return whether there are others."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return False
            if pid == 0:
                return True
            seen.add(pid)
            if pid == self.program:
                self.status = status


def fence(ruleset: Ruleset) -> bool:
    """Enter a domain that no signal leaves, and return whether that is so: only then may `kill(-1)` be thought of.

    The proof is the parent, which could be signalled before and cannot be now.
    """
    if os.geteuid() == 0:
        return False
    parent = os.getppid()
    os.kill(parent, 0)
    restrict(ruleset)
    try:
        os.kill(parent, 0)
    except PermissionError:
        return True
    except ProcessLookupError:
        return False
    return False


def descendants(root: int) -> set[int]:
    """Return the processes beneath `root`, the dead that nobody has waited for among them."""
    found, left = set[int](), [root]
    while left:
        pid = left.pop()
        with suppress(FileNotFoundError, ProcessLookupError):  # it ended meanwhile
            for task in os.listdir(f"/proc/{pid}/task"):
                with open(f"/proc/{pid}/task/{task}/children", "rb") as file:
                    children = {int(each) for each in file.read().split()} - found
                found |= children
                left += children
    return found


def drain(fd: int) -> None:
    with suppress(BlockingIOError):
        while os.read(fd, 4096):
            pass


def tell(control: socket.socket, message: dict[str, object]) -> None:
    with suppress(OSError):  # the daemon is gone
        control.sendall(json.dumps(message).encode() + b"\n")


# --- the program ---


def become(job: Job, scratch: str, standard: list[int], fail: int) -> None:
    """Become the job's program, held to what the job says. A failure is written to `fail`."""
    try:
        os.setsid()
        for target, fd in enumerate(standard):
            os.dup2(fd, target)
        for number in (signal.SIGPIPE, signal.SIGINT, signal.SIGCHLD, signal.SIGXFSZ):
            signal.signal(number, signal.SIG_DFL)
        signal.set_wakeup_fd(-1)
        os.umask(0o022)
        os.chdir(job["cwd"])
        limit(job["limits"])
        if ruleset := job["ruleset"]:
            if rights := job["scratch_rights"]:
                ruleset["paths"].append([scratch, rights])
            restrict(ruleset)
        if job["seccomp"]:
            filtered(bytes.fromhex(job["seccomp"]))
        os.execve(job["program"], job["argv"], {**job["env"], "HOME": scratch, "TMPDIR": scratch})
    except Exception as error:
        os.write(fail, f"{job['program']}: {error}".encode()[:4000])
    finally:
        os._exit(127)


def limit(limits: dict[str, int]) -> None:
    """Set limits by their names; the one on processes is of those beyond what the user has now."""
    for name, most in limits.items():
        number = getattr(resource, name)
        hard = resource.getrlimit(number)[1]
        if number == resource.RLIMIT_NPROC:
            most += tasks_of_user()
        most = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(number, (most, most))


def tasks_of_user() -> int:
    count, user = 0, os.geteuid()
    for name in os.listdir("/proc"):
        with suppress(OSError):
            if name.isdecimal() and os.stat(f"/proc/{name}").st_uid == user:
                count += len(os.listdir(f"/proc/{name}/task"))
    return count


def restrict(ruleset: Ruleset) -> None:
    """Enter a Landlock domain. A path that is not there is left out: nothing is to be seen of it anyway."""
    attributes = struct.pack("QQQ", ruleset["filesystem"], ruleset["network"], ruleset["scoped"])
    fd = call("syscall", SYS_CREATE_RULESET, attributes, ctypes.c_size_t(len(attributes)), 0)
    for path, rights in ruleset["paths"]:
        try:
            beneath = os.open(path, os.O_PATH | os.O_CLOEXEC)
        except FileNotFoundError:
            continue
        rule = struct.pack("=Qi", rights if os.path.isdir(path) else rights & FILES_ONLY, beneath)
        call("syscall", SYS_ADD_RULE, fd, RULE_PATH_BENEATH, rule, 0)
        os.close(beneath)
    call("syscall", SYS_RESTRICT_SELF, fd, 0)
    os.close(fd)


def filtered(code: bytes) -> None:
    """Enter a seccomp filter: an array of struct sock_filter."""
    held = ctypes.create_string_buffer(code, len(code))
    program = struct.pack("HxxxxxxP", len(code) // 8, ctypes.addressof(held))
    call("prctl", PR_SET_SECCOMP, SECCOMP_MODE_FILTER, program, 0, 0)


def call(name: str, *arguments: int | bytes | ctypes.c_size_t) -> int:
    """Make a system call by libc. Raises OSError."""
    sized = [ctypes.c_long(each) if isinstance(each, int) else each for each in arguments]
    result: int = getattr(libc, name)(*sized)
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, f"{name}: {os.strerror(code)}" if code in errno.errorcode else name)
    return result


if __name__ == "__main__":
    main()
