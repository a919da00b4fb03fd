"""Programs that do not want to die, and a way to let them run in a tier and cancel them at any moment.

Each has a hard bound of its own, by a counter and by time, besides the limits that it tests. Also a program:
`python -m tests.tools.zoo TIER ANIMAL TIMES` cancels one so often, `... hold` leaves it running, for its parent to be
killed, `TIER SOURCE script` runs a script and shows what it
wrote, and `0 - report` tells what sandbox there is. Run as another user it shows the tiers as that user has them.
"""

import json
import os
import random
import secrets
import subprocess
import sys
import tempfile
from collections.abc import Callable
from contextlib import ExitStack, closing, suppress
from pathlib import Path

import attrs
import pytest
import trio

from palyra_trio.tools import bubblewrap, canaries, cgroups, landlock, processes
from palyra_trio.tools.bare import Bare
from palyra_trio.tools.confined import Confinement, Spawner
from palyra_trio.tools.job import Bounds, Job, KillReceipt, Outcome, Stream
from palyra_trio.tools.process_tree import Launcher, carry_out
from palyra_trio.tools.sandbox import SandboxSettings, open_sandbox
from palyra_trio.tools.sandbox_report import SandboxReport
from palyra_trio.tools.view import View, look

NOBODY = 65534
PIDS = 64  # the bound that the storms run into
ROOT = Path(__file__).parents[2]

_BEGIN = """
import os, select, signal, sys, time
def rest(): select.select([], [], [], 60); os._exit(0)
def ready(): os.write(1, b"ready\\n")
"""
ANIMALS = {
    "double fork": """
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0: ready(); rest()
    os._exit(0)
rest()
""",
    "setsid": """
for _ in range(3):
    if os.fork() == 0: os.setsid(); ready(); rest()
rest()
""",
    "ignores signals": """
for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGQUIT): signal.signal(number, signal.SIG_IGN)
if os.fork() == 0: ready(); rest()
rest()
""",
    "fork storm": """
ready()
def storm(depth):
    if depth == 7: rest()
    for _ in range(2):
        try:
            if os.fork() == 0:
                os.setsid()
                storm(depth + 1)
        except BlockingIOError: pass
    rest()
storm(0)
""",
    "hopper": """
ready()
end = time.monotonic() + 20
for hop in range(20_000):
    if time.monotonic() > end: break
    try:
        if os.fork(): os._exit(0)
    except BlockingIOError: pass
""",
    "flood": """
ready()
block = b"x" * 65536
for _ in range(16384): os.write(1, block)
""",
    "flood by many": """
ready()
for _ in range(4):
    if os.fork() == 0: break
block = b"x" * 65536
for _ in range(4096): os.write(2, block)
rest()
""",
    "reads its input": """
assert sys.stdin.read() == ""
ready()
rest()
""",
    "process substitution": """
os.execv("/bin/bash", ["bash", "-c", "cat <(echo ready; sleep 60) >(cat) & exec cat <(echo ready; setsid sleep 60)"])
""",
    "takes off its mark": """
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0: os.execve(sys.executable, [sys.executable, "-c", "import os,select;os.write(1,b'ready');select.select([],[],[],60)"], {})
    os._exit(0)
rest()
""",
}


@attrs.frozen
class Cage:
    """Where animals run: a tier, as `user` where that is another, in a workspace of their own."""

    launcher: Launcher
    workspace: str

    def job(self, animal: str, bounds: Bounds | None = None) -> Job:
        return self.script(_BEGIN + ANIMALS[animal], bounds)

    def script(self, source: str, bounds: Bounds | None = None) -> Job:
        python, _ = canaries.interpreter()
        argv = (python, "-I", "-S", "-c", source)
        bounds = bounds or Bounds(pids=PIDS, output_bytes=2**40)
        return Job(python, argv, self.workspace, self.workspace, secrets.token_hex(16), bounds=bounds)

    async def run(self, job: Job, cancel_when: Callable[[bytes], bool] | None, delay_s: float = 0) -> "Seen":
        """Run a job; cancel it `delay_s` after its output is as asked for. Then look who is alive."""
        out = bytearray()
        receipts: list[KillReceipt] = []
        outcome = None
        with trio.move_on_after(30) as scope:

            def take(stream: Stream, data: bytes) -> None:
                if len(out) < 2**16:
                    out.extend(data if stream == "stdout" else data[: 2**12])  # no flood may drown a word
                if cancel_when and cancel_when(bytes(out)):
                    scope.deadline = min(scope.deadline, trio.current_time() + delay_s)

            outcome = await carry_out(self.launcher, job, take, receipts.append)
        dead_ms = (trio.current_time() - scope.deadline) * 1000 if scope.cancelled_caught else None
        return Seen(outcome, receipts, len(alive(job.token, self.workspace)), bytes(out), dead_ms)


@attrs.frozen
class Seen:
    """What became of an animal. `alive` are those that /proc still shows, `dead_ms` is from the cancel to then."""

    outcome: Outcome | None
    receipts: list[KillReceipt]
    alive: int
    output: bytes
    dead_ms: float | None = None


