"""A run from its beginning to its end, as a person sees it who has the page open: it streams, asks, and stops."""

from playwright.sync_api import Locator, expect

from tests.browser.conftest import Arrive
from tests.browser.people import Daemon, Person, writes

SLOW = {"deltas": [f"word{number} " for number in range(150)], "delta_pause_s": 0.02}
HALF = {"deltas": ["Half of ", "a thought"], "hang": True}
TABS = 60  # more than any page needs to come to its first question


def reach(person: Person, what: Locator) -> None:
    """Press Tab until something has the focus."""
    for _ in range(TABS):
        if what.evaluate("e => e === document.activeElement"):
            return
        person.page.keyboard.press("Tab")
    expect(what).to_be_focused()


def test_a_run_is_started_from_the_page_and_its_answer_streams(daemon: Daemon, arrive: Arrive) -> None:
    daemon.define("slow", SLOW)
    person = arrive(daemon)
    person.start("slow", "Count the words")
    person.sees("word3 ")
    person.sees_state("running")
    assert "word149" not in person.transcript
    person.sees("word149")
    person.sees_state("done")


def test_one_call_is_allowed_and_another_denied(daemon: Daemon, arrive: Arrive) -> None:
    daemon.define("two-files", writes("first.txt"), writes("second.txt"), {"text": "One of them, then."})
    person = arrive(daemon)
    person.start("two-files", "Write two files")
    person.sees("+this is first.txt")
    person.sees_state("waiting")
    person.click("Allow once")
    person.sees("+this is second.txt")
    person.click("Deny")
    person.sees("One of them, then.")
    person.sees_state("done")
    person.sees("denied")
    assert (daemon.folder / "first.txt").exists()
    assert not (daemon.folder / "second.txt").exists()


def test_a_question_is_found_and_answered_with_the_keyboard_alone(daemon: Daemon, arrive: Arrive) -> None:
    daemon.define("by-keys", writes("keys.txt"), {"text": "By keys."})
    person = arrive(daemon)
    daemon.begin("by-keys", "Write keys.txt")
    question = person.page.locator(".ask", has_text="keys.txt")
    expect(question).to_be_visible()
    summary, allow = question.locator("summary").first, question.get_by_role("button", name="Allow once")
    reach(person, summary)
    if question.get_attribute("open") is None:
        person.page.keyboard.press("Enter")
    reach(person, allow)
    person.page.keyboard.press("Enter")
    expect(question).to_have_count(0)
    person.click("Write keys.txt")
    person.sees("By keys.")


def test_a_run_is_stopped_from_its_page(daemon: Daemon, arrive: Arrive) -> None:
    daemon.define("hangs", HALF)
    person = arrive(daemon)
    person.start("hangs", "Think")
    person.sees("Half of a thought")
    person.click("Stop")
    person.sees_state("cancelled")


def test_all_runs_are_stopped_from_the_overview(daemon: Daemon, arrive: Arrive) -> None:
    daemon.define("hangs-too", HALF)
    daemon.begin("hangs-too", "Think of one thing", "Think of another")
    person = arrive(daemon)
    running = person.page.locator("#running")
    expect(running).to_contain_text("Think of another")
    person.click("Stop all")
    person.click(running.get_by_role("button", name="Stop"))
    expect(running).to_contain_text("Nothing runs or waits.")


def test_a_reload_in_the_middle_of_an_answer_shows_what_was_there(daemon: Daemon, arrive: Arrive) -> None:
    daemon.define("half", writes("half.txt"), {**SLOW, "hang": True})
    person = arrive(daemon)
    person.start("half", "Begin something")
    person.click("Allow once")
    person.sees("word149")
    before = person.transcript
    person.page.reload()
    person.is_live()
    assert person.transcript == before
    person.click("Stop")
    person.sees_state("cancelled")


def test_a_page_that_was_reloaded_while_an_answer_streams_ends_as_one_that_was_not(
    daemon: Daemon, arrive: Arrive
) -> None:
    daemon.define("streams", {**SLOW, "calls": [{"tool": "clock.now"}]}, {"text": "And that was that."})
    person = arrive(daemon)
    person.start("streams", "Tell me everything")
    other = person.tab()
    for word in ("word10 ", "word40 ", "word70 "):
        person.sees(word)
        person.page.reload()
    for each in (person, other):
        each.sees("And that was that.")
        each.sees_state("done")
    assert person.transcript == other.transcript
    person.page.reload()
    assert person.transcript == other.transcript


def test_what_is_decided_in_one_tab_is_decided_in_the_other(daemon: Daemon, arrive: Arrive) -> None:
    daemon.define("in-step", writes("in-step.txt"), {"text": "Both saw it."})
    person = arrive(daemon)
    person.start("in-step", "Ask me")
    other = person.tab()
    person.sees_state("waiting")
    other.click("Allow once")
    for each in (person, other):
        each.sees("Both saw it.")
        expect(each.page.get_by_role("button", name="Allow once")).to_have_count(0)
    assert person.transcript == other.transcript
