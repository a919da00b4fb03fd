"""Lists in pages: how long a page may be, and what the next one is asked for with."""

from collections.abc import Callable, Sequence
from typing import TypeVar

from palyra_trio.core.errors import InvalidArgument
from palyra_trio.journal.queries import LIST_ROWS

DEFAULT_PAGE = 100
T = TypeVar("T")


def page_size(asked: int, *, default: int = DEFAULT_PAGE, most: int = LIST_ROWS) -> int:
    """Return how many rows a page may hold; 0 stands for the default. Raises InvalidArgument beyond `most`."""
    if asked > most:
        raise InvalidArgument(f"a page of {asked} is too large", remedy=f"ask for {most} at most, page by page")
    return asked or default


def next_page(found: Sequence[T], size: int, name: Callable[[T], str]) -> str:
    """Return the token of the page after this one, the name of its last row; "" where this one is not full."""
    return name(found[-1]) if len(found) == size else ""
