"""What a program must not reach, tier by tier and user by user, and by which word it is refused."""

import os
import pwd
import socket
import subprocess
from collections.abc import Iterator

import pytest

from tests.tools.zoo import NOBODY, Keeper, as_user, system_python

HIDDEN, REFUSED = "FileNotFoundError", "PermissionError"
_TRY = """
import ctypes, os, socket, sys
libc = ctypes.CDLL(None, use_errno=True)
def called(result):
    if result < 0: raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
for attempt in {attempts!r}:
    try: exec(attempt)
    except Exception as error: print(type(error).__name__, flush=True)
    else: print("allowed", flush=True)
"""
# What is tried, and how tiers 4 and 3 refuse it.
ATTEMPTS = {
    "the passwords": ("open('/etc/shadow').read()", HIDDEN, REFUSED),
    "files of root": ("os.listdir({root!r}) or open({root!r} + '/.bashrc')", HIDDEN, REFUSED),
    "files of other users": ("open({outside!r}).read()", HIDDEN, REFUSED),
    "a write into the system": ("open('/usr/bin/new', 'w')", "OSError", REFUSED),
    "a write to a file outside": ("open({outside!r}, 'a')", HIDDEN, REFUSED),
    "a symbolic link": ("os.symlink({outside!r}, 'link1'); open('link1').read()", HIDDEN, REFUSED),
    "a hard link": ("os.link({outside!r}, 'link2')", HIDDEN, "OSError or PermissionError"),
    "a link of /proc": ("open('/proc/' + {daemon!r} + '/root' + {outside!r})", HIDDEN, REFUSED),
    "the open files of the daemon": ("os.listdir('/proc/' + {daemon!r} + '/fd')", HIDDEN, REFUSED),
    "the environment of the first process": (
        "data = open('/proc/1/environ', 'rb').read(); assert b'PATH=' in data",
        "AssertionError",
        REFUSED,
    ),
    "to trace the daemon": ("called(libc.ptrace(16, int({daemon!r}), None, None))", REFUSED, REFUSED),
    "to read the memory of the daemon": ("open('/proc/' + {daemon!r} + '/mem', 'rb').read(1)", HIDDEN, REFUSED),
    "to signal the daemon": ("os.kill(int({daemon!r}), 0)", "ProcessLookupError", REFUSED),
    "a user namespace": ("called(libc.unshare(0x10000000))", REFUSED, REFUSED),
    "a user namespace by clone": ("called(libc.syscall({clone}, 0x10000011, 0, 0, 0, 0))", REFUSED, REFUSED),
    "to mount": ("called(libc.mount(b'none', b'.', b'tmpfs', 0, None))", REFUSED, REFUSED),
    "a raw socket": ("socket.socket(socket.AF_PACKET, socket.SOCK_RAW)", REFUSED, REFUSED),
    "a netlink socket": ("socket.socket(socket.AF_NETLINK, socket.SOCK_RAW)", REFUSED, REFUSED),
    "an abstract socket": ("socket.socket(socket.AF_UNIX).connect({abstract!r})", "ConnectionRefusedError", REFUSED),
    "a socket of the daemon": ("socket.socket(socket.AF_UNIX).connect({path!r})", HIDDEN, REFUSED),
    "a port of this machine": ("socket.create_connection(('127.0.0.1', {port}), 2)", "ConnectionRefusedError", REFUSED),
    "the metadata address": ("socket.create_connection(('169.254.169.254', 80), 2)", "OSError", REFUSED),
    "io_uring": ("called(libc.syscall(425, 1, None))", "OSError", "OSError"),
    "to type into the terminal": ("import fcntl; fcntl.ioctl(0, 0x5412, b'x')", REFUSED, REFUSED),
}


@pytest.fixture
def outside(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, object]]:
    """What lies outside: readable by anybody, so that only the sandbox can refuse it."""
    folder = tmp_path_factory.mktemp("outside")
    for each in (folder, *folder.parents[:3]):
        each.chmod(0o755)
    (folder / "file").write_text("OUTSIDE")
    (folder / "file").chmod(0o666)
    with socket.socket(socket.AF_UNIX) as abstract, socket.socket(socket.AF_UNIX) as named:
        abstract.bind(f"\0palyra-trio-test-{os.getpid()}")
        named.bind(str(folder / "socket"))
        (folder / "socket").chmod(0o777)
        with socket.create_server(("127.0.0.1", 0)) as server:
            abstract.listen()
            named.listen()
            yield {
                "outside": str(folder / "file"),
                "abstract": f"\0palyra-trio-test-{os.getpid()}",
                "path": str(folder / "socket"),
                "port": server.getsockname()[1],
                "daemon": str(os.getpid()),
                "root": pwd.getpwuid(0).pw_dir,
                "clone": 56 if os.uname().machine == "x86_64" else 220,
            }


def source(outside: dict[str, object], *attempts: str) -> str:
    return _TRY.format(attempts=[ATTEMPTS[each][0].format(**outside) for each in attempts])


def assert_refused(output: str, tier: int) -> None:
    expected = {what: refusals[0 if tier == 4 else 1].split(" or ") for what, (_, *refusals) in ATTEMPTS.items()}
    found = dict(zip(ATTEMPTS, output.split(), strict=True))
    assert {what: said for what, said in found.items() if said not in expected[what]} == {}


@pytest.mark.parametrize("tier", [4, 3])
async def test_a_program_does_not_get_out(outside: dict[str, object], tier: int) -> None:
    with Keeper() as keeper:
        cage = keeper.cage(tier)
        seen = await cage.run(cage.script(source(outside, *ATTEMPTS)), None)
    assert_refused(seen.output.decode(), tier)


@pytest.mark.parametrize("tier", [4, 3])
def test_a_program_of_another_user_does_not_get_out(outside: dict[str, object], tier: int) -> None:
    with as_user(system_python(), str(tier), source(outside, *ATTEMPTS), "script", user=NOBODY) as running:
        out, _ = running.communicate(timeout=60)
    assert_refused(out, tier)


def test_without_a_sandbox_the_same_is_allowed(outside: dict[str, object]) -> None:
    reached = ("files of other users", "a write to a file outside", "an abstract socket", "a socket of the daemon")
    out = subprocess.run(
        [system_python(), "-c", source(outside, *reached)], user=NOBODY, capture_output=True, text=True, check=True
    ).stdout
    assert out.split() == ["allowed"] * len(reached)


@pytest.mark.parametrize("tier", [4, 3])
async def test_what_a_program_needs_is_there(tier: int) -> None:
    everyday = """
import os, socket, tempfile, subprocess
open("made", "w").write("x"); os.mkdir("d"); os.rename("made", "d/made"); os.remove("d/made")
tempfile.TemporaryFile().write(b"x")
open("/dev/null", "w").write("x"); os.urandom(1)
a, b = socket.socketpair(); a.send(b"x"); assert b.recv(1) == b"x"
assert subprocess.run(["/bin/sh", "-c", "echo $HOME; ls /usr/bin >/dev/null"], capture_output=True).returncode == 0
assert sorted(os.environ) == ["HOME", "LANG", "PALYRA_TRIO_JOB", "PATH", "PWD", "TERM", "TMPDIR"], os.environ
print("fine")
"""
    with Keeper() as keeper:
        cage = keeper.cage(tier)
        seen = await cage.run(cage.script(everyday), None)
    assert seen.output.decode().strip().endswith("fine")
