"""Imported rules: what they become, what is told of those that change, and that none opens more or closes less."""

import json

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from palyra_trio.core.errors import InvalidArgument
from palyra_trio.core.policy import CallFacts, PathResource, ToolResource, decide_tool_call
from palyra_trio.guard.cedar import CedarEngine
from palyra_trio.guard.claude_rules import RULE_CHARACTERS, ClaudeImport, import_claude_rules
from palyra_trio.guard.policy_check import find_faults
from palyra_trio.guard.presets import preset
from tests.guard.calls import HOST, SUBJECT, call

HOME = "/home/alice"
POST = call("net.fetch", attrs.evolve(HOST, method="POST"))
PLAIN = call("net.fetch", attrs.evolve(HOST, scheme="http"))
SUBDOMAIN = call("net.fetch", attrs.evolve(HOST, host="api.example.com"))
DOTTED = call("net.fetch", attrs.evolve(HOST, host="example.com."))
ELSEWHERE = call("net.fetch", attrs.evolve(HOST, host="example.org"))
RUN = call("process.exec", sandbox_tier=4)


def read(path: str, tool: str = "files.read") -> CallFacts:
    return call("fs.read", PathResource(path), tool=tool)


def write(path: str, tool: str = "files.write") -> CallFacts:
    return call("fs.write", PathResource(path), tool=tool)


def delete(path: str) -> CallFacts:
    return call("fs.delete", PathResource(path))


def imported(**lists: list[str]) -> ClaudeImport:
    return import_claude_rules(json.dumps({"permissions": lists}), HOME)


def outcome(facts: CallFacts, **lists: list[str]) -> str:
    engine = CedarEngine([preset("default"), imported(**lists).source])
    return decide_tool_call(SUBJECT, facts, engine).outcome


def notes(**lists: list[str]) -> list[tuple[str, str]]:
    return [(note.rule, note.outcome) for note in imported(**lists).notes]


# --- allow: no more than it says ---


@pytest.mark.parametrize(
    ("rule", "allowed", "asked"),
    [
        ("Edit(/docs/**)", [write("docs/a/b"), write("docs/a", "files.edit")], [write("src/a"), delete("docs/a")]),
        ("Edit", [write("a"), write("a", "files.edit")], [delete("a")]),
        ("Write(src/*)", [write("src/a")], [write("src/a", "files.edit"), write("src/a/b")]),
        ("Write", [write("a")], [write("a", "files.edit")]),
        ("MultiEdit(src/**)", [write("src/a", "files.edit")], [write("src/a")]),
        ("WebFetch(domain:example.com)", [call("net.fetch")], [POST, PLAIN, SUBDOMAIN, ELSEWHERE]),
        ("WebFetch(domain:*.example.com)", [SUBDOMAIN], [call("net.fetch"), ELSEWHERE]),
        ("WebFetch", [call("net.fetch"), ELSEWHERE], [POST, PLAIN]),
        ("WebFetch(domain:*)", [call("net.fetch"), ELSEWHERE], [POST]),
        ("Bash", [RUN], [write("a")]),
        ("Bash(*)", [RUN], [write("a")]),
    ],
)
def test_an_allow_permits_what_it_says_and_no_more(rule: str, allowed: list[CallFacts], asked: list[CallFacts]) -> None:
    assert [outcome(facts, allow=[rule]) for facts in allowed] == ["allow"] * len(allowed)
    assert [outcome(facts, allow=[rule]) for facts in asked] == ["ask"] * len(asked)


@pytest.mark.parametrize(
    ("rule", "tool", "other"),
    [
        ("Grep", "files.search", "files.read"),
        ("Glob", "files.list", "files.search"),
        ("LS", "files.list", "files.read"),
    ],
)
def test_an_allowed_look_is_of_its_own_tool(rule: str, tool: str, other: str) -> None:
    alone = CedarEngine([imported(allow=[rule]).source])
    assert decide_tool_call(SUBJECT, read("a", tool), alone).outcome == "allow"
    assert decide_tool_call(SUBJECT, read("a", other), alone).outcome == "deny"


def test_an_allowed_path_is_one_of_the_workspace() -> None:
    alone = CedarEngine([imported(allow=["Read", "Read(src/**)"]).source])
    assert decide_tool_call(SUBJECT, read("src/a"), alone).outcome == "allow"
    outside = call("fs.read", PathResource("src/a", inside_workspace=False))
    assert decide_tool_call(SUBJECT, outside, alone).outcome == "deny"


def test_an_allow_opens_nothing_that_always_asks_or_is_forbidden() -> None:
    key = call("fs.read", PathResource("id_rsa", sensitive="a key file"))
    assert outcome(key, allow=["Read"]) == "ask"
    assert outcome(call("process.exec"), allow=["Bash"]) == "deny"


@pytest.mark.parametrize(
    "rule",
    [
        *("Bash(npm run test:*)", "Bash(ls)", "Read(~/notes/**)", "Read(//etc/hosts)", "Read(src/[ab])", "Edit(a/**/b/*)"),
        *("Grep(src/**)", "WebFetch(example.com)", "WebFetch(domain:exämple.com)", "WebSearch", "NotebookEdit", "Task(x)"),
        *("mcp__github__search", "Read(src", "", "*", "Read (a)"),
    ],
)  # fmt: skip
def test_an_allow_that_cannot_be_kept_is_refused_and_says_so(rule: str) -> None:
    found = imported(allow=[rule])
    assert found.source.text == ""
    assert [(note.rule, note.list, note.outcome) for note in found.notes] == [(rule, "allow", "refused")]
    assert all(note.reason for note in found.notes)


# --- deny: no less than it says ---


