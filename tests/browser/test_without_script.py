"""The same tasks in a browser that runs no script: plain forms, and pages that are loaded again."""

from tests.browser.conftest import Arrive
from tests.browser.people import Daemon, Person, writes

PLAIN = {"java_script_enabled": False}
LOOKS = 50  # at a page, until what is waited for is there


def look_until(person: Person, text: str) -> None:
    """Load the page again until it says `text`."""
    for _ in range(LOOKS):
        if text in person.page.get_by_role("main").inner_text():
            return
        person.page.reload()
    person.sees(text)


def test_a_run_is_started_allowed_and_read(daemon: Daemon, arrive: Arrive) -> None:
    daemon.define("plainly-asks", writes("plain.txt"), {"text": "It is written."})
    person = arrive(daemon, **PLAIN)
    person.start("plainly-asks", "Write it down")
    look_until(person, "+this is plain.txt")
    person.click("Allow once")
    look_until(person, "It is written.")
    person.click("files.write")
    person.click("Arguments and result")
    person.sees('"path": "plain.txt"')
    person.sees("Granted by")


def test_a_call_is_denied_from_the_overview_and_the_reason_is_read(daemon: Daemon, arrive: Arrive) -> None:
    daemon.define("plainly-denied", writes("unwanted.txt"), {"text": "Then not."})
    person = arrive(daemon, **PLAIN)
    daemon.begin("plainly-denied", "Write what nobody wants", wait=True)
    person.open("/")
    question = person.page.locator(".ask").first
    person.click(question.get_by_role("button", name="Deny"))
    person.click("Write what nobody wants")
    look_until(person, "Then not.")
    person.sees("the person said no")


def test_a_run_is_stopped_by_a_form(daemon: Daemon, arrive: Arrive) -> None:
    daemon.define("plainly-hangs", {"deltas": ["Thinking"], "hang": True})
    person = arrive(daemon, **PLAIN)
    person.start("plainly-hangs", "Think")
    look_until(person, "Thinking")
    person.click("Stop")
    look_until(person, "cancelled")


def test_colours_are_chosen_and_stay(daemon: Daemon, arrive: Arrive) -> None:
    person = arrive(daemon, **PLAIN)
    person.click(person.page.locator("details.menu > summary"))
    person.click("Dark")
    person.open("/sessions")
    background = person.page.locator("body").evaluate("e => getComputedStyle(e).backgroundColor")
    assert max(map(int, background.removeprefix("rgb(").removesuffix(")").split(","))) < 64
