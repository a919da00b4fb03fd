"""Events of a run with what does not matter left to defaults, and a strategy for whole, legal tapes."""

from typing import Any

from hypothesis import strategies as st

from palyra_trio.core.agents import AgentSpec, Limits
from palyra_trio.core.messages import FinishReason, ToolCall, Usage
from palyra_trio.core.run import RunState
from palyra_trio.core.tape import (
    ApprovalDecided,
    ApprovalRequested,
    CancelRequested,
    ContextAssembled,
    Correction,
    FinalAnswer,
    Input,
    ModelDelta,
    ModelTurn,
    PolicyDecision,
    ProviderRequest,
    RoutingDecision,
    RunFinished,
    StatusChange,
    TapeEvent,
    ToolFinished,
    ToolProposed,
    ToolStarted,
)
from palyra_trio.core.view import RunView, fold

QUEUED, RUNNING, WAITING = RunState.QUEUED, RunState.RUNNING, RunState.WAITING
DONE, FAILED, CANCELLED = RunState.DONE, RunState.FAILED, RunState.CANCELLED

DEFAULT_LIMITS = Limits()

STARTED = StatusChange(QUEUED, RUNNING)
PARKED = StatusChange(RUNNING, WAITING, "approval")
RESUMED = StatusChange(WAITING, RUNNING)
ROUTED = RoutingDecision("scripted", "m", "it was named")
ASSEMBLED = ContextAssembled(("aa", "bb"), ("R0",), 0, 1000)
FINISHED = RunFinished(RUNNING, DONE, "final_answer")


def asked_for(text: str = "hello", limits: Limits = DEFAULT_LIMITS, **fields: Any) -> Input:
    return Input("S", "user:alice", "", "cli", text, "00", agent=AgentSpec("default", limits=limits), **fields)


def request(turn: int = 1, kept: int = 2, *added: str) -> ProviderRequest:
    return ProviderRequest(turn, kept, added or ("cc",), "dd")


def said(text: str, turn: int = 1, calls: int = 0) -> ModelTurn:
    finish: FinishReason = "tool_calls" if calls else "stop"
    return ModelTurn(turn, text, finish, Usage(10, 1, 2), "m", calls)


def proposed(call_id: str) -> ToolProposed:
    return ToolProposed(ToolCall(call_id, "files.read", {"path": call_id}))


def gated(call_id: str, outcome: str = "allow") -> PolicyDecision:
    return PolicyDecision(call_id, outcome, "rule", "because", "00")


def asks(call_id: str) -> ApprovalRequested:
    return ApprovalRequested(f"A-{call_id}", call_id, "May it?")


def decided(call_id: str, outcome: str, reason: str = "") -> ApprovalDecided:
    return ApprovalDecided(f"A-{call_id}", call_id, outcome, "user:alice", reason)


def begun(call_id: str) -> ToolStarted:
    return ToolStarted(call_id, f"R:{call_id}")


def result(call_id: str, text: str = "") -> ToolFinished:
    return ToolFinished(call_id, text or f"result of {call_id}", 3)


def view_of(*events: TapeEvent) -> RunView:
    view = RunView()
    for event in events:
        fold(view, event)
    return view


def running(*events: TapeEvent, limits: Limits = DEFAULT_LIMITS) -> RunView:
    """Return the view of a run that has started, after `events`."""
    return view_of(asked_for(limits=limits), STARTED, ROUTED, ASSEMBLED, *events)


@st.composite
def legal_tapes(draw: st.DrawFn) -> list[TapeEvent]:
    """Draw the tape of a run as the agent loop writes it: turns, interleaved calls with every outcome, an ending."""
    tape: list[TapeEvent] = [asked_for(draw(st.text(max_size=5))), STARTED, ROUTED, ASSEMBLED]
    turns = draw(st.integers(1, 3))
    for turn in range(1, turns + 1):
        tape.append(request(turn))
        tape += [ModelDelta(turn, "x")] * draw(st.integers(0, 2))
        calls = [f"c{turn}.{index}" for index in range(draw(st.integers(0, 4)))]
        tape += [said(f"turn {turn}", turn, len(calls)), *map(proposed, calls)]
        tape += draw(interleaved([draw(lives(call_id)) for call_id in calls]))
        if not calls and turn < turns:
            tape.append(Correction("again"))
    if draw(st.booleans()):
        return [*tape, FinalAnswer("done", "scripted", "m"), FINISHED]
    return [*tape, CancelRequested("user:alice"), RunFinished(RUNNING, CANCELLED, "cancelled")]


def lives(call_id: str) -> st.SearchStrategy[list[TapeEvent]]:
    """Return a strategy for all that can happen to a call, in order."""
    performed: list[TapeEvent] = [begun(call_id), result(call_id)]
    asked: list[TapeEvent] = [gated(call_id, "ask"), asks(call_id)]
    return st.sampled_from(
        [
            [gated(call_id, "deny")],
            [gated(call_id), *performed],
            [*asked, decided(call_id, "granted"), *performed],
            [*asked, decided(call_id, "granted"), gated(call_id, "deny")],
            [*asked, decided(call_id, "granted"), *asked, decided(call_id, "granted"), gated(call_id), *performed],
            [*asked, decided(call_id, "denied", "no")],
            [*asked, decided(call_id, "expired")],
        ]
    )


@st.composite
def interleaved(draw: st.DrawFn, lines: list[list[TapeEvent]]) -> list[TapeEvent]:
    """Merge lines of events in any way that keeps each line's own order."""
    left = [list(line) for line in lines if line]
    merged = []
    while left:
        line = left[draw(st.integers(0, len(left) - 1))]
        merged.append(line.pop(0))
        left = [each for each in left if each]
    return merged
