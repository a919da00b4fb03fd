"""Signing in, out, and out everywhere: each link opens once, no session survives what it should not."""

from pathlib import Path
from urllib.parse import urlencode

import trio

from palyra_trio.core.commands import CreateToken, RevokeToken, TokenIssued
from palyra_trio.core.identity import Caller, Scope
from palyra_trio.guard.web_session import ABSOLUTE_S, FAILURES_PER_MIN, IDLE_S
from palyra_trio.transports.console.sign_in import ENDED
from tests.fakes import ME
from tests.transports.console.browsing import EVERY_SCOPE, Browser, Console, open_console


def cookie(browser: Browser) -> str | None:
    jar = {each.name: each.value for each in browser.client.cookie_jar} if browser.client.cookie_jar else {}
    return jar.get("palyra-7142")


def link(console: Console) -> str:
    return console.site.sessions.open_link(Caller(ME, EVERY_SCOPE), trio.current_time())


async def token(console: Console, *scopes: Scope) -> TokenIssued:
    issued = await console.runtime.gateway.submit(CreateToken("t", ME.principal, scopes), ME)
    assert isinstance(issued, TokenIssued)
    return issued


async def test_a_link_signs_in_and_opens_once(tmp_path: Path) -> None:
    async with open_console(tmp_path) as console:
        secret, browser, other = link(console), console.stranger(), console.stranger()
        done = await browser.post("/sign-in", {"link": secret, "next": "/sessions"})
        assert (done.status, done.headers["Location"]) == (303, "/sessions")
        assert (await browser.get("/sessions")).status == 200
        again = await other.post("/sign-in", {"link": secret})
        assert again.status == 403
        assert "was used" in again
        assert (await other.get("/")).status == 303


async def test_who_signs_in_by_a_link_may_work_where_its_maker_may(tmp_path: Path) -> None:
    (elsewhere := tmp_path / "elsewhere").mkdir()
    async with open_console(tmp_path) as console:
        issued = await token(console, Scope.READ, Scope.RUN)
        for proof, started in (({"link": link(console)}, True), ({"token": issued.secret}, False)):
            browser = console.stranger()
            await browser.post("/sign-in", proof)
            browser.csrf = (await browser.get("/")).text.partition('name="csrf" value="')[2].partition('"')[0]
            done = await browser.post("/sessions", {"text": "hello", "workspace": str(elsewhere)})
            assert done.status == (303 if started else 403)
        (run,) = await console.runtime.gateway.ask(lambda reader: reader.runs(ME.principal))
        await console.runtime.ended(run.run_id)


async def test_looking_at_a_link_does_not_use_it_up(tmp_path: Path) -> None:
    async with open_console(tmp_path) as console:
        secret, browser = link(console), console.stranger()
        for _ in range(2):
            assert secret in (await browser.get(f"/sign-in?link={secret}")).text
        assert (await browser.post("/sign-in", {"link": secret})).status == 303


async def test_a_link_that_another_site_opened_signs_in_who_says_so(tmp_path: Path) -> None:
    async with open_console(tmp_path) as console:
        path = f"/sign-in?link={link(console)}"
        for where, at_once in (("none", True), ("same-origin", True), ("cross-site", False), ("same-site", False)):
            page = await console.stranger().get(path, Sec_Fetch_Site=where)
            assert ("data-submit" in page.text) is at_once
            assert "Sign in" in page
        assert "data-submit" in (await console.stranger().get(path)).text


async def test_who_is_signed_in_goes_on_to_where_they_wanted_but_for_a_link_of_somebody(tmp_path: Path) -> None:
    async with open_console(tmp_path) as console:
        browser = console.visitor()
        for target, goes_to in (("/sessions?q=a", "/sessions?q=a"), ("//evil.example", "/"), ("/\\evil.example", "/")):
            page = await browser.get(f"/sign-in?{urlencode({'next': target})}")
            assert (page.status, page.headers["Location"]) == (303, goes_to)
        assert (await browser.get(f"/sign-in?link={link(console)}")).status == 200


async def test_whose_session_has_ended_is_told_and_nobody_else(tmp_path: Path) -> None:
    async with open_console(tmp_path) as console:
        browser, other = console.visitor(), console.visitor()
        assert ENDED not in await console.stranger().get("/sign-in")
        await other.post("/sign-out", {"everywhere": "yes"})
        assert ENDED not in await other.get("/sign-in")
        assert ENDED in await browser.get("/sign-in")
        assert ENDED not in await browser.get(f"/sign-in?link={link(console)}")


async def test_who_came_by_a_token_that_was_revoked_signs_in_again_and_is_not_sent_to_and_fro(tmp_path: Path) -> None:
    async with open_console(tmp_path) as console:
        issued, browser = await token(console, Scope.READ), console.stranger()
        await browser.post("/sign-in", {"token": issued.secret})
        await console.runtime.do(RevokeToken(issued.token.token_id))
        page = await browser.get((await browser.get("/sessions")).headers["Location"])
        assert (page.status, ENDED in page) == (200, True)


async def test_the_cookie_is_for_this_site_and_for_no_script(tmp_path: Path) -> None:
    async with open_console(tmp_path) as console:
        done = await console.stranger().post("/sign-in", {"link": link(console)})
        sent = done.headers["Set-Cookie"]
        assert sent.startswith("palyra-7142=")
        assert {"HttpOnly", "SameSite=Strict", "Path=/"} <= {part.strip() for part in sent.split(";")}


