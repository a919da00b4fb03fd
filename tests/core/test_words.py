import pytest

from palyra_trio.core.messages import ToolCall
from palyra_trio.core.words import (
    age,
    ahead,
    arguments_in_words,
    compact,
    duration,
    elapsed,
    one_line,
    plural,
    shortened,
    size,
)


def test_a_long_text_is_cut_to_length() -> None:
    assert one_line("abcdef", 6) == "abcdef"
    assert one_line("abcdefg", 6) == "abcde…"


@pytest.mark.parametrize(
    ("seconds", "said"), [(-5, "0 s"), (59, "59 s"), (60, "1 min"), (3599, "59 min"), (7200, "2 h"), (200_000, "2 d")]
)
def test_an_age_is_told_in_its_largest_unit(seconds: int, said: str) -> None:
    assert age(1_000_000, 1_000_000 + seconds * 1000) == said


def test_what_is_to_come_is_told_as_what_has_been() -> None:
    assert ahead(7_200_000, 0) == "2 h"
    assert ahead(0, 7_200_000) == "0 s"


def test_a_text_on_one_line_hides_nothing() -> None:
    assert one_line(" a\x1bb\tc\nd ") == "a\\u001bb c ⏎ d"


@pytest.mark.parametrize(("ms", "said"), [(0, "0 ms"), (999, "999 ms"), (1000, "1.0 s"), (61_250, "61.2 s")])
def test_a_length_of_time_is_told_in_milliseconds_or_seconds(ms: int, said: str) -> None:
    assert duration(ms) == said


@pytest.mark.parametrize(
    ("bytes_", "said"),
    [
        (0, "0 bytes"),
        (9_999, "9999 bytes"),
        (1, "1 byte"),
        (10_000, "10 kB"),
        (4_789_000, "4.8 MB"),
        (12_300_000, "12 MB"),
        (3 * 10**10, "30 GB"),
    ],
)
def test_a_size_is_told_in_the_unit_that_fits(bytes_: int, said: str) -> None:
    assert size(bytes_) == said


def test_arguments_are_told_in_order_and_cut() -> None:
    assert arguments_in_words(ToolCall("c1", "t", {"path": "ä b", "most": 3})) == 'path="ä b" most=3'
    assert len(arguments_in_words(ToolCall("c1", "t", {"text": "x" * 500}))) == 100
    assert shortened("a \n\t b") == "a b"


@pytest.mark.parametrize(
    ("count", "words"),
    [(0, "0"), (999, "999"), (1000, "1k"), (1250, "1.2k"), (34_567, "34k"), (5_600_000, "5.6M"), (7_000_000_000, "7G")],
)
def test_a_count_is_said_in_about_three_digits(count: int, words: str) -> None:
    assert compact(count) == words


@pytest.mark.parametrize(
    ("ms", "said"),
    [(0, "0.00 s"), (59_994, "59.99 s"), (245_000, "4:05"), (3_723_000, "1:02:03"), (176_523_000, "2 d 1:02:03")],
)
def test_how_far_into_something_a_moment_is_reads_as_a_clock(ms: int, said: str) -> None:
    assert elapsed(ms) == said


def test_a_noun_follows_its_number() -> None:
    assert [plural(count, "call") for count in (0, 1, 2)] == ["calls", "call", "calls"]
    assert plural(2, "process") == "processes"
