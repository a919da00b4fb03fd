"""Every page: nothing that axe calls serious, nothing beyond the edge of a phone, nothing on the browser's console."""

import re
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest

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
        sessions = daemon.begin("tells", "What is in this folder? <script>alert(1)</script>", wait=True)
        sessions += daemon.begin("asks", "Write the program", "Write it again", wait=True)
        sessions += daemon.begin("hangs", "Think about " + "averylongword" * 20)
        yield daemon, sessions


def every_page(person: Person, begin: list[str]) -> Iterator[str]:
    """Open one page of each kind that links lead to from `begin` on, and all of `begin`; yield its path while it is open.

    What only differs in an id, a number or an agent is of one kind.
    """
    kinds, known, left = set[str](), {*begin}, [*begin]
    while left:
        path = left.pop(0)
        kind = re.sub(r"/[0-9A-Z]{26}|/\d+|(?<=/agents)/[^_/]+", "/*", path.partition("?")[0].partition("#")[0])
        if (kind in kinds and path not in begin) or "raw=" in path:
            continue
        kinds.add(kind)
        response = person.page.goto(path)
        assert response is not None
        assert response.status == 200, path
        links = person.page.eval_on_selector_all(
            "nav a[href^='/'], main a[href^='/']:not([download])", "all => all.map(each => each.getAttribute('href'))"
        )
        left += [each for each in dict.fromkeys(links) if each not in known]
        known.update(links)
        yield path


def faults(person: Person, path: str, *, axe: bool) -> list[str]:
    """Return what is wrong with the page that is open, and with all that can be opened on it."""
    found = [f"{path}: closed, {person.sideways} px beyond the right edge"] if person.sideways > 0 else []
    person.page.locator("main details").evaluate_all("all => all.forEach(each => { each.open = true; })")
    found += [f"{path}: open, {person.sideways} px beyond the right edge"] if person.sideways > 0 else []
    return found + [f"{path}: {each}" for each in (person.violations() if axe else ())]


@pytest.mark.parametrize(
    ("options", "axe"),
    [({}, True), (DARK, True), (PHONE, False), pytest.param({**DARK, **PHONE}, True, marks=pytest.mark.slow)],
    ids=["light", "dark", "phone", "dark phone"],
)
def test_every_page_can_be_read_by_everyone(
    typical: tuple[Daemon, list[str]], arrive: Arrive, options: dict[str, object], axe: bool
) -> None:
    daemon, sessions = typical
    person = arrive(daemon, **options)
    searched = f"{sessions[0]}/search?q=folder"  # a form leads there, and no link
    found = [each for path in every_page(person, ["/", *sessions, searched]) for each in faults(person, path, axe=axe)]
    assert found == []


def test_a_daemon_that_has_done_nothing_has_pages_too(arrive: Arrive, tmp_path: Path) -> None:
    with Daemon.below(tmp_path).running() as daemon:
        person = arrive(daemon, **PHONE)
        assert [each for path in every_page(person, ["/"]) for each in faults(person, path, axe=True)] == []
