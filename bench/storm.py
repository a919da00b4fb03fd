"""How long a cancel takes to stop a run while a storm of starts keeps a slow disk busy: a sync of 8 ms, in a shim (C).

The client is the daemon's own user, at its Unix socket: nobody else may name a script.
From the moment it sends the cancel to `ended` at the client; the request to cancel is durable by then, and so is
the run's end.
"""

import json
import random
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

import trio

from bench.follower import RUN_STREAM, Follower
from bench.report import Bar, Figures, progress
from bench.served import Served, daemon
from palyra_trio.core.tape import ProviderRequest
from palyra_trio.pb import runs_pb2

SYNC_US = 8000
STARTERS = 50  # each starts a run when its last one has ended
CANCELLERS = 4
NAME = f"cancels in a start storm, sync of {SYNC_US // 1000} ms"


def measure(seconds: float, starters: int = STARTERS) -> tuple[list[Bar], dict[str, Figures]]:
    """Cancel runs that hang in their model, for `seconds`, while `starters` start others."""
    figures: dict[str, float] = {}
    if compiler := shutil.which("cc"):
        with tempfile.TemporaryDirectory() as folder:
            home, shim = Path(folder), Path(folder) / "slow_sync.so"
            source = Path(__file__).with_name("slow_sync.c")
            subprocess.run([compiler, "-shared", "-fPIC", "-O2", "-o", shim, source], check=True)
            slow = {"LD_PRELOAD": str(shim), "SLOW_SYNC_US": str(SYNC_US)}
            with daemon(home, environment=slow) as served:
                figures = trio.run(_storm, served, home, seconds, starters)
        progress(f"{NAME}: {figures['cancels']} cancels, the longest took {figures['longest ms']:.1f} ms")
    else:
        progress(f"{NAME}: not measured, there is no C compiler")
    return [Bar(f"{NAME}, longest", figures.get("longest ms"), "ms", 100, at_most=True)], {NAME: figures}


async def _storm(served: Served, home: Path, seconds: float, starters: int) -> dict[str, float]:
    times_ms: list[float] = []
    starts = 0
    short, hanging = home / "short.json", home / "hanging.json"
    short.write_text(json.dumps({"turns": [{"text": "done"}]}))
    hanging.write_text(json.dumps({"turns": [{"hang": True}]}))
    ends = time.perf_counter() + seconds

    async def begin(follower: Follower, script: Path, *, last: bool) -> None:
        await follower.begin(RUN_STREAM)
        start = runs_pb2.StartRun(text="hello", model=f"scripted/{script}", workspace=served.workspace)
        await follower.send(runs_pb2.RunStreamRequest(start=start), last=last)

    async def start(follower: Follower) -> None:
        nonlocal starts
        async with follower:
            while time.perf_counter() < ends:
                await begin(follower, short, last=True)
                await follower.rest()
                starts += 1

    async def cancel(follower: Follower) -> None:
        async with follower:
            while time.perf_counter() < ends:
                await begin(follower, hanging, last=False)
                await follower.until(_asks_its_model)
                await trio.sleep(random.uniform(0, 0.05))  # at any time between two commits
                began = time.perf_counter()
                await follower.send(runs_pb2.RunStreamRequest(cancel=runs_pb2.StopRun(reason="enough")), last=True)
                await follower.until(_was_cancelled)
                times_ms.append((time.perf_counter() - began) * 1000)
                await follower.rest()

    async with trio.open_nursery() as nursery:
        for number in range(starters + CANCELLERS):
            nursery.start_soon(start if number < starters else cancel, await Follower.connect(served.socket))
    times_ms.sort()
    return {
        "p50 ms": times_ms[len(times_ms) // 2],
        "p99 ms": times_ms[len(times_ms) * 99 // 100],
        "longest ms": times_ms[-1],
        "cancels": len(times_ms),
        "starts/s": starts / seconds,
    }


def _asks_its_model(response: runs_pb2.RunStreamResponse) -> bool:
    return any(item.kind_number == ProviderRequest.kind for item in response.batch.items)


def _was_cancelled(response: runs_pb2.RunStreamResponse) -> bool:
    return response.ended.state == runs_pb2.RUN_STATE_CANCELLED
