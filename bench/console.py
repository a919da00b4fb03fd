"""The console at its limits: pages of long tapes, events to a hundred followers, and three times as many runs as there can be."""

from bench import fan_out, overload, pages
from bench.report import Report, machine


def measure(quick: bool) -> Report:
    return compare(
        rows=10_000, loads=10 if quick else 50, fan_out_rows=1_000 if quick else 5_000, seconds=3 if quick else 15
    )


def compare(rows: int, loads: int, fan_out_rows: int, seconds: float) -> Report:
    """Load pages of `rows` events, follow a tape of `fan_out_rows`, and let each phase of the overload take `seconds`."""
    facts = machine()
    page_bars, page_figures = pages.measure(rows, loads)
    events = fan_out.measure(fan_out_rows)
    overload_bars, overload_figures = overload.measure(seconds)
    return Report("console", [*page_bars, *overload_bars], {**page_figures, **events, **overload_figures}, facts)
