"""What becomes of one call, judged right before it may start, and judged again after a person has allowed it."""

from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from palyra_trio.core.agents import AgentSpec
from palyra_trio.core.chain import canonical_json, digest
from palyra_trio.core.commands import DecideApproval, DefineAgent, RevokeGrant
from palyra_trio.core.errors import WorkspaceRefused
from palyra_trio.core.messages import ToolCall
from palyra_trio.core.policy import PathResource, Pattern, PolicyRules, Preset
from palyra_trio.core.tape import (
    ApprovalDecided,
    ApprovalRequested,
    PolicyDecision,
    ToolFinished,
    ToolStarted,
)
from palyra_trio.guard.policy_text import PolicySource
from palyra_trio.runtime.policies import replace_policies
from palyra_trio.tools.registry import Plan, Tool
from tests.fakes import (
    CONFIG,
    ME,
    SECRET,
    FakeArguments,
    FakeProvider,
    Runtime,
    Tape,
    allowing,
    echo,
    fake_tool,
    in_session,
    open_fake_runtime,
    says,
)

WRITES = fake_tool("fake.write", echo, read_only=False)
READS = fake_tool("fake.read", echo)
STRANGER = Tool(
    attrs.evolve(READS.spec, name="fake.stranger", untrusted_output=True), READS.plan, READS.run
)  # its words are those of strangers
DENY_WRITES = PolicySource(
    "mine.cedar",
    '@id("no-writes") @reason("not today") forbid (principal, action == Daemon::Action::"fs.write", resource);',
)
Body = Callable[[Runtime, ApprovalRequested], Awaitable[None]]


def _call(name: str = "w", tool: str = "fake.write", **arguments: Any) -> ToolCall:
    return ToolCall(name, tool, arguments or {"value": name})


async def _judged(
    folder: Path, *turns: ToolCall | Sequence[ToolCall], body: Body | None = None, **options: Any
) -> Tape:
    """Return the run in which the model makes these calls, one turn after another; `body` answers the first question."""
    steps = [says("", *([turn] if isinstance(turn, ToolCall) else turn)) for turn in turns]
    provider = FakeProvider(*steps, says("done"))
    fields = {name: options.pop(name) for name in ("attended", "allowed_tools", "agent") if name in options}
    async with open_fake_runtime(folder, provider, **{"tools": [WRITES, READS, STRANGER]} | options) as runtime:
        accepted = await runtime.start(**fields)
        if body is not None:
            await body(runtime, await runtime.until(accepted.run_id, ApprovalRequested))
        with trio.fail_after(10):
            return await runtime.ended(accepted.run_id)


def _decisions(tape: Tape) -> list[tuple[str, str, str]]:
    return [(each.outcome, each.rule, each.reason) for each in tape.of(PolicyDecision)]


async def _grant(runtime: Runtime, asked: ApprovalRequested, **how: Any) -> None:
    await runtime.do(DecideApproval(asked.approval_id, granted=True, **how))


async def _next_question(runtime: Runtime, count: int) -> ApprovalRequested:
    (run,) = await runtime.gateway.ask(lambda reader: reader.runs(ME.principal))
    with trio.fail_after(10):
        return await runtime.until(run.run_id, ApprovalRequested, count)


# --- before a person is asked ---


async def test_what_the_policies_allow_runs_and_the_record_says_why(tmp_path: Path) -> None:
    tape = await _judged(tmp_path, _call(tool="fake.read", value="x"))
    decision = tape.one(PolicyDecision)
    assert (decision.outcome, decision.rule) == ("allow", "within-the-run")
    assert decision.arguments_digest == digest(canonical_json({"value": "x"}))
    assert decision.facts is not None
    assert decision.facts["workspace"] == str(tmp_path / "work")
    assert decision.facts["calls_left"] == CONFIG.limits.tool_calls - 1
    assert decision.facts["resources"] == [{"kind": "tool", "name": "fake.read"}]
    assert len(decision.policy_hash) == 64
    assert tape.one(ToolStarted).grant == ""


