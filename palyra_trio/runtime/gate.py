"""What is to become of one call, judged right before it may start: planned, decided on, and checked against what was granted.

Looks at the world through the tool's plan, and changes nothing. A call that a person has allowed is planned and judged
again: should anything differ from what was shown, it is another call, and is asked for anew.
"""

import logging
import time
from typing import Any

import attrs

from palyra_trio.core.chain import canonical_json, digest
from palyra_trio.core.errors import InvalidArgument, NotFound, PalyraError
from palyra_trio.core.messages import ToolCall
from palyra_trio.core.policy import (
    Approval,
    CallFacts,
    Decision,
    Pattern,
    PolicyEngine,
    Subject,
    ToolResource,
    binding,
    decide_tool_call,
    pattern_for,
    plain_facts,
    still_allowed,
)
from palyra_trio.core.tape import ApprovalDecided, ApprovalRequested, PolicyDecision, ToolStarted
from palyra_trio.core.view import RunView
from palyra_trio.guard.redactor import has_marker
from palyra_trio.journal.approvals import GrantHolds
from palyra_trio.journal.guards import Guard, PolicyIs
from palyra_trio.runtime.prompts import prompt_for
from palyra_trio.runtime.runs import Run
from palyra_trio.tools.registry import Plan, Tool, ToolContext
from palyra_trio.tools.workspace import Workspace

_log = logging.getLogger(__name__)


@attrs.frozen
class Judged:
    """A call, what was decided, and what is needed to start it or to ask for it. `tool` is None when it is refused.

    `epoch` is the hash of the policies in force then; `grant` what the start depends on, if on anything.
    """

    call: ToolCall
    decision: Decision
    epoch: str
    context: ToolContext
    tool: Tool | None = None
    arguments: object = None
    plan: Plan = Plan()
    facts: CallFacts | None = None
    subject: Subject | None = None
    grant: str = ""

    def recorded(self) -> PolicyDecision:
        decision = self.decision
        return PolicyDecision(
            self.call.call_id,
            decision.outcome,
            ", ".join(decision.policies),
            decision.reason,
            digest(canonical_json(self.call.arguments)) if self.facts is None else self.facts.arguments_digest,
            decision.policy_hash,
            plain_facts(self.facts) if self.facts is not None else None,
            self.subject is not None and self.subject.tainted,
        )

    def started(self) -> ToolStarted:
        return ToolStarted(
            self.call.call_id,
            self.context.idempotency_key,
            self.plan.changes,
            self.grant,
            self.plan.sandbox_tier,
            self.plan.uncaptured,
        )

    def guards(self) -> tuple[Guard, ...]:
        """Return what must still hold when the start is recorded."""
        return (PolicyIs(self.epoch), GrantHolds(self.grant)) if self.grant else (PolicyIs(self.epoch),)

    def request(self, run: Run, approval_id: str, expires_at_ms: int) -> ApprovalRequested:
        """Return the question to the person."""
        assert self.facts is not None
        assert self.tool is not None
        assert self.subject is not None
        question = self.tool.spec.asks
        pattern = pattern_for(self.facts) if self.decision.standing and not question else None
        prompt = prompt_for(self.call, self.decision, self.facts, self.plan, pattern, question=question)
        return ApprovalRequested(
            approval_id,
            self.call.call_id,
            run.state.redactor.text(prompt),
            expires_at_ms,
            self.call.tool,
            self.binding(),
            pattern,
            question,
        )

    def binding(self) -> str:
        assert self.facts is not None
        assert self.subject is not None
        return binding(self.subject, self.facts, self.plan.preview, self.plan.changes)


async def judge(run: Run, workspace: Workspace, ahead: RunView, call_id: str) -> Judged:
    """Judge a call as things stand now, `ahead` being the run's view with what is held on its way to the tape.

    A tool that refuses or breaks in its plan is a refusal; nothing is raised.
    """
    epoch = run.state.policies.hash
    view = ahead.calls[call_id]
    call = view.call
    answer = view.granted.reason if view.granted is not None else ""
    await run.state.secrets.refresh()
    context = ToolContext(
        workspace,
        run.state.now_s,
        call.call_id,
        f"{run.order.run_id}:{call.call_id}",
        answer,
        secrets=run.state.secrets.of(run.principal, call.tool),
        jobs=run.state.jobs.of_call(run.order.session_id, run.order.run_id, call.call_id),
    )
    try:
        tool, arguments = _fitting(run, call)
        plan = await tool.plan(arguments, context)
    except PalyraError as error:
        return Judged(call, Decision("deny", (error.code,), _words(run, str(error))), epoch, context)
    except Exception as error:
        _log.exception("the plan of tool %s failed", call.tool)
        reason = _words(run, f"the tool failed: {type(error).__name__}: {error}")
        return Judged(call, Decision("deny", ("internal",), reason), epoch, context)
    engine = run.state.policies.engine(run.order.config.policy)
    subject, facts = _subject(run, ahead), _facts(run, ahead, call, tool, plan)
    began_s = time.perf_counter()
    decision = decide_tool_call(subject, facts, engine)
    run.state.latencies.gate.observe(time.perf_counter() - began_s)
    judged = Judged(call, decision, epoch, context, tool, arguments, plan, facts, subject)
    if view.granted is not None and view.asked is not None:
        return await _granted(run, judged, engine, view.asked, view.granted)
    if tool.spec.asks and judged.decision.outcome == "allow":
        return attrs.evolve(judged, decision=attrs.evolve(judged.decision, outcome="ask"))
    if judged.decision.outcome == "ask" and judged.decision.standing and not tool.spec.asks:
        return await _standing(run, judged, facts)
    return judged


