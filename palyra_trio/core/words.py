"""How numbers, times and tape events are said to a person, in a few words. The command line and the console say the same."""

import json
from collections.abc import Mapping

from palyra_trio.core.messages import ToolCall
from palyra_trio.core.policy import Approval
from palyra_trio.core.text import visible

ARGUMENTS_CHARACTERS = 100
IF_APPROVED: Mapping[Approval, str] = {
    "none": "unasked",
    "once": "once a person says yes to this call",
    "standing": "when a person said yes for longer",
}
_UNITS = (("d", 86_400), ("h", 3_600), ("min", 60))


def age(since_ms: int, now_ms: int) -> str:
    """Return how long ago `since_ms` (Unix milliseconds) was, in its largest unit: `12 s`, `5 min`, `3 h`, `2 d`."""
    return ahead(now_ms, since_ms)


def ahead(until_ms: int, now_ms: int) -> str:
    """Return how long it is to `until_ms` (Unix milliseconds), in its largest unit."""
    seconds = max(0, until_ms - now_ms) // 1000
    for unit, length in _UNITS:
        if seconds >= length:
            return f"{seconds // length} {unit}"
    return f"{seconds} s"


def duration(ms: int) -> str:
    return f"{ms} ms" if ms < 1000 else f"{ms / 1000:.1f} s"


def elapsed(ms: int) -> str:
    """Return how far into something a moment is, as a clock would: `0.31 s`, `4:05`, `1:02:03`, `2 d 1:02:03`."""
    if ms < 60_000:
        return f"{ms / 1000:.2f} s"
    minutes, seconds = divmod(ms // 1000, 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    clock = f"{hours}:{minutes:02}:{seconds:02}" if hours or days else f"{minutes}:{seconds:02}"
    return f"{days} d {clock}" if days else clock


def size(size_bytes: int) -> str:
    for unit, length in (("GB", 10**9), ("MB", 10**6)):
        if size_bytes >= length:
            return f"{size_bytes / length:.{0 if size_bytes >= 10 * length else 1}f} {unit}"
    return f"{size_bytes / 1000:.0f} kB" if size_bytes >= 10_000 else f"{size_bytes} {plural(size_bytes, 'byte')}"


def plural(count: int, noun: str) -> str:
    """Return the noun as it is said of so many: `1 call`, `2 calls`, `2 processes`."""
    return noun if count == 1 else f"{noun}{'es' if noun.endswith('s') else 's'}"


def compact(value: int) -> str:
    """Return a count in about three digits: `950`, `1.2k`, `34k`, `5.6M`."""
    for unit, length in (("G", 10**9), ("M", 10**6), ("k", 10**3)):
        if value >= length:
            return (
                f"{value / length:.1f}".removesuffix(".0") + unit if value < 10 * length else f"{value // length}{unit}"
            )
    return str(value)


def one_line(text: str, most: int | None = None) -> str:
    """Return `text` on one line with nothing hidden, cut to `most` characters if need be."""
    line = visible(text).strip().replace("\n", " ⏎ ").replace("\t", " ")
    return line if most is None or len(line) <= most else line[: most - 1] + "…"


def shortened(text: str) -> str:
    """Return the beginning of `text` on one line, its blanks made one each."""
    line = " ".join(text.split())
    return line if len(line) <= ARGUMENTS_CHARACTERS else line[: ARGUMENTS_CHARACTERS - 1] + "…"


def arguments_in_words(call: ToolCall) -> str:
    """Return what a call was given, as `name=value`, cut to one line."""
    return shortened(
        " ".join(f"{name}={json.dumps(value, ensure_ascii=False)}" for name, value in call.arguments.items())
    )
