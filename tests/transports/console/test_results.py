"""All of an output, and what was done to files: on demand, whole, and inert."""

from pathlib import Path

import trio

from palyra_trio.core.messages import ToolCall
from palyra_trio.tools.registry import ToolResult
from palyra_trio.transports.console.results import SHOWN_BYTES
from palyra_trio.transports.console.transcript import SHOWN_CHARACTERS
from tests.fakes import OTHER, FakeArguments, FakeProvider, allowing, fake_tool, says
from tests.transports.console.browsing import open_console

LONG = "<b>long</b> line\n" * (SHOWN_BYTES // 16 + 10)


async def lengthy(_arguments: FakeArguments) -> str | ToolResult:
    await trio.lowlevel.checkpoint()
    return LONG


def asked_for(text: str) -> str:
    """Return the path of what the first element that does asks for."""
    return text.partition('hx-get="')[2].partition('"')[0]


async def test_a_call_that_has_ended_is_a_page_of_its_own_and_a_piece_of_its_sessions(tmp_path: Path) -> None:
    call = ToolCall("c/1 ?", "lengthy", {"value": "<img src=x>"})
    provider = FakeProvider(says("", call), says("done"))
    async with open_console(tmp_path, provider, tools=[fake_tool("lengthy", lengthy)]) as console:
        accepted, browser = await console.runtime.start(), console.visitor()
        await console.runtime.ended(accepted.run_id)
        session = await browser.get(f"/sessions/{accepted.session_id}")
        path = asked_for(session.text)
        assert f'<a href="{path}">Arguments and result</a>' in session.text
        assert "Policy: allow" not in session
        page, piece = await browser.get(path), await browser.get(path, HX_Request="true")
        for each in (page, piece):
            assert "Policy: allow" in each
            assert '"value": "<img src=x>"' in each.words
            assert "<img" not in each.text
        assert f'href="/sessions/{accepted.session_id}#run-{accepted.run_id}"' in page.text
        assert "<html" not in piece.text
        assert (await console.visitor(OTHER).get(path)).status == 404


async def test_all_of_a_long_result_is_a_click_away_and_can_be_downloaded(tmp_path: Path) -> None:
    provider = FakeProvider(says("", ToolCall("c/1 ?", "lengthy", {})), says("done"))
    async with open_console(tmp_path, provider, tools=[fake_tool("lengthy", lengthy)]) as console:
        accepted, browser = await console.runtime.start(), console.visitor()
        await console.runtime.ended(accepted.run_id)
        page = await browser.get(f"/sessions/{accepted.session_id}")
        inside = page.text.partition('class="inside"')[2]
        assert inside
        assert "&lt;b&gt;long" not in inside
        card = await browser.get(asked_for(page.text), HX_Request="true")
        assert "<b>long</b>" in card
        assert len(card.text) < 2000 + SHOWN_CHARACTERS * 2
        path = asked_for(card.text).removeprefix("/runs/")
        whole = await browser.get(f"/runs/{path}")
        assert "<b>long</b>" not in whole.text
        assert f"first {SHOWN_BYTES // 1024} KiB" in whole
        part = await browser.get(f"/runs/{path}", HX_Request="true")
        assert "<html" not in part.text
        raw = await browser.get(f"/runs/{path}?raw=yes")
        assert raw.text == LONG
        assert raw.headers["Content-Type"] == "text/plain; charset=utf-8"
        assert raw.headers["Content-Disposition"].startswith("attachment")


async def test_what_a_call_and_a_run_changed_is_a_diff(tmp_path: Path) -> None:
    write = ToolCall("c1", "files.write", {"path": "<i>a</i>.txt".replace("/", ""), "text": "hello\n"})
    provider = FakeProvider(says("", write), says("done"))
    async with open_console(tmp_path, provider, config=allowing("files.write")) as console:
        accepted, browser = await console.runtime.start(), console.visitor()
        await console.runtime.ended(accepted.run_id)
        page = await browser.get(f"/sessions/{accepted.session_id}")
        card = await browser.get(asked_for(page.text), HX_Request="true")
        assert f"/runs/{accepted.run_id}/diff/c1" in card.text
        assert "What it changed" in page
        for path in (f"/runs/{accepted.run_id}/diff/c1", f"/runs/{accepted.run_id}/diff"):
            diff = await browser.get(path)
            assert '<span class="add">+hello' in diff.text
            assert "<i>" not in diff.text
            assert "<html" not in (await browser.get(path, HX_Request="true")).text


async def test_a_call_that_is_not_there_is_not_found(tmp_path: Path) -> None:
    async with open_console(tmp_path) as console:
        accepted, browser = await console.runtime.start(), console.visitor()
        await console.runtime.ended(accepted.run_id)
        for path in (
            f"/runs/{accepted.run_id}/calls/c1",
            f"/runs/{accepted.run_id}/output/c1",
            "/runs/01NONE/output/c1",
            f"/runs/{accepted.run_id}/diff/c1",
        ):
            assert (await browser.get(path)).status == 404
        assert "(nothing)" in await browser.get(f"/runs/{accepted.run_id}/diff")


async def test_of_a_long_prompt_a_page_shows_the_beginning_and_the_whole_is_a_click_away(tmp_path: Path) -> None:
    prompt = "<b>word</b> " * 75_000
    async with open_console(tmp_path, FakeProvider(says("Read."))) as console:
        accepted, browser = await console.runtime.start(prompt), console.visitor()
        await console.runtime.ended(accepted.run_id)
        session = await browser.get(f"/sessions/{accepted.session_id}")
        assert "All of it (900 kB)" in session
        for path in (f"/sessions/{accepted.session_id}", f"/runs/{accepted.run_id}", "/", "/policy/why?run=last"):
            assert len((await browser.get(path)).text) < 60_000
        path = asked_for(session.text)
        assert path == f"/runs/{accepted.run_id}/prompt"
        assert "These are the first 256 KiB of 900000 bytes." in await browser.get(path)
        assert (await browser.get(f"{path}?raw=yes")).text == prompt
        piece = await browser.get(path, HX_Request="true")
        assert "<html" not in piece.text
        assert "<b>" not in piece.text
        assert (await console.visitor(OTHER).get(path)).status == 404
