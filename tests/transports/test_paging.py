"""Pages are no longer than they may be, and a full one names the next."""

import pytest

from palyra_trio.core.errors import InvalidArgument
from palyra_trio.journal.queries import LIST_ROWS
from palyra_trio.transports.paging import next_page, page_size


def test_a_page_has_a_default_and_a_bound() -> None:
    assert [page_size(0), page_size(1), page_size(LIST_ROWS), page_size(0, default=7, most=9)] == [100, 1, LIST_ROWS, 7]
    with pytest.raises(InvalidArgument, match=f"a page of {LIST_ROWS + 1} is too large"):
        page_size(LIST_ROWS + 1)


def test_a_full_page_is_followed_by_another() -> None:
    assert next_page(["a", "b"], 2, str.upper) == "B"
    assert next_page(["a", "b"], 3, str.upper) == ""
    assert next_page([], 3, str.upper) == ""
