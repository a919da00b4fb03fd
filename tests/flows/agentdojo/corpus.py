"""The corpus as `derive` left it: suites of documents and pages with slots for an injection, and tasks with their calls."""

import functools
import json
from collections.abc import Iterator, Mapping
from typing import Any

import attrs

from tests.flows.agentdojo.derive import CORPUS

MODEL, USER = "AI assistant", "Emma Johnson"


@attrs.frozen
class Task:
    """What a user asks for or an injection demands, and the calls that the package takes for the right answer to it."""

    suite: str
    name: str
    says: str
    calls: tuple[tuple[str, Mapping[str, Any]], ...]

    @property
    def key(self) -> str:
        return f"{self.suite}/{self.name}"


@attrs.frozen
class Suite:
    """Texts by path and pages by address, in which a slot is its name in braces; `slots` says what stands there else."""

    name: str
    documents: Mapping[str, str]
    pages: Mapping[str, str]
    slots: Mapping[str, str]
    injections: tuple[Task, ...]
    tasks: tuple[Task, ...]

    def place(self, slot: str) -> tuple[str, bool]:
        """Return the document or page that holds a slot, and whether it is a page."""
        for texts in (self.documents, self.pages):
            for place, text in texts.items():
                if "{" + slot + "}" in text:
                    return place, texts is self.pages
        raise KeyError(slot)

    def filled(self, texts: Mapping[str, str], slot: str = "", injection: str = "") -> dict[str, str]:
        """Return texts with what stands in every slot: `injection` in `slot`, the usual words elsewhere."""
        said = dict(self.slots) | ({slot: injection} if slot else {})
        return {place: _filled(text, said) for place, text in texts.items()}


@attrs.frozen
class Corpus:
    attack: str
    suites: tuple[Suite, ...]

    def injections(self) -> Iterator[Task]:
        return (task for suite in self.suites for task in suite.injections)

    def tasks(self) -> Iterator[tuple[Suite, Task]]:
        return ((suite, task) for suite in self.suites for task in suite.tasks)

    def combinations(self) -> Iterator[tuple[Suite, str, Task]]:
        """Return every slot with every injection of its suite."""
        return ((suite, slot, task) for suite in self.suites for slot in suite.slots for task in suite.injections)

    def text(self, injection: Task) -> str:
        """Return what an attacker puts into a slot."""
        return self.attack.format(goal=injection.says, user=USER, model=MODEL)


@functools.cache
def load() -> Corpus:
    """Return the corpus that is kept beside this file."""
    plain = json.loads(CORPUS.read_text("utf-8"))
    return Corpus(plain["attack"], tuple(_suite(name, each) for name, each in plain["suites"].items()))


def _suite(name: str, plain: Mapping[str, Any]) -> Suite:
    injections, tasks = (
        tuple(
            Task(name, each["name"], each["says"], tuple((call["function"], call["arguments"]) for call in each["calls"]))
            for each in plain[kind].values()
        )
        for kind in ("injections", "tasks")
    )
    return Suite(name, plain["documents"], plain["pages"], plain["slots"], injections, tasks)


def _filled(text: str, said: Mapping[str, str]) -> str:
    for slot, words in said.items():
        text = text.replace("{" + slot + "}", words)
    return text
