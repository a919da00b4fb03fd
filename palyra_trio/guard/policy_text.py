"""Cedar as text: where each policy of a file begins, how deep its brackets nest, and how one is written.

This knows strings, comments, brackets and semicolons, and nothing of what a policy means; that is the engine's.
"""

import re
from collections.abc import Iterable, Iterator
from typing import Literal

import attrs

ID_CHARACTERS = 1024  # an @id may hold the path of a workspace

_TOKEN = re.compile(r'//[^\n\r]*|"(?:[^"\\]|\\.)*+"?|[^\s"/;(){}\[\]]+|\S', re.DOTALL)
_ESCAPES = {"\\": "\\\\", '"': '\\"', "\n": "\\n", "\r": "\\r", "\t": "\\t", "\0": "\\0"}


@attrs.frozen
class PolicySource:
    """A file of policies, or what stands for one. `name` is shown where it is at fault."""

    name: str
    text: str


@attrs.frozen
class Statement:
    """One policy of a file, and the line on which it begins, from 1."""

    text: str
    line: int


@attrs.frozen
class Fault:
    """Why a source is refused. `line` counts from 1; 0 means the file as such."""

    source: str
    line: int
    reason: str

    def __str__(self) -> str:
        return f"{self.source}:{self.line}: {self.reason}" if self.line else f"{self.source}: {self.reason}"


def statements(text: str) -> Iterator[Statement]:
    """Yield the policies of `text`, each to its semicolon; what comes after the last semicolon counts as one too."""
    begin: int | None = None
    line, counted_to = 1, 0
    for token in _tokens(text):
        if begin is None:
            begin = token.start()
            line += text.count("\n", counted_to, begin)
            counted_to = begin
        if token[0] == ";":
            yield Statement(text[begin : token.end()], line)
            begin = None
    if begin is not None:
        yield Statement(text[begin:], line)


def bracket_depth(text: str) -> int:
    """Return how deep the brackets of `text` nest. A closing one that was never opened counts for nothing."""
    depth = deepest = 0
    for token in _tokens(text):
        if token[0] in ("(", "[", "{"):
            depth += 1
            deepest = max(deepest, depth)
        elif token[0] in (")", "]", "}"):
            depth = max(0, depth - 1)
    return deepest


def _tokens(text: str) -> Iterator[re.Match[str]]:
    return (token for token in _TOKEN.finditer(text) if not token[0].startswith("//"))


def written(
    effect: Literal["permit", "forbid"],
    identity: str,
    reason: str,
    *,
    actions: Iterable[str] = (),
    when: str = "",
    unless: str = "",
) -> str:
    """Return the text of one policy. No `actions` means every action; `when` and `unless` are Cedar already."""
    named = [f"Daemon::Action::{quoted(each)}" for each in actions]
    action = f" == {named[0]}" if len(named) == 1 else f" in [{', '.join(named)}]" if named else ""
    lines = [
        f"@id({quoted(identity)})",
        f"@reason({quoted(reason)})",
        f"{effect} (principal, action{action}, resource)",
        *([f"when {{ {when} }}"] if when else []),
        *([f"unless {{ {unless} }}"] if unless else []),
    ]
    return "\n".join(lines) + ";\n"


def quoted(text: str) -> str:
    """Return `text` as a string literal. Raises ValueError where it cannot be written in UTF-8 (a lone surrogate)."""
    text.encode()
    return f'"{"".join(map(_escaped, text))}"'


def literal_in_pattern(text: str) -> str:
    """Return what stands for `text` itself within the quotes of a `like`, where an asterisk stands for any text."""
    return quoted(text)[1:-1].replace("*", "\\*")


def _escaped(character: str) -> str:
    if character in _ESCAPES:
        return _ESCAPES[character]
    return character if character.isprintable() else f"\\u{{{ord(character):x}}}"
