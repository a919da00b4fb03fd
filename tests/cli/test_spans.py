import click
import pytest

from palyra_trio.cli.spans import span_ms, span_option

CONTEXT, OPTION = click.Context(click.Command("c")), click.Option(["--for"])


@pytest.mark.parametrize(
    ("text", "ms"), [("10s", 10_000), ("45min", 2_700_000), ("2h", 7_200_000), ("30d", 2_592_000_000)]
)
def test_a_number_and_a_unit_are_a_length_of_time(text: str, ms: int) -> None:
    assert span_ms(text) == ms
    assert span_option(CONTEXT, OPTION, text) == ms


@pytest.mark.parametrize("text", ["", "2", "h", "0h", "-1h", "2 h", "2H", "1.5h", "1234567s", "٢h"])
def test_anything_else_is_none(text: str) -> None:
    assert span_ms(text) is None
    with pytest.raises(click.BadParameter, match="is no length of time such as 10s, 45min, 2h or 30d"):
        span_option(CONTEXT, OPTION, text)


def test_an_option_that_was_left_out_is_no_time() -> None:
    assert span_option(CONTEXT, OPTION, None) == 0
