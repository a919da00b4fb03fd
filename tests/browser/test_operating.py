"""What is done on the page of diagnostics is seen there at once, and on the overview."""

from playwright.sync_api import expect

from tests.browser.conftest import Arrive
from tests.browser.people import Daemon


def test_a_pause_is_told_on_the_overview_until_it_ends(daemon: Daemon, arrive: Arrive) -> None:
    person = arrive(daemon)
    overview = person.tab()
    overview.open("/")
    overview.is_live()
    person.open("/diagnostics")
    person.is_live()
    person.click("Pause")
    person.click("Take no new runs")
    expect(overview.page.locator("#facts .state").first).to_have_text("paused")
    overview.page.reload()
    expect(overview.page.locator("#facts .state").first).to_have_text("paused")
    person.click("Take new runs again")
    expect(overview.page.locator("#facts .state").first).to_have_text("ready")


def test_a_verification_of_the_journal_is_told_without_a_reload(daemon: Daemon, arrive: Arrive) -> None:
    person = arrive(daemon)
    person.open("/diagnostics")
    person.is_live()
    person.click("Verify")
    person.sees("Every row is what was written")
