"""A histogram as a picture: columns, the budget among them, and the numbers."""

from palyra_trio.runtime.latency import BOUNDS_MS, Latency
from palyra_trio.transports.console.latency_plot import HEIGHT, LEAST_HEIGHT, STEPS, picture_of


def observed(*took_ms: float, budget_ms: int = 25) -> Latency:
    latency = Latency("journal_write", budget_ms)
    for each in took_ms:
        latency.observe(each / 1000)
    return latency


def test_the_highest_column_is_full_and_one_of_many_is_still_seen() -> None:
    picture = picture_of(observed(*[0.4] * 999, 40))
    heights = [each.height for each in picture.steps]
    assert (len(heights), heights[0], heights[6]) == (STEPS, HEIGHT, LEAST_HEIGHT)
    assert [each for each in heights if each] == [HEIGHT, LEAST_HEIGHT]
    assert (picture.name, picture.count, picture.breaches, picture.within) == ("journal write", 1000, 1, False)
    assert (picture.typical, picture.slow) == ("≤ 0.5 ms", "≤ 0.5 ms")


def test_the_budget_lies_between_the_columns_that_are_within_and_those_over() -> None:
    picture = picture_of(observed(1, budget_ms=25))
    over = [each.left for each in picture.steps if each.over]
    assert picture.budget == over[0] == round(100 * (BOUNDS_MS.index(25) + 1) / STEPS, 2)
    within = picture_of(observed(1, budget_ms=30))
    assert over[0] < within.budget < over[1]
    assert picture_of(observed(budget_ms=9999)).budget == 100


def test_beyond_the_last_bound_it_is_said_so() -> None:
    picture = picture_of(observed(60_000))
    assert (picture.slow, picture.steps[-1].said) == ("> 5 s", "more than 5 s: 1")
    assert picture_of(observed()).slow == ""
