"""A file of cases: read with its mistakes named, and tried against an engine."""

import json
from pathlib import Path

import pytest

from palyra_trio.cli.policy_cases import Case, read_cases, try_cases
from palyra_trio.core.errors import InvalidArgument
from palyra_trio.guard.cedar import CedarEngine
from palyra_trio.guard.posture import Posture, posture_file
from palyra_trio.guard.presets import preset
from palyra_trio.runtime.hypothetical import Hypothetical
from palyra_trio.tools.builtin import builtin_tools
from palyra_trio.tools.registry import Registry

TOOLS = Registry(builtin_tools())


def read(tmp_path: Path, text: str, name: str = "cases.toml") -> tuple[Case, ...]:
    path = tmp_path / name
    path.write_text(text)
    return read_cases(path)


def test_a_case_says_a_call_and_what_is_expected(tmp_path: Path) -> None:
    toml = '[[case]]\nname = "n"\ntool = "files.read"\npath = "a"\nexpect = "allow"\npolicies = ["p"]\n\n[[case]]\ntool = "clock.now"\nexpect = "deny"\n'
    cases = (
        Case("n", Hypothetical("files.read", path="a"), "allow", ("p",)),
        Case("case 2", Hypothetical("clock.now"), "deny"),
    )
    assert read(tmp_path, toml) == cases
    plain = {"case": [{"name": "n", "tool": "files.read", "path": "a", "expect": "allow", "policies": ["p"]}, {"tool": "clock.now", "expect": "deny"}]}  # fmt: skip
    assert read(tmp_path, json.dumps(plain), "cases.json") == cases


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("[[case]\n", "cannot be read"),
        ("", "holds no cases"),
        ("case = []", "holds no cases"),
        ('[[cases]]\ntool = "a"', "holds no cases"),
        ("case = [1]", "case 1: it is no table"),
        ('[[case]]\ntool = "a"', "case 1: expect is None"),
        ('[[case]]\ntool = "a"\nexpect = "maybe"', "case 1: expect is 'maybe'"),
        ('[[case]]\ntool = "a"\nexpect = "ask"\npolicies = "p"', "case 1: policies is no list of ids"),
        ('[[case]]\ntool = "a"\nexpect = "ask"\n[[case]]\ntoll = "a"\nexpect = "ask"', "case 2: toll says nothing"),
    ],
)
def test_a_file_with_a_mistake_is_refused_with_the_number_of_the_case(tmp_path: Path, text: str, problem: str) -> None:
    with pytest.raises(InvalidArgument, match=problem):
        read(tmp_path, text)


def test_a_case_passes_when_the_outcome_and_the_policies_are_those_that_it_names() -> None:
    engine = CedarEngine([preset("default")])
    write = Hypothetical("files.write", path="a")
    cases = (
        Case("right", write, "ask", ("write-in-workspace",)),
        Case("another outcome", write, "allow"),
        Case("another policy", write, "ask", ("write-in-workspace", "sensitive-path")),
    )
    tried = try_cases(cases, TOOLS, engine, 0)
    assert [(each.passed, each.missing) for each in tried] == [(True, ()), (False, ()), (False, ("sensitive-path",))]


def test_a_case_happens_now_unless_it_says_when() -> None:
    engine = CedarEngine([preset("default"), posture_file([Posture("files.write", "allow", until_s=100)])])
    now, then = Hypothetical("files.write", path="a"), Hypothetical("files.write", path="a", now_s=99)
    tried = try_cases((Case("now", now, "ask"), Case("then", then, "allow")), TOOLS, engine, 100)
    assert [each.passed for each in tried] == [True, True]
