"""Signing in with the printed link, once, and out: here, and everywhere."""

from playwright.sync_api import Browser, expect

from tests.browser.conftest import Arrive
from tests.browser.people import PATIENCE_MS, Daemon


def test_a_link_signs_in_one_browser_and_no_second_one(chromium: Browser, daemon: Daemon) -> None:
    link = daemon.link()
    with chromium.new_context() as first, chromium.new_context() as second:
        page = first.new_page()
        page.goto(link)
        page.wait_for_url(f"{daemon.origin}/")
        expect(page.get_by_role("navigation", name="Pages")).to_be_visible()
        page = second.new_page()
        page.goto(link)
        expect(page.locator("main").get_by_role("alert")).to_contain_text("this link was used")


def test_without_a_session_every_page_leads_to_where_one_signs_in_and_back(chromium: Browser, daemon: Daemon) -> None:
    with chromium.new_context(base_url=daemon.origin) as context:
        page = context.new_page()
        page.goto("/sessions")
        page.get_by_label("Or paste an access token").fill(daemon.server.authorization.removeprefix("Bearer "))
        page.get_by_role("button", name="Sign in").click()
        expect(page.get_by_role("heading", name="Sessions")).to_be_visible()


def test_signing_out_everywhere_ends_what_other_browsers_see(daemon: Daemon, arrive: Arrive) -> None:
    daemon.define("says-little", {"text": "Little."})
    here, there = arrive(daemon), arrive(daemon, errors=True)  # the stream that is refused is an error on its console
    there.is_live()
    here.click(here.page.locator("details.menu > summary"))
    here.click("Sign out everywhere")
    expect(here.page.get_by_role("heading", name="palyra-trio")).to_be_visible()
    daemon.begin("says-little", "anything at all")  # the next thing that happens is not shown there
    there.page.wait_for_url("**/sign-in?*", timeout=PATIENCE_MS)
