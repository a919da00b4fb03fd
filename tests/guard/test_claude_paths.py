"""Path patterns against the .gitignore rules that they come from: never more, or never less."""

from collections.abc import Callable

import attrs
import pathspec
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from palyra_trio.core.policy import CallFacts, PathResource
from palyra_trio.guard.cedar import CedarEngine
from palyra_trio.guard.claude_paths import EVERYTHING, at_least, at_most, searched_from
from palyra_trio.guard.policy_text import PolicySource, written
from tests.guard.calls import SUBJECT, call

HOME = "/home/alice"
PATHS = (
    *("a", "b", "ab", ".b", "a/b", "a/a", "a/b/a", "b/a", "b/a/b", "a/ab", "a/b.a", "a/b/b.a", "a/a/b/a", "ab/a", "a*b", "a/*"),
    *("b.a", "a/.b", "a/b/a/b", "b/b/b/b"),
)  # fmt: skip
SEGMENT = st.sampled_from(["a", "b", "ab", "*", "**", "a*", "*a", "*.a", "a*b", "?", "[ab]", ".b", "**a"])
PATTERN = st.builds(
    lambda start, parts, end: start + "/".join(parts) + end,
    st.sampled_from(["", "/", "./"]),
    st.lists(SEGMENT, min_size=1, max_size=4),
    st.sampled_from(["", "/"]),
)


def matching(condition: str) -> Callable[[CallFacts], bool]:
    engine = CedarEngine([PolicySource("x", written("permit", "x", "", actions=["fs.read"], when=condition))])

    def matches(facts: CallFacts) -> bool:
        found = engine.evaluate(SUBJECT, facts, facts.resources[0], "none")
        assert not found.errors
        return found.allowed

    return matches


def matches(condition: str, facts: CallFacts) -> bool:
    return matching(condition)(facts)


def of(path: str, workspace: str = "/home/alice/work", inside: bool = True) -> CallFacts:
    return call("fs.read", PathResource(path, inside), workspace=workspace)


def ignored(pattern: str, path: str) -> bool:
    anchored = pattern[1:] if pattern.startswith("./") else pattern
    return pathspec.GitIgnoreSpec.from_lines([anchored]).match_file(path)


@settings(max_examples=60)
@given(PATTERN)
@example("a/**")
@example("a/**/b")
@example("a/**/*.a")
@example("**/b")
@example("**/")
def test_at_most_matches_nothing_that_the_pattern_would_not(pattern: str) -> None:
    condition = at_most(pattern)
    assume(condition is not None)
    matches = matching(condition or "")
    assert [path for path in PATHS if matches(of(path)) and not ignored(pattern, path)] == []


@settings(max_examples=60)
@given(PATTERN)
def test_at_least_matches_everything_that_the_pattern_would(pattern: str) -> None:
    matches = matching(at_least(pattern, HOME))
    assert [path for path in PATHS if ignored(pattern, path) and not matches(of(path))] == []


@pytest.mark.parametrize(
    ("pattern", "matched", "not_matched"),
    [
        ("a/**", ["a/b", "a/b/a"], ["a", "ab/a", "b/a/b"]),
        ("/a/**", ["a/b"], ["b/a/b"]),
        ("a/", ["a/b"], ["a"]),
        ("a/*", ["a/b", "a/*"], ["a/b/a", "a"]),
        ("a/b", ["a/b"], ["a/b/a"]),
        ("*.a", ["b.a"], ["a/b.a"]),
        ("**/*.a", ["b.a", "a/b.a", "a/b/b.a"], ["a/b"]),
        ("a/**/b", ["a/b"], ["a/ab", "b/a/b"]),
        ("**/b", ["b", "a/b", "b/b/b/b"], ["ab"]),
        ("./*", ["a", "a/b"], []),
        ("", ["a", "a/b"], []),
    ],
)
def test_plain_patterns_are_kept(pattern: str, matched: list[str], not_matched: list[str]) -> None:
    condition = at_most(pattern)
    assert condition is not None
    assert [path for path in matched if not matches(condition, of(path))] == []
    assert [path for path in not_matched if matches(condition, of(path))] == []


@pytest.mark.parametrize(
    "pattern", ["//etc/**", "~/x", "a?", "[ab]", "{a,b}", "!a", "a\\*", "a/**/b/*", "**/a*b", "*/a", "a**", "a//b"]
)
def test_what_cannot_be_said_exactly_is_not_said(pattern: str) -> None:
    assert at_most(pattern) is None


@pytest.mark.parametrize("pattern", ["!a", "{a,b}", "a\\b", "//", "~/../..", "//*/x", "*", "**"])
def test_what_cannot_be_told_covers_everything(pattern: str) -> None:
    assert at_least(pattern, HOME) == EVERYTHING
    assert searched_from(pattern, HOME) == EVERYTHING


@pytest.mark.parametrize("pattern", ["~/.ssh/**", "//home/alice/.ssh/*", "~/.ssh", "//home/alice/.ssh/id_*"])
@pytest.mark.parametrize(
    ("workspace", "path", "inside"),
    [
        ("/home/alice/work", "/home/alice/.ssh/id_rsa", False),
        ("/home/alice", ".ssh/id_rsa", True),
        ("/home", "alice/.ssh/id_rsa", True),
        ("/", "home/alice/.ssh/id_rsa", True),
        ("/home/alice/.ssh", "id_rsa", True),
    ],
)
def test_an_absolute_pattern_holds_wherever_the_workspace_is(
    pattern: str, workspace: str, path: str, inside: bool
) -> None:
    assert matches(at_least(pattern, HOME), of(path, workspace, inside))
    assert not matches(at_least(pattern, HOME), of("work/a", workspace)) or workspace == "/home/alice/.ssh"


def test_a_folder_is_never_read_as_syntax() -> None:
    assert matches(at_least('~/a"b/**', HOME), of('/home/alice/a"b/c', inside=False))
    assert matches(at_least('c"d/**', HOME), of('c"d/e'))
    assert matches(at_most('c"d/**') or "", of('c"d/e'))


def test_a_pattern_of_the_home_folder_leaves_other_paths_alone() -> None:
    assert not matches(at_least("~/.ssh/**", HOME), of(".ssh/id_rsa"))


@pytest.mark.parametrize(
    ("pattern", "reached", "not_reached"),
    [
        ("a/b/**", [".", "", "a"], ["b", "a/a"]),
        ("./a", [".", ""], ["b"]),
        ("~/.ssh/**", [], [".", "a"]),
        (".b", [".", "", "a", "a/b"], []),
        ("a/*/b", [".", "a", "b"], []),
    ],
)
def test_a_search_reaches_a_pattern_from_the_folders_above(
    pattern: str, reached: list[str], not_reached: list[str]
) -> None:
    condition = searched_from(pattern, HOME)
    assert [path for path in reached if not matches(condition, of(path))] == []
    assert [path for path in not_reached if matches(condition, of(path))] == []


def test_a_search_of_a_workspace_above_reaches_an_absolute_pattern() -> None:
    for workspace, expected in (("/home/alice", True), ("/", True), ("/home/alice/work", False)):
        assert matches(searched_from("~/.ssh/**", HOME), attrs.evolve(of("."), workspace=workspace)) == expected
