"""What every page passes: session, scope, form token, origin, host; and what every answer says to the browser."""

from collections import Counter
from pathlib import Path

import pytest
import trio
from werkzeug.exceptions import RequestTimeout

from palyra_trio.core.errors import Busy
from palyra_trio.core.identity import Scope
from palyra_trio.core.run import OPEN, RunState
from palyra_trio.transports.console.site import BODY_BYTES, STRANGERS_BYTES, UPLOADS, UPLOADS_OF_ONE, Visit
from tests.fakes import ME, OTHER, FakeProvider
from tests.transports.console.browsing import ORIGIN, Console, open_console


def rules(console: Console, method: str) -> set[str]:
    found = (rule for rule in console.site.app.url_map.iter_rules() if method in (rule.methods or ()))
    return {rule.rule for rule in found}


async def test_every_page_is_closed_to_strangers_and_every_write_to_them_and_other_sites(tmp_path: Path) -> None:
    """Whatever pages there are: this walks the routes."""
    open_to_all = {"/healthz", "/readyz", "/sign-in", "/static/<name>"}
    async with open_console(tmp_path) as console:
        stranger, browser = console.stranger(), console.visitor()
        for rule in rules(console, "GET") - open_to_all:
            if not rule.startswith(("/api/", "/metrics")):
                page = await stranger.get(_filled(rule))
                assert (page.status, page.headers["Location"][:14]) == (303, "/sign-in?next="), rule
        for rule in rules(console, "POST") - open_to_all:
            if not rule.startswith("/api/"):
                path = _filled(rule)
                assert (await stranger.post(path)).status == 401, rule
                assert (await browser.post(path, {"csrf": ""})).status == 403, rule
                assert (await browser.post(path, {"csrf": console.visitor().csrf})).status == 403, rule
                assert (await browser.post(path, Origin="http://evil.example")).status == 403, rule
                assert (await browser.post(path, Origin="")).status == 403, rule
                assert (await browser.post(path, Sec_Fetch_Site="cross-site")).status == 403, rule
                assert (await browser.get(path)).status < 500, rule


def _filled(rule: str) -> str:
    while "<" in rule:
        rule = rule[: rule.index("<")] + "01" + rule[rule.index(">") + 1 :]
    return rule


@pytest.mark.parametrize("path", ["/sign-in", "/theme"])
async def test_a_form_of_a_hundred_thousand_fields_is_refused(tmp_path: Path, path: str) -> None:
    async with open_console(tmp_path) as console:
        body = f"csrf={(browser := console.visitor()).csrf}&".encode() + b"a&" * 100_000
        headers = {"Origin": ORIGIN, "Content-Type": "application/x-www-form-urlencoded"}
        answer = await browser.client.post(path, data=body, headers=headers)
        assert answer.status_code == 413


async def test_a_write_from_another_site_does_nothing(tmp_path: Path) -> None:
    async with open_console(tmp_path, FakeProvider([trio.sleep_forever]), left=[RunState.CANCELLED]) as console:
        accepted, browser = await console.runtime.start(), console.visitor()
        form = {"csrf": browser.csrf}
        for headers in ({"Origin": "http://evil.example"}, {"Sec_Fetch_Site": "same-site"}, {"Origin": "null"}):
            assert (await browser.post(f"/runs/{accepted.run_id}/cancel", form, **headers)).status == 403
        assert (await console.runtime.gateway.run(accepted.run_id, ME)).state in OPEN
        assert (await browser.post(f"/runs/{accepted.run_id}/cancel", form)).status == 303
        assert (await console.runtime.ended(accepted.run_id)).end[0] is RunState.CANCELLED


@pytest.mark.parametrize("host", ["evil.example", "evil.example:7142", "127.0.0.1.evil.example"])
async def test_a_name_that_was_bent_to_this_machine_reads_and_writes_nothing(tmp_path: Path, host: str) -> None:
    async with open_console(tmp_path) as console:
        browser = console.visitor()
        for page in (
            await browser.get("/", Host=host),
            await browser.get("/sign-in", Host=host),
            await browser.get("/static/console.js", Host=host),
            await browser.post("/runs/stop-all", Host=host, Origin=f"http://{host}"),
        ):
            assert page.status == 403
            assert "http.names" in page


