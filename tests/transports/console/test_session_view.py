"""A session as it goes on: at whatever place a browser comes back, what it is sent makes of its page what a reload shows."""

from pathlib import Path
from typing import Any

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from palyra_trio.core.commands import CancelRun
from palyra_trio.core.errors import InvalidArgument
from palyra_trio.core.messages import ModelReply, ToolCall
from palyra_trio.core.run import RunState
from palyra_trio.core.session import WhenBusy
from palyra_trio.core.tape import ApprovalRequested, ModelDelta
from palyra_trio.transports.console.rendering import environment, read_static
from palyra_trio.transports.console.session_view import parse_place, place_of
from palyra_trio.transports.console.site import Visit
from palyra_trio.transports.console.transcript import End, Grown, RunStory
from tests.fakes import ME, FakeProvider, in_session, says
from tests.transports.console.browsing import Browser, Console, Stream, open_console
from tests.transports.console.dom import Node, apply, parse
from tests.transports.console.test_transcript import RUN, WHOLE, rows, story


class Sketch:
    """Enough of a Visit for templates."""

    context = ME
    here = "/sessions/01"
    session = type("S", (), {"csrf": "token"})
    may = staticmethod(lambda _scope: True)


TEMPLATE: Any = environment(read_static()).get_template("transcript.html").module


def piece(told: RunStory, each: Any) -> Any:
    match each:
        case Grown():
            return TEMPLATE.grown(each)
        case End():
            return TEMPLATE.end(Sketch, told)
    return TEMPLATE.block(Sketch, told, each)


def page(told: RunStory) -> Node:
    return parse(str(TEMPLATE.run(Sketch, told)))


@settings(deadline=None)
@given(st.lists(st.integers(1, len(WHOLE)), min_size=1, max_size=8).map(sorted))
def test_a_page_and_its_updates_are_the_page_of_the_longer_tape(cuts: list[int]) -> None:
    told = story(*WHOLE[: cuts[0]])
    shown = page(told)
    list(told.take_changes())
    for begin, end in zip(cuts, [*cuts[1:], len(WHOLE)], strict=True):
        told.add_all(rows(*WHOLE)[begin:end])
        for each in told.take_changes():
            apply(shown, str(piece(told, each)))
        assert shown.html() == page(story(*WHOLE[:end])).html()


def test_a_place_is_read_as_it_was_written() -> None:
    told = story(*WHOLE)
    assert place_of([told]) == f"{RUN}:{len(WHOLE)}"
    assert parse_place(place_of([told])) == {RUN: len(WHOLE)}
    assert parse_place("") == {}


def test_a_place_names_the_runs_that_are_open_and_the_newest() -> None:
    ended, still, newest = story(*WHOLE), RunStory("01B").add_all(rows(*WHOLE[:3])), story(*WHOLE)
    assert place_of([ended, still, newest]) == f"01B:3,{RUN}:{len(WHOLE)}"


@pytest.mark.parametrize("text", ["x", "x:", "x:-1", "x:1,", ":1", "../x:1", "x:1:2", "x:" + "9" * 20])
def test_what_is_no_place_is_refused(text: str) -> None:
    if text.endswith(","):
        assert parse_place(text) == {"x": 1}
    else:
        with pytest.raises(InvalidArgument):
            parse_place(text)


def transcript(text: str) -> Node:
    found = parse(text).find("transcript")
    assert found is not None
    return found


def live_of(text: str) -> str:
    attributes = transcript(text).attributes
    return f"{attributes['data-live']}?after={attributes['data-place']}"


async def caught_up(shown: Node, stream: Stream, browser: Browser, session_id: str) -> str:
    """Apply updates until the page is what a reload shows, and return the last place."""
    place = ""
    with trio.fail_after(5):
        while shown.html() != (now := transcript((await browser.get(f"/sessions/{session_id}")).text)).html():
            name, html, place = await stream.event()
            assert name == "update", html
            apply(shown, html)
            shown.attributes = now.attributes
    return place


async def test_a_live_page_becomes_what_a_reload_shows(tmp_path: Path) -> None:
    going = trio.Event()
    ask = ModelReply("I write.", (ToolCall("c1", "files.write", {"path": "a", "text": "x\n"}),), "tool_calls")
    provider = FakeProvider(["I ", going.wait, "write.", ask], says("Done <now>."))
    async with open_console(tmp_path, provider) as console:
        runtime, browser = console.runtime, console.visitor()
        accepted = await runtime.start("write <b>a</b>")
        await runtime.until(accepted.run_id, ModelDelta)
        first = await browser.get(f"/sessions/{accepted.session_id}")
        shown = transcript(first.text)
        async with browser.stream(live_of(first.text)) as stream:
            going.set()
            asked = await runtime.until(accepted.run_id, ApprovalRequested)
            await caught_up(shown, stream, browser, accepted.session_id)
            assert (
                f"/approvals/{asked.approval_id}/decide" in (await browser.get(f"/sessions/{accepted.session_id}")).text
            )
            await browser.post(f"/approvals/{asked.approval_id}/decide", {"answer": "once"})
            await runtime.ended(accepted.run_id)
            await caught_up(shown, stream, browser, accepted.session_id)
            again = await runtime.start("and more", FakeProvider(says("More.")), session=in_session(accepted))
            await runtime.ended(again.run_id)
            await caught_up(shown, stream, browser, accepted.session_id)


