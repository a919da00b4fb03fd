"""Cedar as text: cut into policies, measured, and written so that the engine reads back what was meant."""

import cedarpy
import pytest
from hypothesis import given
from hypothesis import strategies as st

from palyra_trio.guard.policy_text import (
    Fault,
    Statement,
    bracket_depth,
    literal_in_pattern,
    quoted,
    statements,
    written,
)


def test_a_file_is_cut_at_its_semicolons_and_each_policy_knows_its_line() -> None:
    text = '// a; comment\n\n@id("a;b")\npermit (principal, action, resource); forbid // ; here\n (x);\n'
    assert list(statements(text)) == [
        Statement('@id("a;b")\npermit (principal, action, resource);', 3),
        Statement("forbid // ; here\n (x);", 4),
    ]


@pytest.mark.parametrize("text", ["", " \n", "// only a comment", "// a\r// b"])
def test_what_holds_no_policy_yields_none(text: str) -> None:
    assert list(statements(text)) == []


def test_a_policy_without_its_semicolon_is_left_for_the_parser_to_refuse() -> None:
    assert list(statements("permit (x);\npermit (")) == [Statement("permit (x);", 1), Statement("permit (", 2)]


def test_a_carriage_return_ends_a_comment_as_it_does_for_the_engine() -> None:
    text = '// hidden\r@id("a") permit (principal, action, resource);'
    assert len(list(statements(text))) == len(cedarpy.PolicySet.from_str(text)) == 1


@pytest.mark.parametrize(
    ("text", "depth"),
    [("", 0), ("()", 1), ("([{}])()", 3), ("))((", 2), ('"((("', 0), ("// (((\n(", 1), (r'"\"((("[', 1), ('"(((', 0)],
)
def test_brackets_count_outside_strings_and_comments(text: str, depth: int) -> None:
    assert bracket_depth(text) == depth


def test_strings_that_never_end_take_no_more_than_linear_time() -> None:
    assert bracket_depth('\\"' * 100_000) == 0


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_the_engine_reads_back_what_was_quoted(text: str) -> None:
    policy = written("permit", "x", text)
    (found,) = cedarpy.policies_to_pst(policy).static_policies.values()
    assert found.annotations == {"id": "x", "reason": text}
    assert [each.text for each in statements(policy)] == [policy.rstrip()]


@given(st.text(st.sampled_from('a*\\"\n?é')), st.text(st.sampled_from('a*\\"\n?é')))
def test_a_literal_in_a_pattern_matches_itself_alone(text: str, other: str) -> None:
    policy = written("permit", "x", "", when=f'{quoted(other)} like "{literal_in_pattern(text)}"')
    request = {"principal": 'U::"u"', "action": 'Action::"a"', "resource": 'R::"r"', "context": {}}
    assert cedarpy.is_authorized(request, policy, []).allowed == (text == other)


def test_a_lone_surrogate_cannot_be_quoted() -> None:
    with pytest.raises(ValueError, match="surrogates"):
        quoted("\ud800")


@pytest.mark.parametrize(
    ("actions", "scope"),
    [
        ([], "action"),
        (["fs.read"], 'action == Daemon::Action::"fs.read"'),
        (["fs.read", "x"], 'action in [Daemon::Action::"fs.read", Daemon::Action::"x"]'),
    ],
)
def test_a_policy_is_written_with_its_scope_and_conditions(actions: list[str], scope: str) -> None:
    assert written("forbid", "a", "b", actions=actions, when="true", unless="false") == (
        f'@id("a")\n@reason("b")\nforbid (principal, {scope}, resource)\nwhen {{ true }}\nunless {{ false }};\n'
    )


def test_a_fault_names_its_place() -> None:
    assert str(Fault("mine.cedar", 3, "no")) == "mine.cedar:3: no"
    assert str(Fault("mine.cedar", 0, "no")) == "mine.cedar: no"