async def test_a_scope_that_is_missing_opens_no_door_and_shows_no_handle(tmp_path: Path) -> None:
    async with open_console(tmp_path) as console:
        reader = console.visitor(scopes=frozenset({Scope.READ}))
        assert "Start something" not in await reader.get("/")
        assert (await reader.post("/sessions", {"text": "x", "workspace": "/w"})).status == 403
        assert (await reader.post("/runs/stop-all")).status == 403
        assert (await reader.post("/approvals/01/decide", {"answer": "once"})).status == 403
        runner = console.visitor(scopes=frozenset({Scope.RUN}))
        assert (await runner.get("/")).status == 403


async def test_what_is_anothers_is_as_if_it_were_not_there(tmp_path: Path) -> None:
    async with open_console(tmp_path) as console:
        mine = await console.runtime.start()
        await console.runtime.ended(mine.run_id)
        other = console.visitor(OTHER)
        assert mine.run_id not in (await other.get("/")).text
        for path in (f"/sessions/{mine.session_id}", f"/sessions/{mine.session_id}/live", f"/runs/{mine.run_id}/diff"):
            assert (await other.get(path)).status == 404
        assert (await other.post(f"/runs/{mine.run_id}/cancel")).status == 404
        assert (await other.post(f"/sessions/{mine.session_id}/archive")).status == 404
        sent = await other.post(f"/sessions/{mine.session_id}/messages", {"text": "x", "workspace": str(tmp_path)})
        assert sent.status == 404


async def test_every_answer_forbids_scripts_of_others_frames_and_copies(tmp_path: Path) -> None:
    async with open_console(tmp_path) as console:
        browser = console.visitor()
        for path in ("/", "/sign-in", "/nowhere", "/static/console.css", "/static/nothing"):
            headers = (await browser.get(path)).headers
            policy = headers["Content-Security-Policy"]
            assert "default-src 'none'; script-src 'self'; style-src 'self'" in policy
            assert "frame-ancestors 'none'" in policy
            assert "unsafe" not in policy
            assert headers["X-Content-Type-Options"] == "nosniff"
            assert headers["Referrer-Policy"] == "same-origin"
        assert (await browser.get("/")).headers["Cache-Control"] == "no-store"


async def test_no_page_holds_script_or_style_of_its_own(tmp_path: Path) -> None:
    async with open_console(tmp_path) as console:
        accepted = await console.runtime.start()
        await console.runtime.ended(accepted.run_id)
        browser = console.visitor()
        for path in ("/", "/sessions", f"/sessions/{accepted.session_id}", "/nowhere", "/sign-in"):
            text = (await browser.get(path)).text.lower()
            assert " style=" not in text
            assert "<style" not in text
            assert " on" not in "".join(tag.partition(">")[0] for tag in text.split("<")[1:]).replace(" onc", "")
            assert "<script>" not in text


@pytest.mark.parametrize(
    "name",
    [
        "../console.css",
        "..%2f..%2fapp.py",
        "%2e%2e/%2e%2e/site.py",
        "....//app.py",
        "/etc/passwd",
        "console.css%00.js",
        "console.css/",
    ],
)
async def test_a_static_file_is_one_of_those_that_there_are(tmp_path: Path, name: str) -> None:
    async with open_console(tmp_path) as console:
        page = await console.stranger().get(f"/static/{name}")
        assert page.status == 404
        assert "def " not in page.text


async def test_a_static_file_is_kept_for_as_long_as_it_is_the_same(tmp_path: Path) -> None:
    async with open_console(tmp_path) as console:
        browser = console.stranger()
        (src,) = [
            part.partition('"')[0]
            for part in (await browser.get("/sign-in")).text.split('src="')[1:]
            if "console.js" in part
        ]
        assert "immutable" in (await browser.get(src)).headers["Cache-Control"]
        assert (await browser.get("/static/console.js")).headers["Cache-Control"] == "no-cache"


