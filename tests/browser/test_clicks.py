"""What matters is never more than three clicks away, whether there is one run or there are hundreds."""

from collections.abc import Generator

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import Arrive
from tests.browser.people import Daemon, Person, writes

CLICKS = 3
SESSIONS = 200
APPROVALS = 50
FOUND = "the figure is forty-two"


@pytest.fixture(scope="package", params=[(0, 0), (SESSIONS, APPROVALS)], ids=["nothing else", "hundreds"])
def full(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Generator[Daemon]:
    """A daemon with one run of each kind that is looked for, and then so many others."""
    sessions, approvals = request.param
    with Daemon.below(tmp_path_factory.mktemp("full")).running() as daemon:
        daemon.define("asks", writes("wanted.txt"), {"text": "It is there."})
        daemon.define("denied", writes("/etc/passwd"), {"text": "I may not."})
        daemon.define("costs", {"text": "That was dear.", "usage": {"input_tokens": 31337, "output_tokens": 271}})
        daemon.define(
            "reads", {"calls": [{"tool": "files.read", "arguments": {"path": "figure.txt"}}]}, {"text": "Ah."}
        )
        daemon.define("hangs", {"deltas": ["Hm"], "hang": True})
        daemon.define("others", {"text": "Yes."})
        daemon.define("others-ask", writes("other.txt"), {"text": "Yes."})
        daemon.folder.joinpath("figure.txt").write_text(f"{FOUND}\n")
        daemon.begin("denied", "Change the passwords", wait=True)
        daemon.begin("costs", "Do something dear", wait=True)
        daemon.begin("reads", "Read the figure", wait=True)
        daemon.begin("hangs", "Think it over")
        daemon.begin("others", *[f"Task number {number}" for number in range(sessions)], wait=True)
        daemon.begin("others-ask", *[f"Question number {number}" for number in range(approvals // 2)], wait=True)
        daemon.begin("asks", "Write what is wanted", wait=True)
        daemon.begin("others-ask", *[f"Question again {number}" for number in range(approvals // 2)], wait=True)
        yield daemon


@pytest.fixture
def person(full: Daemon, arrive: Arrive) -> Generator[Person]:
    """Somebody on the overview, who gets where they want in few clicks."""
    person = arrive(full)
    yield person
    assert person.clicks <= CLICKS


def find(person: Person, words: str) -> None:
    """Find a session by what was said in it: typed, and sent with Enter."""
    person.click("Sessions")
    search = person.page.get_by_role("searchbox")
    search.fill(words)
    search.press("Enter")
    person.page.wait_for_url("**/sessions?q=*")
    person.click(words)


def test_approve(person: Person) -> None:
    question = person.page.locator(".ask", has_text="wanted.txt")
    if not question.count():
        person.click("Approvals")
    if question.get_attribute("open") is None:
        person.click(question.locator("summary").first)
    with person.page.expect_response("**/decide") as answer:
        person.click(question.get_by_role("button", name="Allow once"))
    assert answer.value.ok
    expect(question).to_have_count(0)


def test_stop(person: Person) -> None:
    person.click("Think it over")
    person.click("Stop")
    person.sees_state("cancelled")


def test_why_it_was_denied(person: Person) -> None:
    find(person, "Change the passwords")
    call = person.page.locator(".call")
    expect(call).to_contain_text("refused")
    person.click(call.locator("summary"))
    expect(call).to_contain_text("Policy: deny")


def test_what_it_cost(person: Person) -> None:
    find(person, "Do something dear")
    person.sees("tokens in, 271 out")


def test_an_output_by_the_search_of_its_session(person: Person) -> None:
    find(person, "Read the figure")
    search = person.page.get_by_role("searchbox", name="Words that were said in this session")
    search.fill("forty-two")
    search.press("Enter")
    person.click("Result of files.read")
    expect(person.page.locator(".call .output", has_text=FOUND)).to_be_visible()


def test_an_output(person: Person) -> None:
    find(person, "Read the figure")
    person.click("files.read")
    expect(person.page.locator(".call .output", has_text=FOUND)).to_be_visible()
