"""A session's page as a person uses it: what is sent along, what it is called, what a card holds, and how many are live."""

import re
from pathlib import Path

import pytest
from playwright.sync_api import expect

from palyra_trio.transports.console.live import PAGES
from palyra_trio.transports.console.uploads import FILES_BYTES
from tests.browser.conftest import Arrive
from tests.browser.people import PHONE, Daemon, Person

PLAIN = {"java_script_enabled": False}
NAME = "<img src=x onerror=alert(1)>.md"


def attach(person: Person, folder: Path, *names: str, size: int = 3) -> None:
    for each in names:
        folder.joinpath(each).write_bytes(b"x" * size)
    person.page.get_by_label("Files to send along").set_input_files([folder / each for each in names])


@pytest.mark.parametrize("options", [{}, PLAIN], ids=["script", "no script"])
def test_files_and_a_model_are_chosen_for_one_message(
    daemon: Daemon, arrive: Arrive, tmp_path: Path, options: dict[str, object]
) -> None:
    agent = f"takes-files-{len(options)}"
    daemon.define(agent, {"text": "Thank you."})
    person = arrive(daemon, **options)
    person.open("/")
    attach(person, tmp_path, NAME, "second.txt")
    person.page.get_by_label("What the agent is to do").fill("Look at these")
    person.page.get_by_label("In the folder").fill(str(daemon.folder))
    person.page.get_by_label("Agent", exact=True).select_option(agent)
    person.click("Start")
    person.sees(f"with {NAME} (3 bytes), second.txt (3 bytes)")
    expect(person.page.get_by_label("Agent", exact=True)).to_have_value(agent)
    person.click("Model, files")
    offered = person.page.locator("#models option").evaluate_all("all => all.map(each => each.value)")
    assert "offline/rules" in offered
    person.page.get_by_label("By the model").fill("offline/rules")
    attach(person, tmp_path, "third.txt")
    person.page.get_by_label("Message").fill("what time is it")
    person.click("Send")
    person.sees("with third.txt (3 bytes)")
    if not options:
        person.sees("I did not look at the attached third.txt")
        person.sees("offline/rules")
        expect(person.page.get_by_label("By the model")).to_have_value("offline/rules")
        expect(person.page.get_by_label("Agent", exact=True)).to_have_value(agent)
        expect(person.page.get_by_label("Message")).to_have_value("")
        assert person.page.get_by_label("Files to send along").evaluate("e => e.files.length") == 0
        person.page.reload()
        expect(person.page.get_by_label("By the model")).to_be_visible()
        expect(person.page.get_by_label("By the model")).to_have_value("offline/rules")


def test_files_that_are_too_large_are_told_of_before_they_are_sent(
    daemon: Daemon, arrive: Arrive, tmp_path: Path
) -> None:
    person = arrive(daemon)
    person.open("/")
    attach(person, tmp_path, "large.bin", size=FILES_BYTES + 1)
    files = person.page.get_by_label("Files to send along")
    assert files.evaluate("e => e.validationMessage") == "Too much: 32 files at most, 32 MiB together."
    attach(person, tmp_path, "small.bin")
    assert files.evaluate("e => e.validationMessage") == ""