LOOKS = 3  # one look misses what is always between two processes


def alive(token: str, workspace: str) -> set[int]:
    """Return the processes of a job that /proc shows: they carry its mark, or are where it was started."""
    found = set[int]()
    for _ in range(LOOKS):
        found |= {each.pid for each in processes.marked(token)}
        for name in filter(str.isdecimal, os.listdir("/proc")):
            with suppress(OSError):
                if os.readlink(f"/proc/{name}/cwd") == workspace:
                    found.add(int(name))
    return found


def as_user(python: str, *arguments: str, user: int | None) -> "subprocess.Popen[str]":
    """Start this program with the packages of this Python, as another user where one is given."""
    return subprocess.Popen(
        [python, "-P", "-m", "tests.tools.zoo", *arguments],
        env=environment(),
        stdout=subprocess.PIPE,
        text=True,
        cwd="/",
        user=user,
        group=user,
        extra_groups=None if user is None else [],
    )


def environment() -> dict[str, str]:
    site = next(each for each in sys.path if each.endswith("site-packages"))
    return {"PYTHONPATH": f"{ROOT}:{site}", "HOME": "/nonexistent", "PYTHONDONTWRITEBYTECODE": "1"}


def system_python() -> str:
    """Return a Python that another user can run this program with; skips the test where that cannot be."""
    path = "/usr/bin/python3"
    if os.geteuid() != 0:
        pytest.skip("unavailable: only root can become another user")
    if not os.access(path, os.X_OK):
        pytest.skip("unavailable: the system has no Python")
    tried = subprocess.run(
        [path, "-P", "-c", "import tests.tools.zoo"],
        env=environment(),
        cwd="/",
        user=NOBODY,
        group=NOBODY,
        extra_groups=[],
        capture_output=True,
        text=True,
        check=False,
    )
    if tried.returncode:
        said = (tried.stderr.strip().splitlines() or ["nothing"])[-1]
        pytest.skip(f"unavailable: another user cannot run this checkout with {path}: {said}")
    return path


def is_ready(out: bytes) -> bool:
    return b"ready" in out


def view() -> View:
    _, folders = canaries.interpreter()
    return look(str(Path.home()), read_only=folders)


class Keeper(ExitStack):
    """Makes cages, and takes them down. As root its animals run as NOBODY."""

    def __init__(self) -> None:
        super().__init__()
        self.user = NOBODY if os.geteuid() == 0 else None
        self.view = view()
        self.cgroup = cgroups.make()
        if self.cgroup is not None:
            self.callback(self.cgroup.close)
        self.spawner = self.enter_context(closing(Spawner(self.user)))

    def cage(self, tier: int, abi: int | None = None) -> Cage:
        abi = landlock.kernel_abi() if abi is None else abi
        folder = self.enter_context(tempfile.TemporaryDirectory(ignore_cleanup_errors=True))
        if self.user is not None:
            os.chown(folder, self.user, self.user)
        return Cage(self._launcher(tier, abi), folder)

    def _launcher(self, tier: int, abi: int) -> Launcher:
        if tier == 4:
            bwrap = bubblewrap.find()
            assert bwrap is not None
            return bubblewrap.Isolation(bwrap, self.view, self.user, self.cgroup)
        if tier == 1:
            return Bare(self.view, self.user)
        return Confinement(self.spawner, self.view, abi, confined=tier == 3, cgroup=self.cgroup)


async def _often(tier: int, animal: str, times: int) -> list[Seen]:
    with Keeper() as keeper:
        cage = keeper.cage(tier)
        return [
            await cage.run(cage.job(animal), is_ready, random.random() * 0.02 if number % 4 else 0)
            for number in range(times)
        ]


async def _hold(tier: int, animal: str) -> None:
    with Keeper() as keeper:
        cage = keeper.cage(tier)
        job = cage.job(animal)

        def tell(out: bytes) -> bool:
            print(job.token, cage.workspace, flush=True)
            return False

        await cage.run(job, tell)


async def _script(tier: int, source: str) -> bytes:
    with Keeper() as keeper:
        cage = keeper.cage(tier)
        return (await cage.run(cage.script(source), None)).output


def report_of() -> SandboxReport:
    """Return what sandbox there is here; root's programs run as NOBODY."""
    return trio.run(_report)


async def _report() -> SandboxReport:
    async with open_sandbox(SandboxSettings(user=str(NOBODY)), Path.home()) as sandbox:
        return sandbox.report


def main() -> None:
    tier, animal, how = sys.argv[1:]
    if how == "hold":
        trio.run(_hold, int(tier), animal)
    elif how == "report":
        print("\n".join(report_of().lines()))
    elif how == "script":
        sys.stdout.buffer.write(trio.run(_script, int(tier), animal))
    else:
        seen = trio.run(_often, int(tier), animal, int(how))
        print(
            json.dumps(
                [
                    {"alive": each.alive, "dead_ms": each.dead_ms, "receipts": [attrs.asdict(r) for r in each.receipts]}
                    for each in seen
                ]
            )
        )


if __name__ == "__main__":
    main()
