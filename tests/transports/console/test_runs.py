"""Runs in a list, and one run: found by its state, read, jumped in, exported, undone, and nobody else's."""

import json
from pathlib import Path

import pytest
import trio

from palyra_trio.core.codec import json_line
from palyra_trio.core.identity import Scope
from palyra_trio.core.messages import ToolCall
from palyra_trio.core.run import RunState
from palyra_trio.core.tape import ApprovalRequested, ModelDelta, StatusChange
from palyra_trio.transports.console import runs, timeline
from tests.fakes import OTHER, FakeProvider, allowing, says
from tests.transports.console.browsing import open_console
from tests.transports.console.dom import parse

XSS = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>"
WRITE = ToolCall("c1", "files.write", {"path": "a.txt", "text": "x\n"})


async def test_with_no_runs_the_list_says_so(tmp_path: Path) -> None:
    async with open_console(tmp_path) as console:
        browser = console.visitor()
        assert "Nothing has run yet." in await browser.get("/runs")
        assert "No run is failed." in await browser.get("/runs?state=failed")
        assert (await browser.get("/runs?state=odd")).status == 400


async def test_runs_are_found_by_their_state_a_page_after_the_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runs, "LISTED", 2)
    async with open_console(tmp_path, left=[RunState.CANCELLED]) as console:
        runtime, browser = console.runtime, console.visitor()
        for number in range(3):
            await runtime.ended((await runtime.start(f"run {number}")).run_id)
        waits = await runtime.start("write", FakeProvider(says("", WRITE)))
        await runtime.until(waits.run_id, ApprovalRequested)
        first = await browser.get("/runs?state=done")
        assert "run 2" in first
        assert "run 1" in first
        assert "run 0" not in first
        older = next(
            each.attributes["href"]
            for each in parse(first.text).nodes()
            if "before=" in each.attributes.get("href", "")
        )
        assert "run 0" in await browser.get(older)
        waiting = await browser.get("/runs?state=waiting")
        assert "write" in waiting
        assert "run 2" not in waiting
        await browser.post(f"/runs/{waits.run_id}/cancel")
        await runtime.ended(waits.run_id)


async def test_a_run_that_nobody_goes_on_with_is_found_as_interrupted_and_not_as_waiting(tmp_path: Path) -> None:
    async with open_console(tmp_path, FakeProvider(["hm", trio.sleep_forever]), left=[RunState.WAITING]) as console:
        await console.runtime.until((await console.runtime.start("left behind")).run_id, ModelDelta)
    async with open_console(tmp_path, boot_id="boot-2", left=[RunState.WAITING]) as console:
        browser = console.visitor()
        page = await browser.get("/runs?state=interrupted")
        assert '<a href="/runs?state=interrupted" aria-current="page">Interrupted</a>' in page.text
        assert "left behind" in page
        assert "left behind" not in await browser.get("/runs?state=waiting")
        why = await browser.get("/policy/why")
        assert "left behind interrupted" in why
        assert "waiting" not in why


async def test_a_run_is_read_without_script(tmp_path: Path) -> None:
    look = FakeProvider(says("Look.", ToolCall("c1", "files.list", {"path": "."})), says("There is nothing."))
    async with open_console(tmp_path, look) as console:
        runtime, browser = console.runtime, console.visitor()
        accepted = await runtime.start("what is here?")
        await runtime.ended(accepted.run_id)
        page = await browser.get(f"/runs/{accepted.run_id}")
        for words in (
            "what is here?",
            "done",
            "turn 1",
            "files.list",
            "ToolFinished",
            "1 call allowed by policy",
            "of 6",
        ):
            assert words in page
        for link in (f"/sessions/{accepted.session_id}#run-", f"/policy/why?run={accepted.run_id}", "tape.jsonl"):
            assert link in page.text
        root = parse(page.text)
        for empty in ("files", "alive"):  # an ended run has no place for what it never had
            assert "hidden" in (root.find(empty) or root).attributes
        row = await browser.get(f"/runs/{accepted.run_id}/rows/1")
        assert '"kind": "Input"' in row
        part = await browser.get(f"/runs/{accepted.run_id}/rows/1", HX_Request="true")
        assert part.text.lstrip().startswith("<pre")
        assert (await browser.get(f"/runs/{accepted.run_id}/rows/999")).status == 404
        assert (await browser.get(f"/runs/{accepted.run_id}/rows/{2**64}")).status == 400
        assert "turn 2" in await browser.get(f"/runs/{accepted.run_id}/waterfall")


async def test_a_long_picture_comes_in_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runs, "DRAWN", 2)
    look = FakeProvider(says("Look.", ToolCall("c1", "files.list", {"path": "."})), says("There is nothing."))
    async with open_console(tmp_path, look) as console:
        accepted, browser = await console.runtime.start(), console.visitor()
        await console.runtime.ended(accepted.run_id)
        path = f"/runs/{accepted.run_id}/waterfall"
        last = await browser.get(path)
        assert "2 to 3 of 3" in last
        assert "turn 1" not in last
        assert f'href="{path}?upto=1"' in last.text
        first = await browser.get(f"{path}?upto=1")
        assert "1 to 1 of 3" in first
        assert "turn 1" in first
        assert f'href="{path}?upto=3"' in first.text
        assert (await browser.get(f"{path}?upto=x")).status == 400


