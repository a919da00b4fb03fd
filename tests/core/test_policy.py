"""The gate's decision over several resources, what a grant covers, and what an approval is bound to."""

import itertools
from collections.abc import Callable
from typing import Any

import attrs
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from palyra_trio.core.chain import canonical_json
from palyra_trio.core.errors import InvalidArgument
from palyra_trio.core.policy import (
    Approval,
    CallFacts,
    Decision,
    HostResource,
    PathResource,
    Pattern,
    ProgramFacts,
    Resource,
    SecretResource,
    Subject,
    ToolResource,
    Verdict,
    binding,
    decide_tool_call,
    facts_from,
    pattern_for,
    plain_facts,
    still_allowed,
)
from tests.core.instances import instances

ME = Subject("S", "user:me", "default")
LEVELS: dict[str, tuple[Approval, ...]] = {
    "free": ("none", "once", "standing"),
    "standing": ("once", "standing"),
    "once": ("once",),
    "never": (),
}


class FakeEngine:
    """Allows a resource by the approvals that are listed for its name, and keeps what it was asked."""

    hash = "H"

    def __init__(self, **levels: str) -> None:
        self.asked: list[tuple[str, Approval]] = []
        self._levels = levels

    def evaluate(self, subject: Subject, facts: CallFacts, resource: Resource, approval: Approval) -> Verdict:
        self.asked.append((resource.name, approval))
        allowed = approval in LEVELS[self._levels[resource.name]]
        return Verdict(
            allowed, (f"{resource.name}:{approval}",), (f"{resource.name} says {'yes' if allowed else 'no'}",)
        )


def touching(*resources: Resource | str, tool: str = "t.x") -> CallFacts:
    """Return a call that touches these; a name alone is a file."""
    touched = tuple(PathResource(each) if isinstance(each, str) else each for each in resources)
    return CallFacts(tool, "fs.write", "medium", read_only=False, resources=touched, arguments_digest="aa")


def decision(**levels: str) -> Decision:
    return decide_tool_call(ME, touching(*levels), FakeEngine(**levels))


# --- the decision ---


@pytest.mark.parametrize(
    ("level", "outcome", "standing", "asked"),
    [
        ("free", "allow", False, ["none"]),
        ("standing", "ask", True, ["none", "once", "standing"]),
        ("once", "ask", False, ["none", "once", "standing"]),
        ("never", "deny", False, ["none", "once"]),
    ],
)
def test_a_person_is_asked_only_about_what_a_yes_would_allow(
    level: str, outcome: str, standing: bool, asked: list[str]
) -> None:
    engine = FakeEngine(a=level)
    decided = decide_tool_call(ME, touching("a"), engine)
    assert (decided.outcome, decided.standing, decided.policy_hash) == (outcome, standing, "H")
    assert engine.asked == [("a", approval) for approval in asked]


@pytest.mark.parametrize("levels", list(itertools.product(LEVELS, repeat=3)), ids=", ".join)
def test_the_strictest_of_all_resources_holds(levels: tuple[str, ...]) -> None:
    decided = decision(**dict(zip("abc", levels, strict=True)))
    if "never" in levels:
        assert decided.outcome == "deny"
    elif set(levels) == {"free"}:
        assert decided.outcome == "allow"
    else:
        assert (decided.outcome, decided.standing) == ("ask", "once" not in levels)


def test_only_the_policies_of_the_strictest_outcome_are_named_each_once() -> None:
    decided = decision(a="free", b="standing", c="once")
    assert decided.policies == ("b:none", "b:once", "c:none", "c:once")
    assert decided.reason == "b says no; b says yes; c says no; c says yes"
    assert decision(a="never", b="once").policies == ("a:once",)


def test_a_sensitive_path_says_why_before_anything_else() -> None:
    key = PathResource("a", sensitive="it is a key file")
    assert decide_tool_call(ME, touching(key), FakeEngine(a="once")).reason == "it is a key file; a says no; a says yes"


@pytest.mark.parametrize(
    ("allowed", "words"),
    [
        ((), "no policy allows it"),
        (("once",), "a person decides"),
        (("none", "once"), "t.x is allowed"),
    ],
)
def test_an_engine_without_words_gets_some(allowed: tuple[str, ...], words: str) -> None:
    class Silent(FakeEngine):
        def evaluate(self, subject: Subject, facts: CallFacts, resource: Resource, approval: Approval) -> Verdict:
            return Verdict(approval in allowed)

    assert decide_tool_call(ME, touching("a"), Silent()).reason == words


def test_an_error_denies_and_is_told_before_the_reasons() -> None:
    class Broken(FakeEngine):
        def evaluate(self, subject: Subject, facts: CallFacts, resource: Resource, approval: Approval) -> Verdict:
            return Verdict(False, ("p",), ("because",), ("it broke",))

    assert decide_tool_call(ME, touching("a"), Broken()) == Decision("deny", ("p",), "it broke; because", "H")


