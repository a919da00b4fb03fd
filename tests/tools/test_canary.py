"""The canary itself: outside of any sandbox it must get out, or its being refused inside would prove nothing."""

import json
import subprocess

from palyra_trio.tools import canaries, processes
from palyra_trio.tools.canary import ALLOWED
from palyra_trio.tools.job import MARK


def test_a_canary_that_is_not_caged_gets_out() -> None:
    python, _ = canaries.interpreter()
    with canaries.aviary(None) as aviary, aviary.workspace() as folder:
        argv = [python, "-I", "-S", "-c", canaries._SOURCE.read_text(), json.dumps(aviary.about)]
        with subprocess.Popen(argv, cwd=folder, env={MARK: "free"}, stdout=subprocess.PIPE, text=True) as free:
            assert free.stdout is not None
            tried = json.loads(free.stdout.readline())
            assert free.stdout.readline() == "ready\n"
            assert len(processes.marked("free")) == 3
            processes.kill(processes.marked("free"))
    reached = {name for name, what in tried.items() if what == ALLOWED}
    assert reached >= {
        "read a file outside",
        "write a file outside",
        "connect to a port of this machine",
        "connect to an abstract socket",
        "connect to a socket outside",
        "signal a process outside",
        "read the environment of a process outside",
    }
