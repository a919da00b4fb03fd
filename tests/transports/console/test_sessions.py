"""Sessions: found, read, written to, interrupted, stopped and archived, with and without script."""

from pathlib import Path

import attrs
import pytest
import trio

from palyra_trio.core.agents import AgentSpec
from palyra_trio.core.commands import CreateToken, DefineAgent, RemoveAgent, TokenIssued
from palyra_trio.core.config import MIB, AttachmentsConfig
from palyra_trio.core.identity import Scope
from palyra_trio.core.run import RunState
from palyra_trio.core.tape import Input, ModelDelta
from palyra_trio.transports.console.sessions import BLOCKS, LISTED, RUNS
from palyra_trio.transports.console.site import BODY_BYTES
from palyra_trio.transports.console.uploads import FILES_BYTES
from tests.fakes import CONFIG, ME, OTHER, SECRET, FakeProvider, in_session, says
from tests.transports.console.browsing import Console, open_console
from tests.transports.console.dom import apply, parse


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


async def test_a_script_that_starts_something_is_led_to_its_session_or_told_what_is_wrong_with_the_folder(
    tmp_path: Path,
) -> None:
    async with open_console(tmp_path) as console:
        browser = console.visitor()
        for folder in ("nonsense", str(tmp_path / "none")):
            page = await browser.post("/sessions", {"text": "a", "workspace": folder}, HX_Request="true")
            assert (page.status, "whole path of a folder that exists" in page, "<html" in page.text) == (
                400,
                True,
                False,
            )
        form = {"text": "a", "workspace": str(console.runtime.workspace)}
        done = await browser.post("/sessions", form, HX_Request="true")
        (run,) = await console.runtime.gateway.ask(lambda reader: reader.runs(ME.principal))
        assert (done.status, done.headers["HX-Redirect"]) == (204, f"/sessions/{run.session_id}")
        await console.runtime.ended(run.run_id)


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


async def test_a_session_as_far_as_its_newest_run_is_live_however_that_is_named(tmp_path: Path) -> None:
    async with open_console(tmp_path) as console:
        first = await console.runtime.start("run-000")
        await console.runtime.ended(first.run_id)
        newest = await console.runtime.start("run-001", session=in_session(first))
        await console.runtime.ended(newest.run_id)
        browser = console.visitor()
        for to in ("last", newest.run_id, newest.run_id[:-1]):
            assert "data-live" in (await browser.get(f"/sessions/{first.session_id}?to={to}")).text
        assert "data-live" not in (await browser.get(f"/sessions/{first.session_id}?to={first.run_id}")).text


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
            assert "<b>The fence" not in page.text
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


async def test_a_new_title_reaches_the_list_that_is_open(tmp_path: Path) -> None:
    async with open_console(tmp_path) as console:
        browser, session_id = console.visitor(), await ended(console, "Paint the fence")
        await ended(console, "Feed the cat")
        page = await browser.get("/sessions?q=THE")
        live = page.text.partition('data-live="')[2].partition('"')[0].replace("&amp;", "&")
        shown = parse(page.text)
        async with browser.stream(f"{live}&after=0") as stream:
            await stream.event()
            await browser.post(f"/sessions/{session_id}/rename", {"title": "<b>The</b> gate"})
            with trio.fail_after(5):
                name, html, _ = await stream.event()
        assert name == "update"
        apply(shown, html)
        listed, reloaded = shown.find("sessions"), parse((await browser.get("/sessions?q=THE")).text).find("sessions")
        assert listed is not None
        assert reloaded is not None
        assert listed.html() == reloaded.html()
        assert "<b>The" not in html
        assert "Feed the cat" in html


