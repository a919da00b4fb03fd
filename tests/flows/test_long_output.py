"""A program that writes more than memory should hold: all of it is kept, and the daemon stays as small as it was."""

import hashlib
import subprocess
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import attrs
import pytest

from tests.processes import PROGRAM, Shell, shell_for_programs

LINES = """
import sys
block = 5000
for first in range(0, {lines}, block):
    sys.stdout.write("".join(f"line {{n:010d}} {{n * 2654435761 % 2**32:08x}}\\n" for n in range(first, first + block)))
"""
LINE_BYTES = len("line 0000000000 00000000\n")
MB = 1_000_000
GROWTH_KB = 96 * 1024  # SQLite's and the allocator's; a third of the least output here


@attrs.frozen
class Daemon:
    shell: Shell
    pid: int

    def memory_kb(self, name: str) -> int:
        """Return `VmHWM`, the most that it ever held, or `VmRSS`, what it holds."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        return int(next(line.split()[1] for line in status.splitlines() if line.startswith(name)))


@contextmanager
def serving() -> Generator[Daemon]:
    with shell_for_programs() as shell, shell.process("serve", "--port", "0") as process:
        assert process.stdout is not None
        assert process.stdout.readline().startswith("ready")
        yield Daemon(shell, process.pid)


def write(daemon: Daemon, megabytes: int, timeout_s: int) -> str:
    """Let a run write so much, approve it, and return what its tape says of the end of the call."""
    lines = megabytes * MB // LINE_BYTES // 5000 * 5000
    daemon.shell.folder.joinpath("write.py").write_text(LINES.format(lines=lines))
    call = {"tool": "process.run", "arguments": {"argv": ["python3", "write.py"]}, "call_id": "long"}
    model = daemon.shell.script({"calls": [call]}, {"text": "it is written"})
    left = daemon.shell.run("run", "--detach", "--model", model, "write")
    assert left.returncode == 0, left.stderr
    daemon.shell.until_waiting("last")
    approval = daemon.shell.bodies("ApprovalRequested")[0]["approval_id"]
    with daemon.shell.process("run", "--attach", "last") as following:
        assert daemon.shell.run("approvals", "allow", approval).returncode == 0
        following.communicate(timeout=timeout_s)
    return str(daemon.shell.bodies("ToolFinished")[0]["text"])


def digest_of_lines(megabytes: int) -> tuple[str, int]:
    hashed, lines = hashlib.sha256(b"[stdout]\n"), megabytes * MB // LINE_BYTES // 5000 * 5000
    for first in range(0, lines, 5000):
        numbers = range(first, first + 5000)
        hashed.update("".join(f"line {n:010d} {n * 2654435761 % 2**32:08x}\n" for n in numbers).encode())
    return hashed.hexdigest(), lines * LINE_BYTES + len("[stdout]\n")


def is_kept_whole(megabytes: int, timeout_s: int) -> None:
    with serving() as daemon:
        before_kb = daemon.memory_kb("VmRSS")
        text = write(daemon, megabytes, timeout_s)
        grown_kb = daemon.memory_kb("VmHWM") - before_kb
        assert text.startswith("exit code 0"), text[:200]
        assert grown_kb < GROWTH_KB
        wanted, size = digest_of_lines(megabytes)
        assert daemon.shell.bodies("ToolFinished")[0]["size_bytes"] == size
        with subprocess.Popen(
            [*PROGRAM, "runs", "output", "last", "long"],
            stdout=subprocess.PIPE,
            cwd=daemon.shell.folder,
            env=daemon.shell.environment(),
        ) as printing:
            assert printing.stdout is not None
            assert hashlib.file_digest(printing.stdout, "sha256").hexdigest() == wanted
        print(f"{size / 1e6:.0f} MB of output: the daemon grew by {grown_kb / 1024:.0f} MiB at most")


def test_300_megabytes_are_kept_whole_and_take_no_memory() -> None:
    is_kept_whole(300, 120)


@pytest.mark.slow
def test_a_gigabyte_is_kept_whole_and_takes_no_memory() -> None:
    is_kept_whole(1_070, 600)
