"""What each preset says of each kind of call, and that whatever goes wrong inside the engine allows nothing."""

from typing import Any

import attrs
import cedarpy
import pytest
from hypothesis import given
from hypothesis import strategies as st

from palyra_trio.core.policy import (
    Action,
    Approval,
    CallFacts,
    HostResource,
    IpClass,
    PathResource,
    ProgramFacts,
    Resource,
    Risk,
    SecretResource,
    Subject,
    ToolResource,
    Verdict,
    decide_tool_call,
)
from palyra_trio.guard.cedar import POLICY_ERROR, CedarEngine
from palyra_trio.guard.policy_text import PolicySource, statements
from palyra_trio.guard.presets import PRESETS, preset, schema_text
from tests.guard.calls import HOST, INSIDE, PROGRAM, REACHED, RESOURCES, SUBJECT, TAINTED, call

ENGINES = {name: CedarEngine([preset(name)]) for name in PRESETS}
SHELL = attrs.evolve(PROGRAM, path="/bin/sh", opaque=True)
KEY = PathResource("id_rsa", sensitive="a key file")
OUTSIDE = PathResource("/etc/passwd", inside_workspace=False)
RUN = RESOURCES["process.exec"]
FOR_A_HOST = SecretResource("github", "api.github.com", 443, (), ("api.github.com",))
ALLOW_ALL = '@id("all") permit (principal, action, resource);'


def engine_of(*policies: str) -> CedarEngine:
    return CedarEngine([PolicySource("test.cedar", "\n".join(policies))])


def verdict(engine: CedarEngine, facts: CallFacts, approval: Approval = "none", subject: Subject = SUBJECT) -> Verdict:
    return engine.evaluate(subject, facts, facts.resources[0], approval)


def outcome(name: str, subject: Subject, facts: CallFacts) -> str:
    """Return allow, deny, ask, or `once` for what is asked for every time."""
    decision = decide_tool_call(subject, facts, ENGINES[name])
    return "once" if decision.outcome == "ask" and not decision.standing else decision.outcome


# --- what the presets say ---

