"""A file of cases: calls that nobody made, each with the outcome that is expected of the policies. TOML, or JSON.

A case is a table `[[case]]` with `expect` and what describes the call; `runtime.hypothetical` says what that can be.
"""

import json
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, get_args

import attrs

from palyra_trio.core.errors import InvalidArgument
from palyra_trio.core.policy import Outcome, PolicyEngine
from palyra_trio.runtime.hypothetical import Explanation, Hypothetical, described, explain
from palyra_trio.tools.registry import Registry

_OWN = ("name", "expect", "policies")


@attrs.frozen
class Case:
    """A call, the outcome that is expected, and policies, by id, that must be among those that decide."""

    name: str
    call: Hypothetical
    expect: Outcome
    policies: tuple[str, ...] = ()


@attrs.frozen
class Tried:
    """A case, and what was found."""

    case: Case
    found: Explanation

    @property
    def missing(self) -> tuple[str, ...]:
        """The expected policies that did not decide."""
        return tuple(each for each in self.case.policies if each not in self.found.decision.policies)

    @property
    def passed(self) -> bool:
        return self.found.decision.outcome == self.case.expect and not self.missing


def read_cases(path: Path) -> tuple[Case, ...]:
    """Return the cases of a file. Raises InvalidArgument naming the case that is wrong, by its number from 1."""
    try:
        text = path.read_text("utf-8")
        document = json.loads(text) if path.suffix == ".json" else tomllib.loads(text)
    except (OSError, ValueError, RecursionError) as error:
        raise InvalidArgument(f"{path} cannot be read: {error}") from error
    listed = document.get("case") if isinstance(document, dict) else None
    if not isinstance(listed, list) or not listed or set(document) != {"case"}:
        raise InvalidArgument(f"{path} holds no cases", remedy="each case is a table [[case]]")
    return tuple(_cases(path, listed))


def _cases(path: Path, listed: Iterable[Any]) -> Iterator[Case]:
    for number, plain in enumerate(listed, 1):
        try:
            yield _case(number, plain)
        except InvalidArgument as error:
            raise InvalidArgument(f"{path}, case {number}: {error.message}", remedy=error.remedy) from error


def _case(number: int, plain: Any) -> Case:
    if not isinstance(plain, Mapping):
        raise InvalidArgument("it is no table")
    expect: Any = plain.get("expect")
    policies = plain.get("policies", [])
    if expect not in get_args(Outcome):
        raise InvalidArgument(f"expect is {expect!r}", remedy=f"say {', '.join(get_args(Outcome))}")
    if not isinstance(policies, list) or not all(isinstance(each, str) for each in policies):
        raise InvalidArgument("policies is no list of ids")
    call = described({key: value for key, value in plain.items() if key not in _OWN})
    return Case(str(plain.get("name", f"case {number}")), call, expect, tuple(policies))


def try_cases(cases: Iterable[Case], tools: Registry, engine: PolicyEngine, now_s: int) -> tuple[Tried, ...]:
    """Judge every case; `now_s` is the time of those that say none. Raises InvalidArgument."""
    return tuple(Tried(each, explain(_at(each.call, now_s), tools, engine)) for each in cases)


def _at(call: Hypothetical, now_s: int) -> Hypothetical:
    return attrs.evolve(call, now_s=call.now_s or now_s)
