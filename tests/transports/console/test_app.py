"""The console put together: its cookie is its own, and the menu leads everywhere."""

from pathlib import Path

import trio

from palyra_trio.core.identity import Caller
from palyra_trio.guard.auth import Authenticator
from palyra_trio.guard.web_session import WebSessions
from palyra_trio.runtime.access import Access
from palyra_trio.transports.console.app import console as made
from tests.fakes import ME
from tests.transports.console.browsing import EVERY_SCOPE, open_console


async def test_the_menu_leads_to_pages_that_are_there_and_says_which_one_this_is(tmp_path: Path) -> None:
    async with open_console(tmp_path) as console:
        browser = console.visitor()
        for title, path in console.site.navigation:
            page = await browser.get(path)
            assert page.status == 200, path
            assert page.text.partition("</nav>")[0].count('aria-current="page"') == 1
            assert title in page


async def test_the_cookie_is_of_this_daemon_alone_and_over_tls_bound_to_its_host(tmp_path: Path) -> None:
    async with open_console(tmp_path) as console:
        gateway = console.runtime.gateway
        access = Access(Authenticator(gateway.tokens, -1, ME.principal, console.runtime.state.now_s), gateway)
        sessions = WebSessions(console.runtime.state.random)
        for secure, name in ((True, "__Host-palyra-7200"), (False, "palyra-7200")):
            site = made(gateway, access, sessions, (), 7200, secure=secure)
            link = sessions.open_link(Caller(ME, EVERY_SCOPE), trio.current_time())
            scheme = "https" if secure else "http"
            done = await site.app.test_client().post(
                "/sign-in", form={"link": link}, headers={"Origin": f"{scheme}://localhost"}, scheme=scheme
            )
            assert done.status_code == 303
            sent = done.headers["Set-Cookie"]
            assert sent.startswith(f"{name}=")
            assert ("Secure" in sent) is secure
            assert "Domain" not in sent