TABLE: list[tuple[str, Subject, CallFacts, tuple[str, str, str]]] = [
    # what                         who      call                                    default, strict, trusted-workspace
    ("the clock", SUBJECT, call("run.local"), ("allow", "allow", "allow")),
    ("the clock, tainted", TAINTED, call("run.local"), ("allow", "allow", "allow")),
    ("a local call of some risk, tainted", TAINTED, call("run.local", risk="medium"), ("ask", "once", "ask")),
    ("read", SUBJECT, call("fs.read"), ("allow", "allow", "allow")),
    ("read, tainted", TAINTED, call("fs.read"), ("allow", "allow", "allow")),
    ("read a key", SUBJECT, call("fs.read", KEY), ("once", "once", "once")),
    ("read a key among others", SUBJECT, call("fs.read", INSIDE, KEY), ("once", "once", "once")),
    ("read outside", SUBJECT, call("fs.read", OUTSIDE), ("deny", "deny", "deny")),
    ("read outside among others", SUBJECT, call("fs.read", INSIDE, OUTSIDE), ("deny", "deny", "deny")),
    ("write", SUBJECT, call("fs.write"), ("ask", "once", "allow")),
    ("write, tainted", TAINTED, call("fs.write"), ("ask", "once", "ask")),
    ("write of little risk, tainted", TAINTED, call("fs.write", risk="low"), ("ask", "once", "ask")),
    ("write of high risk, tainted", TAINTED, call("fs.write", risk="high"), ("once", "once", "once")),
    ("write a key", SUBJECT, call("fs.write", KEY), ("once", "once", "once")),
    ("write a key among others", SUBJECT, call("fs.write", INSIDE, KEY), ("once", "once", "once")),
    ("write outside", SUBJECT, call("fs.write", OUTSIDE), ("deny", "deny", "deny")),
    ("delete", SUBJECT, call("fs.delete"), ("ask", "once", "ask")),
    ("delete, tainted", TAINTED, call("fs.delete"), ("once", "once", "once")),
    ("delete a key", SUBJECT, call("fs.delete", KEY), ("once", "once", "once")),
    ("delete outside", SUBJECT, call("fs.delete", OUTSIDE), ("deny", "deny", "deny")),
    ("fetch", SUBJECT, call("net.fetch"), ("ask", "once", "ask")),
    ("fetch, tainted", TAINTED, call("net.fetch"), ("once", "once", "once")),
    ("fetch of high risk, tainted", TAINTED, call("net.fetch", risk="high"), ("once", "once", "once")),
    ("exec, no sandbox", SUBJECT, call("process.exec"), ("deny", "deny", "deny")),
    ("exec, tier 2", SUBJECT, call("process.exec", sandbox_tier=2), ("deny", "deny", "deny")),
    ("exec, tier 3", SUBJECT, call("process.exec", sandbox_tier=3), ("ask", "once", "ask")),
    ("exec, tier 3, tainted", TAINTED, call("process.exec", sandbox_tier=3), ("once", "once", "once")),
    ("shell, tier 3", SUBJECT, call("process.exec", program=SHELL, sandbox_tier=3), ("deny", "deny", "deny")),
    ("shell, tier 4", SUBJECT, call("process.exec", program=SHELL, sandbox_tier=4), ("once", "once", "once")),
    ("secret", SUBJECT, call("secret.use"), ("deny", "deny", "deny")),
    ("secret, tainted", TAINTED, call("secret.use"), ("deny", "deny", "deny")),
    ("secret that was set for a host", SUBJECT, call("secret.use", FOR_A_HOST), ("once", "once", "once")),
    ("that with a fetch", SUBJECT, call("net.fetch", HOST, FOR_A_HOST), ("once", "once", "once")),
    ("any secret with a fetch", SUBJECT, call("net.fetch", HOST, SecretResource("x")), ("deny", "deny", "deny")),
    ("exec with a host", SUBJECT, call("process.exec", RUN, REACHED, sandbox_tier=4), ("once", "once", "once")),
    ("that, tainted", TAINTED, call("process.exec", RUN, REACHED, sandbox_tier=4), ("once", "once", "once")),
    ("exec with a secret", SUBJECT, call("process.exec", RUN, FOR_A_HOST, sandbox_tier=4), ("once", "once", "once")),
]


@pytest.mark.parametrize(
    ("name", "subject", "facts", "expected"),
    [
        pytest.param(name, subject, facts, expected, id=f"{what}, {name}")
        for what, subject, facts, row in TABLE
        for name, expected in zip(("default", "strict", "trusted-workspace"), row, strict=True)
    ],
)
def test_the_presets_decide(name: str, subject: Subject, facts: CallFacts, expected: str) -> None:
    assert outcome(name, subject, facts) == expected


@pytest.mark.parametrize("name", PRESETS)
@pytest.mark.parametrize("ip_class", ["loopback", "private", "link_local", "metadata", "embedded_v4", "other"])
def test_only_public_addresses_are_ever_reached(name: str, ip_class: IpClass) -> None:
    fetch = call("net.fetch", attrs.evolve(HOST, ip_class=ip_class))
    program = call("process.exec", RUN, attrs.evolve(REACHED, ip_class=ip_class), sandbox_tier=4)
    for facts in (fetch, program):
        decision = decide_tool_call(SUBJECT, facts, ENGINES[name])
        assert (decision.outcome, decision.reason) == ("deny", "only public addresses may be reached")


@pytest.mark.parametrize("name", PRESETS)
def test_what_is_allowed_for_fetching_or_for_programs_lets_no_program_out(name: str) -> None:
    """A policy that permits every fetch, or every program, says nothing of what a program may talk to."""
    mine = """
        @id("fetch-all") permit (principal, action == Daemon::Action::"net.fetch", resource);
        @id("exec-all") permit (principal, action == Daemon::Action::"process.exec", resource);
    """
    engine = CedarEngine([preset(name), PolicySource("mine.cedar", mine)])
    for extra in (REACHED, FOR_A_HOST):
        decision = decide_tool_call(SUBJECT, call("process.exec", RUN, extra, sandbox_tier=4), engine)
        assert (decision.outcome, decision.standing) == ("ask", False)


