"""From the proposed calls of a turn to their outcomes: judge them all, ask a person where need be, run what may run.

The questions of a turn are open together. Calls that only read run side by side; one that changes something runs when
no other does, and in its place, unless a person was asked: then when they have answered. What cannot go on before
somebody answers is left: the run waits, and the same function takes it up again from the tape.
"""

import logging
from collections.abc import Iterable, Mapping, Sequence
from functools import partial

import attrs
import trio

from palyra_trio.core.chain import digest
from palyra_trio.core.errors import NotFound, PalyraError, PolicyError
from palyra_trio.core.run import RunState
from palyra_trio.core.tape import ApprovalDecided, ApprovalRequested, StatusChange, TapeEvent, ToolFinished
from palyra_trio.core.view import RunView
from palyra_trio.journal.approvals import GrantEnded
from palyra_trio.journal.guards import PolicyChanged
from palyra_trio.runtime.call_output import CallOutput
from palyra_trio.runtime.gate import Judged, judge
from palyra_trio.runtime.runs import FOR_APPROVAL, FOR_INPUT, REVOKED, Run
from palyra_trio.tools.registry import ToolResult
from palyra_trio.tools.workspace import Workspace

_log = logging.getLogger(__name__)


NEVER_MS = 0


class ApprovalExpired(PolicyError):
    """A call had to be asked for, and nobody was there to answer."""

    code = "approval_expired"


async def settle_calls(
    run: Run, workspace: Workspace, held: Sequence[TapeEvent], ahead: RunView, call_ids: tuple[str, ...]
) -> list[TapeEvent]:
    """Bring these calls of the newest turn as far as they get without anybody's answer.

    `held` is recorded with the intents, and `ahead` is the view as it will be then: it has all these calls. Returns what
    is to be recorded with the next step: the last result, or nothing. When calls are left that wait for a person, the
    view is WAITING. Raises ApprovalExpired when a call asks and nobody attends the run. If cancelled, calls that were
    started have no result; the run's ending says so.
    """
    batch = _Batch(run, workspace, call_ids)
    await batch.work(await batch.begin(held, ahead))
    return batch.held


@attrs.frozen
class Startable:
    """A call that waits for nobody: whether it only reads, and keeps its place among the others of its turn."""

    call_id: str
    only_reads: bool
    in_place: bool


def startable(calls: Iterable[Startable], running: Mapping[str, bool]) -> list[str]:
    """Return the calls, given in proposal order, that may start beside those `running` (by id: whether it only reads).

    One that changes something starts when no other such one runs. In its place, it starts when all before it are done,
    and those in their places after it wait for it.
    """
    ready = list[str]()
    changing = not all(running.values())
    before_done, held_up = True, False
    for call in calls:
        if call.call_id not in running and not (held_up and call.in_place):
            if call.only_reads:
                ready.append(call.call_id)
            elif not changing and (before_done or not call.in_place):
                ready.append(call.call_id)
                changing = True
        held_up = held_up or (call.in_place and not call.only_reads)
        before_done = False
    return ready


