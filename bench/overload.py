"""Three times as many runs as the daemon can take, and what it does with them: some at once, the others refused at once.

Runs arrive when they are due, whether those before them have been answered or not. What is measured first, in the same
process, is how long a run takes to begin when there is nothing else, and how many a second there can be.
"""

import math
import tempfile
import time
from contextlib import AsyncExitStack
from pathlib import Path
from statistics import median
from types import TracebackType
from typing import Self

import attrs
import trio

from bench.follower import RUN_STREAM, CallFailed, Follower
from bench.report import Bar, Figures, progress
from bench.served import Served, daemon
from palyra_trio.pb import runs_pb2

UNLOADED_PER_S = 20
CONNECTIONS = 100  # fewer than the daemon takes
CALLERS = 8  # who together find out what the capacity is
AGAIN_S = 0.05  # for one of them that was refused
TIMES = 3
ONSET_S = 1.0  # in which the daemon learns that there are more than it can take; what it takes then is not counted
MOST_REFUSAL_MS = 100
MOST_RATIO = 2
BUSY = "8"  # RESOURCE_EXHAUSTED
SCRIPT = '{"turns": [{"text": "Yes."}], "loop": true}'


@attrs.define
class Found:
    """What came of runs: when each was due, and the seconds to the first event of one that was taken, or to its refusal."""

    began: list[tuple[float, float]] = attrs.Factory(list)
    refused: list[tuple[float, float]] = attrs.Factory(list)

    def but_the_first(self, seconds: float) -> "Found":
        """Return what came of those that were due later than that."""
        first = min(due for due, _ in self.began + self.refused)
        later = [[each for each in found if each[0] >= first + seconds] for found in (self.began, self.refused)]
        return Found(*later)

    @property
    def began_s(self) -> list[float]:
        return [took_s for _, took_s in self.began]

    @property
    def refused_s(self) -> list[float]:
        return [took_s for _, took_s in self.refused]


def measure(seconds: float) -> tuple[list[Bar], dict[str, Figures]]:
    """Let each of the three phases take so many seconds."""
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        script = home / "script.json"
        script.write_text(SCRIPT)
        with daemon(home) as served:
            model = f"scripted/{script}"
            trio.run(_open_loop, served, model, UNLOADED_PER_S, ONSET_S)  # warms the caches
            unloaded = trio.run(_open_loop, served, model, UNLOADED_PER_S, seconds)
            capacity = trio.run(_closed_loop, served, model, seconds) / seconds
            progress(f"capacity: {capacity:,.0f} runs/s")
            own_began, began = time.process_time(), time.perf_counter()
            overloaded = trio.run(_open_loop, served, model, capacity * TIMES, ONSET_S + seconds).but_the_first(ONSET_S)
            own_s, elapsed_s = time.process_time() - own_began, time.perf_counter() - began
    ratio = p99(overloaded.began_s) / p99(unloaded.began_s)
    peers: dict[str, Figures] = {
        "runs, unloaded": _figures(unloaded, seconds),
        f"runs, at {TIMES} times the capacity": {
            **_figures(overloaded, seconds),
            "capacity/s": capacity,
            "client busy %": own_s / elapsed_s * 100,
        },
    }
    bars = [
        Bar(
            "overload, p99 to the first event of those taken, to that without load",
            ratio,
            "x",
            MOST_RATIO,
            at_most=True,
        ),
        Bar("overload, p99 to a refusal", p99(overloaded.refused_s) * 1e3, "ms", MOST_REFUSAL_MS, at_most=True),
    ]
    return bars, peers


def _figures(found: Found, seconds: float) -> dict[str, float | str | None]:
    return {
        "taken/s": len(found.began_s) / seconds,
        "first event p50 ms": median(found.began_s) * 1e3,
        "first event p99 ms": p99(found.began_s) * 1e3,
        "refused/s": len(found.refused_s) / seconds,
        "refusal p99 ms": p99(found.refused_s) * 1e3 if found.refused_s else None,
    }


def p99(values: list[float]) -> float:
    return sorted(values)[math.ceil(len(values) * 0.99) - 1] if values else math.inf


class _Pool:
    """Connections, each for one call at a time. A run that finds none is begun late, and that counts."""

    def __init__(self, served: Served) -> None:
        self._served = served
        self._idle: list[Follower] = []
        self._free = trio.Semaphore(CONNECTIONS)
        self._opened = AsyncExitStack()

    async def run(self, model: str, due: float, found: Found) -> None:
        """Start a run that was due at a moment of `time.perf_counter`, and follow it to its end."""
        async with self._free:
            follower = self._idle.pop() if self._idle else await self._connect()
            await self._run(follower, model, due, found)
            self._idle.append(follower)

    async def _connect(self) -> Follower:
        return await self._opened.enter_async_context(await Follower.connect(self._served.socket))

    async def _run(self, follower: Follower, model: str, due: float, found: Found) -> None:
        await follower.begin(RUN_STREAM)
        start = runs_pb2.StartRun(text="begin", model=model, workspace=self._served.workspace)
        await follower.send(runs_pb2.RunStreamRequest(start=start), last=True)
        try:
            await follower.until(lambda response: len(response.batch.items) > 1)  # one that is not its Input
            found.began.append((due, time.perf_counter() - due))
            await follower.rest()
        except CallFailed as failed:
            if failed.status != BUSY:
                raise
            found.refused.append((due, time.perf_counter() - due))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, _type: type[BaseException] | None, _error: BaseException | None, _where: TracebackType | None
    ) -> None:
        await self._opened.aclose()


async def _open_loop(served: Served, model: str, per_s: float, seconds: float) -> Found:
    found = Found()
    began = time.perf_counter()
    async with _Pool(served) as pool, trio.open_nursery() as nursery:
        for number in range(int(per_s * seconds)):
            due = began + number / per_s
            await trio.sleep(max(0.0, due - time.perf_counter()))
            nursery.start_soon(pool.run, model, due, found)
    return found


async def _closed_loop(served: Served, model: str, seconds: float) -> int:
    """Return how many runs were followed to their end by callers that begin the next one behind the last."""
    found = Found()
    end = time.perf_counter() + seconds

    async def call(pool: _Pool) -> None:
        while (now := time.perf_counter()) < end:
            refused = len(found.refused)
            await pool.run(model, now, found)
            if len(found.refused) > refused:
                await trio.sleep(AGAIN_S)

    async with _Pool(served) as pool, trio.open_nursery() as nursery:
        for _ in range(CALLERS):
            nursery.start_soon(call, pool)
    return len(found.began_s)