@pytest.mark.parametrize(
    ("call", "rule", "words"),
    [
        (_call(tool="no.such"), "not_found", "there is no tool 'no.such'"),
        (_call(colour="red"), "invalid_argument", "fake.write takes no 'colour'"),
        (_call(value=3), "invalid_argument", "do not fit its schema"),
        (ToolCall("w", "fake.write", {}, malformed="{'a"), "invalid_argument", "are not a JSON object: {'a"),
        (_call(value="[redacted:openai_key]"), "invalid_argument", "hold a redacted secret"),
    ],
)
async def test_a_call_that_cannot_be_is_refused_before_any_policy_is_asked(
    tmp_path: Path, call: ToolCall, rule: str, words: str
) -> None:
    tape = await _judged(tmp_path, call)
    decision = tape.one(PolicyDecision)
    assert (decision.outcome, decision.rule, decision.facts, decision.policy_hash) == ("deny", rule, None, "")
    assert words in decision.reason
    assert (tape.of(ToolStarted), tape.of(ApprovalRequested)) == ([], [])


@pytest.mark.parametrize(
    ("error", "rule", "words"),
    [
        (WorkspaceRefused(f"it holds {SECRET} \udcff"), "workspace_refused", "it holds [redacted:openai_key] \\xff"),
        (RuntimeError(SECRET), "internal", "the tool failed: RuntimeError: [redacted:openai_key]"),
    ],
)
async def test_a_plan_that_refuses_or_breaks_is_a_refusal_in_words_that_may_be_kept(
    tmp_path: Path, error: Exception, rule: str, words: str
) -> None:
    def plan(_arguments: FakeArguments) -> Plan:
        raise error

    tape = await _judged(tmp_path, _call(), tools=[fake_tool("fake.write", echo, read_only=False, plan=plan)])
    assert _decisions(tape) == [("deny", rule, words)]


async def test_an_agent_has_only_its_own_tools(tmp_path: Path) -> None:
    provider = FakeProvider(says("", _call(tool="fake.read")), says("done"))
    async with open_fake_runtime(tmp_path, provider, tools=[WRITES, READS]) as runtime:
        await runtime.do(DefineAgent(AgentSpec("narrow", tools=("fake.write",))))
        tape = await runtime.run(agent="narrow")
    assert tape.one(PolicyDecision).rule == "not_found"
    assert "has no tool 'fake.read'" in tape.one(PolicyDecision).reason


async def test_what_no_yes_would_help_is_not_asked(tmp_path: Path) -> None:
    outside = Plan(resources=(PathResource("/etc/passwd", inside_workspace=False),))
    tools = [fake_tool("fake.write", echo, read_only=False, plan=lambda _: outside)]
    tape = await _judged(tmp_path, _call(), tools=tools, allowed_tools=("fake.write",))
    assert _decisions(tape) == [("deny", "outside-workspace", "the path is outside the workspace")]
    assert tape.of(ApprovalRequested) == []


async def test_a_question_to_the_person_asks_though_it_is_allowed(tmp_path: Path) -> None:
    async def answer(runtime: Runtime, asked: ApprovalRequested) -> None:
        assert (asked.question, asked.pattern) == (True, None)
        await _grant(runtime, asked, reason="blue")

    tape = await _judged(tmp_path, ToolCall("q", "ask_user", {"question": "Which?"}), body=answer)
    assert [each.outcome for each in tape.of(PolicyDecision)] == ["ask", "allow"]
    assert tape.of(PolicyDecision)[1].reason == f"{ME.principal} answered"
    assert tape.one(ToolFinished).text == "blue"


async def test_a_question_that_the_policies_ask_about_is_not_answered_by_what_was_allowed_ahead(tmp_path: Path) -> None:
    async def answer(runtime: Runtime, asked: ApprovalRequested) -> None:
        await _grant(runtime, asked, reason="blue")

    config = attrs.evolve(CONFIG, policy=PolicyRules(ask=("ask_user",)))
    call = ToolCall("q", "ask_user", {"question": "Which?"})
    tape = await _judged(tmp_path, call, body=answer, config=config, allowed_tools=("*",))
    assert tape.one(ApprovalRequested).question
    assert tape.one(ToolFinished).text == "blue"


# --- what was allowed ahead ---


