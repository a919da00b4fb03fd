"""A run's page as it goes on: at whatever row a browser comes back, what it is sent makes of its page what a reload shows."""

from pathlib import Path

import pytest
import trio

from palyra_trio.core.codec import TapeRow, encode
from palyra_trio.core.commands import CancelRun, UndoRun
from palyra_trio.core.messages import ModelReply, ToolCall
from palyra_trio.core.run import RunState
from palyra_trio.core.tape import ApprovalRequested, ModelDelta
from palyra_trio.journal.queries import Reader
from palyra_trio.runtime.live_tree import CallProcesses, LiveTree
from palyra_trio.tools.processes import Process
from palyra_trio.transports.console import run_view, timeline
from palyra_trio.transports.console.run_view import DEEPEST, Beside, RunPage, look_beside, read_page
from palyra_trio.transports.console.runs import KINDS
from palyra_trio.transports.console.site import Visit
from palyra_trio.transports.console.timeline import Filter, Timeline
from tests.core.tapes import (
    ASSEMBLED,
    ROUTED,
    STARTED,
    asked_for,
    begun,
    gated,
    proposed,
    request,
    result,
    said,
)
from tests.fakes import ME, FakeProvider, says
from tests.transports.console.browsing import Browser, Console, Stream, open_console
from tests.transports.console.dom import Node, apply, parse

LOOK = ToolCall("c1", "files.list", {"path": "."})
WRITE = ToolCall("c2", "files.write", {"path": "a.txt", "text": "x\n"})


def main(text: str) -> Node:
    found = next(each for each in parse(text).nodes() if each.attributes.get("class") == "run-page")
    del found.attributes["data-place"]
    return found


async def caught_up(shown: Node, stream: Stream, browser: Browser, path: str) -> None:
    """Apply updates until the page is what a reload shows."""
    with trio.fail_after(5):
        while shown.html() != main((await browser.get(path)).text).html():
            name, html, _ = await stream.event()
            assert name == "update", html
            apply(shown, html)


def live_of(text: str) -> str:
    page = next(each for each in parse(text).nodes() if each.attributes.get("class") == "run-page")
    live = page.attributes["data-live"]
    return f"{live}{'&' if '?' in live else '?'}after={page.attributes['data-place']}"


async def page_at(console: Console, run_id: str, seq: int, shows: Filter) -> str:
    """Return the page of a run as it was when its newest row was `seq`."""
    run = await console.runtime.gateway.run(run_id, ME)
    page = await console.runtime.gateway.ask(lambda reader: read_page(reader, run, Timeline(shows), seq))
    (session,) = console.site.sessions._sessions.by_key.values()
    visit = Visit(session, f"/runs/{run_id}", {}, {}, "", fragment=False)
    panels = page.panels(console.site, visit, await look_beside(console.site, visit, run))
    live = f"?kind={shows.kind}" if shows.kind else ""
    return console.site.render("run.html", visit, page=page, panels=panels, live=live, kinds=KINDS)


@pytest.mark.parametrize("kind", ["", "everything", "ToolFinished"])
async def test_a_browser_that_comes_back_at_any_row_misses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.setattr(timeline, "PAGE_ROWS", 4)
    provider = FakeProvider(says("Look.", LOOK), ["a", "b", "c", ModelReply("abc")])
    async with open_console(tmp_path, provider) as console:
        runtime, browser = console.runtime, console.visitor()
        accepted = await runtime.start()
        tape = await runtime.ended(accepted.run_id)
        path = f"/runs/{accepted.run_id}{f'?kind={kind}' if kind else ''}"
        for seq in range(1, len(tape.rows) + 1):
            then = await page_at(console, accepted.run_id, seq, Filter(kind))
            async with browser.stream(live_of(then)) as stream:
                await caught_up(main(then), stream, browser, path)


async def test_a_live_page_becomes_what_a_reload_shows(tmp_path: Path) -> None:
    going = trio.Event()
    provider = FakeProvider(["I ", going.wait, "write.", ModelReply("I write.", (WRITE,), "tool_calls")], says("Done."))
    async with open_console(tmp_path, provider) as console:
        runtime, browser = console.runtime, console.visitor()
        accepted = await runtime.start("write <b>a</b>")
        path = f"/runs/{accepted.run_id}"
        await runtime.until(accepted.run_id, ModelDelta)
        first = await browser.get(path)
        assert "the answer of fake/model" in first
        shown = main(first.text)
        async with browser.stream(live_of(first.text)) as stream:
            going.set()
            asked = await runtime.until(accepted.run_id, ApprovalRequested)
            await caught_up(shown, stream, browser, path)
            assert f"/approvals/{asked.approval_id}/decide" in (await browser.get(path)).text
            await browser.post(f"/approvals/{asked.approval_id}/decide", {"answer": "once"})
            await runtime.ended(accepted.run_id)
            await caught_up(shown, stream, browser, path)
            await runtime.gateway.submit(UndoRun(accepted.run_id), ME)
            await caught_up(shown, stream, browser, path)
            assert "Undone by user:me." in await browser.get(path)


