"""Every page: nothing that axe calls serious, nothing beyond the edge of a phone, nothing on the browser's console."""

from collections.abc import Generator

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import Arrive
from tests.browser.people import DARK, PHONE, Daemon, Person

TOLD = (
    {"text": "Let me look.", "calls": [{"tool": "files.list", "arguments": {"path": "."}}]},
    {"calls": [{"tool": "files.read", "arguments": {"path": "not-there/" + "a-long-name" * 12 + ".txt"}}]},
    {
        "text": "It has:\n\n```\n"
        + "a line that is longer than a phone is wide, by far " * 3
        + "\n```\n- `one`\n- **two**"
    },
)
ASKS = (
    {"calls": [{"tool": "files.write", "arguments": {"path": "x.py", "text": "print('" + "x" * 300 + "')\n" * 40}}]},
    {"text": "Done."},
)


@pytest.fixture(scope="package")
def typical(tmp_path_factory: pytest.TempPathFactory) -> Generator[tuple[Daemon, list[str]]]:
    """A daemon with some of everything, and the paths of its pages of one session or run."""
    with Daemon.below(tmp_path_factory.mktemp("typical")).running() as daemon:
        daemon.define("tells", *TOLD)
        daemon.define("asks", *ASKS)
        daemon.define("hangs", {"deltas": ["Hm, ", "let me ", "think"], "hang": True})
        sessions = daemon.route("tells", "What is in this folder? <script>alert(1)</script>", wait=True)
        sessions += daemon.route("asks", "Write the program", "Write it again", wait=True)
        sessions += daemon.route("hangs", "Think about " + "averylongword" * 20)
        yield daemon, [f"/sessions/{each}" for each in sessions]


def pages(person: Person, more: list[str]) -> list[str]:
    """Return the pages of the menu and `more`, and of each what it leads to of a kind that was not seen before."""
    menu = person.page.get_by_role("navigation", name="Pages").get_by_role("link")
    return [each.get_attribute("href") or "" for each in menu.all()] + more


@pytest.mark.parametrize("options", [{}, DARK, PHONE], ids=["light", "dark", "phone"])
def test_every_page_can_be_read_by_everyone(
    typical: tuple[Daemon, list[str]], arrive: Arrive, options: dict[str, object]
) -> None:
    daemon, more = typical
    person = arrive(daemon, **options)
    faults = []
    for path in pages(person, more):
        person.open(path)
        expect(person.page.get_by_role("heading", level=1).first).to_be_attached()
        faults += [f"{path}: {each}" for each in person.violations()]
        if person.sideways > 0:
            faults.append(f"{path}: {person.sideways} px beyond the right edge")
    assert faults == []


def test_what_is_opened_on_a_page_can_be_read_as_well(typical: tuple[Daemon, list[str]], arrive: Arrive) -> None:
    daemon, more = typical
    for options in ({}, DARK):
        person = arrive(daemon, **options)
        for path in more:
            person.open(path)
            for each in person.page.locator("details").all():
                each.evaluate("e => e.open = true")
            assert person.violations() == []


def test_a_daemon_that_has_done_nothing_has_pages_too(arrive: Arrive, tmp_path_factory: pytest.TempPathFactory) -> None:
    with Daemon.below(tmp_path_factory.mktemp("empty")).running() as daemon:
        person = arrive(daemon)
        for path in pages(person, []):
            person.open(path)
            assert person.violations() == []
            assert person.sideways <= 0
