"""Lengths of time as a person writes them: `10s`, `45min`, `2h`, `30d`."""

import re

import click

EXAMPLES = "10s, 45min, 2h or 30d"
_UNITS_MS = {"s": 1000, "min": 60_000, "h": 3_600_000, "d": 86_400_000}
_SPAN = re.compile(r"([1-9][0-9]{0,5})(s|min|h|d)")


def span_ms(text: str) -> int | None:
    """Return a length of time in milliseconds, or None for what is none."""
    match = _SPAN.fullmatch(text)
    return int(match[1]) * _UNITS_MS[match[2]] if match is not None else None


def span_option(_ctx: click.Context, _param: click.Parameter, value: str | None) -> int:
    """Return an option's length of time in milliseconds, 0 where it was left out. Raises BadParameter. For `callback=`."""
    found = 0 if value is None else span_ms(value)
    if found is None:
        raise click.BadParameter(f"{value!r} is no length of time such as {EXAMPLES}")
    return found
