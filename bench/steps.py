"""Durable agent steps: a model turn and one tool call, each durable before the next, beside the peers' best.

`bench.contest` says who takes part and what the work is. All are measured in turn, in this run, by the interpreter
that runs the bench; a peer that it does not have leaves the ratios unmeasured.
"""

from collections import defaultdict
from statistics import median

from bench.contest import NOT_INSTALLED, OTHERS, OURS, Peer, PeerFailed
from bench.report import Bar, Figures, Report, machine, progress

BARS = {1: 4, 50: 10}


def measure(quick: bool) -> Report:
    return compare(rounds=1 if quick else 5)


def compare(rounds: int) -> Report:
    """Play every contestant that is installed `rounds` times, in turn, and report the medians."""
    facts = machine()
    versions = {peer: peer.version() or NOT_INSTALLED for peer in (OURS, *OTHERS)}
    playing = [peer for peer in versions if versions[peer] != NOT_INSTALLED]
    found: dict[Peer, dict[str, list[float]]] = {peer: defaultdict(list) for peer in versions}
    for number in range(rounds):
        for workers in BARS:
            for peer in playing.copy():
                try:
                    figures = peer.play(workers)
                except PeerFailed as failure:
                    playing.remove(peer)
                    found[peer].clear()
                    versions[peer] += f", {failure}"
                    continue
                for what, value in figures.items():
                    found[peer][_what(what, workers)].append(value)
                speed = f"{figures['steps/s']:,.0f} steps/s"
                progress(f"round {number + 1} of {rounds}: {peer.name}, {_runs(workers)}: {speed}")
    medians = {peer: {what: median(values) for what, values in each.items()} for peer, each in found.items()}
    bars = [
        Bar(f"ratio to the best peer, {_runs(workers)}", _ratio(medians, _what("steps/s", workers)), "x", bar)
        for workers, bar in BARS.items()
    ]
    peers: dict[str, Figures] = {peer.name: {**medians[peer], "version": version} for peer, version in versions.items()}
    return Report("steps", bars, peers, facts)


def _ratio(medians: dict[Peer, dict[str, float]], what: str) -> float | None:
    """Return how many times the best peer's figure ours is, or None unless all of them were measured."""
    if not all(what in figures for figures in medians.values()):
        return None
    return medians[OURS][what] / max(medians[peer][what] for peer in OTHERS)


def _what(figure: str, workers: int) -> str:
    return f"{figure}, {_runs(workers)}"


def _runs(workers: int) -> str:
    return f"{workers} run{'s' * (workers > 1)}"
