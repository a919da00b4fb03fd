"""A program that tries to get out: run inside each tier at start, where every attempt must be refused.

Run by its source (`python -I -S -c SOURCE ATTEMPTS`), so it imports nothing but the standard library, and nothing but
this text need be readable. ATTEMPTS is a JSON object: `sentinel` a file outside, `folder` one outside that anybody may
write, `port` and `abstract` and `socket` what listens outside, `pid` and `started` a process outside.

It writes two lines: what became of each attempt, and `ready` when processes are alive that ignore signals and have left
its session; the other side then kills it. It ends by itself after a minute.
"""

import ctypes
import json
import os
import select
import signal
import socket
import sys

ALLOWED = "allowed"
LIFE_S = 60
PTRACE_SEIZE, CLONE_NEWUSER, PR_GET_NO_NEW_PRIVS = 0x4206, 0x10000000, 39
CAPABILITY_VERSION_3 = 0x20080522
PTRACE = {"x86_64": 101, "aarch64": 117}

libc = ctypes.CDLL(None, use_errno=True)


def called(result: int) -> None:
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def read(path: str) -> None:
    with open(path, "rb") as file:
        file.read(1)


def write(path: str) -> None:
    with open(path, "wb"):
        pass


def connect(family: int, address: object) -> None:
    with socket.socket(family, socket.SOCK_STREAM) as attempt:
        attempt.settimeout(2)
        attempt.connect(address)  # type: ignore[arg-type]


def is_same(pid: int, started: int) -> bool:
    """Whether `pid` is the process outside; in a namespace of our own its number is another's, or nobody's."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return int(file.read().rpartition(b")")[2].split()[19]) == started
    except PermissionError:
        return True
    except OSError:
        return False


def process(pid: int, started: int, attempt: "object") -> None:
    if not is_same(pid, started):
        raise ProcessLookupError(3, "it is not to be seen")
    attempt()  # type: ignore[operator]


def privileges() -> None:
    """Succeeds where this process has privileges, or may gain some."""
    header, held = (ctypes.c_uint32 * 2)(CAPABILITY_VERSION_3, 0), (ctypes.c_uint32 * 6)()
    called(libc.capget(header, held))
    effective = held[0] | held[3]  # two structures of three words: effective, permitted, inheritable
    if effective == 0 and libc.prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1:
        raise PermissionError(1, "there are none, and none to be had")


def attempts(about: dict[str, object]) -> dict[str, str]:
    pid, started = int(str(about["pid"])), int(str(about["started"]))
    tried = {
        "read a file outside": lambda: read(str(about["sentinel"])),
        "write a file outside": lambda: write(f"{about['folder']}/written"),
        "link to a file outside": lambda: os.link(str(about["sentinel"]), "linked"),
        "connect to a port of this machine": lambda: connect(socket.AF_INET, ("127.0.0.1", about["port"])),
        "connect to an abstract socket": lambda: connect(socket.AF_UNIX, "\0" + str(about["abstract"])),
        "connect to a socket outside": lambda: connect(socket.AF_UNIX, about["socket"]),
        "open a raw socket": lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW).close(),
        "trace a process outside": lambda: process(
            pid, started, lambda: called(libc.syscall(PTRACE[os.uname().machine], PTRACE_SEIZE, pid, None, None))
        ),
        "signal a process outside": lambda: process(pid, started, lambda: os.kill(pid, 0)),
        "read the environment of a process outside": lambda: process(
            pid, started, lambda: read(f"/proc/{pid}/environ")
        ),
        "make a user namespace": lambda: called(libc.unshare(CLONE_NEWUSER)),
        "gain privileges": privileges,
    }
    found = {}
    for name, attempt in tried.items():
        try:
            attempt()
            found[name] = ALLOWED
        except OSError as error:
            found[name] = error.strerror or type(error).__name__
    write("inside")  # the control: what is allowed works
    return found


def escape() -> None:
    """Leave processes that ignore signals: a child, and a grandchild in a session of its own whose parent has ended."""
    ready, wait = os.pipe()
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            os.write(wait, b".")
            select.select([], [], [], LIFE_S)
        os._exit(0)
    if os.fork() == 0:
        os.write(wait, b".")
        select.select([], [], [], LIFE_S)
        os._exit(0)
    seen = 0
    while seen < 2:
        seen += len(os.read(ready, 2))


if __name__ == "__main__":
    print(json.dumps(attempts(json.loads(sys.argv[1]))), flush=True)
    escape()
    print("ready", flush=True)
    select.select([], [], [], LIFE_S)
