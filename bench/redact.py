"""What redaction costs: 4 KB of JSON text and of JSON values without a secret, by how many values the vault holds.

The bar is of the dearest of them. Beside it stand a text with two secrets in it, a stream of four characters a piece, and the
time in which the automaton is built anew after the vault was changed.
"""

import json
import random
import string
import time
from collections.abc import Callable
from statistics import median

from bench.report import Bar, Report, machine, progress
from palyra_trio.guard.redactor import Redactor

BAR_US = 100
TEXT_CHARACTERS = 4096
VAULTS = (0, 10, 1000)
_ALPHABET = string.ascii_letters + string.digits

Figures = dict[str, float]


def measure(quick: bool) -> Report:
    return compare(calls=200 if quick else 2000, vaults=VAULTS[:2] if quick else VAULTS)


def compare(calls: int, vaults: tuple[int, ...] = VAULTS) -> Report:
    """Time `calls` of each kind for each size of vault."""
    facts = machine()
    found = {f"{count:,} values kept": _figures(count, calls) for count in vaults}
    dearest = max(max(each["text us"], each["value us"]) for each in found.values())
    bar = Bar("p50 of 4 KB, the dearest of text and value", dearest, "us", BAR_US, at_most=True)
    return Report("redact", [bar], found, facts)


def _figures(count: int, calls: int) -> Figures:
    rng = random.Random(count)
    redactor = Redactor()
    kept = ["".join(rng.choices(_ALPHABET, k=40)) for _ in range(count)]
    began = time.perf_counter()
    redactor.know(kept, b"a key")
    built_ms = (time.perf_counter() - began) * 1000
    value = _members(rng)
    text = json.dumps(value)[:TEXT_CHARACTERS]
    secrets = [f"ghp_{''.join(rng.choices(_ALPHABET, k=36))}", *kept[:1]]
    planted = " ".join((text[:1000], *secrets, text[1000:]))
    progress(f"{count:,} values kept: built in {built_ms:.0f} ms")
    return {
        "text us": _p50(lambda: redactor.text(text), calls),
        "value us": _p50(lambda: redactor.value(value), calls),
        "text with secrets us": _p50(lambda: redactor.text(planted), calls),
        "piece of a stream us": _stream_us(redactor, text),
        "build ms": built_ms,
    }


def _members(rng: random.Random) -> list[dict[str, object]]:
    """Return about 4 KB of what a tool's result looks like."""
    return [
        {"path": f"src/module_{n}.py", "size": n * 37, "digest": rng.randbytes(16).hex(), "note": "a plain note"}
        for n in range(TEXT_CHARACTERS // 112)
    ]


def _p50(call: Callable[[], object], calls: int) -> float:
    times = []
    for _ in range(calls):
        began = time.perf_counter()
        call()
        times.append(time.perf_counter() - began)
    return median(times) * 1e6


def _stream_us(redactor: Redactor, text: str) -> float:
    stream = redactor.stream()
    pieces = [text[at : at + 4] for at in range(0, len(text), 4)]
    for piece in pieces:
        stream.feed(piece)  # RE2 builds its automaton as it goes
    began = time.perf_counter()
    for piece in pieces:
        stream.feed(piece)
    return (time.perf_counter() - began) / len(pieces) * 1e6
