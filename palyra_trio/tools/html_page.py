"""The program that reads one web page in a process of its own: JSON on standard input, JSON on standard output.

It keeps what people see: headings, links, lists, tables. Text that a page hides from people is where words meant for
a model alone are put; what the markup itself hides is left out and counted. What a style sheet, a script or a colour
hides cannot be told, and stays. The process limits its own memory and time, since pages exist that make a parser grow.
"""

import resource
import sys
from typing import TYPE_CHECKING

import attrs
import msgspec

if TYPE_CHECKING:
    from html_to_markdown import ConversionResult

MAX_TEXT_CHARACTERS = 1024 * 1024
MEMORY_BYTES = 512 * 1024 * 1024  # quotes in quotes repeat their text at every level while they are written
CPU_S = 10
HEAD_CHARACTERS = 64 * 1024  # in which the title is looked for
MAX_DEPTH = 256  # of nested elements; the deepest pages have a hundred


@attrs.frozen
class Source:
    """A page, and the URL that its links are relative to."""

    html: str
    base_url: str


@attrs.frozen
class Page:
    """A page as Markdown.

    `hidden_characters` were left out, about; `cut` says that text is missing at the end, or beneath too many elements.
    """

    title: str
    text: str
    hidden_characters: int = 0
    cut: bool = False


def read_page(source: Source) -> Page:
    """Return the page as Markdown with absolute links. Needs up to a page's size for each level that it is nested."""
    seen = _convert(source.html, source.base_url, "drop")
    everything = _convert(source.html, source.base_url, "all")
    about = _convert(source.html[:HEAD_CHARACTERS], source.base_url, "drop", extract_metadata=True)
    text = seen.content or ""
    return Page(
        about.metadata.document.title or "",
        text[:MAX_TEXT_CHARACTERS],
        max(0, len(everything.content or "") - len(text)),
        bool(seen.warnings) or len(text) > MAX_TEXT_CHARACTERS,
    )


def _convert(html: str, base_url: str, hidden: str, *, extract_metadata: bool = False) -> "ConversionResult":
    from html_to_markdown import ConversionOptions, PreprocessingOptions, convert  # the daemon does not need it

    options = ConversionOptions(
        autolinks=False,
        base_url=base_url,
        extract_metadata=extract_metadata,
        hidden_content=hidden,
        inline_data_media="alt_text_only",
        max_depth=MAX_DEPTH,
        preprocessing=PreprocessingOptions(enabled=False),  # it would leave out navigation and forms
    )
    return convert(html, options)


def main() -> None:
    for limit, value in ((resource.RLIMIT_AS, MEMORY_BYTES), (resource.RLIMIT_CPU, CPU_S), (resource.RLIMIT_CORE, 0)):
        resource.setrlimit(limit, (value, value))
    source = msgspec.json.decode(sys.stdin.buffer.read(), type=Source)
    sys.stdout.buffer.write(msgspec.json.encode(read_page(source)))


if __name__ == "__main__":
    main()