async def test_signing_in_makes_a_new_session_and_ends_the_one_before(tmp_path: Path) -> None:
    async with open_console(tmp_path) as console:
        browser = console.stranger()
        browser.client.set_cookie("localhost", "palyra-7142", "chosen-by-an-attacker")
        await browser.post("/sign-in", {"link": link(console)})
        first = cookie(browser)
        assert first not in (None, "chosen-by-an-attacker")
        await browser.post("/sign-in", {"link": link(console)})
        assert cookie(browser) != first
        stolen = console.stranger()
        stolen.client.set_cookie("localhost", "palyra-7142", first or "")
        assert (await stolen.get("/")).status == 303


async def test_a_token_signs_in_with_its_scopes_until_it_is_revoked(tmp_path: Path) -> None:
    async with open_console(tmp_path) as console:
        issued, browser = await token(console, Scope.READ), console.stranger()
        assert (await browser.post("/sign-in", {"token": f" {issued.secret}\n"})).status == 303
        page = await browser.get("/")
        assert "may read" in page
        assert "Start something" not in page
        await console.runtime.do(RevokeToken(issued.token.token_id))
        assert (await browser.get("/")).status == 303


async def test_a_token_that_may_not_read_does_not_sign_in(tmp_path: Path) -> None:
    async with open_console(tmp_path) as console:
        issued = await token(console, Scope.RUN)
        assert (await console.stranger().post("/sign-in", {"token": issued.secret})).status == 403


async def test_who_guesses_is_told_to_wait(tmp_path: Path) -> None:
    async with open_console(tmp_path) as console:
        browser = console.stranger()
        for _ in range(FAILURES_PER_MIN):
            assert (await browser.post("/sign-in", {"token": "plt_guess"})).status == 403
        assert (await browser.post("/sign-in", {"token": "plt_guess"})).status == 429
        assert (await browser.post("/sign-in", {"link": "a guess"})).status == 429


async def test_nobody_who_guesses_can_keep_a_link_or_a_token_from_opening(tmp_path: Path) -> None:
    async with open_console(tmp_path) as console:
        browser = console.stranger()
        for _ in range(FAILURES_PER_MIN + 1):
            guessed = await browser.post("/sign-in", {"link": "a guess"})
        assert guessed.status == 429
        assert (await browser.post("/sign-in", {"link": link(console)})).status == 303
        issued = await token(console, Scope.READ)
        assert (await console.stranger().post("/sign-in", {"token": issued.secret})).status == 303


async def test_another_site_signs_nobody_in(tmp_path: Path) -> None:
    async with open_console(tmp_path) as console:
        secret, browser = link(console), console.stranger()
        for origin in ("http://evil.example", "null", ""):
            done = await browser.post("/sign-in", {"link": secret}, Origin=origin, Sec_Fetch_Site="")
            assert done.status == 403
            assert "Set-Cookie" not in done.headers
        assert (await browser.post("/sign-in", {"link": secret})).status == 303


async def test_where_to_go_next_is_a_page_of_this_site(tmp_path: Path) -> None:
    async with open_console(tmp_path) as console:
        browser = console.stranger()
        asked = await browser.get("/sessions?q=a%26b")
        assert asked.headers["Location"] == "/sign-in?next=%2Fsessions%3Fq%3Da%2526b"
        for target in ("//evil.example", "https://evil.example/", "/\\evil.example"):
            assert "evil" not in (await browser.get(f"/sign-in?next={target}")).text
            done = await browser.post("/sign-in", {"link": link(console), "next": target})
            assert done.headers["Location"] == "/"


async def test_signing_out_ends_this_session_and_everywhere_all_of_them(tmp_path: Path) -> None:
    async with open_console(tmp_path) as console:
        here, there, elsewhere = (console.visitor() for _ in range(3))
        done = await here.post("/sign-out")
        assert (done.status, done.headers["Location"]) == (303, "/sign-in")
        assert (await here.get("/")).status == 303
        assert (await there.get("/")).status == 200
        await there.post("/sign-out", {"everywhere": "yes"})
        assert (await elsewhere.get("/")).status == 303


async def test_a_session_ends_when_nobody_comes_and_at_last(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    async with open_console(tmp_path, checked=False) as console:
        browser = console.visitor()
        await trio.sleep(IDLE_S - 1)
        assert (await browser.get("/sessions")).status == 200
        await trio.sleep(IDLE_S)
        assert (await browser.get("/sessions")).status == 303
        browser = console.visitor()
        for _ in range(ABSOLUTE_S // (IDLE_S - 1) + 1):
            found = (await browser.get("/sessions")).status
            await trio.sleep(IDLE_S - 1)
        assert found == 200
        assert (await browser.get("/sessions")).status == 303


async def test_colours_are_chosen_without_script_and_only_those_that_there_are(tmp_path: Path) -> None:
    async with open_console(tmp_path) as console:
        browser = console.visitor()
        done = await browser.post("/theme", {"theme": "dark", "next": "/sessions"})
        assert done.headers["Location"] == "/sessions"
        assert 'data-theme="dark"' in (await browser.get("/")).text
        await browser.post("/theme", {"theme": '"><script>'})
        assert "data-theme" not in (await browser.get("/")).text
