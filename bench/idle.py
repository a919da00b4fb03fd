"""What a daemon costs that has nothing to do: CPU time, wake-ups of all its threads, and memory, from /proc."""

import os
import tempfile
import time
from pathlib import Path

from bench.report import Bar, Report, machine, progress
from bench.served import daemon

SETTLING_S = 2.0
LOOK_S = 1.0


def measure(quick: bool) -> Report:
    return watch(10 if quick else 30)


def watch(seconds: float, settling_s: float = SETTLING_S) -> Report:
    """Leave a daemon alone, and report what it did in the `seconds` after it has settled."""
    facts = machine()
    with tempfile.TemporaryDirectory() as home, daemon(Path(home)) as served:
        time.sleep(settling_s)  # ruff: ignore[banned-api]
        progress(f"watching process {served.pid} for {seconds:g} s")
        before = _of_threads(served.pid)
        latest = dict(before)
        began = time.perf_counter()
        while (elapsed_s := time.perf_counter() - began) < seconds:
            time.sleep(min(LOOK_S, seconds - elapsed_s))  # ruff: ignore[banned-api]
            latest |= _of_threads(served.pid)  # a thread that has ended keeps what it had
        rss_mb = _fields(Path(f"/proc/{served.pid}/status"))["VmRSS"] / 1024
    done = [
        (ns - before.get(thread, (0, 0))[0], wakes - before.get(thread, (0, 0))[1])
        for thread, (ns, wakes) in latest.items()
    ]
    cpu = sum(ns for ns, _ in done) / elapsed_s / 1e9 * 100
    wakes_per_s = sum(wakes for _, wakes in done) / elapsed_s
    peers = {"palyra-trio serve": {"CPU %": cpu, "wake-ups/s": wakes_per_s, "RSS MB": rss_mb, "threads": len(latest)}}
    bars = [
        Bar("CPU of an idle daemon", cpu, "%", 0.2, at_most=True),
        Bar("memory of an idle daemon", rss_mb, "MB", 90, at_most=True),
    ]
    return Report("idle", bars, peers, facts)


def _of_threads(pid: int) -> dict[str, tuple[int, int]]:
    """Return for each thread the nanoseconds that it ran, and how often it was woken or put aside."""
    found = {}
    for thread in os.listdir(f"/proc/{pid}/task"):
        place = Path(f"/proc/{pid}/task/{thread}")
        try:
            ran_ns = int((place / "schedstat").read_text().split()[0])
            fields = _fields(place / "status")
        except OSError:  # it has just ended
            continue
        found[thread] = (ran_ns, fields["voluntary_ctxt_switches"] + fields["nonvoluntary_ctxt_switches"])
    return found


def _fields(status: Path) -> dict[str, int]:
    """Return the fields of a status file that are numbers."""
    lines = [line.split() for line in status.read_text().splitlines()]
    return {words[0].rstrip(":"): int(words[1]) for words in lines if len(words) > 1 and words[1].isdigit()}