@pytest.mark.parametrize(
    ("levels", "approval", "allowed", "asked"),
    [
        (("once", "standing"), "once", True, 2),
        (("once", "standing"), "standing", False, 1),
        (("standing", "never"), "standing", False, 2),
        (("never", "free"), "once", False, 1),
        (("free", "free"), "once", True, 2),
    ],
)
def test_what_was_approved_is_still_allowed_only_if_every_resource_is(
    levels: tuple[str, str], approval: Approval, allowed: bool, asked: int
) -> None:
    engine = FakeEngine(**dict(zip("ab", levels, strict=True)))
    assert still_allowed(ME, touching("a", "b"), engine, approval).allowed is allowed
    assert len(engine.asked) == asked


# --- facts on the tape ---

FACTS: st.SearchStrategy[CallFacts] = instances(CallFacts)


@given(FACTS)
def test_facts_come_back_from_the_tape_as_they_went(facts: CallFacts) -> None:
    plain = msgspec.json.decode(canonical_json(plain_facts(facts)))
    assert "arguments_digest" not in plain
    assert facts_from(plain, facts.arguments_digest) == facts


@pytest.mark.parametrize(
    "change",
    [
        {"resources": [{"kind": "planet", "name": "x"}]},
        {"resources": [{"kind": "path"}]},
        {"resources": [{"kind": "path", "path": "a", "colour": "red"}]},
        {"resources": 3},
        {"program": {"path": "/bin/ls"}},
        {"colour": "red"},
        {"tool": None, "resources": None},
    ],
    ids=str,
)
def test_facts_of_another_form_are_refused(change: dict[str, Any]) -> None:
    with pytest.raises(InvalidArgument, match="no facts of a tool call"):
        facts_from(plain_facts(touching("a")) | change, "aa")


def test_facts_that_lack_a_field_are_refused() -> None:
    for missing in ("tool", "action", "risk", "read_only", "resources"):
        plain = plain_facts(touching("a"))
        del plain[missing]
        with pytest.raises(InvalidArgument):
            facts_from(plain, "aa")


# --- what a grant covers ---

SITE = HostResource("example.com", 8443, "https", "GET", "public")
COLONS = HostResource("2606:4700::1111", 443, "https", "GET", "public")


@pytest.mark.parametrize(
    ("pattern", "resource", "covered"),
    [
        ("notes/*", "notes/a.md", True),
        ("notes/*", "notes/deep/a.md", False),
        ("notes/*", "notes", False),
        ("notes/*", "other/a.md", False),
        ("notes/?.md", "notes/a.md", True),
        ("notes/?.md", "notes/ab.md", False),
        ("*", "a.md", True),
        ("*", "notes/a.md", False),
        ("*", "/etc/passwd", False),
        ("**", "notes/deep/a.md", True),
        ("**", "/etc/passwd", True),
        ("notes/**", "notes/a.md", True),
        ("notes/**", "notes/deep/a.md", True),
        ("notes/**", "notes", False),
        ("notes/**", "notesy/a.md", False),
        ("[[]x]/*", "[x]/a", True),
        ("[[]x]/*", "x/a", False),
        ("[[]x]/**", "[x]/deep/a", True),
        ("[[]x]/**", "x/deep/a", False),
        ("A/*", "a/b", False),
        ("example.com:8443", SITE, True),
        ("example.com:443", SITE, False),
        ("example.com:*", SITE, True),
        ("ample.com:8443", SITE, False),
        ("2606:4700::1111:443", COLONS, True),
        ("**", SITE, True),
    ],
)
def test_a_pattern_covers_what_its_glob_matches_and_stars_stay_within_a_part(
    pattern: str, resource: Resource | str, covered: bool
) -> None:
    assert Pattern("t.x", pattern).covers(touching(resource)) is covered


@pytest.mark.parametrize(
    ("tool", "covered"), [("t.x", True), ("t.*", True), ("*", True), ("t.y", False), ("T.x", False), ("t", False)]
)
def test_a_pattern_is_for_the_tools_that_its_own_glob_matches(tool: str, covered: bool) -> None:
    assert Pattern(tool, "**").covers(touching("a")) is covered


def test_a_pattern_covers_a_call_only_with_all_that_it_touches() -> None:
    assert Pattern("t.x", "notes/*").covers(touching("notes/a", "notes/b"))
    assert not Pattern("t.x", "notes/*").covers(touching("notes/a", "b"))


