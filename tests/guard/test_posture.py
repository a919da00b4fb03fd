"""Postures as Cedar: what they do to a decision, and that what was written is read back, whatever it is called."""

from typing import get_args

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from palyra_trio.core.errors import ConfigInvalid, InvalidArgument
from palyra_trio.core.policy import CallFacts, PolicyRules, Subject, decide_tool_call
from palyra_trio.guard.cedar import CedarEngine
from palyra_trio.guard.policy_check import find_faults
from palyra_trio.guard.posture import (
    TOOL_CHARACTERS,
    UNTIL_S_MAX,
    Posture,
    PostureVerdict,
    config_policies,
    in_force,
    parse_postures,
    posture_file,
    with_posture,
    without_posture,
)
from palyra_trio.guard.presets import preset
from tests.guard.calls import REACHED, RESOURCES, SUBJECT, TAINTED, call

OTHER = Subject("01HOTHER", "user:alice", "helper")
WRITE = call("fs.write")
ELSEWHERE = call("fs.write", workspace="/elsewhere")


def outcome(*postures: Posture, facts: CallFacts = WRITE, subject: Subject = SUBJECT) -> str:
    engine = CedarEngine([preset("default"), posture_file(postures)])
    return decide_tool_call(subject, facts, engine).outcome


# --- what they do ---


def test_a_posture_changes_what_happens_to_the_tools_it_names() -> None:
    assert outcome() == "ask"
    assert outcome(Posture("files.write", "allow")) == "allow"
    assert outcome(Posture("files.*", "allow")) == "allow"
    assert outcome(Posture("files.*", "disable")) == "deny"
    assert outcome(Posture("files.writ", "disable")) == "ask"
    assert outcome(Posture("files.*", "ask"), facts=call("fs.read")) == "ask"


def test_disable_beats_ask_and_ask_beats_allow_whatever_the_scope() -> None:
    narrow = Posture("files.write", "allow", "session", SUBJECT.session_id)
    assert outcome(narrow) == "allow"
    assert outcome(narrow, Posture("*", "ask")) == "ask"
    assert outcome(narrow, Posture("*", "ask"), Posture("*", "disable", "agent", "main")) == "deny"


@pytest.mark.parametrize(
    ("posture", "elsewhere"),
    [
        (Posture("*", "allow", "workspace", WRITE.workspace), (ELSEWHERE, SUBJECT)),
        (Posture("*", "allow", "agent", "main"), (WRITE, OTHER)),
        (Posture("*", "allow", "session", SUBJECT.session_id), (WRITE, OTHER)),
    ],
    ids=lambda each: each.scope if isinstance(each, Posture) else "",
)
def test_a_posture_holds_in_its_scope_alone(posture: Posture, elsewhere: tuple[CallFacts, Subject]) -> None:
    facts, subject = elsewhere
    assert outcome(posture) == "allow"
    assert outcome(posture, facts=facts, subject=subject) == "ask"


def test_a_posture_ends_with_its_time() -> None:
    until = Posture("*", "allow", until_s=WRITE.now_s + 1)
    assert outcome(until) == "allow"
    assert outcome(until, facts=attrs.evolve(WRITE, now_s=WRITE.now_s + 1)) == "ask"
    assert in_force([until], WRITE.now_s) == (until,)
    assert in_force([until, Posture("x", "ask")], WRITE.now_s + 1) == (Posture("x", "ask"),)


def test_an_allowing_posture_opens_nothing_that_always_asks_and_no_secret() -> None:
    everything = Posture("*", "allow")
    assert outcome(everything, subject=TAINTED) == "ask"
    assert outcome(everything, facts=call("process.exec")) == "deny"
    assert outcome(everything, facts=call("secret.use")) == "deny"
    assert outcome(everything, facts=call("process.exec", sandbox_tier=4)) == "allow"
    run = RESOURCES["process.exec"]
    assert outcome(everything, facts=call("process.exec", run, REACHED, sandbox_tier=4)) == "ask"


def test_a_refusal_by_posture_tells_who_wants_it_so() -> None:
    engine = CedarEngine([preset("default"), posture_file([Posture("*", "disable", "agent", "main", 2_000_000_000)])])
    decision = decide_tool_call(SUBJECT, WRITE, engine)
    assert decision.policies == ("posture:disable:agent:main:*:2000000000",)
    assert decision.reason == "* is disabled for the agent main until 2033-05-18 03:33 UTC"


# --- the managed file ---


def test_a_posture_takes_the_place_of_the_one_before_it() -> None:
    one, other = Posture("files.*", "allow"), Posture("files.*", "allow", "agent", "main")
    both = with_posture(with_posture((), one), other)
    assert with_posture(both, Posture("files.*", "ask")) == (other, Posture("files.*", "ask"))
    assert without_posture(both, "files.*") == (other,)
    assert without_posture(both, "files.*", "agent", "main") == (one,)
    assert without_posture(both, "clock.now") == both


