import os
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from palyra_trio.tools import processes
from palyra_trio.tools.job import MARK, Identity


@pytest.fixture
def parent() -> Iterator["subprocess.Popen[bytes]"]:
    """A process with a child, both marked."""
    script = "import os, select\nif os.fork() == 0: os.write(1, b'.')\nselect.select([], [], [], 30)"
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, env={MARK: "zoo"}) as popen:
        assert popen.stdout is not None
        popen.stdout.read(1)
        yield popen
        processes.kill(processes.marked("zoo"))


def test_a_tree_is_a_process_and_its_descendants(parent: "subprocess.Popen[bytes]") -> None:
    tree = processes.tree(parent.pid)
    assert len(tree) == 2
    assert parent.pid in {each.pid for each in tree}
    assert tree == processes.marked("zoo")
    assert tree < processes.tree(os.getpid())


def test_a_mark_is_matched_whole(parent: "subprocess.Popen[bytes]") -> None:
    assert not processes.marked("zo")


def test_the_killed_are_not_alive(parent: "subprocess.Popen[bytes]") -> None:
    tree = processes.tree(parent.pid)
    assert processes.alive(tree) == tree
    processes.kill(tree)
    assert parent.wait() == -signal.SIGKILL
    assert Identity(parent.pid, 0) not in processes.alive(tree)
    assert processes.identify(parent.pid) is None
    assert processes.tree(parent.pid) == set()


def test_a_later_process_with_the_number_is_not_killed(parent: "subprocess.Popen[bytes]") -> None:
    processes.kill({Identity(parent.pid, started=1)})
    assert len(processes.tree(parent.pid)) == 2


def test_a_process_that_is_dead_but_not_waited_for_is_not_alive(parent: "subprocess.Popen[bytes]") -> None:
    processes.kill({each for each in processes.tree(parent.pid) if each.pid == parent.pid})
    os.waitid(os.P_PID, parent.pid, os.WEXITED | os.WNOWAIT)
    assert processes.identify(parent.pid) is None


def test_the_processes_of_a_job_are_described(parent: "subprocess.Popen[bytes]") -> None:
    first, second = processes.of_job("zoo")
    assert (first.pid, first.parent, second.parent) == (parent.pid, os.getpid(), parent.pid)
    assert first.argv[:2] == (sys.executable, "-c")
    assert first.state in "SR"
    assert first.rss_bytes > 1_000_000
    assert 0 <= first.cpu_ms <= 5000
    assert 0 <= second.age_ms <= first.age_ms < 60_000
    assert processes.of_job("zo") == ()
