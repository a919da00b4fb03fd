"""Stacked bars: round scales, bars that add up, labels that do not meet."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from palyra_trio.transports.console.plots import BOTTOM, HEIGHT, LABEL, LEFT, LINES, RIGHT, TOP, Column, scale, stacked

COUNTS = st.integers(0, 10**12)
COLUMNS = st.lists(st.tuples(COUNTS, COUNTS, COUNTS), min_size=1, max_size=90)


@pytest.mark.parametrize(
    ("highest", "ticks"),
    [(0, (0, 1)), (1, (0, 1)), (7, (0, 2, 4, 6, 8)), (45, (0, 20, 40, 60)), (1_000_000, (0, 500_000, 1_000_000))],
)
def test_a_scale_is_of_round_numbers(highest: int, ticks: tuple[int, ...]) -> None:
    assert scale(highest) == ticks


@given(st.integers(1, 10**15))
def test_a_scale_reaches_what_is_highest_in_few_steps_and_no_further_than_it_must(highest: int) -> None:
    ticks = scale(highest)
    assert 2 <= len(ticks) <= LINES + 1
    assert ticks[-2] < highest <= ticks[-1]
    assert str(ticks[1]).rstrip("0") in {"1", "2", "5"}


@given(COLUMNS, st.sampled_from((330.0, 1104.0)))
def test_bars_stand_on_each_other_within_the_picture(parts: list[tuple[int, ...]], width: float) -> None:
    plot = stacked([Column(f"d{index}", "", each) for index, each in enumerate(parts)], width)
    assert len(plot.bars) == sum(1 for each in parts for part in each if part)
    top = scale(max(map(sum, parts)))[-1]
    for bar in plot.bars:
        assert bar.x >= LEFT
        assert bar.x + bar.width <= width - RIGHT + 0.2
        assert TOP - 0.5 <= bar.y <= bar.y + bar.height <= HEIGHT - BOTTOM + 0.5
    for index, each in enumerate(parts):
        hit = plot.hits[index]
        own = [bar for bar in plot.bars if hit.x <= bar.x + bar.width / 2 < hit.x + hit.width]
        assert sum(bar.height for bar in own) == pytest.approx((HEIGHT - BOTTOM - TOP) * sum(each) / top, abs=0.5)


@given(st.integers(1, 90), st.sampled_from((330.0, 1104.0)))
def test_labels_do_not_meet_and_the_last_day_has_one(count: int, width: float) -> None:
    plot = stacked([Column(f"d{index}", "", (1,)) for index in range(count)], width)
    assert plot.marks[0].text == f"d{count - 1}"
    assert all(right.at - left.at >= LABEL - 0.2 for right, left in pairwise(plot.marks))


def test_a_column_says_its_words_over_its_whole_width() -> None:
    plot = stacked([Column("Nov 1", "Nov 1: 5 tokens", (2, 3)), Column("Nov 2", "Nov 2: 0 tokens", (0, 0))], 330.0)
    assert [each.words for each in plot.hits] == ["Nov 1: 5 tokens", "Nov 2: 0 tokens"]
    assert [bar.series for bar in plot.bars] == [0, 1]