class _Batch:
    """The calls of a turn that are under way together.

    `_left` are those without an outcome, in proposal order; `_running` those among them that have begun, or are being
    judged to begin, and whether each only reads.
    """

    def __init__(self, run: Run, workspace: Workspace, call_ids: tuple[str, ...]) -> None:
        self.held: list[TapeEvent] = []
        self._run = run
        self._workspace = workspace
        self._left = list(call_ids)
        self._running: dict[str, bool] = {}

    # --- the first look at all of them ---

    async def begin(self, held: Sequence[TapeEvent], ahead: RunView) -> Sequence[Judged]:
        """Judge every call that waits for nobody and record that. Returns those that were started by it."""
        while True:
            candidates = self._candidates(ahead)
            judged = [await judge(self._run, self._workspace, ahead, each.call_id) for each in candidates]
            allowed = {each.call.call_id: each for each in judged if each.decision.outcome == "allow"}
            starting = [allowed[each] for each in startable([c for c in candidates if c.call_id in allowed], {})]
            try:
                await self._record(judged, starting, held)
            except (PolicyChanged, GrantEnded):
                ahead = self._run.view.ahead(held)  # they were judged by what does not hold any more
            else:
                return starting

    def _candidates(self, view: RunView) -> list[Startable]:
        calls = [view.calls[call_id] for call_id in self._left]
        return [
            Startable(each.call.call_id, self._only_reads(each.call.tool), in_place=each.granted is None)
            for each in calls
            if not (each.waits or each.settled)
        ]

    def _only_reads(self, tool: str) -> bool:
        try:
            return self._run.state.tools.get(tool).spec.read_only
        except NotFound:
            return True

    async def _record(
        self, judged: Sequence[Judged], starting: Sequence[Judged], held: Sequence[TapeEvent] = ()
    ) -> None:
        """Record what was decided of calls, the questions and the intents: all of it or, where a guard fails, nothing."""
        run = self._run
        decided = [each.recorded() for each in judged]
        asking = [each for each in judged if each.decision.outcome == "ask"]
        requests = [self._request(each) for each in asking]
        if requests and not run.order.input.attended:
            await self._nobody_attends([*held, *decided, *requests], requests)
            raise _unattended(asking[0])
        events = [*held, *decided, *requests, *[each.started() for each in starting]]
        if requests and not self._running and all(each.decision.outcome != "allow" for each in judged):
            events += self._wait(run.view.ahead(events))
        guards = tuple(dict.fromkeys(guard for each in starting for guard in each.guards()))
        blobs = [blob for each in starting for blob in each.plan.blobs.items()]
        await run.record(*events, blobs=blobs, guards=guards)
        for request in requests:
            run.expiries.add(request.expires_at_ms, request.approval_id)
        for each in judged:
            if each.decision.outcome == "deny":
                self._left.remove(each.call.call_id)
        self._running |= {each.call.call_id: self._only_reads(each.call.tool) for each in starting}

    def _request(self, judged: Judged) -> ApprovalRequested:
        run, order = self._run, self._run.order
        expires_at_ms = int((run.state.now_s() + order.config.approval.expires_s) * 1000)
        return judged.request(run, run.state.new_id(), NEVER_MS if order.input.detached else expires_at_ms)

    async def _nobody_attends(self, events: list[TapeEvent], requests: Sequence[ApprovalRequested]) -> None:
        nobody = [
            ApprovalDecided(each.approval_id, each.call_id, "expired", "run", "nobody attends this run")
            for each in requests
        ]
        await self._run.record(*events, *nobody)

    def _wait(self, view: RunView) -> list[TapeEvent]:
        """Return the move to WAITING where nothing can go on before somebody answers."""
        if view.state is not RunState.RUNNING or view.can_go_on:
            return []
        asked = [view.calls[call_id].asked for call_id in view.waiting()]
        only_questions = all(each is not None and each.question for each in asked)
        return [StatusChange(RunState.RUNNING, RunState.WAITING, FOR_INPUT if only_questions else FOR_APPROVAL)]

    # --- the work ---

    async def work(self, starting: Sequence[Judged]) -> None:
        """Run what was started, and start what becomes ready, until nothing more goes on without a person."""
        run = self._run
        async with trio.open_nursery() as nursery:
            for each in starting:
                nursery.start_soon(self._perform, each)
            while True:
                for call_id in startable(self._candidates(run.view), self._running):
                    self._running[call_id] = self._only_reads(run.view.calls[call_id].call.tool)
                    nursery.start_soon(self._start, call_id)
                if not self._running:
                    break
                await run.changed.wait()
                run.changed = trio.Event()
        if waits := self._wait(run.view):
            await run.record(*waits)

    async def _start(self, call_id: str) -> None:
        """Judge a call as things stand now, and run it if it still may."""
        while True:
            judged = await judge(self._run, self._workspace, self._run.view, call_id)
            starting = [judged] if judged.decision.outcome == "allow" else []
            try:
                await self._record([judged], starting)
            except (PolicyChanged, GrantEnded):
                continue
            break
        if starting:
            await self._perform(judged)
        else:
            self._done(call_id)

    async def _perform(self, judged: Judged) -> None:
        """Run a started call. Its result is recorded at once, or held when it is the last one and small."""
        call_id = judged.call.call_id
        finished, blobs = await self._effect(judged)
        self._left.remove(call_id)
        if self._left or blobs:
            await self._run.record(finished, blobs=blobs)
        else:
            self.held.append(finished)
        self._done(call_id)

    def _done(self, call_id: str) -> None:
        del self._running[call_id]
        self._run.changed.set()

    async def _effect(self, judged: Judged) -> tuple[ToolFinished, list[tuple[str, bytes]]]:
        assert judged.tool is not None
        spec, call_id = judged.tool.spec, judged.call.call_id
        limit_s = self._run.order.input.agent.limits.tool_s
        told = CallOutput(self._run, call_id, spec.output_cap_characters)
        context = attrs.evolve(
            judged.context,
            output=told.take,
            room=told.room,
            excerpt=told.excerpt,
            killed=told.killed,
            changed=told.changed,
            contacted=told.contacted,
            marked=partial(self._run.marks.__setitem__, call_id),
        )
        began = trio.current_time()
        scope = trio.CancelScope(deadline=began + limit_s)
        try:
            with self._run.under(judged.grant, scope), scope:
                try:
                    result = await judged.tool.run(judged.arguments, context, judged.plan)
                except PalyraError as error:
                    result = ToolResult(str(error), error.code)
                except Exception as error:
                    _log.exception("tool %s failed", spec.name)
                    result = ToolResult(f"{type(error).__name__}: {error}", "internal")
        finally:
            self._run.marks.pop(call_id, None)
            told.end()
        if scope.cancelled_caught and trio.current_time() < scope.deadline:
            result = ToolResult("the grant that it ran under was revoked", REVOKED)
        elif scope.cancelled_caught:
            result = ToolResult(f"the call took longer than its limit of {limit_s} s", "timeout")
        said = f"Error ({result.error}): {result.text}" if result.error else result.text
        text = self._run.state.redactor.recordable(said)
        elapsed_ms = int((trio.current_time() - began) * 1000)
        finished = ToolFinished(
            call_id, text, elapsed_ms, result.error, untrusted=spec.untrusted_output, size_bytes=told.kept_bytes
        )
        if len(text) <= spec.output_cap_characters:
            return finished, []
        data = text.encode()
        name = digest(data)
        shown = excerpt(text, spec.output_cap_characters)
        return attrs.evolve(finished, text=shown, output=name, size_bytes=len(data)), [(name, data)]


def _unattended(judged: Judged) -> ApprovalExpired:
    tool = judged.call.tool
    remedy = f"allow it with --yes-to {tool}"
    if not judged.decision.standing:
        remedy = "this is asked for every time: start the run where somebody answers, or with --detach"
    return ApprovalExpired(f"{tool} needs approval, and nobody attends this run", remedy=remedy)


def excerpt(text: str, most: int) -> str:
    """Return the beginning and the end of an output that is too long for a model, and how much is missing."""
    half = most // 2
    return f"{text[:half]}\n[… {len(text) - 2 * half} characters left out …]\n{text[-half:]}"
