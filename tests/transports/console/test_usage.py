"""What was used: by day and model, own runs only, empty days in words."""

from datetime import datetime, timedelta
from pathlib import Path

import pytest

from palyra_trio.core.identity import Scope
from palyra_trio.core.messages import ModelReply, ToolCall, Usage
from palyra_trio.core.run import RunState
from palyra_trio.journal.usage import ModelUsage, ToolUsage, Used
from palyra_trio.transports.console.rendering import zone
from palyra_trio.transports.console.usage import (
    OTHERS,
    SERIES,
    Day,
    by_model,
    by_tool,
    calls_by_day,
    days_until,
    outcomes_of,
    tokens_by_day,
)
from tests.fakes import OTHER, FakeProvider
from tests.transports.console.browsing import open_console

XSS = '"><script>alert(1)</script>'


def used(*models: ModelUsage, tools: tuple[ToolUsage, ...] = ()) -> Used:
    return Used(1, {RunState.DONE: 1}, len(models), Usage(), tools, models)


def answering(model: str, tokens: int, *calls: ToolCall) -> FakeProvider:
    last = [ModelReply("done", (), "stop", Usage(tokens, 0, 1), model)]
    return FakeProvider([ModelReply("", calls, "tool_calls", Usage(), model)], last) if calls else FakeProvider(last)


async def test_where_nothing_was_used_it_is_said_in_words(tmp_path: Path) -> None:
    async with open_console(tmp_path) as console:
        assert "Your runs used nothing in the last 30 days." in await console.visitor().get("/usage")


async def test_tokens_and_calls_are_told_by_model_tool_and_day(tmp_path: Path) -> None:
    async with open_console(tmp_path) as console:
        console.runtime.models["fake/large"] = answering(
            "said-by-it", 1234, ToolCall("c", "clock.now"), ToolCall("d", "no.such")
        )
        await console.runtime.run("one", model="fake/large")
        page = await console.visitor(scopes=frozenset({Scope.READ})).get("/usage?days=7")
        assert "fake/large 2 1 234 0 1" in page
        assert "said-by-it" not in page
        assert "clock.now 1 1 0 0 0 0" in page
        assert "no.such 1 0 0 1 0 0" in page
        assert f"Days are those of the daemon’s clock, {zone(0)}." in page
        assert "1 2 1 234 1 2" in page  # the day: runs, turns, tokens in, tokens out, tool calls
        assert page.text.count("<svg") == 2 * 2 + 1  # two pictures in two widths, and the sign of the program


async def test_what_others_used_is_not_told(tmp_path: Path) -> None:
    async with open_console(tmp_path) as console:
        console.runtime.models["fake/theirs"] = answering("theirs", 999)
        await console.runtime.run("one", None, OTHER, model="fake/theirs")
        page = await console.visitor().get("/usage")
        assert "theirs" not in page
        assert "used nothing" in page
        assert "theirs" in await console.visitor(OTHER).get("/usage")


async def test_a_range_is_one_of_those_offered(tmp_path: Path) -> None:
    async with open_console(tmp_path) as console:
        for asked, days in (("7", 7), ("90", 90), ("100000", 30), ("x", 30)):
            page = await console.visitor().get(f"/usage?days={asked}")
            assert f'href="/usage?days={days}" aria-current="true"' in page.text


async def test_the_name_of_a_model_is_only_text(tmp_path: Path) -> None:
    async with open_console(tmp_path) as console:
        console.runtime.models[f"fake/{XSS}"] = answering(XSS, 5, ToolCall("c", XSS))
        await console.runtime.run("one", model=f"fake/{XSS}")
        page = await console.visitor().get("/usage")
        assert XSS in page
        assert "<script>alert" not in page.text


@pytest.mark.parametrize("days", [7, 90])
def test_days_begin_at_midnight_today_is_the_last_of_them_and_tomorrow_ends_it(days: int) -> None:
    begins = days_until(datetime(2027, 3, 29, 15, 30, 12), days)
    assert len(begins) == days + 1
    assert begins[-2:] == [datetime(2027, 3, 29), datetime(2027, 3, 30)]
    assert begins[0] == datetime(2027, 3, 29) - timedelta(days=days - 1)


def test_models_come_in_the_order_of_their_tokens_and_tools_of_their_calls() -> None:
    found = [
        used(ModelUsage("a", 1, Usage(5, 0, 0)), ModelUsage("b", 1, Usage(9, 0, 0)), tools=(ToolUsage("x", 1, 1),)),
        used(ModelUsage("a", 2, Usage(5, 1, 2)), tools=(ToolUsage("x", 1, 0, 1), ToolUsage("y", 3, 0, 0, 3))),
    ]
    assert by_model(found) == [ModelUsage("a", 3, Usage(10, 1, 2)), ModelUsage("b", 1, Usage(9, 0, 0))]
    assert by_tool(found) == [ToolUsage("y", 3, 0, 0, 3), ToolUsage("x", 2, 1, 1)]


def test_few_models_have_a_colour_each_and_the_rest_are_one_more() -> None:
    models = [ModelUsage(f"m{number}", 1, Usage(100 - number, 0, 0)) for number in range(SERIES + 3)]
    picture = tokens_by_day([Day("Nov 1", used(*models))], models)
    assert picture.series == ("m0", "m1", "m2", "m3", OTHERS)
    for plot in picture.plots:
        assert [bar.series for bar in plot.bars] == [0, 1, 2, 3, 4]
        assert plot.hits[0].words == "Nov 1: 679 tokens"
    assert tokens_by_day([Day("Nov 1", used(*models[:2]))], models[:2]).series == ("m0", "m1")


def test_calls_are_pictured_by_what_came_of_them() -> None:
    day = Day("Nov 1", used(tools=(ToolUsage("x", 12, 4, 3, 2, 1), ToolUsage("y", 1, 0, 0, 0, 1))))
    picture = calls_by_day([day])
    assert picture.plots[0].hits[0].words == "Nov 1: 13 calls"
    heights = [bar.height for bar in picture.plots[0].bars]
    assert heights == pytest.approx(
        [heights[0], heights[0] * 3 / 4, heights[0] / 2, heights[0] / 2, heights[0] / 2], abs=0.2
    )


def test_calls_by_outcome_add_up_to_those_that_were_made() -> None:
    cut = ToolUsage("x", 1110, 1100)
    assert outcomes_of(cut) == (1100, 0, 0, 0, 10)
    ended_today_begun_before = ToolUsage("x", 0, 1)
    assert outcomes_of(ended_today_begun_before) == (1, 0, 0, 0, 0)
