"""Durable agent steps: a model turn and one tool call, each durable before the next, beside the peers' best.

`bench.peers` says who takes part and what the work is. All are measured in turn, in this run, by the interpreter
that runs the bench; a peer that it does not have leaves the ratios unmeasured.
"""

from collections import defaultdict
from statistics import median

from bench.peers import NOT_INSTALLED, OTHERS, OURS, Figures, Peer
from bench.report import Bar, Report, machine, progress

BARS = {1: 4, 50: 10}


def measure(quick: bool) -> Report:
    return compare(rounds=1 if quick else 5)


def compare(rounds: int) -> Report:
    """Play every contestant that is installed `rounds` times, in turn, and report the medians."""
    facts = machine()
    here = [peer for peer in (OURS, *OTHERS) if peer.version()]
    found: dict[Peer, dict[str, list[float]]] = {peer: defaultdict(list) for peer in here}
    for number in range(rounds):
        for workers in BARS:
            for peer in here:
                figures = peer.play(workers)
                for what, value in figures.items():
                    found[peer][f"{what}, {_runs(workers)}"].append(value)
                progress(
                    f"round {number + 1} of {rounds}: {peer.name}, {_runs(workers)}: {figures['steps/s']:,.0f} steps/s"
                )
    medians = {peer: {what: median(values) for what, values in each.items()} for peer, each in found.items()}
    ratios = {workers: _ratio(medians, workers) for workers in BARS}
    bars = [
        Bar(f"ratio to the best peer, {_runs(workers)}", ratios[workers], "x", bar) for workers, bar in BARS.items()
    ]
    peers = {
        peer.name: {"version": peer.version(), **medians[peer]} if peer in medians else {"version": NOT_INSTALLED}
        for peer in (OURS, *OTHERS)
    }
    return Report("steps", bars, peers, facts)


def _ratio(medians: dict[Peer, Figures], workers: int) -> float | None:
    if not all(peer in medians for peer in OTHERS):
        return None
    what = f"steps/s, {_runs(workers)}"
    return medians[OURS][what] / max(medians[peer][what] for peer in OTHERS)


def _runs(workers: int) -> str:
    return f"{workers} run{'s' * (workers > 1)}"
