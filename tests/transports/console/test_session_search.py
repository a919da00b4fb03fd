"""Searching a session: what was said is found with who said it, told safely, and leads to its place in the conversation."""

import re
from html import unescape
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import trio

from palyra_trio.core.commands import Accepted
from palyra_trio.core.identity import Scope
from palyra_trio.core.messages import ToolCall
from palyra_trio.journal import search
from palyra_trio.journal.search import HITS, QUERY_CHARACTERS
from tests.fakes import OTHER, FakeArguments, FakeProvider, Step, fake_tool, in_session, says
from tests.transports.console.browsing import Browser, Console, Page, open_console
from tests.transports.console.dom import parse

EVIL = "<img src=x onerror=alert(1)> \u202e fence"


async def asked(console: Console, text: str, *turns: list[Step], **fields: Any) -> Accepted:
    accepted = await console.runtime.start(text, FakeProvider(*(turns or (says("Fine."),))), **fields)
    await console.runtime.ended(accepted.run_id)
    return accepted


def links(page: Page, word: str) -> list[str]:
    """Return where the links lead that begin with `word`."""
    return [unescape(href) for href in re.findall(f'<a [^>]*href="([^"]*)">{word}', page.text)]


async def landed(browser: Browser, link: str) -> Page:
    """Follow a link, and return the page that has what it leads to."""
    page = await browser.get(link.partition("#")[0])
    assert parse(page.text).find(urlsplit(link).fragment) is not None
    return page


async def test_what_was_said_is_found_and_leads_to_its_place(tmp_path: Path) -> None:
    async def look(_arguments: FakeArguments) -> str:
        await trio.lowlevel.checkpoint()
        return "a rotten fence"

    async with open_console(tmp_path, tools=[fake_tool("look", look)]) as console:
        call = says("Let me see the fence.", ToolCall("c/1", "look", {"value": "fence"}))
        first = await asked(console, "Paint the FENCE", call, says("Done."))
        later = await asked(console, "and the gate", session=in_session(first))
        browser, here = console.visitor(), f"/sessions/{first.session_id}/search"
        assert f'action="{here}"' in (await browser.get(f"/sessions/{first.session_id}")).text
        page = await browser.get(f"{here}?q=fence")
        assert "<mark>FENCE</mark>" in page.text
        for word in ("You", "The answer", "Call of look", "Result of look"):
            (link,) = links(page, word)
            shown = await landed(browser, link)
            assert f'id="run-{first.run_id}"' in shown.text
            assert f'id="run-{later.run_id}"' not in shown.text
            assert "To the end of this session" in shown
            assert "data-live" not in shown.text
        in_full = f"/runs/{first.run_id}/calls/c%2F1"
        assert links(page, "Arguments and result") == [in_full, in_full]
        assert "a rotten fence" in await browser.get(in_full)
        (link,) = links(await browser.get(f"{here}?q=gate"), "You")
        assert "data-live" in (await landed(browser, link)).text  # the newest run is where the session goes on


async def test_what_was_said_is_shown_and_never_run(tmp_path: Path) -> None:
    async with open_console(tmp_path) as console:
        session_id = (await asked(console, EVIL, says(EVIL))).session_id
        browser = console.visitor()
        page = await browser.get(f"/sessions/{session_id}/search?q=fence%20onerror")
        assert "<img src=x onerror =alert(1)> \\u202e fence" in page
        for shown in (page, await browser.get(f"/sessions/{session_id}/search?q=%3Cimg%3E%22'%E2%80%AE")):
            assert "<img" not in shown.text
            assert "\u202e" not in shown.text


async def test_results_are_paged_and_each_is_on_one_page(tmp_path: Path) -> None:
    async with open_console(tmp_path) as console:
        first = await asked(console, "task-000")
        for number in range(1, HITS + 3):
            await asked(console, f"task-{number:03}", session=in_session(first))
        browser, here = console.visitor(), f"/sessions/{first.session_id}/search"
        newest = await browser.get(f"{here}?q=TASK")
        (older,) = links(newest, "Older results")
        rest = await browser.get(here + older)
        for number in range(HITS + 3):
            assert (f"task -{number:03}" in newest) is (number >= 3)
            assert (f"task -{number:03}" in rest) is (number < 3)
        assert links(rest, "Older results") == []


async def test_where_nothing_is_found_or_looked_for_the_page_says_so(tmp_path: Path) -> None:
    async with open_console(tmp_path) as console:
        session_id = (await asked(console, "Paint the fence")).session_id
        browser, here = console.visitor(), f"/sessions/{session_id}/search"
        assert "Nobody said “zebra” here" in await browser.get(f"{here}?q=zebra")
        for nothing in ("", "?q=", "?q=%20"):
            assert "Finds what you said" in await browser.get(here + nothing)
        assert (await browser.get(f"{here}?q={'x' * (QUERY_CHARACTERS + 1)}")).status == 400
        assert (await browser.get(f"{here}?q=x&before=y")).status == 400


async def test_a_long_session_is_looked_through_in_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search, "SCAN_ROWS", 2)
    async with open_console(tmp_path) as console:
        first = await asked(console, "Paint the fence")
        await asked(console, "and the gate", session=in_session(first))
        browser, here = console.visitor(), f"/sessions/{first.session_id}/search"
        for words, end in (("fence", "<mark>fence</mark>"), ("zebra", "There is nothing older.")):
            page, looked = await browser.get(f"{here}?q={words}"), 1
            while further := links(page, "Look further back"):
                assert "Nothing yet" in page
                page, looked = await browser.get(here + further[0]), looked + 1
            assert end in page.text
            assert looked > 2


async def test_only_ones_own_sessions_are_searched_and_shown_as_far_as_a_run_of_theirs(tmp_path: Path) -> None:
    async with open_console(tmp_path) as console:
        mine, another = await asked(console, "Paint the fence"), await asked(console, "Paint the gate")
        assert (await console.visitor(OTHER).get(f"/sessions/{mine.session_id}/search?q=fence")).status == 404
        assert (await console.stranger().get(f"/sessions/{mine.session_id}/search?q=fence")).status in (303, 401)
        reader = console.visitor(scopes=frozenset({Scope.READ}))
        assert "<mark>fence</mark>" in (await reader.get(f"/sessions/{mine.session_id}/search?q=fence")).text
        for run_id in (another.run_id, "01NONE"):
            assert (await reader.get(f"/sessions/{mine.session_id}?to={run_id}")).status == 404