def test_a_policy_of_the_user_may_spare_the_question_for_one_host_one_program_and_one_secret() -> None:
    mine = """
        @id("pip") permit (principal, action == Daemon::Action::"net.connect", resource)
        when { resource.host == "example.com" && resource.port == 443 && context.program.path == "/usr/bin/ls" };
        @id("ls") permit (principal, action == Daemon::Action::"process.exec", resource);
        @id("github") permit (principal, action == Daemon::Action::"secret.use", resource)
        when { resource == Daemon::Secret::"github" && context.destination.host == "api.github.com"
            && context.destination.port == 443 && resource.for_hosts.contains("api.github.com") };
    """
    engine = CedarEngine([preset("default"), PolicySource("mine.cedar", mine)])
    facts = call("process.exec", RUN, REACHED, FOR_A_HOST, sandbox_tier=4)
    assert decide_tool_call(SUBJECT, facts, engine).outcome == "allow"
    assert decide_tool_call(TAINTED, facts, engine).outcome == "ask"
    for other in (attrs.evolve(REACHED, port=8443), attrs.evolve(FOR_A_HOST, host="evil.example")):
        assert decide_tool_call(SUBJECT, attrs.evolve(facts, resources=(RUN, other)), engine).outcome == "ask"


@pytest.mark.parametrize("name", PRESETS)
@pytest.mark.parametrize("approval", ["none", "once", "standing"])
@given(data=st.data())
def test_no_file_beside_a_preset_opens_what_the_preset_forbids(
    name: str, approval: Approval, data: st.DataObject
) -> None:
    """With a permit for everything beside it, a preset still forbids, and still asks every time."""
    facts = data.draw(st.sampled_from([call("fs.write", OUTSIDE), call("process.exec"), call("fs.read", KEY)]))
    engine = CedarEngine([preset(name), PolicySource("mine.cedar", ALLOW_ALL)])
    allowed = verdict(engine, facts, approval).allowed
    assert allowed == (facts.resources[0] == KEY and approval == "once")


def test_under_strict_other_files_cannot_spare_anybody_a_question() -> None:
    engine = CedarEngine([preset("strict"), PolicySource("mine.cedar", ALLOW_ALL)])
    actions: list[Action] = ["fs.write", "fs.delete", "net.fetch", "process.exec", "secret.use"]
    for action in actions:
        decision = decide_tool_call(SUBJECT, call(action, sandbox_tier=4), engine)
        assert (decision.outcome, decision.standing) == ("ask", False)


def test_the_presets_share_their_words() -> None:
    """A policy that has the same id in two presets is the same policy, and what `default` has the others have."""
    by_name = {name: {each.text for each in statements(preset(name).text)} for name in PRESETS}
    assert by_name["default"] < by_name["strict"]
    assert by_name["default"] < by_name["trusted-workspace"]


@pytest.mark.parametrize("name", PRESETS)
def test_every_policy_of_a_preset_says_why(name: str) -> None:
    for policy in cedarpy.policies_to_pst(preset(name).text).static_policies.values():
        assert policy.annotations.keys() == {"id", "reason"}
        assert all(policy.annotations.values())


def test_there_is_no_other_preset() -> None:
    with pytest.raises(KeyError):
        preset("../schema")


# --- what a decision tells ---


def test_a_refusal_names_the_policies_and_says_why() -> None:
    assert verdict(ENGINES["default"], call("fs.write", PathResource("/a", False, sensitive="x"))) == Verdict(
        False,
        ("outside-workspace", "sensitive-path"),
        ("the path is outside the workspace", "a sensitive path is asked for every time"),
    )