def test_the_managed_file_reads_as_it_is_meant() -> None:
    assert posture_file([Posture("files.*", "ask", "workspace", '/a "b"', 0)]).text.partition("\n\n")[2] == (
        '@id("posture:ask:workspace:/a %22b%22:files.*:0")\n'
        '@reason("files.* is asked for for the workspace /a \\"b\\" until 1970-01-01 00:00 UTC")\n'
        "forbid (principal, action, resource)\n"
        'when { context.common.tool.name like "files.*" && context.common.workspace == "/a \\"b\\""'
        " && context.common.now_s < 0 }\n"
        "unless { context.common.approved };\n"
    )


TOOL = st.text(st.characters(min_codepoint=32, max_codepoint=126, exclude_characters="?[]"), min_size=1, max_size=20)
NAME = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20) | st.sampled_from(
    ['"; permit (principal, action, resource); //', '") @id("x', "a:b:5", "%3A", "*", "\\", "\n", "\u202e", "\0"]
)
UNTIL = st.none() | st.integers(0, UNTIL_S_MAX)
VERDICT = st.sampled_from(get_args(PostureVerdict))
POSTURES = st.lists(
    st.builds(Posture, TOOL, VERDICT, st.just("global"), st.just(""), UNTIL)
    | st.builds(Posture, TOOL, VERDICT, st.sampled_from(["workspace", "agent", "session"]), NAME, UNTIL),
    max_size=4,
    unique_by=lambda each: each.key,
)  # fmt: skip


@given(POSTURES)
def test_whatever_the_names_the_file_is_sound_and_is_read_back(postures: list[Posture]) -> None:
    source = posture_file(postures)
    assert parse_postures(source.text) == tuple(postures)
    assert not find_faults([source], lambda _: None)
    assert CedarEngine([source]).ids == tuple(posture.id for posture in postures)


@settings(max_examples=50)
@given(NAME, NAME, VERDICT)
def test_a_hostile_name_reaches_its_own_scope_and_no_other(name: str, other: str, verdict: PostureVerdict) -> None:
    posture = Posture("*", verdict, "workspace", name)
    expected = {"allow": "allow", "ask": "ask", "disable": "deny"}[verdict] if name == other else "allow"
    engine = CedarEngine([preset("trusted-workspace"), posture_file([posture])])
    assert decide_tool_call(SUBJECT, call("fs.write", workspace=other), engine).outcome == expected


def test_an_empty_file_says_no_posture() -> None:
    assert parse_postures("") == parse_postures("\n") == parse_postures(posture_file(()).text) == ()


ONE = posture_file([Posture("files.*", "allow")]).text


@pytest.mark.parametrize(
    "text",
    [
        ONE + '@id("mine") permit (principal, action, resource);\n',
        ONE.replace("files.*", "*", 1),
        ONE.replace("permit", "forbid"),
        ONE.replace("posture:allow:global:files.*", "posture:allow"),
        ONE.replace("posture:allow:global:files.*", "posture:allow:agent"),
        ONE.replace("posture:allow:global:files.*", "posture:never:global:files.*"),
        ONE.replace("posture:allow:global:files.*", "posture:allow:global:files.*:soon"),
        ONE + ONE,
        "permit (",
    ],
)
def test_a_file_that_somebody_changed_is_refused(text: str) -> None:
    with pytest.raises(ConfigInvalid, match="changed by hand"):
        parse_postures(text)


@pytest.mark.parametrize(
    "fields",
    [
        {"tool": ""},
        {"tool": "x" * (TOOL_CHARACTERS + 1)},
        {"tool": "files.?"},
        {"tool": "files.[ab]"},
        {"tool": "a\nb"},
        {"tool": "dаta"},
        {"verdict": "deny"},
        {"scope": "planet", "name": "earth"},
        {"scope": "agent"},
        {"name": "main"},
        {"until_s": -1},
        {"until_s": UNTIL_S_MAX + 1},
        {"scope": "workspace", "name": "/\udcff"},
        {"scope": "workspace", "name": "/" + "é" * 500},
    ],
)
def test_what_cannot_be_meant_is_no_posture(fields: dict[str, object]) -> None:
    with pytest.raises(InvalidArgument):
        Posture(**{"tool": "files.*", "verdict": "allow", **fields})  # type: ignore[arg-type]


# --- the configuration's lists ---


def test_the_lists_of_the_configuration_are_policies_too() -> None:
    rules = PolicyRules(allow=("files.*", "files.*"), ask=("files.read",), deny=("fetch",))
    source = config_policies(rules)
    assert not find_faults([source], lambda _: None)
    engine = CedarEngine([preset("default"), source])
    assert engine.ids[-3:] == ("config:allow:files.*", "config:ask:files.read", "config:deny:fetch")
    found = [decide_tool_call(SUBJECT, call(action), engine) for action in ("fs.write", "fs.read", "net.fetch")]
    assert [each.outcome for each in found] == ["allow", "ask", "deny"]
    assert found[2].reason == "fetch is disabled by the configuration"


def test_no_lists_are_no_policies() -> None:
    assert config_policies(PolicyRules()).text == ""


def test_a_name_that_is_no_pattern_is_refused_with_its_key() -> None:
    with pytest.raises(ConfigInvalid, match=r"policy\.deny: 'files\.\?' is no pattern of tools"):
        config_policies(PolicyRules(deny=("files.?",)))
