"""What the sandbox costs, and how fast it lets go: a spawn in each tier, and the time from a cancel to the last death.

A spawn is `true`, from the call to its outcome; the bare one (tier 1) is the same without a sandbox, so the difference is
the sandbox. A tree is a shell, a child of it, and one that has left its session. It is cancelled while it is the only
one, while a hundred live, and with all of the hundred at the same moment. As root the programs are those of NOBODY.
"""

import os
import secrets
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median

import trio

from bench.report import Bar, Report, machine, progress
from palyra_trio.tools.job import Job, KillReceipt
from palyra_trio.tools.process_tree import carry_out
from palyra_trio.tools.sandbox import Sandbox, SandboxSettings, open_sandbox

SPAWN_BAR_MS, DEAD_BAR_MS = 10, 50
NOBODY = 65534
TREE = "setsid sleep 60 & sleep 60 & echo ready; wait"
LIVE = 100


def measure(quick: bool) -> Report:
    return trio.run(_measure, 40 if quick else 200, 20 if quick else 200)


async def _measure(spawns: int, cancels: int) -> Report:
    facts = machine()
    peers: dict[str, dict[str, float]] = {}
    settings = SandboxSettings(user=str(NOBODY), bare=True)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        if os.geteuid() == 0:
            os.chown(folder, NOBODY, NOBODY)
        async with open_sandbox(settings, Path.home()) as sandbox:
            tiers = [each for each in sandbox.report.tiers if each.available]
            spawned: dict[int, list[float]] = {each.tier: [] for each in tiers}
            for _ in range(spawns):
                for tier, times in spawned.items():
                    times.append(await _spawn(sandbox, tier, folder))
            for each in tiers:
                name = f"tier {each.tier} {each.name}"
                peers[name] = _figures("spawn", spawned[each.tier])
                progress(f"{name}: spawn {peers[name]['spawn p50 ms']:.1f} ms")
                peers[name] |= _figures("dead", [await _cancel_one(sandbox, each.tier, folder) for _ in range(cancels)])
                alone, together = await _cancel_among(sandbox, each.tier, folder, cancels)
                peers[name] |= _figures(f"dead of {LIVE}", alone) | _figures(f"all {LIVE} dead", together)
                progress(f"{name}: dead p99 {peers[name]['dead p99 ms']:.1f} ms")
    return Report("hands", _bars(peers), peers, facts)


def _bars(peers: dict[str, dict[str, float]]) -> list[Bar]:
    isolated, bare = peers.get("tier 4 isolated"), peers["tier 1 bare"]
    extra_ms = isolated["spawn p50 ms"] - bare["spawn p50 ms"] if isolated else None
    bars = [Bar("tier 4: spawn p50, beyond a bare one", extra_ms, "ms", SPAWN_BAR_MS, at_most=True)]
    for name, figures in peers.items():
        if name != "tier 1 bare":
            for what in ("dead p99 ms", f"dead of {LIVE} p99 ms"):
                bars.append(Bar(f"{name}: {what[:-3]}", figures[what], "ms", DEAD_BAR_MS, at_most=True))
    return bars


async def _spawn(sandbox: Sandbox, tier: int, folder: str) -> float:
    began = time.perf_counter()
    await carry_out(sandbox.launchers[tier], _job(folder, "true"), lambda stream, data: None, lambda receipt: None)
    return time.perf_counter() - began


class _Tree:
    """A tree that lives until it is cancelled, and how long that took."""

    def __init__(self) -> None:
        self.ready = trio.Event()
        self.dead = trio.Event()
        self.elapsed_s = 0.0
        self._scope = trio.CancelScope()
        self._cancelled = 0.0

    async def live(self, sandbox: Sandbox, tier: int, folder: str) -> None:
        receipts: list[KillReceipt] = []
        job = _job(folder, "sh", "-c", TREE)
        with self._scope:
            await carry_out(sandbox.launchers[tier], job, lambda stream, data: self.ready.set(), receipts.append)
        self.elapsed_s = time.perf_counter() - self._cancelled
        assert [each.survivors for each in receipts] == [0], receipts
        self.dead.set()

    def cancel(self) -> None:
        self._cancelled = time.perf_counter()
        self._scope.cancel()


async def _cancel_one(sandbox: Sandbox, tier: int, folder: str) -> float:
    tree = _Tree()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(tree.live, sandbox, tier, folder)
        await tree.ready.wait()
        tree.cancel()
    return tree.elapsed_s


async def _cancel_among(sandbox: Sandbox, tier: int, folder: str, times: int) -> tuple[list[float], list[float]]:
    """Return how long one of LIVE trees took, each replaced by another, then all of them at once."""
    alone = []
    async with trio.open_nursery() as nursery:

        async def another() -> _Tree:
            tree = _Tree()
            nursery.start_soon(tree.live, sandbox, tier, folder)
            await tree.ready.wait()
            return tree

        trees = [await another() for _ in range(LIVE)]
        for _ in range(times):
            tree = trees.pop(0)
            tree.cancel()
            await tree.dead.wait()
            alone.append(tree.elapsed_s)
            trees.append(await another())
        for tree in trees:
            tree.cancel()
    return alone, [tree.elapsed_s for tree in trees]


def _job(folder: str, *argv: str) -> Job:
    return Job(f"/usr/bin/{argv[0]}", argv, folder, folder, secrets.token_hex(16))


def _figures(what: str, times_s: Sequence[float]) -> dict[str, float]:
    ordered = sorted(times_s)
    return {f"{what} p50 ms": median(ordered) * 1e3, f"{what} p99 ms": ordered[int(len(ordered) * 0.99)] * 1e3}