def test_a_question_tells_the_reasons_of_both_passes() -> None:
    decision = decide_tool_call(TAINTED, call("fs.write"), ENGINES["default"])
    assert decision.policies == ("tainted", "write-in-workspace")
    assert decision.reason == (
        "the session has read content from strangers, so a person decides; it changes a file, so a person decides"
    )


def test_what_no_policy_speaks_of_is_refused_without_a_policy() -> None:
    assert verdict(ENGINES["default"], call("secret.use"), "standing") == Verdict(False)


def test_a_prompt_stands_in_for_a_missing_reason() -> None:
    engine = engine_of(
        '@id("a") @prompt("please") permit (principal, action, resource);',
        '@id("b") permit (principal, action, resource);',
    )
    assert verdict(engine, call("fs.read")) == Verdict(True, ("a", "b"), ("please",))
    assert engine.ids == ("a", "b")


# --- what goes wrong allows nothing ---

OVERFLOW = "context.common.now_s * 9223372036854775807 > 0"


def test_a_forbid_that_cannot_be_evaluated_denies() -> None:
    engine = engine_of(ALLOW_ALL, f'@id("broken") forbid (principal, action, resource) when {{ {OVERFLOW} }};')
    found = verdict(engine, call("fs.read"))
    assert (found.allowed, found.policies, found.reasons) == (False, ("all",), (POLICY_ERROR,))
    (error,) = found.errors
    assert "`broken`" in error
    assert "overflow" in error


def test_a_permit_that_cannot_be_evaluated_denies_even_beside_one_that_can() -> None:
    engine = engine_of(ALLOW_ALL, f'@id("broken") permit (principal, action, resource) when {{ {OVERFLOW} }};')
    assert not verdict(engine, call("fs.read")).allowed


@pytest.mark.parametrize(
    "facts",
    [
        call("fs.read", ToolResource("files.read")),
        call("net.fetch", INSIDE),
        call("run.local", SecretResource("x")),
        attrs.evolve(call("process.exec"), program=None),
        attrs.evolve(call("fs.read"), program=PROGRAM),
        attrs.evolve(call("fs.read"), now_s=2**63),
        call("net.fetch", attrs.evolve(HOST, port=2**80)),
        call("fs.read", PathResource("\udcff")),
        attrs.evolve(call("fs.read"), workspace="/\udcff"),
        attrs.evolve(call("fs.read"), action="policy.admin"),  # type: ignore[arg-type]
        attrs.evolve(call("fs.read"), risk="none"),  # type: ignore[arg-type]
    ],
    ids=["tool", "path", "secret", "bare exec", "program", "time", "port", "surrogate", "workspace", "action", "risk"],
)
def test_facts_that_do_not_fit_the_schema_are_refused(facts: CallFacts) -> None:
    found = verdict(engine_of(ALLOW_ALL, "// mentions now_s\n"), facts, "standing")
    assert (found.allowed, found.reasons) == (False, (POLICY_ERROR,))
    assert all(found.errors)


class Panic(BaseException):
    """What the engine raises when it breaks down is no Exception."""


@pytest.mark.parametrize("error", [Panic("unwrap"), ValueError(), MemoryError()])
def test_whatever_the_engine_raises_is_a_refusal(error: BaseException, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any) -> None:
        raise error

    monkeypatch.setattr(cedarpy, "is_authorized", broken)
    assert verdict(CedarEngine([preset("default")]), call("fs.read")) == Verdict(
        False, (), (POLICY_ERROR,), (str(error) or type(error).__name__,)
    )


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_whoever_ends_the_process_is_not_held_up(error: type[BaseException], monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: Any) -> None:
        raise error

    monkeypatch.setattr(cedarpy, "is_authorized", interrupted)
    with pytest.raises(error):
        verdict(CedarEngine([preset("default")]), call("fs.read"))


