"""What is wrong with a policy, and on which line; and the program that says so."""

import io
import json
import sys

import pytest

from palyra_trio.guard import policy_check
from palyra_trio.guard.policy_check import CLAUSES_MAX, find_faults, main
from palyra_trio.guard.policy_text import Fault, PolicySource
from palyra_trio.guard.presets import PRESETS, preset

SOUND = '@id("{}") permit (principal, action, resource);'


def faults_of(*texts: str) -> list[str]:
    sources = [PolicySource(f"{number}.cedar", text) for number, text in enumerate(texts)]
    return [str(fault) for fault in find_faults(sources, lambda _: None)]


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_has_no_fault(name: str) -> None:
    assert not find_faults([preset(name)], lambda _: None)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("permit (principal, action, resource);", '0.cedar:1: it has no @id("...")'),
        ('@id("") permit (principal, action, resource);', '0.cedar:1: it has no @id("...")'),
        (
            '@id("a") @aproval("ask") permit (principal, action, resource);',
            "0.cedar:1: unknown annotation @aproval; there are @id, @prompt and @reason",
        ),
        ('@id("a") @id("b") permit (principal, action, resource);', "0.cedar:1: duplicate annotation: @id"),
        (
            '@id("a\\n") permit (principal, action, resource);',
            "0.cedar:1: its @id must be at most 1024 visible characters",
        ),
        (
            '\n@id("a") permit (principal == ?principal, action, resource);',
            "0.cedar:2: a template (?principal, ?resource) permits nothing by itself; write the policy out",
        ),
        ('// x\n\n@id("a") permit (', "0.cedar:3: unexpected end of input"),
        (
            '@id("a") permit (principal, action == Daemon::Action::"fs.read", resource) when { resource.pth == "" };',
            "0.cedar:1: attribute `pth` on entity type `Daemon::Path` not found",
        ),
        (
            f'@id("a") permit (principal, action, resource) {"when { true } " * (CLAUSES_MAX + 1)};',
            f"0.cedar:1: it has more than {CLAUSES_MAX} when and unless clauses",
        ),
    ],
)
def test_a_fault_is_named_with_file_line_and_reason(text: str, fault: str) -> None:
    assert faults_of(text) == [fault]


def test_a_misspelt_action_is_a_fault() -> None:
    first, *_ = faults_of('@id("a") permit (principal, action == Daemon::Action::"fs.red", resource);')
    assert first == '0.cedar:1: unrecognized action `Daemon::Action::"fs.red"`'


def test_all_faults_of_all_files_are_found_at_once() -> None:
    assert faults_of("permit (", f"{SOUND.format('a')}\npermit (", SOUND.format("a")) == [
        "0.cedar:1: unexpected end of input",
        "1.cedar:2: unexpected end of input",
        "2.cedar:1: @id 'a' is taken by 1.cedar:1",
    ]


def test_a_file_that_the_engine_would_cut_otherwise_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(policy_check, "statements", lambda _: iter(()))
    assert faults_of(SOUND.format("a")) == ["0.cedar:1: its policies read one by one are not those of the whole file"]


def test_the_program_tells_each_place_before_it_looks_and_the_faults_at_the_end(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    sources = [["a", f"{SOUND.format('x')}\n\n{SOUND.format('y')}"], ["b", "permit ("]]
    monkeypatch.setattr(sys, "stdin", io.StringIO(json.dumps(sources)))
    main()
    assert [json.loads(line) for line in capsys.readouterr().out.splitlines()] == [
        ["a", 1],
        ["a", 3],
        ["b", 1],
        {"faults": [["b", 1, "unexpected end of input"]]},
    ]


def test_a_fault_does_not_free_its_id_for_another() -> None:
    assert Fault("1.cedar", 1, "@id 'a' is taken by 0.cedar:1") in find_faults(
        [
            PolicySource("0.cedar", '@id("a") @x permit (principal, action, resource);'),
            PolicySource("1.cedar", SOUND.format("a")),
        ],
        lambda _: None,
    )
