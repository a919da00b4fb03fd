"""How long a delta takes from the provider to a follower over TCP, by way of the disk, while 50 runs speak.

A delta carries the times at which it was due and was said (`bench.peers.stamping`); the follower adds when it arrived. The
lag is from said to arrived. Its growth is that of the time since the delta was due, last quarter against first, so
that a daemon that falls behind does not look well because its provider waits with it.
"""

import re
import tempfile
import time
from pathlib import Path
from statistics import median

import trio

from bench.follower import RUN_STREAM, Follower
from bench.report import Bar, Figures, progress
from bench.served import Served, daemon
from palyra_trio.core.tape import ModelDelta
from palyra_trio.pb import runs_pb2

RUNS = 50
RATES = (20, 100)
WARM_UP_S = 1.0
GROWTH_MS = 1.0  # less than that is noise
STAMPS = re.compile(rb"(\d+):(\d+) ")

Stamp = tuple[int, int, int]  # due, said, arrived, in nanoseconds


def measure(seconds: float, sync_ms: float, runs: int = RUNS) -> tuple[list[Bar], dict[str, Figures]]:
    """Let `runs` runs speak for `seconds` at each rate. `sync_ms` is the median of the disk's fdatasync."""
    bars: list[Bar] = []
    peers: dict[str, Figures] = {}
    for rate in RATES:
        with tempfile.TemporaryDirectory() as home, daemon(Path(home), "bench.peers.stamping") as served:
            figures = _speak(served, runs, rate, seconds)
        name = f"live, {runs} runs at {rate} deltas/s"
        progress(f"{name}: p50 {figures['p50 ms']:.2f} ms")
        peers[name] = figures
        bars += [
            Bar(f"{name}, p50", figures["p50 ms"], "ms", round(2 + 2 * sync_ms, 2), at_most=True),
            Bar(f"{name}, lag growth", figures["lag growth ms"], "ms", GROWTH_MS, at_most=True),
        ]
    return bars, peers


def _speak(served: Served, runs: int, rate: int, seconds: float) -> dict[str, float]:
    count = int((WARM_UP_S + seconds) * rate)
    cpu_began, began = served.cpu_s(), time.monotonic()
    stamps = sorted(trio.run(_listen, served, runs, f"stamped/{rate}-{count}"))
    cpu_s, elapsed_s = served.cpu_s() - cpu_began, time.monotonic() - began
    if len(stamps) != runs * count:
        raise RuntimeError(f"{len(stamps)} deltas of {runs * count} arrived")
    counted = [stamp for stamp in stamps if stamp[0] > stamps[0][0] + WARM_UP_S * 1e9]
    lags_ms = sorted([(arrived - said) / 1e6 for _, said, arrived in counted])
    behind_ms = [(arrived - due) / 1e6 for due, _, arrived in counted]
    quarter = len(counted) // 4
    return {
        "p50 ms": median(lags_ms),
        "p99 ms": lags_ms[len(lags_ms) * 99 // 100],
        "longest ms": lags_ms[-1],
        "lag growth ms": median(behind_ms[-quarter:]) - median(behind_ms[:quarter]),
        "daemon busy %": cpu_s / elapsed_s * 100,
    }


async def _listen(served: Served, runs: int, model: str) -> list[Stamp]:
    stamps: list[Stamp] = []

    async def listen(follower: Follower) -> None:
        async with follower:
            await follower.begin(RUN_STREAM, served.token)
            start = runs_pb2.StartRun(text="speak", model=model, workspace=served.workspace)
            await follower.send(runs_pb2.RunStreamRequest(start=start), last=True)
            while responses := await follower.receive():
                arrived = time.monotonic_ns()
                for item in [item for response in responses for item in response.batch.items]:
                    if item.kind_number == ModelDelta.kind:
                        stamps.extend([(int(due), int(said), arrived) for due, said in STAMPS.findall(item.body)])

    async with trio.open_nursery() as nursery:
        for follower in [await Follower.connect(served.port) for _ in range(runs)]:
            nursery.start_soon(listen, follower)
    return stamps