def test_a_decision_that_is_none_is_a_refusal_even_without_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cedarpy, "is_authorized", lambda *_: cedarpy.AuthzResult({"decision": "NoDecision"}))
    assert verdict(CedarEngine([preset("default")]), call("fs.read")) == Verdict(
        False, (), (POLICY_ERROR,), ("the engine came to no decision",)
    )


def test_cedars_own_ranges_miss_a_metadata_address_so_policies_see_a_class() -> None:
    trap = '@id("f3") forbid (principal, action, resource) when { ip("::ffff:a9fe:a9fe").isInRange(ip("169.254.0.0/16")) };'
    assert verdict(engine_of(ALLOW_ALL, trap), call("net.fetch")).allowed
    assert "ipaddr" not in schema_text()


HOSTILE = st.text(st.characters(exclude_categories=["Cs"])) | st.sampled_from(
    ['x"; permit (principal, action, resource); //', 'Daemon::Path::"notes"', "\n", "*", "\\", '"', "\0", ""]
)


@given(HOSTILE, HOSTILE, HOSTILE)
def test_names_from_outside_are_never_read_as_syntax(session: str, user: str, path: str) -> None:
    engine = engine_of(
        '@id("one") permit (principal == Daemon::Session::"me", action, resource) when { principal.user == "me" };'
    )
    facts = call("fs.read", PathResource(path), tool=path)
    found = verdict(engine, facts, subject=Subject(session, user, session))
    assert found.allowed == (session == user == "me")
    assert not found.errors


# --- what policies can speak of ---


@pytest.mark.parametrize(
    "condition",
    [
        'principal in Daemon::Agent::"main"',
        'principal in Daemon::User::"user:alice"',
        'principal.agent == "main" && principal.user == "user:alice" && !principal.tainted',
        'context.common.tool in Daemon::ToolSet::"files"',
        'context.common.tool == Daemon::Tool::"files.read" && context.common.tool.name like "files.*"',
        f'context.common.arguments_digest == "{"5e" * 32}" && context.common.risk == 1 && context.common.read_only',
        'context.common.workspace == "/home/alice/work" && context.common.calls_left == 10',
        "!context.common.approved && !context.common.standing && context.common.sandbox_tier == 0",
        "context.common.now_s == 1760000000",
    ],
)
def test_a_policy_sees_the_facts_of_a_call(condition: str) -> None:
    assert verdict(
        engine_of(f'@id("a") permit (principal, action, resource) when {{ {condition} }};'), call("fs.read")
    ).allowed


@pytest.mark.parametrize(
    ("action", "resource", "condition"),
    [
        ("fs.write", PathResource("a", True, True, "key"), 'resource.path == "a" && resource.inside_workspace && resource.exists && resource.sensitive'),
        ("fs.write", PathResource("a"), "!resource.exists && !resource.sensitive"),
        (
            "net.fetch",
            HostResource("a.b", 80, "http", "POST", "other"),
            'resource == Daemon::Host::"a.b:80" && resource.host == "a.b" && resource.port == 80 && resource.scheme == "http"'
            ' && resource.method == "POST" && resource.ip_class == "other"',
        ),
        (
            "secret.use",
            SecretResource("s", "a.b", 443, ("fetch.*",), ("a.b", "*.c")),
            'resource == Daemon::Secret::"s" && resource.name == "s" && resource.for_tools == ["fetch.*"]'
            ' && resource.for_hosts.containsAll(["*.c", "a.b"]) && context.destination == {"host": "a.b", "port": 443}',
        ),
        ("secret.use", SecretResource("s"), 'resource.for_hosts.isEmpty() && context.destination.host == ""'),
        ("run.local", ToolResource("a.b.c"), 'resource in Daemon::ToolSet::"a" && resource in Daemon::ToolSet::"a.b" && resource.name == "a.b.c"'),
    ],
)  # fmt: skip
def test_a_policy_sees_the_resource(action: Action, resource: Resource, condition: str) -> None:
    policy = f'@id("a") permit (principal, action == Daemon::Action::"{action}", resource) when {{ {condition} }};'
    assert verdict(engine_of(policy), call(action, resource)).allowed