@pytest.mark.parametrize(
    ("resources", "pattern"),
    [
        (("a.md",), "t.x *"),
        (("notes/a.md",), "t.x notes/*"),
        (("notes/a.md", "notes/b.md"), "t.x notes/*"),
        (("notes/a.md", "other/b.md"), None),
        (("notes/a.md", "notes/deep/b.md"), None),
        (("a.md", "notes/b.md"), None),
        (("[x]*/a",), "t.x [[]x][*]/*"),
        ((SITE,), "t.x example.com:8443"),
        ((SITE, attrs.evolve(SITE, port=443)), None),
        ((SITE, attrs.evolve(SITE, method="POST")), "t.x example.com:8443"),
        ((SecretResource("key*"),), "t.x key[*]"),
        ((ToolResource("t.x"),), "t.x t.x"),
    ],
)
def test_what_a_standing_grant_would_cover_is_the_one_folder_or_host(
    resources: tuple[Resource | str, ...], pattern: str | None
) -> None:
    found = pattern_for(touching(*resources))
    assert (None if found is None else str(found)) == pattern


NAME = st.text(st.sampled_from("ab.*?[]!-^ \\é"), min_size=1, max_size=6)
PATHS = st.lists(NAME, min_size=1, max_size=4).map("/".join)


@given(PATHS, PATHS)
def test_what_is_granted_covers_the_call_and_nothing_of_another_folder(path: str, other: str) -> None:
    found = pattern_for(touching(path))
    assert found is not None
    assert found.covers(touching(path))
    assert found.covers(touching(other)) == (path.rpartition("/")[0] == other.rpartition("/")[0])


# --- what an approval is bound to ---

PROGRAM = ProgramFacts("/bin/x", 1, opaque=False, network=False, cwd_inside=True)
FILE = PathResource("a")
BOUND = CallFacts(
    tool="t.x",
    action="process.exec",
    risk="high",
    read_only=False,
    resources=(FILE, SITE),
    arguments_digest="aa",
    workspace="/w",
    sandbox_tier=3,
    program=PROGRAM,
)
CALL: dict[str, Any] = {
    "tool": "t.y", "action": "fs.write", "arguments_digest": "bb", "workspace": "/v", "sandbox_tier": 4, "program": None,
    "resources": (SITE, FILE),
}  # fmt: skip
PATH: dict[str, Any] = {"path": "b", "inside_workspace": False, "exists": True, "sensitive": "a key"}
HOST: dict[str, Any] = {"host": "x.com", "port": 1, "scheme": "http", "method": "POST", "ip_class": "private"}
RUNS: dict[str, Any] = {"path": "/bin/y", "argv_length": 2, "opaque": True, "network": True, "cwd_inside": False}
OTHERS = {
    **{field: attrs.evolve(BOUND, **{field: value}) for field, value in CALL.items()},
    **{f"file {f}": attrs.evolve(BOUND, resources=(attrs.evolve(FILE, **{f: v}), SITE)) for f, v in PATH.items()},
    **{f"host {f}": attrs.evolve(BOUND, resources=(FILE, attrs.evolve(SITE, **{f: v}))) for f, v in HOST.items()},
    **{f"program {f}": attrs.evolve(BOUND, program=attrs.evolve(PROGRAM, **{f: v})) for f, v in RUNS.items()},
    "one resource less": attrs.evolve(BOUND, resources=(FILE,)),
    "one resource more": attrs.evolve(BOUND, resources=(FILE, SITE, FILE)),
}


def test_every_field_of_a_resource_or_program_is_tried() -> None:
    for cls, tried in ((PathResource, PATH), (HostResource, HOST), (ProgramFacts, RUNS)):
        assert {field.name for field in attrs.fields(cls)} == set(tried)


@pytest.mark.parametrize("other", OTHERS.values(), ids=OTHERS)
def test_an_approval_is_bound_to_everything_that_was_shown(other: CallFacts) -> None:
    assert binding(ME, other, "diff", ()) != binding(ME, BOUND, "diff", ())


def test_an_approval_is_bound_to_the_session_the_preview_and_the_changes() -> None:
    bound = binding(ME, BOUND, "diff", ())
    assert binding(attrs.evolve(ME, session_id="T"), BOUND, "diff", ()) != bound
    assert binding(ME, BOUND, "other", ()) != bound
    assert binding(ME, BOUND, "diff", ("a",)) != bound


def test_resources_of_another_kind_are_another_call_though_their_fields_are_the_same() -> None:
    kinds: list[Callable[[str], Resource]] = [SecretResource, ToolResource]
    secret, tool = (attrs.evolve(BOUND, resources=(kind("x"),)) for kind in kinds)
    assert binding(ME, secret, "", ()) != binding(ME, tool, "", ())


def test_what_goes_on_by_itself_leaves_an_approval_as_it_was() -> None:
    later = attrs.evolve(BOUND, calls_left=7, now_s=99)
    assert binding(attrs.evolve(ME, tainted=True), later, "diff", ()) == binding(ME, BOUND, "diff", ())


def test_a_forbid_that_gives_no_reason_is_named() -> None:
    class Forbids:
        hash = "h"

        def evaluate(self, *_: object) -> Verdict:
            return Verdict(False, ("mine",))

    facts = CallFacts("t", "run.local", "low", True, (ToolResource("t"),), "aa")
    assert decide_tool_call(Subject("s", "u", "a"), facts, Forbids()).reason == "mine forbids it"