async def test_a_jump_leads_to_the_page_and_the_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timeline, "PAGE_ROWS", 3)
    async with open_console(tmp_path) as console:
        accepted = await console.runtime.start()
        await console.runtime.ended(accepted.run_id)
        browser = console.visitor()
        found = await browser.get(f"/runs/{accepted.run_id}?seq=2")
        assert (found.status, found.headers["Location"]) == (303, f"/runs/{accepted.run_id}?kind=&page=1#seq-2")
        page = await browser.get(f"/runs/{accepted.run_id}?kind=&page=1")
        assert 'id="seq-2"' in page.text
        assert 'id="seq-4"' not in page.text
        for wrong in ("seq=x", "page=-1", "kind=Odd"):
            assert (await browser.get(f"/runs/{accepted.run_id}?{wrong}")).status == 400


async def test_the_export_is_what_the_command_line_writes(tmp_path: Path) -> None:
    async with open_console(tmp_path, FakeProvider(says("Grüße ⟶ ok"))) as console:
        accepted = await console.runtime.start("día")
        tape = await console.runtime.ended(accepted.run_id)
        page = await console.visitor().get(f"/runs/{accepted.run_id}/tape.jsonl")
    assert page.text == "".join(f"{json_line(row)}\n" for row in tape.rows)
    assert [json.loads(line)["seq"] for line in page.text.splitlines()] == [row.seq for row in tape.rows]
    assert page.headers["Content-Disposition"] == f'attachment; filename="{accepted.run_id}.jsonl"'


async def test_what_a_run_did_to_files_is_shown_and_undone(tmp_path: Path) -> None:
    provider = FakeProvider(says("", WRITE), says("ok"))
    async with open_console(tmp_path, provider, config=allowing("files.write")) as console:
        runtime, browser = console.runtime, console.visitor()
        accepted = await runtime.start()
        await runtime.ended(accepted.run_id)
        assert (runtime.workspace / "a.txt").exists()
        path = f"/runs/{accepted.run_id}"
        page = await browser.get(path)
        assert "a.txt" in page
        assert f'action="{path}/undo"' in page.text
        assert "undo" not in (await console.visitor(scopes=frozenset({Scope.READ})).get(path)).text
        done = await browser.post(f"{path}/undo", {"next": path})
        assert (done.status, done.headers["Location"]) == (303, path)
        assert not (runtime.workspace / "a.txt").exists()
        page = await browser.get(path)
        assert "Undone by user:me." in page
        assert f'action="{path}/undo"' not in page.text


async def test_an_open_run_can_be_stopped_with_a_reason(tmp_path: Path) -> None:
    async with open_console(tmp_path, FakeProvider(["hm", trio.sleep_forever]), left=[RunState.CANCELLED]) as console:
        runtime, browser = console.runtime, console.visitor()
        accepted = await runtime.start()
        await runtime.until(accepted.run_id, ModelDelta)
        path = f"/runs/{accepted.run_id}"
        assert f'action="{path}/cancel"' in (await browser.get(path)).text
        await browser.post(f"{path}/cancel", {"reason": "enough of it", "next": path})
        await runtime.ended(accepted.run_id)
        page = await browser.get(path)
        assert "cancelled" in page
        assert "enough of it" in page
        assert f'action="{path}/cancel"' not in page.text


async def test_words_names_and_arguments_are_inert(tmp_path: Path) -> None:
    odd = XSS.replace("/", "")
    provider = FakeProvider(
        says(XSS, ToolCall(XSS, "files.write", {"path": f"{odd}.txt", "text": XSS}), ToolCall("n", XSS, {XSS: XSS})),
        says(XSS),
    )
    async with open_console(tmp_path, provider, left=[RunState.CANCELLED]) as console:
        runtime, browser = console.runtime, console.visitor()
        accepted = await runtime.start(XSS)
        asked = await runtime.until(accepted.run_id, ApprovalRequested)
        await runtime.until(accepted.run_id, StatusChange, 2)
        await browser.post(f"/approvals/{asked.approval_id}/decide", {"answer": "deny", "reason": XSS})
        await runtime.ended(accepted.run_id)
        path = f"/runs/{accepted.run_id}"
        async with browser.stream(f"{path}/live?after=1") as stream:
            sent = (await stream.event())[1]
        pages = [
            await browser.get(each)
            for each in (path, "/runs", f"{path}/waterfall", f"{path}/rows/1", "/approvals/history")
        ]
        for text in (sent, *(each.text for each in pages)):
            assert "<script>alert" not in text
            assert "<img" not in text
            assert "alert(1)" in text


async def test_what_belongs_to_somebody_else_is_not_there(tmp_path: Path) -> None:
    async with open_console(tmp_path) as console:
        accepted = await console.runtime.start("mine")
        await console.runtime.ended(accepted.run_id)
        other, path = console.visitor(OTHER), f"/runs/{accepted.run_id}"
        for each in (path, f"{path}/live?after=0", f"{path}/rows/1", f"{path}/tape.jsonl", f"{path}/waterfall"):
            assert (await other.get(each)).status == 404
        for each in ("undo", "cancel"):
            assert (await other.post(f"{path}/{each}")).status == 404
        assert "mine" not in await other.get("/runs")
        assert "Nothing has run yet." in await other.get("/runs")
