"""The helper says on its channel what went wrong, and needs nothing but the standard library."""

import ast
import socket
import subprocess
import sys
from pathlib import Path

from palyra_trio.tools import inner_listener_helper


def test_it_says_why_it_could_not_enter() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        script, channel = str(Path(inner_listener_helper.__file__)), str(theirs.fileno())
        done = subprocess.run(
            [sys.executable, "-I", "-S", script, channel, str(2**22 + 1), "3128"],
            pass_fds=[theirs.fileno()],
            check=False,
        )
        assert done.returncode == 0
        assert b"No such file or directory" in ours.recv(4096)


def test_it_imports_nothing_but_the_standard_library() -> None:
    tree = ast.parse(Path(inner_listener_helper.__file__).read_text("utf-8"))
    imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    assert imported <= sys.stdlib_module_names
    assert not [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
