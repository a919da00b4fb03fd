"""A run as its tape tells it: `fold` brings a `RunView` forward by one event.

The view holds everything that `decide` looks at, and nothing that is not on the tape, so that a run can be brought
back to any point by folding a prefix. `fold` changes the view it is given and touches nothing else.
"""

from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import attrs

from palyra_trio.core.codec import TapeRow
from palyra_trio.core.errors import JournalInvalid, StateConflict
from palyra_trio.core.messages import Message, ToolCall, Usage
from palyra_trio.core.run import SETTLED, TERMINAL, TRANSITIONS, CallState, RunState, advance_call
from palyra_trio.core.tape import (
    ApprovalDecided,
    ApprovalRequested,
    CancelRequested,
    ContextAssembled,
    Correction,
    FinalAnswer,
    Input,
    LimitReached,
    ModelTurn,
    PolicyDecision,
    ProviderError,
    ProviderRequest,
    RoutingDecision,
    RunFinished,
    StatusChange,
    TapeEvent,
    ToolFinished,
    ToolProposed,
    ToolStarted,
)

V = TypeVar("V", "RunView", "CallView")


@attrs.define(slots=False)
class CallView:
    """A tool call so far. `answer` is what the model is told once the call is settled.

    `allowed`: by policy, or by a person (`granted` then says how). `asked` is the newest question about it.
    """

    call: ToolCall
    state: CallState = CallState.PROPOSED
    allowed: bool = False
    asked: ApprovalRequested | None = None
    granted: ApprovalDecided | None = None
    answer: str = ""
    started: ToolStarted | None = None

    @property
    def settled(self) -> bool:
        return self.state in SETTLED

    @property
    def waits(self) -> bool:
        """Whether a person has yet to decide."""
        return self.state is CallState.ASKED and not self.allowed


@attrs.define(slots=False)
class RunView:
    """A run so far. `messages` are its own; what came before them in the session is in `context`, as digests.

    `turn` counts the model calls that were begun, `tool_calls` the calls that were proposed; `batch` holds the ids
    of the calls of the newest turn, in the order in which the model named them. `tainted` once words of strangers have
    entered the context. `gaps` once a row of it was erased: what follows from that one is passed over.
    """

    state: RunState = RunState.QUEUED
    reason: str = ""
    input: Input | None = None
    routing: RoutingDecision | None = None
    context: ContextAssembled | None = None
    messages: list[Message] = attrs.Factory(list)
    calls: dict[str, CallView] = attrs.Factory(dict)
    batch: list[str] = attrs.Factory(list)
    turn: int = 0
    tool_calls: int = 0
    requested: int = 0
    newest: ModelTurn | None = None
    in_model_call: bool = False
    corrections: int = 0
    usage: Usage = Usage()
    limit: LimitReached | None = None
    failure: ProviderError | None = None
    cancelled_by: str = ""
    tainted: bool = False
    answer: FinalAnswer | None = None
    finished: RunFinished | None = None
    gaps: bool = False
    seq: int = 0

    @property
    def terminal(self) -> bool:
        return self.state in TERMINAL

    def ahead(self, events: Iterable[TapeEvent]) -> "RunView":
        """Return the view as it will be once `events` are on the tape; this one does not change."""
        draft: RunView | None = None
        for event in events:
            draft = fold(draft or self._copy(), event)
        return draft or self

    def _copy(self) -> "RunView":
        draft = _shallow(self)
        draft.messages, draft.batch = self.messages.copy(), self.batch.copy()
        draft.calls = self.calls | {call_id: _shallow(self.calls[call_id]) for call_id in self.batch}
        return draft

    def unsettled(self) -> tuple[str, ...]:
        """Return the ids of the newest turn's calls that still have no outcome, in proposal order."""
        return tuple(call_id for call_id in self.batch if not self.calls[call_id].settled)

    def waiting(self) -> tuple[str, ...]:
        """Return the ids of the newest turn's calls that a person has yet to decide on."""
        return tuple(call_id for call_id in self.batch if self.calls[call_id].waits)

    @property
    def can_go_on(self) -> bool:
        """Whether something can be done before anybody decides anything more."""
        return not self.waiting() or len(self.waiting()) < len(self.unsettled())


def _shallow(view: V) -> V:
    """Return a copy that shares its fields' values. A tenth of the cost of attrs.evolve, which the agent loop notices."""
    draft = object.__new__(type(view))
    draft.__dict__.update(view.__dict__)
    return draft


def fold(view: RunView, event: TapeEvent) -> RunView:
    """Bring `view` forward by `event` and return it. Raises StateConflict for an event that cannot follow, unless there are gaps."""
    step = _STEPS.get(type(event))
    if step is not None:
        try:
            step(view, event)
        except StateConflict:
            if not view.gaps:
                raise
    return view


def fold_rows(view: RunView, rows: Iterable[TapeRow]) -> RunView:
    """Fold rows of one run, in order; kinds that `fold` ignores may be left out. Raises JournalInvalid when out of order."""
    for row in rows:
        if row.seq <= view.seq:
            raise JournalInvalid(f"{row.stream} has seq {row.seq} after {view.seq}")
        view.gaps = view.gaps or row.body is None
        event = row.event()
        if event is not None:
            fold(view, event)
        view.seq = row.seq
    return view


def _input(view: RunView, event: Input) -> None:
    view.input = event
    view.messages.append(Message("user", event.text, attachments=event.attachments))


def _status(view: RunView, event: StatusChange) -> None:
    _move(view, event.before, event.after)
    view.reason = event.reason


