"""The front door: how fast a tape reaches those who come late, how soon a delta those who wait, and how fast a cancel acts.

The three are measured by `bench.catch_up`, `bench.live` and `bench.storm`, over TCP on 127.0.0.1, with the daemon in a
process of its own and one client, `bench.follower`.
"""

from bench import catch_up, live, storm
from bench.report import Report, machine


def measure(quick: bool) -> Report:
    return compare(tapes=8, rows=2_000 if quick else 20_000, rounds=2 if quick else 3, seconds=4 if quick else 15)


def compare(tapes: int, rows: int, rounds: int, seconds: float, clients: int = 50) -> Report:
    """Measure all three: `rounds` of tapes of so many `rows`, then `seconds` for each of the others."""
    facts = machine()
    parts = (
        catch_up.compare(tapes, rows, rounds),
        live.measure(seconds, facts["fdatasync_p50_us"] / 1000, clients),
        storm.measure(seconds, clients),
    )
    bars = [bar for found, _ in parts for bar in found]
    peers = {name: figures for _, found in parts for name, figures in found.items()}
    return Report("stream", bars, peers, facts)
