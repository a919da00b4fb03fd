"""Sessions: found, read, written to, interrupted, stopped and archived, with and without script."""

from pathlib import Path

import pytest
import trio

from palyra_trio.core.commands import CreateToken, TokenIssued
from palyra_trio.core.identity import Scope
from palyra_trio.core.run import RunState
from palyra_trio.core.tape import Input, ModelDelta
from palyra_trio.transports.console.sessions import BLOCKS, LISTED, RUNS
from tests.fakes import ME, OTHER, SECRET, FakeProvider, in_session, says
from tests.transports.console.browsing import Console, open_console


async def ended(console: Console, text: str, **fields: object) -> str:
    accepted = await console.runtime.start(text, **fields)  # type: ignore[arg-type]
    await console.runtime.ended(accepted.run_id)
    return accepted.session_id


async def test_without_sessions_the_list_says_so(tmp_path: Path) -> None:
    async with open_console(tmp_path) as console:
        assert "There are no sessions yet." in await console.visitor().get("/sessions")


async def test_a_session_is_found_by_its_title_or_a_message(tmp_path: Path) -> None:
    async with open_console(tmp_path) as console:
        browser = console.visitor()
        first = await console.runtime.start("Paint the fence")
        await console.runtime.ended(first.run_id)
        await ended(console, "and the GATE", session=in_session(first))
        await ended(console, "something else")
        for q in ("fence", "gate"):
            page = await browser.get(f"/sessions?q={q}")
            assert "Paint the fence" in page
            assert "something else" not in page
        assert "No session has “zebra”" in await browser.get("/sessions?q=zebra")


async def test_a_long_list_is_paged_and_each_session_is_on_one_page(tmp_path: Path) -> None:
    async with open_console(tmp_path) as console:
        browser = console.visitor()
        for number in range(LISTED + 3):
            await ended(console, f"task-{number:03}")
        first = await browser.get("/sessions")
        more = first.text.partition('class="earlier"><a href="')[2].partition('"')[0].replace("&amp;", "&")
        second = await browser.get(more)
        for number in range(LISTED + 3):
            assert (f"task-{number:03}" in first) is (number >= 3)
            assert (f"task-{number:03}" in second) is (number < 3)
        assert "Older sessions" not in second


async def test_something_is_started_and_answered_in_a_session(tmp_path: Path) -> None:
    async with open_console(tmp_path, FakeProvider(says("The `answer`."))) as console:
        browser = console.visitor()
        form = {"text": "a\r\nb", "workspace": str(console.runtime.workspace), "agent": "default"}
        done = await browser.post("/sessions", form)
        assert done.status == 303
        (run,) = await console.runtime.gateway.ask(lambda reader: reader.runs(ME.principal))
        tape = await console.runtime.ended(run.run_id)
        assert tape.one(Input).text == "a\nb"
        assert tape.one(Input).detached
        page = await browser.get(done.headers["Location"])
        assert "The answer ." in page
        assert "<code>answer</code>" in page.text


async def test_a_message_follows_in_the_same_session_and_folder(tmp_path: Path) -> None:
    async with open_console(tmp_path) as console:
        browser, session_id = console.visitor(), await ended(console, "first")
        sent = await browser.post(f"/sessions/{session_id}/messages", {"text": "second", "when_busy": "followup"})
        assert (sent.status, sent.headers["Location"]) == (303, f"/sessions/{session_id}")
        runs = await console.runtime.gateway.ask(lambda reader: reader.runs(ME.principal, session_id=session_id))
        assert [run.title for run in runs] == ["second", "first"]
        assert runs[0].workspace == runs[1].workspace
        await console.runtime.ended(runs[0].run_id)


async def test_a_message_can_interrupt_what_is_at_work(tmp_path: Path) -> None:
    async with open_console(tmp_path, left=[RunState.CANCELLED]) as console:
        runtime, browser = console.runtime, console.visitor()
        going = await runtime.start("think", FakeProvider(["hm", trio.sleep_forever]))
        await runtime.until(going.run_id, ModelDelta)
        form = {"text": "never mind", "when_busy": "interrupt"}
        assert (await browser.post(f"/sessions/{going.session_id}/messages", form)).status == 303
        assert (await runtime.ended(going.run_id)).end[0] is RunState.CANCELLED
        (newest, _) = await runtime.gateway.ask(lambda reader: reader.runs(ME.principal))
        await runtime.ended(newest.run_id)


@pytest.mark.parametrize(
    ("form", "status"),
    [({"text": " "}, 400), ({"text": "x", "agent": "nobody"}, 404), ({"text": "x", "when_busy": "whenever"}, 400)],
)
async def test_what_cannot_be_sent_is_refused_in_words(tmp_path: Path, form: dict[str, str], status: int) -> None:
    async with open_console(tmp_path) as console:
        session_id = await ended(console, "first")
        page = await console.visitor().post(f"/sessions/{session_id}/messages", form)
        assert page.status == status
        assert "class=" in page.text


