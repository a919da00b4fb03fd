"""The form of a result: bars, the figures of everyone who was measured, the machine; a table, then one JSON object.

A bar that is not met is a result like any other. Nothing here measures, apart from the disk's own sync.
"""

import json
import os
import platform
import sqlite3
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import attrs

Figures = Mapping[str, float | str | None]
SYNCS = 500


@attrs.frozen
class Bar:
    """A figure and what it must reach: at least `bar`, or with `at_most` not more. A `value` of None was not measured."""

    what: str
    value: float | None
    unit: str
    bar: float
    at_most: bool = False

    @property
    def ok(self) -> bool:
        if self.value is None:
            return False
        return self.value <= self.bar if self.at_most else self.value >= self.bar


@attrs.frozen
class Report:
    """What a bench found. `peers` has the figures of all who were measured, this project among them."""

    name: str
    bars: Sequence[Bar]
    peers: Mapping[str, Figures]
    machine: Mapping[str, Any]

    def json(self) -> str:
        """Return the result as one line."""
        bars = [
            {"what": bar.what, "value": _round(bar.value), "unit": bar.unit, "bar": bar.bar, "ok": bar.ok}
            for bar in self.bars
        ]
        peers = {name: {what: _round(value) for what, value in each.items()} for name, each in self.peers.items()}
        return json.dumps({"name": self.name, "bars": bars, "peers": peers, "machine": self.machine})

    def tables(self) -> Sequence[Mapping[str, Figures]]:
        """Return the figures as they are to be shown."""
        return (self.peers,)

    def show(self) -> None:
        """Print the tables, and the JSON object as the last line."""
        print(f"{self.name}: {', '.join(f'{what} {value}' for what, value in self.machine.items())}")
        for table in self.tables():
            columns = list(dict.fromkeys(what for figures in table.values() for what in figures))
            rows = [[name, *(_text(figures.get(what, "")) for what in columns)] for name, figures in table.items()]
            _print_table(["", *columns], rows)
        _print_table(
            ["", "measured", "bar", ""],
            [
                [
                    bar.what,
                    f"{_text(bar.value)} {bar.unit}",
                    f"{'<=' if bar.at_most else '>='} {_text(bar.bar)}",
                    "met" if bar.ok else "NOT MET",
                ]
                for bar in self.bars
            ],
        )
        print(self.json())


def _print_table(head: list[str], rows: Sequence[list[str]]) -> None:
    """Print a table: the first column to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    print()
    for first, *others in (head, *rows):
        cells = [f"{text:>{width}}" for text, width in zip(others, widths[1:], strict=True)]
        print("  ".join([f"{first:<{widths[0]}}", *cells]).rstrip())
    print(flush=True)


def _round(value: float | str | None) -> float | str | None:
    return float(f"{value:.4g}") if isinstance(value, float) else value


def _text(value: float | str | None) -> str:
    if value is None:
        return "not measured"
    return value if isinstance(value, str) else f"{_round(value):,}".removesuffix(".0")


def progress(line: str) -> None:
    """Tell whoever waits what is under way; the result is on stdout, this is not."""
    print(f"  {line}", file=sys.stderr, flush=True)


def machine() -> dict[str, Any]:
    """Return what a figure depends on. The disk is the one that holds the temporary folder (TMPDIR)."""
    return {
        "cpu": _cpu_model(),
        "cores": len(os.sched_getaffinity(0)),
        "load_1min": round(os.getloadavg()[0], 2),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "sqlite": sqlite3.sqlite_version,
        "fdatasync_p50_us": round(_sync_s() * 1e6, 1),
    }


def _cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _sync_s() -> float:
    """Return the median time in seconds to append 300 bytes to a file and have them on the disk."""
    times = []
    with tempfile.TemporaryFile(buffering=0) as file:
        for _ in range(SYNCS):
            began = time.perf_counter()
            file.write(bytes(300))
            os.fdatasync(file.fileno())
            times.append(time.perf_counter() - began)
    return median(times)