def test_without_script_a_body_that_is_too_long_is_answered_with_a_page_that_says_so(
    daemon: Daemon, arrive: Arrive, tmp_path: Path
) -> None:
    person = arrive(daemon, errors=True, **PLAIN)
    person.open("/")
    attach(person, tmp_path, "large.bin", size=FILES_BYTES * 5 // 4)
    person.page.get_by_label("What the agent is to do").fill("Look at this")
    person.click("Start")
    person.sees("That is too long")
    person.sees("Send 33792 KiB at most")


def test_a_new_title_reaches_the_other_tabs(daemon: Daemon, arrive: Arrive) -> None:
    daemon.define("tells", {"text": "Said."})
    person = arrive(daemon)
    person.start("tells", "Paint the fence")
    person.sees("Said.")
    same, listed = person.tab(), person.tab()
    listed.open("/sessions")
    for each in (same, listed):
        each.is_live()
    person.click("Rename")
    person.page.get_by_label("Title").fill("The <b>gate</b>")
    person.click(person.page.locator("details.confirm form").get_by_role("button", name="Rename"))
    for each in (person, same):
        expect(each.page.get_by_role("heading", level=1)).to_have_text("The <b>gate</b>")
        expect(each.page).to_have_title("The <b>gate</b> · palyra-trio")
    expect(listed.page.get_by_role("link", name="The <b>gate</b>")).to_be_visible()
    listed.page.reload()
    expect(listed.page.get_by_role("link", name="The <b>gate</b>")).to_be_visible()


def test_a_card_gets_what_it_holds_when_it_is_opened_and_keeps_it(daemon: Daemon, arrive: Arrive) -> None:
    daemon.folder.joinpath("held.txt").write_text("the words that it holds\n" * 30)
    reads = {"calls": [{"tool": "files.read", "arguments": {"path": "held.txt"}}]}
    daemon.define("reads-held", reads, {"deltas": ["Well"], "hang": True})
    person = arrive(daemon)
    person.start("reads-held", "Read it")
    person.sees("Well")
    card = person.page.locator(".call")
    expect(card.locator(".output")).to_have_count(0)
    card.locator("summary").focus()
    person.page.keyboard.press("Enter")
    result = card.locator(".output", has_text="the words that it holds")
    expect(result).to_be_visible()
    person.click("Stop")
    person.sees_state("cancelled")
    expect(result).to_be_visible()
    person.page.reload()
    expect(person.page.locator(".call").first).to_be_visible()
    expect(person.page.locator(".call .output")).to_have_count(0)


def test_the_newest_pages_are_live_and_an_older_one_says_that_it_is_not_until_somebody_comes_back(
    daemon: Daemon, arrive: Arrive
) -> None:
    person = arrive(daemon)
    person.open("/")
    person.is_live()
    others = [person.tab() for _ in range(PAGES)]
    for each in others:
        each.is_live()
    status = person.page.locator("#stream")
    expect(status).to_contain_text(f"not live: {PAGES} newer pages are")
    others[-1].page.close()
    person.page.evaluate("dispatchEvent(new Event('focus'))")
    person.is_live()


def test_the_whole_menu_is_on_a_phone(daemon: Daemon, arrive: Arrive) -> None:
    person = arrive(daemon, **PHONE)
    for link in person.page.get_by_role("navigation", name="Pages").get_by_role("link").all():
        box = link.bounding_box()
        assert box is not None
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= 390
    top = person.page.locator("header.top").bounding_box()
    assert top is not None
    assert top["height"] < 120


def test_a_new_question_comes_up_below_those_that_wait(daemon: Daemon, arrive: Arrive) -> None:
    daemon.define("asks-one", {"calls": [{"tool": "files.write", "arguments": {"path": "one.txt", "text": "1"}}]})
    daemon.define("asks-two", {"calls": [{"tool": "files.write", "arguments": {"path": "two.txt", "text": "2"}}]})
    daemon.begin("asks-one", "Write one", wait=True)
    person = arrive(daemon)
    person.open("/approvals")
    person.is_live()
    first = person.page.locator(".ask", has_text=re.compile(r"one\.txt"))
    before = first.bounding_box()
    daemon.begin("asks-two", "Write two", wait=True)
    expect(person.page.locator(".ask", has_text=re.compile(r"two\.txt"))).to_be_visible()
    assert first.bounding_box() == before
    for each in ("one", "two"):
        question = person.page.locator(".ask", has_text=re.compile(rf"{each}\.txt"))
        if question.get_attribute("open") is None:
            person.click(question.locator("summary").first)
        person.click(question.get_by_role("button", name="Deny"))
        expect(question).to_have_count(0)
