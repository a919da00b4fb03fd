"""Approvals: answered in every way there is, listed when they were, and what stands allowed is taken back."""

from pathlib import Path

import pytest
import trio

from palyra_trio.core.commands import CancelRun
from palyra_trio.core.identity import RunId, Scope
from palyra_trio.core.messages import ToolCall
from palyra_trio.core.run import RunState
from palyra_trio.core.tape import ApprovalDecided, ApprovalRequested
from palyra_trio.transports.console import approvals
from tests.fakes import ME, OTHER, FakeProvider, says
from tests.transports.console.browsing import Browser, Console, open_console
from tests.transports.console.dom import Node, apply, parse

LEFT = [RunState.CANCELLED]


def writes(path: str = "a.txt") -> FakeProvider:
    return FakeProvider(says("", ToolCall("c1", "files.write", {"path": path, "text": "x\n"})), says("ok"))


async def asked(console: Console, provider: FakeProvider) -> tuple[RunId, ApprovalRequested]:
    accepted = await console.runtime.start("a task", provider, detached=True)
    return accepted.run_id, await console.runtime.until(accepted.run_id, ApprovalRequested)


async def cancelled(console: Console, *run_ids: RunId) -> None:
    for run_id in run_ids:
        await console.runtime.gateway.submit(CancelRun(run_id), ME)
        await console.runtime.ended(run_id)


def panels(text: str) -> str:
    root = parse(text)
    return "".join((root.find(name) or Node("", {})).html() for name in approvals.PANELS)


async def test_with_nothing_every_part_says_so(tmp_path: Path) -> None:
    async with open_console(tmp_path) as console:
        browser = console.visitor()
        page = await browser.get("/approvals")
        for words in ("Nothing waits.", "Nothing was answered yet.", "What you allow for longer"):
            assert words in page
        assert "Nothing was asked yet." in await browser.get("/approvals/history")
        assert "Nothing was allowed yet." in await browser.get("/approvals/grants")


@pytest.mark.parametrize(
    ("answer", "scope", "stands"),
    [
        ({"answer": "once"}, "once", False),
        ({"answer": "session"}, "session", True),
        ({"answer": "time", "span": "1h"}, "time", True),
    ],
)
async def test_a_call_is_allowed_for_as_long_as_was_said(
    tmp_path: Path, answer: dict[str, str], scope: str, stands: bool
) -> None:
    async with open_console(tmp_path) as console:
        browser = console.visitor()
        run_id, request = await asked(console, writes())
        assert "Allow once" in await browser.get("/approvals")
        await browser.post(f"/approvals/{request.approval_id}/decide", answer)
        await console.runtime.ended(run_id)
        assert (await console.runtime.until(run_id, ApprovalDecided)).scope == scope
        page = await browser.get("/approvals")
        assert ("Stands allowed 1" in page) is stands
        assert "granted" in page


async def test_a_refusal_is_told_with_its_reason(tmp_path: Path) -> None:
    async with open_console(tmp_path) as console:
        browser = console.visitor()
        run_id, request = await asked(console, writes())
        await browser.post(f"/approvals/{request.approval_id}/decide", {"answer": "deny", "reason": "not there"})
        await console.runtime.ended(run_id)
        for path in ("/approvals", "/approvals/history"):
            page = await browser.get(path)
            assert "denied" in page
            assert "not there" in page
            assert "by user:me" in page


@pytest.mark.parametrize(
    ("form", "told"), [({"choice": "2"}, "blue"), ({"answer": "once", "reason": "green"}, "green")]
)
async def test_a_question_is_answered_with_a_choice_or_with_words(
    tmp_path: Path, form: dict[str, str], told: str
) -> None:
    question = ToolCall("c1", "ask_user", {"question": "Which <b>colour</b>?", "choices": ["red", "blue"]})
    provider = FakeProvider(says("", question), says("ok"))
    async with open_console(tmp_path) as console:
        browser = console.visitor()
        run_id, request = await asked(console, provider)
        page = await browser.get("/approvals")
        assert '<button name="choice" value="2">blue</button>' in page.text
        assert "<b>colour" not in page.text
        await browser.post(f"/approvals/{request.approval_id}/decide", form)
        tape = await console.runtime.ended(run_id)
        assert f'"text":"{told}"' in "".join((row.body or b"").decode() for row in tape.rows)