@pytest.mark.parametrize(
    ("rule", "denied", "free"),
    [
        ("Read", [read("a"), read("a", "files.search")], [write("a")]),
        ("Read(.env)", [read(".env"), read("a/.env"), read(".", "files.search")], [read("a"), read(".", "files.list")]),
        ("Read(./secrets/**)", [read("secrets/a"), read("secrets"), read(".", "files.search")], [read("src", "files.search")]),
        ("Read(~/.ssh/**)", [call("fs.read", PathResource(".ssh/a"), workspace=HOME)], [read("a"), read(".", "files.search")]),
        ("Read(!a)", [read("a"), read("b")], [write("a")]),
        ("Edit(src/*.py)", [write("src/a.py"), write("src/b/a.py", "files.edit"), delete("src/a.py")], [write("a.py")]),
        ("Write(src/**)", [write("src/a", "files.edit"), delete("src/a")], [read("src/a")]),
        ("NotebookEdit", [write("a"), delete("a")], [read("a")]),
        ("Glob", [read("a", "files.list"), read("a", "files.search")], [read("a")]),
        ("Grep(src/**)", [read("a", "files.search")], [read("a")]),
        ("WebFetch", [call("net.fetch"), POST, ELSEWHERE], [read("a")]),
        ("WebFetch(domain:Example.com)", [call("net.fetch"), POST, SUBDOMAIN, DOTTED], [ELSEWHERE]),
        ("WebFetch(domain:*.example.com)", [SUBDOMAIN], [ELSEWHERE]),
        ("WebFetch(example.com)", [call("net.fetch"), ELSEWHERE], [read("a")]),
        ("Bash(rm:*)", [RUN], [write("a")]),
        ("mcp__github__*", [call("run.local", ToolResource("mcp.github.x"), tool="mcp.github.x")], [call("run.local")]),
        ("Read(src", [read("a"), write("a"), RUN, call("run.local")], []),
        ("*", [read("a"), write("a"), RUN, call("run.local")], []),
    ],
)  # fmt: skip
def test_a_deny_forbids_what_it_says(rule: str, denied: list[CallFacts], free: list[CallFacts]) -> None:
    assert [outcome(facts, deny=[rule]) for facts in denied] == ["deny"] * len(denied)
    assert "deny" not in [outcome(facts, deny=[rule]) for facts in free]


def test_an_ask_asks_where_a_deny_would_forbid() -> None:
    assert outcome(read("docs/a"), ask=["Read(docs/**)"]) == "ask"
    assert outcome(read("src/a"), ask=["Read(docs/**)"]) == "allow"
    assert outcome(write("a"), ask=["Edit"], allow=["Edit"]) == "ask"


def test_deny_beats_ask_and_ask_beats_allow() -> None:
    rule = ["Edit(src/**)"]
    assert outcome(write("src/a"), allow=rule) == "allow"
    assert outcome(write("src/a"), allow=rule, ask=rule) == "ask"
    assert outcome(write("src/a"), allow=rule, ask=rule, deny=rule) == "deny"


def test_a_rule_that_forbids_more_than_it_says_is_told_of() -> None:
    assert notes(deny=["Read", "Edit", "WebFetch", "Bash"]) == []
    wider = ["Read(.env)", "Edit(a*)", "Grep", "WebFetch(domain:a.b)", "Bash(rm:*)", "mcp__x", "Read(!a)", "Read(a"]
    assert notes(deny=wider, ask=wider) == [(rule, "wider") for rule in wider * 2]


def test_a_rule_for_a_tool_that_is_not_here_is_told_of() -> None:
    assert notes(deny=["WebSearch", "Task(Explore)"]) == [("WebSearch", "refused"), ("Task(Explore)", "refused")]


# --- the document ---


def test_what_is_no_rule_is_told_of() -> None:
    document = {"$schema": "x", "hooks": {}, "permissions": {"defaultMode": "acceptEdits", "allow": ["Edit"]}}
    found = import_claude_rules(json.dumps(document), HOME)
    assert [(note.rule, note.outcome) for note in found.notes] == [
        ("hooks", "refused"),
        ("permissions.defaultMode", "refused"),
    ]
    assert CedarEngine([found.source]).ids == ("claude:allow:Edit",)


@pytest.mark.parametrize(
    "document",
    [
        *("", "[]", "{}", '{"permissions": []}', '{"permissions": {"deny": "Bash"}}', '{"permissions": {"deny": [1]}}'),
        '{"permissions": {"deny": ["Bash"], "deny": []}}',
        '{"permissions": {"deny": ["Read(\\ud800)"]}}',
        json.dumps({"permissions": {"deny": ["x" * (RULE_CHARACTERS + 1)]}}),
        "[" * 100_000,
    ],
)  # fmt: skip
def test_a_document_that_cannot_be_understood_is_refused_as_a_whole(document: str) -> None:
    with pytest.raises(InvalidArgument):
        import_claude_rules(document, HOME)


RULE = st.builds(
    "{}({})".format,
    st.sampled_from(["Read", "Edit", "Write", "WebFetch", "Bash", "Grep", "mcp__x__y"]),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
    | st.sampled_from(['"); permit (principal, action, resource); //', "domain:*", '**/*"*', "~/a*", "\\*", "//a/b\n"]),
)


@settings(max_examples=60)
@given(st.lists(RULE, max_size=4), st.lists(RULE, max_size=4), st.lists(RULE, max_size=4))
def test_whatever_the_rules_the_policies_are_sound(allow: list[str], ask: list[str], deny: list[str]) -> None:
    found = imported(allow=allow, ask=ask, deny=deny)
    assert find_faults([found.source], lambda _: None) == ()
    refused = sum(note.outcome == "refused" for note in found.notes)
    assert len(CedarEngine([found.source]).ids) == sum(len(set(each)) for each in (allow, ask, deny)) - refused