async def test_a_body_that_is_too_long_is_refused(tmp_path: Path) -> None:
    async with open_console(tmp_path) as console:
        for path in ("/sessions", "/sign-in"):
            page = await console.visitor().post(path, {"text": "x" * (10 * BODY_BYTES)})
            assert page.status == 413
            assert "1024 KiB" in page
        page = await console.stranger().post("/sign-in", {"token": "x" * STRANGERS_BYTES})
        assert (page.status, "4 KiB" in page) == (413, True)


async def test_only_so_many_send_files_at_a_time(tmp_path: Path) -> None:
    async with open_console(tmp_path) as console:
        browser = console.visitor()
        me: str = ME.principal
        for full in (Counter({me: UPLOADS_OF_ONE}), Counter({"user:a": UPLOADS - 1, "user:b": 1})):
            console.site._uploading = full
            page = await browser.send("/sessions", {"text": "read it"}, ("a.txt", b"x"))
            assert (page.status, "others are sending files" in page) == (429, True)
            assert (await browser.post("/sessions", {"text": "in no workspace, but without files"})).status == 400
        console.site._uploading = Counter({"user:a": UPLOADS_OF_ONE, me: UPLOADS_OF_ONE - 1})
        assert (await browser.send("/sessions", {"text": "in no workspace"}, ("a.txt", b"x"))).status == 400
        assert console.site._uploading == {"user:a": UPLOADS_OF_ONE, me: UPLOADS_OF_ONE - 1}


async def test_a_refusal_is_a_page_for_a_person_and_a_notice_for_a_script(tmp_path: Path) -> None:
    async with open_console(tmp_path) as console:
        browser = console.visitor()
        page = await browser.get("/sessions/01NONE")
        assert (page.status, "There is no session" in page, "<html" in page.text) == (404, True, True)
        notice = await browser.get("/sessions/01NONE", HX_Request="true")
        assert (notice.status, "<html" in notice.text) == (404, False)
        assert "There is no session" in notice


async def test_a_body_that_comes_too_slowly_is_told_as_such(tmp_path: Path) -> None:
    async with open_console(tmp_path) as console:

        @console.site.page("/slow")
        async def slow(visit: Visit) -> str:
            raise RequestTimeout

        page = await console.visitor().get("/slow")
        assert (page.status, "408 too slow" in page, "came too slowly" in page) == (408, True, True)


async def test_a_script_that_is_signed_out_is_told_and_not_sent_away(tmp_path: Path) -> None:
    async with open_console(tmp_path) as console:
        stranger = console.stranger()
        assert (await stranger.get("/", HX_Request="true")).status == 401
        assert (await stranger.get("/overview/live", Accept="text/event-stream", Sec_Fetch_Mode="cors")).status == 401


async def test_who_asks_too_often_is_told_when_to_ask_again(tmp_path: Path) -> None:
    async with open_console(tmp_path) as console:

        @console.site.page("/busy")
        async def busy(visit: Visit) -> str:
            raise Busy("too much")

        page = await console.visitor().get("/busy")
        assert (page.status, page.headers["Retry-After"]) == (429, "1")


async def test_a_page_that_fails_says_so_and_shows_nothing_of_why(tmp_path: Path) -> None:
    async with open_console(tmp_path) as console:

        @console.site.page("/broken")
        async def broken(visit: Visit) -> str:
            raise ValueError("sk-secret")

        page = await console.visitor().get("/broken")
        assert page.status == 500
        assert "sk-secret" not in page.text
        assert "This page failed" in page


async def test_after_a_write_a_page_follows_and_a_script_stays(tmp_path: Path) -> None:
    async with open_console(tmp_path) as console:
        browser = console.visitor()
        done = await browser.post("/runs/stop-all", {"next": "/sessions"})
        assert (done.status, done.headers["Location"]) == (303, "/sessions")
        done = await browser.post("/runs/stop-all", {"next": "//evil.example"})
        assert done.headers["Location"] == "/"
        done = await browser.post("/runs/stop-all", {"next": "/sessions"}, HX_Request="true")
        assert (done.status, done.headers["X-Next"]) == (204, "/sessions")
