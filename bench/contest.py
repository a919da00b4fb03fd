"""Who takes part in `steps`, and how: each in a process of its own, on a folder of its own, all with the same work.

The work is runs of `STEPS` steps (a model turn that proposes one tool call, then the call) and a last turn that
answers; models are fakes that answer at once, nothing leaves the machine, and each step is durable before the next.
"""

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import attrs

STEPS = 20
TIMEOUT_S = 120
NOT_INSTALLED = "not installed: pip install -e '.[bench]'"

Figures = dict[str, float]


class PeerFailed(Exception):
    """A contestant's process ended without figures."""


@attrs.frozen(eq=False)
class Peer:
    """A contestant: `python -m bench.peers.MODULE` plays it. `package` is the distribution that it needs.

    `runs_each` says how many runs each of so many concurrent workers does, one after another: enough for a
    measurement of about a second, which differs since the contestants' speeds do.
    """

    name: str
    module: str
    package: str
    runs_each: Mapping[int, int]

    def version(self) -> str:
        """Return the version that is installed, or an empty string."""
        try:
            return version(self.package)
        except PackageNotFoundError:
            return ""

    def play(self, workers: int) -> Figures:
        """Return the figures of one measurement. Raises PeerFailed with what the process said last."""
        command = [sys.executable, "-m", f"bench.peers.{self.module}", str(workers), str(self.runs_each[workers])]
        with tempfile.TemporaryDirectory() as folder:
            try:
                done = subprocess.run(
                    [*command, folder],
                    cwd=Path(__file__).parents[1],
                    capture_output=True,
                    text=True,
                    timeout=TIMEOUT_S,
                    check=False,
                )
            except subprocess.TimeoutExpired as expired:
                raise PeerFailed(f"failed: no figures within {TIMEOUT_S} s") from expired
        if done.returncode:
            raise PeerFailed(f"failed: {(done.stderr.splitlines() or ['it said nothing'])[-1]}")
        figures: Figures = json.loads(done.stdout.splitlines()[-1])
        return figures


OURS = Peer("palyra-trio", "ours", "palyra-trio", {1: 20, 50: 4})
OTHERS = (
    Peer("LangGraph, AsyncSqliteSaver, sync", "langgraph_saver", "langgraph", {1: 8, 50: 1}),
    Peer("DBOS, SQLite", "dbos_sqlite", "dbos", {1: 8, 50: 1}),
    Peer("openai-agents, SQLiteSession", "agents_session", "openai-agents", {1: 8, 50: 1}),
)


# --- the contestant's side ---


@attrs.frozen
class Work:
    """What a contestant was started with: so many workers, so many runs each, and a folder for what is durable."""

    workers: int
    runs_each: int
    folder: Path

    @contextmanager
    def measured(self) -> Generator[None]:
        """Measure the block, which does all of the work, and print the figures unless it fails."""
        began, cpu_began = time.perf_counter(), time.process_time()
        yield
        elapsed_s, cpu_s = time.perf_counter() - began, time.process_time() - cpu_began
        steps = self.workers * self.runs_each * STEPS
        print(json.dumps({"steps/s": steps / elapsed_s, "CPU us/step": cpu_s / steps * 1e6}))


def given_work() -> Work:
    workers, runs_each, folder = sys.argv[1:]
    return Work(int(workers), int(runs_each), Path(folder))
