"""A refusal is told on the page where somebody asked for what is refused, and what they typed is still there."""

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import Arrive
from tests.browser.people import PHONE, Daemon, Person


def refuse(daemon: Daemon, arrive: Arrive, agent: str, **options: object) -> Person:
    """Let somebody send an empty message, which is refused."""
    daemon.define(agent, {"text": "Yes."})
    person = arrive(daemon, errors=True, **options)  # that it was refused is an error on the browser's console
    person.start(agent, "Begin")
    person.sees("Yes.")
    person.page.get_by_label("Message").fill("   ")
    person.click("Send")
    expect(person.page.get_by_role("alert")).to_contain_text("The prompt is empty")
    return person


def test_a_message_that_is_refused_is_kept_and_the_page_says_why(daemon: Daemon, arrive: Arrive) -> None:
    person = refuse(daemon, arrive, "answers")
    message = person.page.get_by_label("Message")
    expect(message).to_have_value("   ")
    message.fill("Go on")
    person.click("Send")
    expect(person.page.get_by_role("alert")).to_have_text("")
    person.sees("Go on")


@pytest.mark.parametrize("options", [{}, PHONE], ids=["desk", "phone"])
def test_a_notice_is_in_sight_covers_no_button_and_can_be_dismissed(
    daemon: Daemon, arrive: Arrive, options: dict[str, object]
) -> None:
    person = refuse(daemon, arrive, f"answers-{len(options)}", **options)
    notice = person.page.get_by_role("alert")
    expect(notice).to_be_in_viewport(ratio=1)
    for button in person.page.get_by_role("button").locator("visible=true").all():
        button.click(trial=True)
    person.click("Dismiss")
    expect(notice).to_have_text("")
    person.click("Send")
    expect(notice).to_contain_text("The prompt is empty")
    person.page.keyboard.press("Escape")
    expect(notice).to_have_text("")


def test_a_start_that_is_refused_leaves_the_form_as_it_is_and_says_what_is_wrong(
    daemon: Daemon, arrive: Arrive
) -> None:
    daemon.define("starts", {"text": "Yes."})
    person = arrive(daemon, errors=True)
    text, folder = person.page.get_by_label("What the agent is to do"), person.page.get_by_label("In the folder")
    for wrong in ("nonsense", str(daemon.folder / "none")):
        text.fill("Do something")
        folder.fill(wrong)
        person.click("Start")
        expect(person.page.get_by_role("alert")).to_contain_text(wrong)
        expect(person.page.get_by_role("alert")).to_contain_text("whole path of a folder that exists")
        expect(text).to_have_value("Do something")
        expect(folder).to_have_value(wrong)
    folder.fill(str(daemon.folder))
    person.page.get_by_label("Agent", exact=True).select_option("starts")
    person.click("Start")
    person.page.wait_for_url("**/sessions/*")
    person.sees("Do something")