async def test_what_stands_allowed_is_taken_back(tmp_path: Path) -> None:
    async with open_console(tmp_path) as console:
        browser = console.visitor()
        run_id, request = await asked(console, writes())
        await browser.post(f"/approvals/{request.approval_id}/decide", {"answer": "session"})
        await console.runtime.ended(run_id)
        revoke = f"/grants/{request.approval_id}/revoke"
        assert revoke in (await browser.get("/approvals")).text
        looks = console.visitor(scopes=frozenset({Scope.READ}))
        assert revoke not in (await looks.get("/approvals")).text
        assert (await looks.post(revoke)).status == 403
        assert (await browser.post(revoke, {"next": "/approvals"})).status == 303
        assert "What you allow for longer" in await browser.get("/approvals")
        page = await browser.get("/approvals/grants")
        assert "revoked by user:me" in page
        assert '<span class="tag">revoked</span>' in page.text


async def test_a_grant_for_a_time_that_was_taken_back_does_not_say_when_it_would_have_ended(tmp_path: Path) -> None:
    async with open_console(tmp_path) as console:
        browser = console.visitor()
        run_id, request = await asked(console, writes())
        await browser.post(f"/approvals/{request.approval_id}/decide", {"answer": "time", "span": "1h"})
        await console.runtime.ended(run_id)
        assert "until" in await browser.get("/approvals/grants")
        await browser.post(f"/grants/{request.approval_id}/revoke")
        page = await browser.get("/approvals/grants")
        assert "for a time in" in page
        assert "until" not in page
        assert "revoked by user:me" in page


async def test_the_live_page_becomes_what_a_reload_shows(tmp_path: Path) -> None:
    async with open_console(tmp_path) as console:
        browser = console.visitor()
        shown = parse((await browser.get("/approvals")).text)
        async with browser.stream("/approvals/live?after=0") as stream:

            async def catch_up(browser: Browser) -> None:
                with trio.fail_after(5):
                    while "".join((shown.find(n) or Node("", {})).html() for n in approvals.PANELS) != panels(
                        (await browser.get("/approvals")).text
                    ):
                        name, html, _ = await stream.event()
                        assert name == "update"
                        apply(shown, html)

            run_id, request = await asked(console, writes())
            await catch_up(browser)
            await browser.post(f"/approvals/{request.approval_id}/decide", {"answer": "session"})
            await console.runtime.ended(run_id)
            await catch_up(browser)
            await browser.post(f"/grants/{request.approval_id}/revoke")
            await catch_up(browser)
            assert "granted" in shown.html()


async def test_long_lists_are_paged_and_the_first_page_is_bounded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(approvals, "LISTED", 2)
    monkeypatch.setattr(approvals, "QUESTIONS", 2)
    async with open_console(tmp_path, left=LEFT) as console:
        browser = console.visitor()
        run_ids = [(await asked(console, writes(f"f{number}.txt")))[0] for number in range(3)]
        page = await browser.get("/approvals")
        assert "Waiting for you 3" in page
        assert "1 more come up as you answer these." in page
        first = await browser.get("/approvals/history")
        older = next(
            each.attributes["href"]
            for each in parse(first.text).nodes()
            if "before=" in each.attributes.get("href", "")
        )
        assert (await browser.get(older)).text.count('class="what"') == 1
        await cancelled(console, *run_ids)


async def test_what_others_were_asked_is_not_there(tmp_path: Path) -> None:
    async with open_console(tmp_path, left=LEFT) as console:
        other = console.visitor(OTHER)
        run_id, request = await asked(console, writes())
        for path in ("/approvals", "/approvals/history", "/approvals/grants"):
            assert "files.write" not in await other.get(path)
        assert (await other.post(f"/approvals/{request.approval_id}/decide", {"answer": "once"})).status == 404
        assert (await other.post(f"/grants/{request.approval_id}/revoke")).status == 404
        await cancelled(console, run_id)
