"""The whole zoo as a table: every animal, in every tier, by every user, cancelled at random moments; and with its daemon killed.

`python -m tests.tools.zoo_matrix [TIMES KILLS AT_A_TIME]` (or `just zoo`) writes it to bench/results/zoo.txt. What cannot be run on
this machine reads `unavailable`, with the reason, and counts as not shown. The exit status is 1 where an animal survived, or
a receipt was not true.
"""

import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import attrs
import pytest

from tests.tools.test_process_tree import killed_daemon
from tests.tools.zoo import ANIMALS, NOBODY, PIDS, as_user, report_of, system_python

RESULTS = Path(__file__).parents[2] / "bench" / "results" / "zoo.txt"
TIERS = (4, 3, 2)
CELL_S = 300
RECEIPT_FIELDS = ("pids_seen", "survivors", "elapsed_ms")


@attrs.frozen
class Cell:
    """One row: so many `runs`, the processes that survived, the receipts that were not true, and how fast all were dead.

    `said` is why it could not be run, or was not run to its end.
    """

    tier: int
    who: str
    animal: str
    how: str
    runs: int = 0
    survivors: int = 0
    untrue: int = 0
    dead_ms: tuple[float, ...] = ()
    said: str = ""

    @property
    def holds(self) -> bool:
        return not self.said and not self.survivors and not self.untrue

    def __str__(self) -> str:
        place = f"tier {self.tier}  {self.who:22} {self.animal:21} {self.how:10}"
        if self.said:
            return f"{place} {self.said}"
        times = sorted(self.dead_ms)
        speed = f"p50 {_at(times, 0.5):6.1f}  p99 {_at(times, 0.99):6.1f}  max {times[-1]:6.1f} ms" if times else ""
        return (
            f"{place} {self.runs:4} runs  {self.survivors} survivors  {self.untrue} untrue receipts  {speed}".rstrip()
        )


def _at(times: Sequence[float], share: float) -> float:
    return times[min(len(times) - 1, int(len(times) * share))]


def cancelled(tier: int, who: str, user: int | None, animal: str, times: int) -> Cell:
    """Cancel an animal so often. As root with `user` None its programs run as another user than the daemon."""
    cell = Cell(tier, who, animal, "cancelled")
    python = system_python() if user is not None else sys.executable
    with as_user(python, str(tier), animal, str(times), user=user) as running:
        try:
            out, _ = running.communicate(timeout=CELL_S)
        except subprocess.TimeoutExpired:
            running.kill()
            return attrs.evolve(cell, said=f"FAILED: not done after {CELL_S} s")
    if running.returncode:
        return attrs.evolve(cell, said=f"FAILED: exit status {running.returncode}")
    seen: list[dict[str, Any]] = json.loads(out)
    return attrs.evolve(
        cell,
        runs=len(seen),
        survivors=sum(each["alive"] for each in seen),
        untrue=sum(not _is_true(each["receipts"]) for each in seen),
        dead_ms=tuple(each["dead_ms"] for each in seen if each["dead_ms"] is not None),
    )


def _is_true(receipts: list[dict[str, Any]]) -> bool:
    """Tell whether there is one receipt at most, which counts some processes, no more than there may be, and no survivor."""
    return len(receipts) <= 1 and all(
        set(each) == set(RECEIPT_FIELDS) and 1 <= each["pids_seen"] <= 2 * PIDS and each["survivors"] == 0
        for each in receipts
    )


def orphaned(tier: int, who: str, animal: str, kills: int) -> Cell:
    """Kill the daemon of an animal so often, with SIGKILL."""
    for _ in range(kills):
        try:
            killed_daemon(tier, animal)
        except AssertionError:
            return Cell(tier, who, animal, "SIGKILL", said="FAILED: it outlived its daemon by 5 s")
    return Cell(tier, who, animal, "SIGKILL", runs=kills)


def cells(times: int, kills: int) -> Iterator[Callable[[], Cell]]:
    """Yield what finds out each cell."""
    mine = "root, as nobody" if os.geteuid() == 0 else f"user {os.geteuid()}"
    reasons = {each.tier: each.reason for each in report_of().tiers if not each.available}
    try:
        system_python()
        nobody = ""
    except pytest.skip.Exception as why:
        nobody = str(why.msg)
    for tier, animal in product(TIERS, ANIMALS):
        missing = f"unavailable: {reasons[tier]}" if tier in reasons else ""
        ways: dict[tuple[str, str], tuple[str, Callable[[], Cell]]] = {
            (mine, "cancelled"): (missing, partial(cancelled, tier, mine, None, animal, times)),
            ("nobody", "cancelled"): (missing or nobody, partial(cancelled, tier, "nobody", NOBODY, animal, times)),
            (mine, "SIGKILL"): (missing, partial(orphaned, tier, mine, animal, kills)),
        }
        for (who, how), (why, find_out) in ways.items():
            yield partial(Cell, tier, who, animal, how, said=why) if why else find_out


def main() -> None:
    times, kills, at_a_time = [int(each) for each in sys.argv[1:]] or (200, 20, 1)
    began, load = time.monotonic(), os.getloadavg()[0]
    lines, bad = [], 0
    with ThreadPoolExecutor(at_a_time) as pool:
        for cell in pool.map(lambda find_out: find_out(), cells(times, kills)):
            bad += not cell.holds and not cell.said.startswith("unavailable")
            lines.append(str(cell))
            print(cell, flush=True)
    unavailable = sum("unavailable" in line for line in lines)
    total = f"{len(lines)} cells: {len(lines) - bad - unavailable} hold, {bad} do not, {unavailable} unavailable"
    machine = f"{os.cpu_count()} cores, Linux {platform.release()}, CPython {platform.python_version()}"
    took = (
        f"{time.monotonic() - began:.0f} s; load average {load:.1f} at the start, {os.getloadavg()[0]:.1f} at the end"
    )
    RESULTS.write_text("\n".join((*report_of().lines(), machine, took, "", *lines, "", total)) + "\n", "utf-8")
    print(total)
    sys.exit(bad > 0)


if __name__ == "__main__":
    main()