@pytest.mark.parametrize(("allowed", "asks"), [("fake.write", False), ("fake.*", False), ("fake.read", True)])
async def test_what_was_allowed_with_the_run_is_not_asked(tmp_path: Path, allowed: str, asks: bool) -> None:
    tape = await _judged(tmp_path, _call(), attended=False, allowed_tools=(allowed,))
    assert bool(tape.of(ApprovalRequested)) is asks
    if not asks:
        (decision,) = _decisions(tape)
        assert decision == ("allow", "write-in-workspace", f"fake.write was allowed with the run (--yes-to {allowed})")
        assert tape.one(ToolStarted).grant == ""


async def test_what_always_asks_asks_though_it_was_allowed_with_the_run(tmp_path: Path) -> None:
    secret = Plan(resources=(PathResource("id_rsa", sensitive="it is a key file"),))
    tools = [fake_tool("fake.write", echo, read_only=False, plan=lambda _: secret)]
    tape = await _judged(tmp_path, _call(), tools=tools, attended=False, allowed_tools=("*",))
    asked = tape.one(ApprovalRequested)
    assert asked.pattern is None
    assert asked.prompt.startswith("fake.write asks: it is a key file")


@pytest.mark.parametrize(
    ("scope", "second", "covered"),
    [
        ("once", "x", False),
        ("session", "x", True),
        ("session", "deep/x", False),
        ("time", "x", True),
    ],
)
async def test_a_standing_grant_covers_the_like_of_it_and_nothing_else(
    tmp_path: Path, scope: str, second: str, covered: bool
) -> None:
    async def allow(runtime: Runtime, asked: ApprovalRequested) -> None:
        assert asked.pattern == Pattern("fake.write", "fake/*")
        until_ms = int((runtime.state.now_s() + 60) * 1000)
        await _grant(runtime, asked, scope=scope, until_ms=until_ms)
        if not covered:
            await _grant(runtime, await _next_question(runtime, 2))

    tape = await _judged(tmp_path, _call("a"), _call("b", value=second), body=allow)
    assert len(tape.of(ApprovalRequested)) == (1 if covered else 2)
    first, last = tape.of(ToolStarted)
    assert (first.grant == last.grant) is covered
    if covered:
        said = f"{ME.principal} allowed fake.write fake/* ({scope}, grant {first.grant})"
        assert _decisions(tape)[-1] == ("allow", "write-in-workspace", said)


async def test_a_grant_for_a_session_is_not_one_for_another(tmp_path: Path) -> None:
    provider = FakeProvider(says("", _call("a")), says("done"))
    async with open_fake_runtime(tmp_path, provider, tools=[WRITES]) as runtime:
        first = await runtime.start()
        await _grant(runtime, await runtime.until(first.run_id, ApprovalRequested), scope="session")
        await runtime.ended(first.run_id)
        again = FakeProvider(says("", _call("b")), says("done"))
        same = await runtime.run("again", again, session=in_session(first))
        other = await runtime.start("other", FakeProvider(says("", _call("c")), says("done")))
        await _grant(runtime, await runtime.until(other.run_id, ApprovalRequested))
        await runtime.ended(other.run_id)
    assert same.of(ApprovalRequested) == []


async def test_no_standing_grant_helps_where_the_policies_want_to_be_asked_every_time(tmp_path: Path) -> None:
    config = attrs.evolve(CONFIG, policy=PolicyRules(Preset.STRICT))
    tape = await _judged(tmp_path, _call(), config=config, attended=False, allowed_tools=("*",))
    assert tape.one(ApprovalRequested).pattern is None


# --- after a person has allowed it ---


async def test_what_was_granted_runs_under_its_grant_and_the_record_says_who_allowed_it(tmp_path: Path) -> None:
    tape = await _judged(tmp_path, _call(), body=_grant)
    asked = tape.one(ApprovalRequested)
    assert _decisions(tape)[1] == ("allow", "write-in-workspace", f"{ME.principal} allowed (once)")
    assert tape.one(ToolStarted).grant == asked.approval_id
    assert tape.one(ApprovalDecided).scope == "once"


