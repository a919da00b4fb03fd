"""A question to a person as pages lay it out: how it begins, the facts of the call, what it would do, and what may be answered.

The words are those of `runtime.prompts`, all of them. Only where a page sets them is decided here, never what is said.
"""

import re

import attrs

from palyra_trio.core.words import one_line

GIST_CHARACTERS = 100
MARK = "  | "  # before each line of a text that is not ours
_NAMED = re.compile(r"  (?:file|program|host|network|secret) +(\S.*)")
_FACT = re.compile(r"  (?!\|)(.{10}|\S+) (.*)")
_CHOICE = re.compile(r"  \| ([1-9][0-9]?)\. (.+)")


@attrs.frozen
class Layout:
    """The parts of a question. `is_diff`: the text tells a change. `choices`: answers, each with its number."""

    head: str
    facts: tuple[tuple[str, str], ...]
    text: str
    is_diff: bool
    choices: tuple[tuple[str, str], ...]


def laid_out(prompt: str, question: bool) -> Layout:
    """Return the parts of what a person is asked; a `question` is the agent's own, and may end with choices."""
    head, *lines = prompt.split("\n")
    facts: list[tuple[str, str]] = []
    while len(facts) < len(lines) and (fact := _FACT.fullmatch(lines[len(facts)])):
        facts.append((fact[1].rstrip(), fact[2]))
    offered = choices(prompt) if question else ()
    rest = lines[len(facts) : len(lines) - len(offered)]
    marked = all(line.startswith(MARK) for line in rest)
    text = "\n".join(line.removeprefix(MARK) for line in rest) if marked else "\n".join(rest)
    return Layout(head, tuple(facts), text, not marked, offered)


def gist(prompt: str) -> str:
    """Return what a question is about, in one line: the first thing that it names, or how it begins."""
    lines = prompt.split("\n")
    named = [found[1] for line in lines if (found := _NAMED.match(line))]
    return one_line((named or [line for line in lines[1:] if line.strip()] or lines)[0].strip(" |"), GIST_CHARACTERS)


def choices(prompt: str) -> tuple[tuple[str, str], ...]:
    """Return the answers that a question ends with, each with the number by which it is chosen."""
    found: list[tuple[str, str]] = []
    for line in prompt.split("\n"):
        numbered = _CHOICE.fullmatch(line)
        number = int(numbered[1]) if numbered else 0
        if numbered is None or number not in (1, len(found) + 1):
            found.clear()
        else:
            del found[number - 1 :]
            found.append((numbered[1], numbered[2]))
    return tuple(found)