def _finished(view: RunView, event: RunFinished) -> None:
    _move(view, event.before, event.state)
    view.reason, view.finished = event.reason, event


def _move(view: RunView, before: RunState, after: RunState) -> None:
    if not view.gaps and (view.state is not before or after not in TRANSITIONS[before]):
        raise StateConflict(f"a run that is {view.state} cannot move from {before} to {after}")
    view.state = after


def _cancel_requested(view: RunView, event: CancelRequested) -> None:
    view.cancelled_by = event.by


def _routing(view: RunView, event: RoutingDecision) -> None:
    view.routing = event


def _context(view: RunView, event: ContextAssembled) -> None:
    view.context, view.requested = event, len(event.messages)
    view.tainted = view.tainted or event.tainted


def _request(view: RunView, event: ProviderRequest) -> None:
    view.turn, view.in_model_call = event.turn, True
    if view.gaps:  # the turn that answers this may have been erased: its calls belong to no other
        view.newest, view.batch = None, []
    view.requested = event.kept + len(event.added)


def _model_turn(view: RunView, event: ModelTurn) -> None:
    view.newest, view.in_model_call = event, False
    view.usage += event.usage
    view.batch = []
    if not event.calls:
        view.messages.append(Message("assistant", event.text))


def _proposed(view: RunView, event: ToolProposed) -> None:
    if event.call.call_id in view.calls:
        raise StateConflict(f"the run has a tool call {event.call.call_id!r} already")
    view.calls[event.call.call_id] = CallView(event.call)
    view.batch.append(event.call.call_id)
    view.tool_calls += 1


def _call(view: RunView, call_id: str) -> CallView:
    if call_id not in view.batch:
        raise StateConflict(f"the newest turn has no tool call {call_id!r}")
    return view.calls[call_id]


_GATED = {"allow": CallState.STARTED, "deny": CallState.DENIED}


def _policy(view: RunView, event: PolicyDecision) -> None:
    call = _call(view, event.call_id)
    after = advance_call(call.state, _GATED.get(event.outcome, CallState.ASKED))
    call.allowed = event.outcome == "allow"
    if event.outcome == "deny":
        call.state = after
        call.answer = f"Refused by policy: {event.reason}"
        _close_batch(view)


def _asked(view: RunView, event: ApprovalRequested) -> None:
    call = _call(view, event.call_id)
    call.state = advance_call(call.state, CallState.ASKED)
    call.asked, call.granted, call.allowed = event, None, False


def _decided(view: RunView, event: ApprovalDecided) -> None:
    call = _call(view, event.call_id)
    if call.state is not CallState.ASKED or call.asked is None or call.asked.approval_id != event.approval_id:
        raise StateConflict(f"tool call {event.call_id!r} does not wait for approval {event.approval_id!r}")
    if event.outcome == "granted":
        call.allowed, call.granted = True, event
        return
    call.state = advance_call(call.state, CallState.DENIED)
    call.answer = f"Refused ({event.outcome}): {event.reason or 'no reason was given'}"
    _close_batch(view)


def _started(view: RunView, event: ToolStarted) -> None:
    call = _call(view, event.call_id)
    call.state = advance_call(call.state, CallState.STARTED)
    call.started = event


def _tool_finished(view: RunView, event: ToolFinished) -> None:
    call = _call(view, event.call_id)
    call.state = advance_call(call.state, CallState.FINISHED)
    call.answer = event.text
    view.tainted = view.tainted or event.untrusted
    _close_batch(view)


def _close_batch(view: RunView) -> None:
    """Once every call of the turn has its outcome, the turn joins the transcript: results in proposal order."""
    if view.newest is None or len(view.batch) < view.newest.calls:
        return
    calls = [view.calls[call_id] for call_id in view.batch]
    if all(call.settled for call in calls):
        view.messages.append(Message("assistant", view.newest.text, tuple(call.call for call in calls)))
        view.messages.extend(Message("tool", call.answer, call_id=call.call.call_id) for call in calls)


def _correction(view: RunView, event: Correction) -> None:
    view.corrections += 1
    view.messages.append(Message("user", event.text))


def _limit(view: RunView, event: LimitReached) -> None:
    view.limit = event


def _provider_error(view: RunView, event: ProviderError) -> None:
    view.failure, view.in_model_call = event, False


def _answer(view: RunView, event: FinalAnswer) -> None:
    view.answer = event


def loose_ends(view: RunView, reason: str) -> list[TapeEvent]:
    """Return the outcomes of the calls that a run leaves open when it ends for `reason`."""
    events: list[TapeEvent] = []
    for call_id in view.unsettled():
        call = view.calls[call_id]
        if call.waits and call.asked is not None:
            events.append(ApprovalDecided(call.asked.approval_id, call_id, "withdrawn", "run", "the run ended"))
        elif call.state is CallState.STARTED:
            events.append(ToolFinished(call_id, f"Stopped: the run ended ({reason}).", 0, "stopped"))
    return events


_STEPS: dict[type[TapeEvent], Callable[[RunView, Any], None]] = {
    Input: _input,
    StatusChange: _status,
    RunFinished: _finished,
    CancelRequested: _cancel_requested,
    RoutingDecision: _routing,
    ContextAssembled: _context,
    ProviderRequest: _request,
    ModelTurn: _model_turn,
    ToolProposed: _proposed,
    PolicyDecision: _policy,
    ApprovalRequested: _asked,
    ApprovalDecided: _decided,
    ToolStarted: _started,
    ToolFinished: _tool_finished,
    Correction: _correction,
    LimitReached: _limit,
    ProviderError: _provider_error,
    FinalAnswer: _answer,
}