def test_a_policy_sees_the_program() -> None:
    condition = (
        'context.program.path == "/bin/sh" && context.program.argv_length == 3 && context.program.opaque'
        " && context.program.network && !context.program.cwd_inside"
    )
    policy = f'@id("a") permit (principal, action == Daemon::Action::"process.exec", resource) when {{ {condition} }};'
    facts = call("process.exec", program=ProgramFacts("/bin/sh", 3, opaque=True, network=True, cwd_inside=False))
    assert verdict(engine_of(policy), facts).allowed


@pytest.mark.parametrize(("approval", "seen"), [("none", (0, 0)), ("once", (1, 0)), ("standing", (1, 1))])
def test_a_policy_sees_the_approval(approval: Approval, seen: tuple[int, int]) -> None:
    for fact, expected in zip(("approved", "standing"), seen, strict=True):
        policy = f'@id("a") permit (principal, action, resource) when {{ context.common.{fact} }};'
        assert verdict(engine_of(policy), call("fs.read"), approval).allowed == bool(expected)


@pytest.mark.parametrize(("risk", "number"), [("low", 1), ("medium", 2), ("high", 3)])
def test_a_policy_sees_the_risk_as_a_number(risk: Risk, number: int) -> None:
    policy = f'@id("a") permit (principal, action, resource) when {{ context.common.risk == {number} }};'
    assert verdict(engine_of(policy), call("fs.read", risk=risk)).allowed


def test_calls_one_after_the_other_are_judged_by_their_own_facts() -> None:
    """The passes over one resource share what was parsed of it; another call, resource or session must not."""
    engine = ENGINES["trusted-workspace"]
    for _ in range(2):
        assert verdict(engine, call("fs.write")).allowed
        assert not verdict(engine, call("fs.write"), subject=TAINTED).allowed
        assert not verdict(engine, call("fs.write", PathResource(INSIDE.path, sensitive="x"))).allowed


@pytest.mark.parametrize("action", RESOURCES)
def test_every_action_has_a_call_that_the_schema_knows(action: Action) -> None:
    assert verdict(engine_of(ALLOW_ALL), call(action)).allowed


# --- the hash ---


READ = call("fs.read")
MENTIONS = """
@id("late") @reason("it is late") forbid (principal, action, resource) when { context.common.now_s > 1000 };
@id("all") @reason("all") permit (principal, action, resource);
"""


def test_a_verdict_that_is_remembered_is_told_apart_by_all_that_a_policy_mentions() -> None:
    engine = CedarEngine([PolicySource("mine", MENTIONS)])
    early, late = attrs.evolve(READ, now_s=1000), attrs.evolve(READ, now_s=1001)
    assert [engine.evaluate(SUBJECT, facts, INSIDE, "none").allowed for facts in (early, late, early)] == [
        True,
        False,
        True,
    ]


def test_a_fact_counts_also_where_a_policy_spells_its_name_with_escapes() -> None:
    text = """
@id("all") permit (principal, action, resource);
@id("late") forbid (principal, action, resource) when { context.common["now\\u{5f}s"] > 1000 };
"""
    engine = CedarEngine([PolicySource("late.cedar", text)])
    early, late = attrs.evolve(READ, now_s=1000), attrs.evolve(READ, now_s=1001)
    assert [engine.evaluate(SUBJECT, facts, INSIDE, "none").allowed for facts in (early, late)] == [True, False]


def test_what_no_policy_mentions_does_not_make_another_verdict() -> None:
    engine = CedarEngine([preset("default")])
    first = engine.evaluate(SUBJECT, READ, INSIDE, "none")
    later = attrs.evolve(READ, now_s=99, calls_left=1, arguments_digest="b" * 64)
    assert engine.evaluate(SUBJECT, later, INSIDE, "none") is first
    assert engine.evaluate(SUBJECT, attrs.evolve(READ, tool="other"), INSIDE, "none") is not first
