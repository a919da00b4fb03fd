"""The picture of a run over time: bars where they belong, long gaps drawn short, and room for what goes on."""

from hypothesis import given
from hypothesis import strategies as st

from palyra_trio.transports.console.waterfall import OPEN_WIDTH, TICKS, Item, draw

HOUR_MS = 3_600_000


def turn(began_ms: int, ended_ms: int | None, name: str = "turn 1") -> Item:
    item = Item(1, name, began_ms)
    item.begin("model", began_ms)
    if ended_ms is not None:
        item.end(ended_ms)
    return item


def test_equal_times_are_equal_lengths() -> None:
    chart = draw([turn(0, 1000), turn(1000, 2000), turn(2000, 4000)], 0, 4000, 10)
    assert [(each.bars[0].left, each.bars[0].width) for each in chart.lines] == [(0, 25), (25, 25), (50, 50)]
    assert [each.said for each in chart.lines] == ["1.0 s", "1.0 s", "2.0 s"]
    assert [each.said for each in chart.ticks] == ["0 s", "1 s", "2 s", "3 s", "4 s"]
    assert not chart.gaps


def test_a_night_in_which_nobody_worked_is_drawn_short_and_named() -> None:
    asked = Item(2, "files.write", 1000)
    asked.begin("asked", 1000)
    asked.end(1000 + 9 * HOUR_MS)
    asked.begin("tool", 1000 + 9 * HOUR_MS)
    asked.end(2000 + 9 * HOUR_MS)
    chart = draw([turn(0, 1000), asked], 0, 2000 + 9 * HOUR_MS, 10)
    (gap,) = chart.gaps
    assert (gap.said, gap.width) == ("9 h", 7.0)
    waited, wrote = chart.lines[1].bars
    assert (waited.doing, wrote.doing) == ("asked", "tool")
    assert wrote.left == round(waited.left + waited.width, 2)
    assert wrote.width == chart.lines[0].bars[0].width
    assert asked.took_ms("asked", 0) == 9 * HOUR_MS


def test_what_goes_on_reaches_to_the_edge_and_what_has_ended_does_not() -> None:
    chart = draw([turn(0, 500), turn(500, None)], 0, 1000, 10)
    ended, open_ = (each.bars[0] for each in chart.lines)
    assert open_.left + open_.width == 100
    assert ended.left + ended.width == (100 - OPEN_WIDTH) / 2


def test_only_the_last_items_are_drawn_from_their_beginning_on() -> None:
    chart = draw([turn(n * 100, n * 100 + 100) for n in range(10)], 0, 1000, 2)
    assert (len(chart.lines), chart.omitted, chart.took_ms) == (2, 8, 1000)
    assert chart.lines[0].bars[0].left == 0


def test_how_an_item_failed_stands_beside_it() -> None:
    item = turn(0, None)
    item.end(20, "rate_limited", failed=True)
    (line,) = draw([item], 0, 100, 10).lines
    assert (line.said, line.bars[0].doing) == ("20 ms, rate_limited", "failed")


def test_a_run_without_items_has_an_empty_picture() -> None:
    assert draw([], 5, 5, 10).lines == ()


times = st.integers(0, 10**9)


@given(
    st.lists(st.tuples(times, times, st.sampled_from(["model", "tool", "asked"]), st.booleans()), max_size=12), times
)
def test_everything_lies_inside_the_picture_in_the_order_of_time(
    spans: list[tuple[int, int, str, bool]], now: int
) -> None:
    items = []
    for begin, length, doing, ended in sorted(spans):
        item = Item(1, "x", begin)
        item.begin(doing, begin)  # type: ignore[arg-type]
        if ended:
            item.end(begin + length)
        items.append(item)
    last = max([now, *(begin + length for begin, length, _, _ in spans)])
    chart = draw(items, min([0, *(span[0] for span in spans)]), last, 50)
    lefts = [line.bars[0].left for line in chart.lines]
    assert lefts == sorted(lefts)
    for line in chart.lines:
        for bar in line.bars:
            assert 0 <= bar.left <= 100
            assert 0 < bar.width <= 100.1
    assert all(0 <= tick.left <= 100 for tick in chart.ticks)
    assert len(chart.ticks) <= (TICKS + 1) * (len(chart.gaps) + 1)
    assert sum(gap.width for gap in chart.gaps) <= 50
