"""A tape as lines: which are shown, on which page, and what a line says."""

import pytest

from palyra_trio.core.codec import TapeRow, encode
from palyra_trio.core.errors import InvalidArgument
from palyra_trio.core.tape import Correction, ModelDelta, TapeEvent, ToolStarted
from palyra_trio.transports.console import timeline
from palyra_trio.transports.console.timeline import Filter, Timeline, page_with


def rows(*events: TapeEvent) -> list[TapeRow]:
    return [TapeRow(n, "run:R", n, each.kind, n * 500, encode(each), b"") for n, each in enumerate(events, 1)]


MIXED = rows(
    Correction("one"),
    ModelDelta(1, "a"),
    Correction("two"),
    ModelDelta(1, "b"),
    ToolStarted("c", "k"),
    Correction("end"),
)


@pytest.fixture(autouse=True)
def _small_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timeline, "PAGE_ROWS", 2)


def seqs(shown: Timeline, after: int = 0) -> list[int]:
    return [each.seq for each in shown.lines(after)]


def test_the_newest_page_is_shown_without_pieces_of_text() -> None:
    shown = Timeline(Filter()).add(MIXED)
    assert (seqs(shown), shown.page, shown.pages, shown.total, shown.last) == ([5, 6], 2, 2, 4, 6)
    assert seqs(shown, after=5) == [6]


def test_a_full_page_stays_as_it_is() -> None:
    shown = Timeline(Filter(), 1).add(MIXED[:3])
    before = shown.lines()
    assert shown.add(MIXED[3:]).lines() == before
    assert (shown.page, shown.pages) == (1, 2)


def test_a_new_page_begins_with_the_row_that_found_no_room() -> None:
    shown = Timeline(Filter()).add(MIXED[:3])
    assert seqs(shown) == [1, 3]
    assert seqs(shown.add(MIXED[3:5])) == [5]


def test_one_kind_or_everything_can_be_asked_for() -> None:
    assert seqs(Timeline(Filter.named("ModelDelta")).add(MIXED)) == [2, 4]
    assert seqs(Timeline(Filter.named("everything"), 1).add(MIXED)) == [1, 2]
    with pytest.raises(InvalidArgument):
        Filter.named("<script>")


def test_a_page_that_is_not_there_is_empty() -> None:
    shown = Timeline(Filter(), 9).add(MIXED)
    assert (seqs(shown), shown.last) == ([], 0)


def test_a_line_says_when_what_and_in_a_few_words() -> None:
    (line,) = Timeline(Filter.named("ToolStarted")).add(MIXED).lines()
    assert (line.after, line.kind, line.group, line.said) == ("2.00 s", "ToolStarted", "tool", "c")
    (erased,) = Timeline(Filter()).add([MIXED[0]._replace(body=None)]).lines()
    assert erased.said == "(erased)"


@pytest.mark.parametrize(("seq", "found"), [(0, (1, 1)), (3, (1, 3)), (4, (2, 5)), (6, (2, 6)), (99, (2, 6))])
def test_a_jump_leads_to_the_row_or_to_the_next_that_is_shown(seq: int, found: tuple[int, int]) -> None:
    assert page_with(Filter(), MIXED, seq) == found


def test_a_jump_in_nothing_leads_to_the_first_page() -> None:
    assert page_with(Filter("KillReceipt"), MIXED, 3) == (1, 0)
