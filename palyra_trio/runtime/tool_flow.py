"""From a proposed call to its outcome: gate it, ask a person if need be, record the intent, run it, record the result.

Calls of a turn that only read run side by side; one that changes something runs alone, in its place. While every
call that is left waits for a person, the run waits, and its clock stands still.
"""

import logging
from collections.abc import Sequence

import attrs
import trio

from palyra_trio.core.chain import canonical_json, digest
from palyra_trio.core.errors import AlreadyDecided, InvalidArgument, NotFound, PalyraError, PolicyError
from palyra_trio.core.messages import ToolCall
from palyra_trio.core.policy import CallFacts, Decision, decide_tool_call
from palyra_trio.core.run import RunState
from palyra_trio.core.tape import (
    ApprovalDecided,
    ApprovalRequested,
    PolicyDecision,
    StatusChange,
    TapeEvent,
    ToolFinished,
    ToolStarted,
)
from palyra_trio.core.text import clean, visible
from palyra_trio.core.view import RunView
from palyra_trio.guard.redactor import has_marker
from palyra_trio.runtime.approvals import Pending
from palyra_trio.runtime.runs import Run
from palyra_trio.tools.registry import Plan, Tool, ToolContext, ToolResult
from palyra_trio.tools.workspace import Workspace

_log = logging.getLogger(__name__)

EXCERPT_CHARACTERS = 64 * 1024  # about 16k tokens: more than this in one result crowds out the rest of a context


class ApprovalExpired(PolicyError):
    """A call had to be asked for, and nobody was there to answer."""

    code = "approval_expired"


@attrs.frozen
class _Gated:
    """A call with what the gate found out about it. `tool` is None when it is refused."""

    call: ToolCall
    decision: Decision
    tool: Tool | None
    arguments: object
    plan: Plan
    context: ToolContext

    def started(self) -> ToolStarted:
        return ToolStarted(self.call.call_id, self.context.idempotency_key, self.plan.changes)


async def settle_calls(
    run: Run, workspace: Workspace, ahead: RunView, held: Sequence[TapeEvent], call_ids: tuple[str, ...]
) -> list[TapeEvent]:
    """Bring the first of these calls to their outcomes: the leading ones that only read, or a single one.

    `held` is recorded with the intents. Returns what is to be recorded with the next step: the last result, or
    nothing. Raises ApprovalExpired when a call asks and nobody attends the run. If cancelled, calls that were
    started have no result; the run's ending says so.
    """
    calls = [ahead.calls[call_id].call for call_id in _first_group(run, ahead, call_ids)]
    gated = [await _gate(run, workspace, call) for call in calls]
    batch = _Batch(run, len(gated))
    events, blobs = list(held), list[tuple[str, bytes]]()
    for each in gated:
        decision = each.decision
        arguments_digest = digest(canonical_json(each.call.arguments))
        events.append(
            PolicyDecision(each.call.call_id, decision.outcome, decision.rule, decision.reason, arguments_digest)
        )
        if decision.outcome == "deny":
            batch.remaining -= 1
        elif decision.outcome == "ask":
            events.append(batch.ask(each))
        else:
            events.append(each.started())
            blobs += each.plan.blobs.items()
    if batch.asked and not run.order.input.attended:
        await _nobody_attends(run, batch, events)
    events += batch.wait_if_idle()
    try:
        await run.record(*events, blobs=blobs)
        async with trio.open_nursery() as nursery:
            for each in gated:
                if each.decision.outcome == "allow":
                    nursery.start_soon(batch.perform, each)
                elif each.decision.outcome == "ask":
                    nursery.start_soon(batch.perform_if_granted, each)
    finally:
        batch.close()
    return batch.held


def _first_group(run: Run, view: RunView, call_ids: tuple[str, ...]) -> tuple[str, ...]:
    for index, call_id in enumerate(call_ids):
        if not _only_reads(run, view.calls[call_id].call):
            return call_ids[: index or 1]
    return call_ids


def _only_reads(run: Run, call: ToolCall) -> bool:
    try:
        return run.state.tools.get(call.tool).spec.read_only
    except NotFound:
        return True


async def _gate(run: Run, workspace: Workspace, call: ToolCall) -> _Gated:
    """Check the call and decide on it. Looks at the world through the tool's plan, and changes nothing."""
    context = ToolContext(workspace, run.state.now_s, call.call_id, f"{run.order.run_id}:{call.call_id}")
    try:
        if call.malformed:
            raise InvalidArgument(f"the arguments are not a JSON object: {call.malformed[:200]}")
        if has_marker(call.arguments):
            raise InvalidArgument("the arguments hold a redacted secret, which cannot be passed on")
        spec = run.order.input.agent
        if spec.tools is not None and call.tool not in spec.tools:
            raise NotFound(f"the agent {spec.name} has no tool {call.tool!r}", remedy=f"it has {', '.join(spec.tools)}")
        tool = run.state.tools.get(call.tool)
        arguments = tool.spec.parse(call.arguments)
        plan = await tool.plan(arguments, context)
    except PalyraError as error:
        reason = run.state.redactor.text(clean(str(error)))  # it may quote a file
        return _Gated(call, Decision("deny", error.code, reason), None, None, Plan(), context)
    except Exception as error:
        _log.exception("the plan of tool %s failed", call.tool)
        reason = run.state.redactor.text(clean(f"the tool failed: {type(error).__name__}: {error}"))
        return _Gated(call, Decision("deny", "internal", reason), None, None, Plan(), context)
    facts = CallFacts(call.tool, tool.spec.read_only, plan.sensitive)
    policy = run.order.config.policy
    return _Gated(call, decide_tool_call(facts, policy, run.order.input.allowed_tools), tool, arguments, plan, context)