async def test_a_run_is_stopped_from_its_session(tmp_path: Path) -> None:
    async with open_console(tmp_path, left=[RunState.CANCELLED]) as console:
        runtime, browser = console.runtime, console.visitor()
        going = await runtime.start("think", FakeProvider(["hm", trio.sleep_forever]))
        await runtime.until(going.run_id, ModelDelta)
        page = await browser.get(f"/sessions/{going.session_id}")
        assert f"/runs/{going.run_id}/cancel" in page.text
        assert "hm" in page
        assert (await browser.post(f"/runs/{going.run_id}/cancel")).status == 303
        assert "Stopped by user:me" in await browser.get(f"/sessions/{going.session_id}")
        assert (await runtime.ended(going.run_id)).end[0] is RunState.CANCELLED
        page = await browser.get(f"/sessions/{going.session_id}")
        assert "cancelled" in page
        assert "/cancel" not in page.text


async def test_an_archived_session_is_read_and_not_written_to(tmp_path: Path) -> None:
    async with open_console(tmp_path) as console:
        browser, session_id = console.visitor(), await ended(console, "first")
        done = await browser.post(f"/sessions/{session_id}/archive")
        assert (done.status, done.headers["Location"]) == (303, "/sessions")
        page = await browser.get(f"/sessions/{session_id}")
        assert "takes no more messages" in page
        assert "composer" not in page.text
        assert "first" not in await browser.get("/sessions")
        assert "first" in await browser.get("/sessions?archived=yes")


async def test_a_long_session_shows_its_end_and_leads_to_what_came_before(tmp_path: Path) -> None:
    async with open_console(tmp_path) as console:
        first = await console.runtime.start("run-000")
        await console.runtime.ended(first.run_id)
        for number in range(1, RUNS + 2):
            await ended(console, f"run-{number:03}", session=in_session(first))
        browser = console.visitor()
        page = await browser.get(f"/sessions/{first.session_id}")
        assert f"run-{RUNS + 1:03}" in page
        assert 'id="asked-' + first.run_id not in page.text
        earlier = page.text.partition('class="earlier"><a href="')[2].partition('"')[0]
        older = await browser.get(earlier)
        assert 'id="asked-' + first.run_id in older.text
        assert "data-live" not in older.text
        assert older.text.count('class="run"') == 2


async def test_a_run_of_many_steps_is_shown_whole_and_alone(tmp_path: Path) -> None:
    async with open_console(tmp_path) as console:
        first = await console.runtime.start("short")
        await console.runtime.ended(first.run_id)
        browser = console.visitor()
        page = await browser.get(f"/sessions/{first.session_id}")
        assert page.text.count('class="run"') == 1
    assert BLOCKS > RUNS


async def test_who_signed_in_with_a_token_works_where_its_principal_may(tmp_path: Path) -> None:
    async with open_console(tmp_path) as console:
        issued = await console.runtime.gateway.submit(CreateToken("t", ME.principal, (Scope.READ, Scope.RUN)), ME)
        assert isinstance(issued, TokenIssued)
        browser = console.stranger()
        await browser.post("/sign-in", {"token": issued.secret})
        page = await browser.get("/")
        browser.csrf = page.text.partition('name="csrf" value="')[2].partition('"')[0]
        sent = await browser.post("/sessions", {"text": "x", "workspace": "/etc"})
        assert sent.status == 403


async def test_a_session_is_renamed_to_one_line_with_no_secret_in_it(tmp_path: Path) -> None:
    async with open_console(tmp_path) as console:
        browser, session_id = console.visitor(), await ended(console, "Paint the fence")
        title = f"\r\n  <b>The fence</b> {SECRET}\r\nand more"
        done = await browser.post(f"/sessions/{session_id}/rename", {"title": title, "next": f"/sessions/{session_id}"})
        assert (done.status, done.headers["Location"]) == (303, f"/sessions/{session_id}")
        for path in (f"/sessions/{session_id}", "/sessions?q=the%20fence"):
            page = await browser.get(path)
            assert "<b>The fence</b> [redacted" in page
            assert "<b>The" not in page.text
            assert SECRET not in page.text
            assert "and more" not in page


async def test_a_session_is_renamed_by_its_own_principal_who_may_run_and_to_something(tmp_path: Path) -> None:
    async with open_console(tmp_path) as console:
        session_id = await ended(console, "Paint the fence")
        path = f"/sessions/{session_id}/rename"
        assert (await console.visitor().post(path, {"title": " \n "})).status == 400
        assert (await console.visitor(OTHER).post(path, {"title": "mine now"})).status == 404
        reader = console.visitor(scopes=frozenset({Scope.READ}))
        assert (await reader.post(path, {"title": "mine now"})).status == 403
        page = await reader.get(f"/sessions/{session_id}")
        assert "Paint the fence" in page
        assert "/rename" not in page.text