async def test_a_browser_that_comes_back_at_any_place_misses_nothing(tmp_path: Path) -> None:
    provider = FakeProvider(
        says("Look.", ToolCall("c1", "files.list", {"path": "."})), ["a", "b", "c", ModelReply("abc")]
    )
    async with open_console(tmp_path, provider) as console:
        runtime, browser = console.runtime, console.visitor()
        accepted = await runtime.start()
        tape = await runtime.ended(accepted.run_id)
        wanted = transcript((await browser.get(f"/sessions/{accepted.session_id}")).text)
        for seq in range(1, len(tape.rows)):
            told = RunStory(accepted.run_id).add_all(tape.rows[:seq])
            shown = parse(f'<div id="transcript">{site_page(console, browser, accepted.session_id, told)}</div>')
            live = f"/sessions/{accepted.session_id}/live?after={accepted.run_id}:{seq}"
            async with browser.stream(live) as stream:
                at = shown.find("transcript")
                assert at is not None
                at.attributes = wanted.attributes
                await caught_up(at, stream, browser, accepted.session_id)


def site_page(console: Console, browser: Browser, session_id: str, told: RunStory) -> str:
    (session,) = console.site.sessions._sessions.by_key.values()
    visit = Visit(session, f"/sessions/{session_id}", {}, {}, "", fragment=False)
    return str(console.site.part("transcript.html", "run", visit, told)).strip()


async def test_a_message_that_waits_in_line_is_shown_and_then_answered(tmp_path: Path) -> None:
    going = trio.Event()
    async with open_console(tmp_path) as console:
        runtime, browser = console.runtime, console.visitor()
        one = await runtime.start("first", FakeProvider([going.wait, ModelReply("one")]))
        shown = transcript((first := await browser.get(f"/sessions/{one.session_id}")).text)
        async with browser.stream(live_of(first.text)) as stream:
            two = await runtime.start(
                "second", FakeProvider(says("two")), session=in_session(one), when_busy=WhenBusy.FOLLOWUP
            )
            await caught_up(shown, stream, browser, one.session_id)
            assert shown.find(f"asked-{two.run_id}") is not None
            going.set()
            await runtime.ended(two.run_id)
            await caught_up(shown, stream, browser, one.session_id)


async def test_a_place_that_is_not_there_is_a_problem_that_a_reload_solves(tmp_path: Path) -> None:
    async with open_console(tmp_path) as console:
        accepted, browser = await console.runtime.start(), console.visitor()
        await console.runtime.ended(accepted.run_id)
        for place in (f"{accepted.run_id}:9999", "01NONE:1"):
            async with browser.stream(f"/sessions/{accepted.session_id}/live?after={place}") as stream:
                name, told, _ = await stream.event()
                assert name == "problem"
                assert told
        assert (await browser.get(f"/sessions/{accepted.session_id}/live?after=nonsense")).status == 400


async def test_a_view_is_settled_while_nothing_is_at_work(tmp_path: Path) -> None:
    going = trio.Event()
    async with open_console(tmp_path, FakeProvider([going.wait, ModelReply("one")])) as console:
        accepted, browser = await console.runtime.start(), console.visitor()
        async with browser.stream(f"/sessions/{accepted.session_id}/live?after=") as stream:
            while "running" not in (await stream.event())[1]:
                pass
            console.site.streams.drain()
            going.set()
            names = [name async for name in _names(stream)]
    assert names[-1] == "bye"
    assert set(names[:-1]) <= {"update"}


async def _names(stream: Stream) -> Any:
    while name := (await stream.event())[0]:
        yield name


async def test_an_interrupted_run_that_is_cancelled_later_is_shown_so(tmp_path: Path) -> None:
    async with open_console(tmp_path, FakeProvider(["I ", trio.sleep_forever]), left=[RunState.WAITING]) as console:
        accepted = await console.runtime.start()
        await console.runtime.until(accepted.run_id, ModelDelta)
    async with open_console(tmp_path, boot_id="boot-2") as console:
        browser = console.visitor()
        first = await browser.get(f"/sessions/{accepted.session_id}")
        assert "interrupted" in first
        shown = transcript(first.text)
        async with browser.stream(live_of(first.text)) as stream:
            await console.runtime.do(CancelRun(accepted.run_id))
            await caught_up(shown, stream, browser, accepted.session_id)
        assert "cancelled" in shown.html()


async def test_a_new_title_reaches_the_page_that_is_open_and_who_comes_back(tmp_path: Path) -> None:
    async with open_console(tmp_path) as console:
        accepted, browser = await console.runtime.start("Paint the fence"), console.visitor()
        await console.runtime.ended(accepted.run_id)
        path = f"/sessions/{accepted.session_id}"
        first = live_of((await browser.get(path)).text)
        async with browser.stream(first) as stream:
            await browser.post(f"{path}/rename", {"title": "<b>The gate</b>"})
            update = await stream.event()
        async with browser.stream(first) as stream:
            assert await stream.event() == update
        name, html, place = update
        assert name == "update"
        (heading,) = parse(html).nodes()
        shown = parse((await browser.get(path)).text).find("session-title")
        assert shown is not None
        assert heading.html() == shown.html()
        assert "<b>" not in html
        assert live_of((await browser.get(path)).text).endswith(place)
        async with browser.stream(f"{path}/live?after={place}") as stream:
            await trio.testing.wait_all_tasks_blocked()
            await browser.post(f"{path}/rename", {"title": "The garden"})
            assert "The garden" in (await stream.event())[1]
