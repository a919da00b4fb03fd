"""The overview shows what waits, what is at work and what ended; it is live, and stops all."""

import re
from itertools import pairwise
from pathlib import Path

import trio

from palyra_trio.core.commands import PauseAdmission, ResumeAdmission
from palyra_trio.core.identity import Scope
from palyra_trio.core.messages import ModelReply, ToolCall, Usage
from palyra_trio.core.run import RunState
from palyra_trio.core.tape import ApprovalRequested, ModelDelta
from palyra_trio.transports.console.overview import QUESTIONS, RUNS
from palyra_trio.transports.console.watching import EACH_S
from tests.fakes import ME, FakeProvider
from tests.transports.console.browsing import Console, open_console
from tests.transports.console.dom import Node, apply, parse

XSS = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>"


def write(path: str = "a.txt") -> list[ModelReply]:
    return [ModelReply("", (ToolCall("c1", "files.write", {"path": path, "text": "x\n"}),), "tool_calls")]


def panels(root: Node) -> str:
    return "".join((root.find(name) or Node("", {})).html() for name in ("waiting", "running", "recent", "facts"))


async def stop_all(console: Console) -> None:
    """Press the button, and wait until every run has ended."""
    assert (await console.visitor().post("/runs/stop-all")).status == 303
    for run in await console.runtime.gateway.ask(lambda reader: reader.runs(ME.principal)):
        await console.runtime.ended(run.run_id)


async def test_with_nothing_every_panel_says_so(tmp_path: Path) -> None:
    async with open_console(tmp_path) as console:
        page = await console.visitor().get("/")
    assert page.status == 200
    for words in (
        "Nothing. When an agent needs your word",
        "Nothing runs or waits.",
        "Nothing has run yet.",
        "no sandbox",
    ):
        assert words in page
    assert "Stop all" not in page


async def test_what_waits_what_is_at_work_and_what_it_cost_are_there(tmp_path: Path) -> None:
    async with open_console(tmp_path) as console:
        runtime, browser = console.runtime, console.visitor()
        done = await runtime.start("do this", FakeProvider([ModelReply("ok", (), "stop", Usage(1200, 1000, 34))]))
        await runtime.ended(done.run_id)
        asked = await runtime.start("write that", FakeProvider(write()))
        request = await runtime.until(asked.run_id, ApprovalRequested)
        going = await runtime.start("think", FakeProvider(["hm", trio.sleep_forever]))
        await runtime.until(going.run_id, ModelDelta)
        page = await browser.get("/")
        for words in ("do this", "write that", "think", "a.txt (new)", "Stop all", "1 200", "1 000 cached"):
            assert words in page
        assert f"/approvals/{request.approval_id}/decide" in page.text
        await stop_all(console)
        assert "Nothing runs or waits." in await browser.get("/")


async def test_prompts_paths_and_titles_are_inert(tmp_path: Path) -> None:
    async with open_console(tmp_path) as console:
        runtime, browser = console.runtime, console.visitor()
        accepted = await runtime.start(XSS, FakeProvider(write(f"{XSS.replace('/', '')}.txt")))
        await runtime.until(accepted.run_id, ApprovalRequested)
        for path in ("/", "/sessions", f"/sessions?q={XSS}", f"/sessions/{accepted.session_id}"):
            page = await browser.get(path)
            assert "<script>alert" not in page.text
            assert "<img" not in page.text
            assert "alert(1)" in page
        await stop_all(console)


async def test_many_questions_come_up_as_others_are_answered(tmp_path: Path) -> None:
    async with open_console(tmp_path) as console:
        runtime, browser = console.runtime, console.visitor()
        for number in range(QUESTIONS + 2):
            accepted = await runtime.start(f"run {number}", FakeProvider(write(f"file-{number:02}")))
            await runtime.until(accepted.run_id, ApprovalRequested)
        for path in ("/", "/approvals"):
            page = await browser.get(path)
            asked = re.findall(r'class="gist">file-(\d+)', page.text)
            assert [int(number) for number in asked] == list(range(QUESTIONS + 2))[: len(asked)]
        page = await browser.get("/")
        assert page.text.count('class="ask"') == QUESTIONS
        assert "2 more come up as you answer these." in page
        await stop_all(console)


