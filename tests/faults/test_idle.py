"""A process with nothing to do does nothing: no thread of it wakes up again and again."""

from pathlib import Path

import pytest

from tests.faults.process import running, stays_alive

pytestmark = pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="counts wake-ups in /proc")

SETTLING_S = 0.5
ONCE = 4  # a worker thread that Trio keeps for ten seconds ends then; nothing else may happen


def _wake_ups(pid: int) -> int:
    """Return how often the threads of a process have been woken so far."""
    count = 0
    for status in Path(f"/proc/{pid}/task").glob("*/status"):
        for line in status.read_text("ascii").splitlines():
            if line.startswith("voluntary_ctxt_switches"):
                count += int(line.split()[1])
    return count


@pytest.mark.parametrize("for_s", [2, pytest.param(10, marks=pytest.mark.slow)])
def test_an_idle_runtime_does_not_wake_up(tmp_path: Path, for_s: int) -> None:
    with running("idle", tmp_path) as process:
        assert stays_alive(process, SETTLING_S)
        before = _wake_ups(process.pid)
        assert stays_alive(process, for_s)
        assert _wake_ups(process.pid) - before <= ONCE


def test_a_busy_runtime_is_seen_to_wake_up(tmp_path: Path) -> None:
    with running("storm", tmp_path) as process:
        before = _wake_ups(process.pid)
        assert stays_alive(process, SETTLING_S)
        assert _wake_ups(process.pid) - before > ONCE
