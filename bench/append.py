"""Durable acknowledgements: how many a second, how long each takes, and how near that is to what SQLite can do at all.

Appenders in a closed loop: each waits for its event to be durable and sends the next. The limit is a single
connection to a journal of the same schema that inserts ready-made rows, one or a hundred in a transaction.
"""

import itertools
import sqlite3
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path
from statistics import median

import trio

from bench.report import Bar, Report, machine, progress
from palyra_trio.core.tape import ModelDelta
from palyra_trio.journal.feed import Feed
from palyra_trio.journal.store import CHECKPOINT_PAGES, FILE_NAME, SqliteStore, entry
from palyra_trio.journal.writer import open_journal

EVENT = ModelDelta(1, "x" * 240)
QUEUE_BYTES = 64 * 1024 * 1024
WARM_UP_S = 0.2
SLICE_S = 0.001
APPENDERS = (1, 10, 100, 1000)
BARS = {1: 5_000, 10: 25_000, 100: 45_000}
SATURATED = "100 appenders, loop saturated"

Figures = dict[str, float]
INSERT = "INSERT INTO ev (g, stream, seq, kind, at_ms, salt, body, hash) VALUES (?, ?, ?, ?, ?, ?, ?, ?)"


def measure(quick: bool) -> Report:
    return compare(round_s=1.0 if quick else 3.0, rounds=3 if quick else 5)


def compare(round_s: float, rounds: int, appenders: tuple[int, ...] = APPENDERS) -> Report:
    """Measure each contestant for `round_s` in turn, `rounds` times, and report the medians."""
    contestants: dict[str, Callable[[], Figures]] = {
        "raw SQLite, 1 event a transaction": partial(sqlite_limit, 1, round_s),
        "raw SQLite, 100 events a transaction": partial(sqlite_limit, 100, round_s),
    }
    for count in appenders:
        contestants[_name(count)] = partial(acknowledged, count, round_s)
    contestants[SATURATED] = partial(acknowledged, 100, round_s, saturated=True)
    facts = machine()
    found: dict[str, dict[str, list[float]]] = {name: defaultdict(list) for name in contestants}
    for number in range(rounds):
        for name, contestant in contestants.items():
            for what, value in contestant().items():
                found[name][what].append(value)
            progress(f"round {number + 1} of {rounds}: {name}: {found[name]['events/s'][-1]:,.0f} events/s")
    peers = {name: {what: median(values) for what, values in each.items()} for name, each in found.items()}
    for count in appenders:
        limit = "raw SQLite, 1 event a transaction" if count == 1 else "raw SQLite, 100 events a transaction"
        peers[_name(count)]["ratio to raw SQLite"] = peers[_name(count)]["events/s"] / peers[limit]["events/s"]
    return Report("append", _bars(peers), peers, facts)


def _name(appenders: int) -> str:
    return f"{appenders} appender{'s' * (appenders > 1)}"


def _bars(peers: dict[str, Figures]) -> list[Bar]:
    bars = [
        Bar(f"acknowledgements, {_name(count)}", peers[_name(count)]["events/s"], "1/s", bar)
        for count, bar in BARS.items()
        if _name(count) in peers
    ]
    if _name(100) in peers:
        bars.append(Bar("p99, 100 appenders", peers[_name(100)]["p99 ms"], "ms", 10, at_most=True))
    bars.append(Bar(f"p99, {SATURATED}", peers[SATURATED]["p99 ms"], "ms", 15, at_most=True))
    return bars


def acknowledged(appenders: int, seconds: float, saturated: bool = False) -> Figures:
    """Return events/s and the quantiles of an acknowledgement, over `seconds` after a short warm-up.

    With `saturated`, a task beside the appenders burns the loop's CPU in slices of 1 ms.
    """
    return trio.run(_acknowledged, appenders, seconds, saturated)


async def _acknowledged(appenders: int, seconds: float, saturated: bool) -> Figures:
    times: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        async with open_journal(SqliteStore(Path(folder)), Feed(), QUEUE_BYTES) as journal:
            counted_from = time.perf_counter() + WARM_UP_S
            ends = counted_from + seconds

            async def append(stream: str) -> None:
                now = 0.0
                while now < ends:
                    began = time.perf_counter()
                    await journal.append((entry(stream, EVENT),))
                    now = time.perf_counter()
                    if began >= counted_from:
                        times.append(now - began)

            async with trio.open_nursery() as nursery:
                if saturated:
                    nursery.start_soon(_burn, ends)
                for number in range(appenders):
                    nursery.start_soon(append, f"run:{number}")
    return {"events/s": len(times) / seconds, **_quantiles_ms(times)}


async def _burn(ends: float) -> None:
    while time.perf_counter() < ends:
        slice_ends = time.perf_counter() + SLICE_S
        while time.perf_counter() < slice_ends:
            pass
        await trio.lowlevel.checkpoint()


def sqlite_limit(batch: int, seconds: float) -> Figures:
    """Return events/s and the quantiles of a transaction of `batch` rows, each of another stream, with synchronous=FULL."""
    event = entry("run:0", EVENT)
    times: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        SqliteStore(Path(folder)).close()
        with closing(sqlite3.connect(Path(folder) / FILE_NAME, isolation_level=None)) as db:
            db.execute("PRAGMA synchronous = FULL")
            db.execute(f"PRAGMA wal_autocheckpoint = {CHECKPOINT_PAGES}")
            numbers = itertools.count(1)
            counted_from = time.perf_counter() + WARM_UP_S
            now = 0.0
            while now < counted_from + seconds:
                began = time.perf_counter()
                rows = [
                    (g, g % batch, g // batch, event.event.kind, 1, bytes(16), event.body, bytes(32))
                    for g in itertools.islice(numbers, batch)
                ]
                db.execute("BEGIN IMMEDIATE")
                db.executemany(INSERT, rows)
                db.execute("COMMIT")
                now = time.perf_counter()
                if began >= counted_from:
                    times.append(now - began)
    return {"events/s": batch * len(times) / seconds, **_quantiles_ms(times)}


def _quantiles_ms(times: list[float]) -> Figures:
    if not times:
        raise RuntimeError("nothing was acknowledged while the clock ran: the round is too short")
    times.sort()
    return {"p50 ms": times[len(times) // 2] * 1000, "p99 ms": times[len(times) * 99 // 100] * 1000}