async def test_a_call_that_is_another_now_is_asked_for_anew_and_the_old_yes_is_worth_nothing(tmp_path: Path) -> None:
    seen: list[bool] = []
    exists = False

    def plan(_arguments: FakeArguments) -> Plan:
        return Plan(resources=(PathResource("a", exists=exists),))

    async def meddle(runtime: Runtime, asked: ApprovalRequested) -> None:
        nonlocal exists
        exists = True
        await _grant(runtime, asked)
        again = await _next_question(runtime, 2)
        assert again.binding != asked.binding
        assert again.prompt.startswith("fake.write asks: it is not what was shown any more; it changes a file")
        assert "a (exists)" in again.prompt
        with pytest.raises(Exception, match="has ended already"):
            await runtime.do(RevokeGrant(asked.approval_id))
        seen.append(True)
        await _grant(runtime, again)

    tool = fake_tool("fake.write", echo, read_only=False, plan=plan)
    tape = await _judged(tmp_path, _call(), body=meddle, tools=[tool])
    assert seen
    assert [each.outcome for each in tape.of(PolicyDecision)] == ["ask", "ask", "allow"]
    assert tape.one(ToolStarted).grant == tape.of(ApprovalRequested)[1].approval_id


async def test_a_grant_does_not_help_where_the_policies_say_no_by_now(tmp_path: Path) -> None:
    async def reload(runtime: Runtime, asked: ApprovalRequested) -> None:
        await replace_policies(runtime.state, [DENY_WRITES], ME.principal)
        await _grant(runtime, asked)

    tape = await _judged(tmp_path, _call(), body=reload)
    assert _decisions(tape)[1] == ("deny", "no-writes", "not today")
    assert tape.of(ToolStarted) == []


async def test_a_grant_that_was_taken_back_before_the_start_is_a_refusal(tmp_path: Path) -> None:
    blocked = trio.Event()

    async def work(_arguments: FakeArguments) -> str:
        await blocked.wait()
        return "ok"

    async def revoke(runtime: Runtime, asked: ApprovalRequested) -> None:
        await wait_all_tasks_blocked(0.01)
        second = await _next_question(runtime, 2)
        await _grant(runtime, asked)
        await _next_started(runtime)
        await _grant(runtime, second)
        await runtime.do(RevokeGrant(second.approval_id))
        blocked.set()

    tool = fake_tool("fake.write", work, read_only=False)
    tape = await _judged(tmp_path, [_call("a"), _call("b")], body=revoke, tools=[tool])
    assert _decisions(tape)[-1] == ("deny", "grant_ended", "what was allowed was taken back, or its time is over")
    assert [each.call_id for each in tape.of(ToolStarted)] == ["a"]


async def _next_started(runtime: Runtime) -> None:
    (run,) = await runtime.gateway.ask(lambda reader: reader.runs(ME.principal))
    await runtime.until(run.run_id, ToolStarted)


# --- words of strangers ---


async def test_after_words_of_strangers_the_session_is_tainted_for_its_runs_and_the_next(tmp_path: Path) -> None:
    provider = FakeProvider(says("", _call("s", "fake.stranger")), says("", _call("r", "fake.read")), says("done"))
    config = allowing("fake.*")
    async with open_fake_runtime(tmp_path, provider, tools=[WRITES, READS, STRANGER], config=config) as runtime:
        first = await runtime.start()
        tape = await runtime.ended(first.run_id)
        again = FakeProvider(says("", _call("t", "fake.read")), says("done"))
        later = await runtime.run("again", again, session=in_session(first))
        fresh = await runtime.run("fresh", FakeProvider(says("", _call("u", "fake.read")), says("done")))
    assert [each.tainted for each in tape.of(PolicyDecision)] == [False, True]
    assert [each.tainted for each in later.of(PolicyDecision)] == [True]
    assert [each.tainted for each in fresh.of(PolicyDecision)] == [False]


async def test_what_the_configuration_allows_asks_once_words_of_strangers_are_in_the_context(tmp_path: Path) -> None:
    spec = attrs.evolve(WRITES.spec, name="fake.post", risk="medium")
    tools = [Tool(spec, WRITES.plan, WRITES.run), STRANGER]
    turns = (_call("a", "fake.post"), _call("s", "fake.stranger"), _call("b", "fake.post"))
    tape = await _judged(tmp_path, *turns, tools=tools, config=allowing("fake.*"), body=_grant)
    assert [each.outcome for each in tape.of(PolicyDecision)] == ["allow", "allow", "ask", "allow"]
    assert "content from strangers" in tape.one(ApprovalRequested).prompt