async def test_a_message_brings_files_and_the_model_that_is_to_answer(tmp_path: Path) -> None:
    async with open_console(tmp_path) as console:
        runtime, browser = console.runtime, console.visitor()
        runtime.models["fake/other"] = FakeProvider(says("I see."))
        form = {"text": "look", "workspace": str(runtime.workspace), "agent": "default", "model": " fake/other "}
        sent = await browser.send("/sessions", form, ("<b>a</b>.md", b"# A"), ("b.bin", b"\x00\xff"))
        assert sent.status == 303
        (run,) = await runtime.gateway.ask(lambda reader: reader.runs(ME.principal))
        asked = (await runtime.ended(run.run_id)).one(Input)
        assert [(each.name, each.media_type, each.size_bytes) for each in asked.attachments] == [
            ("b>.md", "text/markdown", 3),
            ("b.bin", "application/octet-stream", 2),
        ]
        assert (asked.text, asked.model) == ("look", "fake/other")
        page = await browser.get(sent.headers["Location"])
        assert "with b>.md (3 bytes), b.bin (2 bytes)" in page
        again = await browser.send(f"/sessions/{run.session_id}/messages", {"text": ""}, ("<img src=x>", b"x"))
        assert again.status == 303
        (newest, _) = await runtime.gateway.ask(lambda reader: reader.runs(ME.principal))
        await runtime.ended(newest.run_id)
        page = await browser.get(sent.headers["Location"])
        assert "with <img src=x> (1 byte)" in page
        assert "<img" not in page.text


async def test_files_that_are_too_many_or_too_large_are_refused_in_words(tmp_path: Path) -> None:
    config = attrs.evolve(CONFIG, attachments=AttachmentsConfig(max_count=1, max_bytes=MIB))
    async with open_console(tmp_path, config=config) as console:
        runtime, browser = console.runtime, console.visitor()
        assert "one file at most, 1 MiB each, 32 MiB together" in await browser.get("/")
        form = {"text": "look", "workspace": str(runtime.workspace)}
        many = await browser.send("/sessions", form, ("a", b"a"), ("b", b"b"))
        assert (many.status, "2 attachments, and at most 1 are taken" in many) == (400, True)
        large = await browser.send("/sessions", form, ("large.txt", b"x" * (MIB + 1)))
        assert (large.status, "Attachment large.txt has 1048577 bytes" in large) == (400, True)
        for path in ("/sessions", "/sessions/01NONE/messages"):
            endless = await browser.send(path, form, ("endless", b"x" * (FILES_BYTES + BODY_BYTES)))
            assert (endless.status, "Send 33792 KiB at most" in endless) == (413, True)
        assert (await browser.send("/runs/stop-all", {}, ("a", b"x"))).status == 403
        long = await browser.send("/sessions", {**form, "text": "x" * (BODY_BYTES + 1)}, ("a", b"a"))
        assert long.status == 413
        assert await runtime.gateway.ask(lambda reader: reader.runs(ME.principal)) == ()


async def test_files_from_another_site_are_not_taken(tmp_path: Path) -> None:
    async with open_console(tmp_path) as console:
        browser = console.visitor()
        form = {"text": "look", "workspace": str(console.runtime.workspace)}
        assert (await browser.send("/sessions", {**form, "csrf": "x"}, ("a", b"a"))).status == 403
        assert (await browser.send("/sessions", form, ("a", b"a"), Origin="http://evil.example")).status == 403


async def test_a_message_goes_to_the_agent_and_the_chosen_model_of_the_newest_run(tmp_path: Path) -> None:
    async with open_console(tmp_path) as console:
        runtime, browser = console.runtime, console.visitor()
        await runtime.do(DefineAgent(AgentSpec("emoji")))
        first = await runtime.start("smile", agent="emoji")
        await runtime.ended(first.run_id)
        page = (await browser.get(f"/sessions/{first.session_id}")).text
        before, details, after = page.partition('class="composer"')[2].partition("<details")
        assert details
        assert "<option selected>emoji</option>" in before
        assert 'name="model" class="model" value=""' in after
        await runtime.run("again", FakeProvider(says(":)")), session=in_session(first), agent="default")
        (newest, _) = await runtime.gateway.ask(lambda reader: reader.runs(ME.principal))
        chosen = (await runtime.ended(newest.run_id)).one(Input).model
        page = (await browser.get(f"/sessions/{first.session_id}")).text
        before, _, after = page.partition('class="composer"')[2].partition("<details")
        assert "<option selected>default</option>" in before
        assert after.startswith(' class="with" open>')
        assert f'name="model" class="model" value="{chosen}"' in after
        await runtime.run("and again", session=in_session(first), agent="emoji")
        await runtime.do(RemoveAgent("emoji"))
        page = (await browser.get(f"/sessions/{first.session_id}")).text
        assert "<option selected>default</option>" in page
