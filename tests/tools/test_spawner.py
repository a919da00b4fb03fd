"""The spawner by itself: what it needs, and what it must never do."""

import ast
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from palyra_trio.tools import spawner

SOURCE = Path(spawner.__file__)


def test_it_imports_the_standard_library_only() -> None:
    tree = ast.parse(SOURCE.read_text())
    imported = [name.name for node in ast.walk(tree) if isinstance(node, ast.Import) for name in node.names]
    imported += [node.module or "." for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    assert {each.partition(".")[0] for each in imported} <= sys.stdlib_module_names


def test_it_ends_with_its_channel() -> None:

    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        argv = [sys.executable, "-I", "-S", str(SOURCE), str(theirs.fileno())]
        with subprocess.Popen(argv, pass_fds=[theirs.fileno()], env={}) as running:
            theirs.close()
            assert ours.recv(16) == b"ready"
            ours.close()
            assert running.wait(timeout=10) == 0


def test_root_is_never_fenced() -> None:
    """`kill(-1)` as root would be the end of the machine, whatever holds it back."""
    if os.geteuid() != 0:
        pytest.skip("only root can show it")
    assert spawner.fence({"filesystem": 0, "network": 0, "scoped": 0, "paths": []}) is False


def test_no_fence_is_believed_in_without_proof() -> None:
    """Without the scope the parent can still be signalled, and is therefore the proof that `kill(-1)` is not for us."""
    ruleset = {"filesystem": 1 << 13, "network": 0, "scoped": 0, "paths": [["/", 1 << 13]]}
    script = (
        f"import sys; sys.path.insert(0, {str(SOURCE.parent)!r}); import os, spawner; os.geteuid = lambda: 1\n"
        "spawner.call('prctl', spawner.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)\n"
        f"print(spawner.fence({ruleset!r}))"
    )
    shown = subprocess.run([sys.executable, "-I", "-S", "-c", script], capture_output=True, text=True, check=True)
    assert shown.stdout == "False\n"


def test_descendants_are_all_that_are_beneath() -> None:
    script = "import os, select\nif os.fork() == 0 and os.fork() == 0: os.write(1, b'.')\nselect.select([], [], [], 30)"
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE) as popen:
        assert popen.stdout is not None
        popen.stdout.read(1)
        below = spawner.descendants(popen.pid)
        assert len(below) == 2
        assert popen.pid not in below
        assert {popen.pid, *below} <= spawner.descendants(os.getpid())
        for pid in (*below, popen.pid):
            os.kill(pid, 9)