async def test_what_runs_comes_before_what_waits_and_says_what_it_does(tmp_path: Path) -> None:
    async with open_console(tmp_path) as console:
        runtime, browser = console.runtime, console.visitor()
        going = await runtime.start("think", FakeProvider(["hm", trio.sleep_forever]))
        await runtime.until(going.run_id, ModelDelta)
        for number in range(RUNS + 1):
            accepted = await runtime.start(f"run {number}", FakeProvider(write()))
            await runtime.until(accepted.run_id, ApprovalRequested)
        page = await browser.get("/")
        running = (parse(page.text).find("running-list") or Node("", {})).children
        lines = [each for each in running if isinstance(each, Node)]
        assert lines[0].attributes["id"] == f"r-{going.run_id}"
        assert "asks the model" in lines[0].html()
        assert len(lines) == RUNS + 1
        assert "2 more" in lines[-1].html()
        assert f"Stop {RUNS + 2} runs" in page
        assert f"Active {RUNS + 2}" in page
        assert f"1 running, {RUNS + 1} waiting" in page
        assert "Running 1 " in await browser.get("/diagnostics")
        await stop_all(console)


async def test_the_live_overview_becomes_what_a_reload_shows(tmp_path: Path) -> None:
    async with open_console(tmp_path) as console:
        runtime, browser = console.runtime, console.visitor()
        shown = parse((await browser.get("/")).text)
        async with browser.stream("/overview/live?after=0") as stream:

            async def catch_up() -> None:
                with trio.fail_after(5):
                    while panels(shown) != panels(parse((await browser.get("/")).text)):
                        name, html, _ = await stream.event()
                        assert name == "update"
                        apply(shown, html)

            await catch_up()
            accepted = await runtime.start("write", FakeProvider(write()))
            await runtime.until(accepted.run_id, ApprovalRequested)
            await catch_up()
            await stop_all(console)
            await catch_up()
            assert "cancelled" in panels(shown)


async def test_a_panel_that_looks_the_same_is_not_sent(tmp_path: Path) -> None:
    async with open_console(tmp_path) as console:
        async with console.visitor().stream("/overview/live?after=") as stream:
            assert 'id="facts"' in (await stream.event())[1]
            await console.runtime.ended((await console.runtime.start()).run_id)
            _, html, _ = await stream.event()
            assert 'id="waiting"' not in html
            assert 'id="recent"' in html or 'id="running"' in html


async def test_the_overview_is_not_sent_more_often_than_a_person_can_follow(tmp_path: Path) -> None:
    async with open_console(tmp_path) as console:
        async with console.visitor().stream("/overview/live?after=") as stream:
            sent_at = []
            for number in range(3):
                await console.runtime.ended((await console.runtime.start(f"run-{number}")).run_id)
                html = ""
                while f"run-{number}" not in html or "done" not in html.partition(f"run-{number}")[2]:
                    _, html, _ = await stream.event()
                    sent_at.append(trio.current_time())
    assert all(after - before > EACH_S / 2 for before, after in pairwise(sent_at))  # as it arrives, give or take


async def test_who_may_only_look_gets_no_buttons(tmp_path: Path) -> None:
    async with open_console(tmp_path) as console:
        runtime = console.runtime
        accepted = await runtime.start("write", FakeProvider(write()))
        await runtime.until(accepted.run_id, ApprovalRequested)
        page = await console.visitor(scopes=frozenset({Scope.READ})).get("/")
        assert "You may look, but not decide." in page
        assert "Stop all" not in page
        assert "Allow once" not in page
        await stop_all(console)


async def test_a_pause_is_told_at_once_and_after_a_reload_until_it_ends(tmp_path: Path) -> None:
    async with open_console(tmp_path) as console:
        browser = console.visitor()

        def state(html: str) -> str:
            return html.partition("<dt>State</dt>")[2].partition("</dd>")[0]

        async with browser.stream("/overview/live?after=0") as stream:
            assert "ready" in state((await stream.event())[1])
            for command, word in ((PauseAdmission("upgrade"), "paused"), (ResumeAdmission(), "ready")):
                await console.runtime.do(command)
                with trio.fail_after(5):
                    assert word in state((await stream.event())[1])
                assert word in state((await browser.get("/")).text)


async def test_a_run_that_nobody_goes_on_with_is_not_counted_as_waiting(tmp_path: Path) -> None:
    async with open_console(tmp_path, FakeProvider(["hm", trio.sleep_forever]), left=[RunState.WAITING]) as console:
        await console.runtime.until((await console.runtime.start()).run_id, ModelDelta)
    async with open_console(tmp_path, boot_id="boot-2", left=[RunState.WAITING]) as console:
        page = await console.visitor().get("/")
        assert "1 interrupted" in page
        assert "1 waiting" not in page