async def _nobody_attends(run: Run, batch: "_Batch", events: list[TapeEvent]) -> None:
    first = batch.asked[0].request
    for pending in batch.asked:
        request = pending.request
        events.append(
            ApprovalDecided(request.approval_id, request.call_id, "expired", "run", "nobody attends this run")
        )
    batch.close()
    await run.record(*(event for event in events if not isinstance(event, ToolStarted)))
    tool = run.view.calls[first.call_id].call.tool
    raise ApprovalExpired(
        f"{tool} needs approval, and nobody attends this run", remedy=f"allow it with --yes-to {tool}"
    )


class _Batch:
    """Calls that are under way together: how many are left, and how many of these wait for a person."""

    def __init__(self, run: Run, calls: int) -> None:
        self.remaining = calls
        self.held: list[TapeEvent] = []
        self.asked: list[Pending] = []
        self._run = run
        self._parked = 0
        self._waiting = False

    # --- asking ---

    def ask(self, gated: _Gated) -> ApprovalRequested:
        """Park a call; the request must be recorded before a person can see it."""
        run = self._run
        expires_s = run.order.config.approval.expires_s
        request = ApprovalRequested(
            run.state.new_id(),
            gated.call.call_id,
            run.state.redactor.text(prompt_for(gated.call, gated.decision, gated.plan, run.order.input.workspace)),
            int((run.state.now_s() + expires_s) * 1000),
        )
        self.asked.append(run.approvals.park(request, run.principal))
        self._parked += 1
        return request

    async def perform_if_granted(self, gated: _Gated) -> None:
        pending = next(each for each in self.asked if each.request.call_id == gated.call.call_id)
        with trio.move_on_after(self._run.order.config.approval.expires_s):
            await pending.decided.wait()
        self._run.approvals.close(pending)
        request = pending.request
        decision = pending.decision or ApprovalDecided(
            request.approval_id, request.call_id, "expired", "clock", "nobody answered in time"
        )
        events = [*self._go_on(), decision]
        self._parked -= 1
        if decision.outcome == "granted":
            await self._run.record(*events, gated.started(), blobs=list(gated.plan.blobs.items()))
            pending.settle(None)
            await self.perform(gated)
            return
        self.remaining -= 1
        await self._run.record(*events, *self.wait_if_idle())
        pending.settle(None)

    def wait_if_idle(self) -> list[TapeEvent]:
        """Return the move to WAITING when all that is left waits for a person, and stop the run's clock."""
        if self._waiting or not self.remaining or self._parked < self.remaining:
            return []
        self._waiting = True
        self._run.stop_clock()
        return [StatusChange(RunState.RUNNING, RunState.WAITING, "approval")]

    def _go_on(self) -> list[TapeEvent]:
        if not self._waiting:
            return []
        self._waiting = False
        self._run.start_clock()
        return [StatusChange(RunState.WAITING, RunState.RUNNING)]

    def close(self) -> None:
        """Take the batch's approvals off the list; a decision that was not recorded came too late."""
        for pending in self.asked:
            self._run.approvals.close(pending)
            pending.settle(AlreadyDecided("the run ended before the decision was recorded"))

    # --- running ---

    async def perform(self, gated: _Gated) -> None:
        """Run a started call. Its result is recorded at once, or held when it is the last one and small."""
        finished, blobs = await self._effect(gated)
        self.remaining -= 1
        if not self.remaining and not blobs:
            self.held.append(finished)
        else:
            await self._run.record(finished, *self.wait_if_idle(), blobs=blobs)

    async def _effect(self, gated: _Gated) -> tuple[ToolFinished, list[tuple[str, bytes]]]:
        assert gated.tool is not None
        limit_s = self._run.order.input.agent.limits.tool_s
        began = trio.current_time()
        result = ToolResult(f"the call took longer than its limit of {limit_s} s", "timeout")
        with trio.move_on_after(limit_s):
            try:
                result = await gated.tool.run(gated.arguments, gated.context, gated.plan)
            except PalyraError as error:
                result = ToolResult(str(error), error.code)
            except Exception as error:
                _log.exception("tool %s failed", gated.call.tool)
                result = ToolResult(f"{type(error).__name__}: {error}", "internal")
        said = f"Error ({result.error}): {result.text}" if result.error else result.text
        text = self._run.state.redactor.text(clean(said))
        elapsed_ms = int((trio.current_time() - began) * 1000)
        if len(text) <= EXCERPT_CHARACTERS:
            return ToolFinished(gated.call.call_id, text, elapsed_ms, result.error), []
        data = text.encode()
        name = digest(data)
        finished = ToolFinished(gated.call.call_id, excerpt(text), elapsed_ms, result.error, name, len(data))
        return finished, [(name, data)]


def excerpt(text: str) -> str:
    """Return the beginning and the end of an output that is too long for a model, and how much is missing."""
    half = EXCERPT_CHARACTERS // 2
    return f"{text[:half]}\n[… {len(text) - 2 * half} characters left out …]\n{text[-half:]}"


def prompt_for(call: ToolCall, decision: Decision, plan: Plan, workspace: str) -> str:
    """Return what a person decides on: the tool, why it asks, where, and the diff or else the exact arguments.

    Nothing is cut, and characters that would hide or reorder text are spelled out.
    """
    shown = plan.preview or canonical_json(call.arguments).decode()
    return visible(f"{call.tool} asks: {decision.reason}\nworkspace: {workspace}\n{shown}")
