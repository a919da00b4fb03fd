"""Starting the driver as a process of its own, and ending it."""

import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).parents[2]


def start(what: str, folder: Path) -> subprocess.Popen[str]:
    """Start the driver on `folder`/state with `folder`/work as its workspace."""
    (folder / "work").mkdir(exist_ok=True)
    return subprocess.Popen(
        [sys.executable, "-m", "tests.faults.driver", what, str(folder / "state"), str(folder / "work")],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def stays_alive(process: subprocess.Popen[str], for_s: float) -> bool:
    """Wait, and return whether the process is alive all the time."""
    try:
        process.wait(for_s)
    except subprocess.TimeoutExpired:
        return True
    return False


@contextmanager
def running(what: str, folder: Path) -> Generator[subprocess.Popen[str], None, None]:
    """Run the driver until it is ready, and kill it at the end of the block."""
    with start(what, folder) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        try:
            line = process.stdout.readline()
            assert line == "ready\n", line + process.stderr.read()
            yield process
        finally:
            process.kill()