def _fitting(run: Run, call: ToolCall) -> tuple[Tool, Any]:
    """Return the tool and its arguments. Raises InvalidArgument and NotFound for a call that cannot be."""
    if call.malformed:
        raise InvalidArgument(f"the arguments are not a JSON object: {call.malformed[:200]}")
    if has_marker(call.arguments):
        raise InvalidArgument("the arguments hold a redacted secret, which cannot be passed on")
    spec = run.order.input.agent
    if spec.tools is not None and call.tool not in spec.tools:
        raise NotFound(f"the agent {spec.name} has no tool {call.tool!r}", remedy=f"it has {', '.join(spec.tools)}")
    tool = run.state.tools.get(call.tool)
    return tool, tool.spec.parse(call.arguments)


def _subject(run: Run, ahead: RunView) -> Subject:
    order = run.order
    return Subject(order.session_id, order.input.principal, order.input.agent.name, ahead.tainted)


def _facts(run: Run, ahead: RunView, call: ToolCall, tool: Tool, plan: Plan) -> CallFacts:
    spec = tool.spec
    return CallFacts(
        spec.name,
        spec.capability,
        spec.risk,
        spec.read_only,
        plan.resources or (ToolResource(spec.name),),
        digest(canonical_json(call.arguments)),
        run.order.input.workspace,
        sandbox_tier=plan.sandbox_tier,
        program=plan.program,
        calls_left=run.order.input.agent.limits.tool_calls - ahead.tool_calls,
        now_s=int(run.state.now_s()),
    )


async def _granted(
    run: Run, judged: Judged, engine: PolicyEngine, asked: ApprovalRequested, granted: ApprovalDecided
) -> Judged:
    """Judge a call that a person has allowed: the policies must still let it, and it must still be what was shown."""
    assert judged.facts is not None
    assert judged.subject is not None
    approval: Approval = "once" if granted.scope == "once" else "standing"
    verdict = still_allowed(judged.subject, judged.facts, engine, approval)
    if not verdict.allowed:
        reason = "; ".join((*verdict.errors, *verdict.reasons)) or "no policy allows it any more"
        return attrs.evolve(judged, decision=Decision("deny", verdict.policies, reason, engine.hash))
    if judged.binding() != asked.binding:
        if granted.scope != "once" and judged.decision.standing:
            return await _standing(run, judged, judged.facts)  # what was allowed may cover what it is now
        reason = f"it is not what was shown any more; {judged.decision.reason}"
        return attrs.evolve(judged, decision=attrs.evolve(judged.decision, outcome="ask", reason=reason))
    grant = await run.state.readers.ask(lambda reader: reader.approvals.grant(granted.approval_id, run.principal))
    if grant.over(int(run.state.now_s() * 1000)):
        reason = "what was allowed was taken back, or its time is over"
        return attrs.evolve(judged, decision=Decision("deny", ("grant_ended",), reason, engine.hash))
    said = "answered" if asked.question else f"allowed ({granted.scope})"
    decision = Decision("allow", verdict.policies, f"{granted.by} {said}", engine.hash)
    return attrs.evolve(judged, decision=decision, grant=granted.approval_id)


async def _standing(run: Run, judged: Judged, facts: CallFacts) -> Judged:
    """Allow a call that asks, where the person allowed the like of it with the run or since."""
    decision = judged.decision
    for tool in run.order.input.allowed_tools:
        if Pattern(tool, "**").covers(facts):
            reason = f"{facts.tool} was allowed with the run (--yes-to {tool})"
            return attrs.evolve(judged, decision=attrs.evolve(decision, outcome="allow", reason=reason))
    order, now_ms = run.order, int(run.state.now_s() * 1000)
    grants = await run.state.readers.ask(
        lambda reader: reader.approvals.standing(order.input.principal, order.session_id, order.input.workspace, now_ms)
    )
    for grant in grants:
        if grant.pattern.covers(facts):
            reason = f"{grant.made_by} allowed {grant.pattern} ({grant.scope}, grant {grant.grant_id})"
            allowed = attrs.evolve(decision, outcome="allow", reason=reason)
            return attrs.evolve(judged, decision=allowed, grant=grant.grant_id)
    return judged


def _words(run: Run, text: str) -> str:
    return run.state.redactor.recordable(text)  # it may quote a file
