"""The corpus as `derive` left it: suites of documents and pages with slots for an injection, and tasks with their calls."""

import functools
import json
from collections.abc import Iterator, Mapping
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import attrs

CORPUS = Path(__file__).with_name("corpus.json")
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

    @functools.cached_property
    def usual(self) -> tuple[Mapping[str, str], Mapping[str, str]]:
        """The documents and the pages, with the usual words in every slot."""
        return _filled(self.documents, self.slots), _filled(self.pages, self.slots)

    def poisoned(self, slot: str, injection: str) -> tuple[dict[str, str], dict[str, str]]:
        """Return the documents and the pages with `injection` in a slot, and the usual words in the others."""
        said = {**self.slots, slot: injection}
        place, is_page = self.place(slot)
        documents, pages = map(dict, self.usual)
        if is_page:
            pages |= _filled({place: self.pages[place]}, said)
        else:
            documents |= _filled({place: self.documents[place]}, said)
        return documents, pages


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

    def sample(self) -> Iterator[tuple[Suite, str, Task]]:
        """Return as few combinations as hold every slot and every injection."""
        for suite in self.suites:
            count = max(len(suite.slots), len(suite.injections))
            for slot, task in islice(zip(cycle(suite.slots), cycle(suite.injections), strict=False), count):
                yield suite, slot, task

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
            Task(
                name, each["name"], each["says"], tuple((call["function"], call["arguments"]) for call in each["calls"])
            )
            for each in plain[kind].values()
        )
        for kind in ("injections", "tasks")
    )
    return Suite(name, plain["documents"], plain["pages"], plain["slots"], injections, tasks)


def _filled(texts: Mapping[str, str], said: Mapping[str, str]) -> dict[str, str]:
    filled = dict(texts)
    for slot, words in said.items():
        filled = {place: text.replace("{" + slot + "}", words) for place, text in filled.items()}
    return filled
