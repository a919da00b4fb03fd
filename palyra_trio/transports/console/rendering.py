"""Templates and files as the browser gets them: everything is escaped, and nothing in a text can hide or run.

What a model, a tool or a file said passes `core.text.visible` on its way into a page, so a person reads what there is. The
static files are read once; a request names one of them or nothing, so no path can lead elsewhere.
"""

import hashlib
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import partial
from importlib.resources import files
from itertools import groupby
from typing import Any
from urllib.parse import quote

import attrs
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from palyra_trio.core.text import visible
from palyra_trio.core.words import age, compact, duration, elapsed, one_line, plural, size
from palyra_trio.transports.console.prompt_layout import gist, laid_out

PACKAGE = "palyra_trio.transports.console"
PROSE_CHARACTERS = 64 * 1024  # of a text, whose markup is looked for
DIFF_LINES = 5000  # whose kind is
_FENCE = re.compile(r"^```[^\n`]*\n", re.MULTILINE)
_FENCE_END = re.compile(r"\n?```[ \t]*(?:\n|$)", re.MULTILINE)
_CODE = re.compile(r"`([^`\n]+)`")
_BOLD = re.compile(r"\*\*([^*\n<]+)\*\*")
_TYPES = {"css": "text/css", "js": "text/javascript", "svg": "image/svg+xml", "txt": "text/plain"}


@attrs.frozen
class StaticFile:
    """A file's bytes, its media type, and the digest that names this version of it."""

    body: bytes
    media_type: str
    digest: str


def read_static() -> Mapping[str, StaticFile]:
    """Return the files that pages may refer to, by name."""
    found = {}
    for each in (files(PACKAGE) / "static").iterdir():
        body = each.read_bytes()
        media_type = _TYPES[each.name.rpartition(".")[2]]
        found[each.name] = StaticFile(body, f"{media_type}; charset=utf-8", hashlib.sha256(body).hexdigest()[:16])
    return found


def environment(static: Mapping[str, StaticFile]) -> Environment:
    """Return the templates, with `static(name)` for the address of a file and the filters of this module."""
    made = Environment(
        loader=PackageLoader(PACKAGE),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_shown,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.globals["static"] = lambda name: f"/static/{name}?v={static[name].digest}"
    made.filters |= {
        "segment": partial(quote, safe=""),
        "age": age,
        "compact": compact,
        "duration": duration,
        "size": size,
        "clock": clock,
        "zone": zone,
        "moment": moment,
        "number": number,
        "count": count,
        "prose": prose,
        "lines": lines,
        "gist": gist,
        "laid_out": laid_out,
        "capital": capital,
        "line": one_line,
        "elapsed": elapsed,
    }
    return made


def _shown(value: Any) -> Any:
    return visible(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def moment(ms: int) -> str:
    """Return a time (Unix milliseconds) as the `datetime` of a `time` element: UTC, with milliseconds."""
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def prose(text: str) -> Markup:
    """Return what a model wrote with its code, in fences and in backticks, and its **bold** words set as such.

    All else of its markup is left as the plain text that it is, but for the empty lines about code, and so is what is
    beyond PROSE_CHARACTERS: finding markup takes time in proportion to the text, and nobody else is served meanwhile.
    """
    shown, made, at = str(escape(visible(text[:PROSE_CHARACTERS]))), list[str](), 0
    while (fence := _FENCE.search(shown, at)) and (end := _FENCE_END.search(shown, fence.end())):
        made += (
            _inline(shown[at : fence.start()].strip("\n")),
            f"<pre><code>{shown[fence.end() : end.start()]}</code></pre>",
        )
        at = end.end()
    rest = shown[at:].lstrip("\n") if at else shown
    return Markup("".join((*made, _inline(rest), escape(visible(text[PROSE_CHARACTERS:])))))


def lines(text: str) -> Markup:
    """Return a diff with what each line is: added, taken away, or where it stands. Like lines in a row are one element.

    What is beyond DIFF_LINES is left plain.
    """
    told, made = text.split("\n", DIFF_LINES), []
    for kind, some in groupby(told[:DIFF_LINES], _kind_of_line):
        shown = escape(visible("\n".join(some)))
        made.append(f'<span class="{kind}">{shown}\n</span>' if kind else f"{shown}\n")
    return Markup("".join((*made, *(escape(visible(rest)) for rest in told[DIFF_LINES:]))))


def _kind_of_line(line: str) -> str:
    if line.startswith(("---", "+++", "@@")):
        return "hunk"
    return {"+": "add", "-": "del"}.get(line[:1], "")


def _inline(escaped: str) -> str:
    return _BOLD.sub(r"<b>\1</b>", _CODE.sub(r"<code>\1</code>", escaped))


def clock(ms: int) -> str:
    """Return a time (Unix milliseconds) in UTC with its date: who reads it may be elsewhere, and script shows it as it is there."""
    return datetime.fromtimestamp(ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def zone(ms: int) -> str:
    """Return the time zone of this machine's clock at a time (Unix milliseconds): `UTC`, `CET (UTC+01:00)`."""
    here = datetime.fromtimestamp(ms / 1000).astimezone()
    name, offset = here.tzname() or "", f"UTC{here.isoformat()[-6:]}"
    return name if offset == "UTC+00:00" else f"{name} ({offset})"


def number(value: int) -> str:
    """Return a number with thin spaces between thousands."""
    return f"{value:,}".replace(",", "\u2009")


def count(value: int, noun: str) -> str:
    """Return how many there are of what a noun names: `1 call`, `2 calls`."""
    return f"{number(value)} {plural(value, noun)}"


def capital(words: str) -> str:
    """Return words with a capital, as a page begins them. What begins with a name in code is left as it is."""
    return words[:1].upper() + words[1:] if words.split(" ", 1)[0].isalpha() else words