async def test_on_an_earlier_page_new_rows_only_change_what_stands_around_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(timeline, "PAGE_ROWS", 4)
    async with open_console(tmp_path, FakeProvider(says("", WRITE)), left=[RunState.CANCELLED]) as console:
        runtime, browser = console.runtime, console.visitor()
        accepted = await runtime.start()
        await runtime.until(accepted.run_id, ApprovalRequested)
        path = f"/runs/{accepted.run_id}?page=1"
        first = await browser.get(path)
        async with browser.stream(live_of(first.text)) as stream:
            await runtime.gateway.submit(CancelRun(accepted.run_id), ME)
            await runtime.ended(accepted.run_id)
            shown = main(first.text)
            await caught_up(shown, stream, browser, path)
            tape = shown.find("tape")
            assert tape is not None
            assert [each.attributes["id"] for each in tape.children if isinstance(each, Node)] == [
                f"seq-{n}" for n in range(1, 5)
            ]


async def test_processes_are_looked_at_again_while_there_are_any(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_view, "LOOK_S", 0.0)
    monkeypatch.setattr(run_view, "EACH_S", 0.0)
    async with open_console(tmp_path, FakeProvider(says("", WRITE)), left=[RunState.CANCELLED]) as console:
        runtime, browser = console.runtime, console.visitor()
        accepted = await runtime.start(detached=True)
        await runtime.until(accepted.run_id, ApprovalRequested)
        run = await runtime.gateway.run(accepted.run_id, ME)
        looks = 0

        async def tree(*_args: object) -> LiveTree:
            nonlocal looks
            looks += 1
            await trio.lowlevel.checkpoint()
            process = Process(7, 1, ("sleep", f"<{looks}>"), "S", 1_000_000, 10, 5)
            return LiveTree(
                run, 1, (CallProcesses("c", "process.run", "started", (process,)),) if looks < 4 else (), ()
            )

        monkeypatch.setattr(runtime.gateway, "tree", tree)
        async with browser.stream(f"/runs/{accepted.run_id}/live?after=8") as stream:
            for words in ("&lt;1&gt;", "&lt;2&gt;", "&lt;3&gt;", "No process of it is alive."):
                name, html, _ = await stream.event()
                assert name == "update"
                assert words in html
        await runtime.gateway.submit(CancelRun(accepted.run_id), ME)
        await runtime.ended(accepted.run_id)


async def test_a_row_that_is_not_there_yet_is_refused(tmp_path: Path) -> None:
    async with open_console(tmp_path) as console:
        accepted = await console.runtime.start()
        await console.runtime.ended(accepted.run_id)
        page = await console.visitor().get(f"/runs/{accepted.run_id}/live?after=999")
        assert page.status == 416


def test_processes_stand_beneath_their_parents_but_not_too_deep() -> None:
    chain = [Process(n, n - 1, (), "S", 0, 0, 0) for n in range(1, 12)]
    nested = list(Beside.nested(None, chain))  # type: ignore[arg-type]
    assert [each.pid for _, each in nested] == list(range(1, 12))
    assert [depth for depth, _ in nested] == [min(n, DEEPEST) for n in range(11)]


async def test_ten_thousand_events_are_a_page_of_bounded_size(tmp_path: Path) -> None:
    events = [asked_for(), STARTED, ROUTED, ASSEMBLED]
    while len(events) < 10_000:
        turn = len(events)
        calls = [f"c{turn}-{n}" for n in range(4)]
        events += [request(turn), said("word " * 20, turn, 4)]
        for step in (proposed, gated, begun):
            events += [step(each) for each in calls]
        events += [result(each, "line\n" * 20) for each in calls]
    rows = tuple(TapeRow(n, "run:R", n, each.kind, n, encode(each), b"") for n, each in enumerate(events, 1))

    class Tape(Reader):
        def __init__(self) -> None: ...
        def last_seq(self, stream: str) -> int:
            return len(rows)

        def tape(self, stream: str, *, deltas: bool = True) -> "object":  # type: ignore[override]
            return iter(rows)

    async with open_console(tmp_path) as console:
        run = await console.runtime.gateway.run((await console.runtime.start()).run_id, ME)
        await console.runtime.ended(run.run_id)
        console.visitor()
        (session,) = console.site.sessions._sessions.by_key.values()
        visit = Visit(session, "/runs/R", {}, {}, "", fragment=False)
        page: RunPage = read_page(Tape(), run, Timeline(Filter()))
        panels = page.panels(console.site, visit, Beside(None, LiveTree(run, 0, (), ())))
        text = console.site.render("run.html", visit, page=page, panels=panels, live="", kinds=KINDS)
    assert len(text.encode()) <= 300_000
    assert text.count('id="seq-') <= timeline.PAGE_ROWS
