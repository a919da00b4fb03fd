"""What each kind of event of a run says to a person, in a few words: a table of small functions."""

import json
from collections.abc import Callable
from typing import Any

from palyra_trio.core import tape as events
from palyra_trio.core.codec import TapeRow
from palyra_trio.core.file_events import FilesChanged
from palyra_trio.core.outputs import OutputKept
from palyra_trio.core.tape import TapeEvent
from palyra_trio.core.words import plural


def words(row: TapeRow, event: TapeEvent | None) -> str:
    """Return what an event says, in a few words."""
    if event is None:
        return "(erased)" if row.body is None else "(a kind that this version does not know; --jsonl shows it)"
    return _WORDS[type(event)](event)


def _because(reason: str) -> str:
    return f" ({reason})" if reason else ""


def _count(value: int, noun: str) -> str:
    return f"{value} {plural(value, noun)}"


def _input(event: events.Input) -> str:
    files = f" with {', '.join(each.name for each in event.attachments)}" if event.attachments else ""
    return f"{event.principal} over {event.channel}, agent {event.agent.name}{files}: {event.text}"


def _request(event: events.ProviderRequest) -> str:
    return f"turn {event.turn}: {_count(event.kept + len(event.added), 'message')}, {len(event.added)} of them new"


def _model_turn(event: events.ModelTurn) -> str:
    used = f"{event.usage.input_tokens} tokens in, {event.usage.output_tokens} out"
    text = f": {event.text}" if event.text else ""
    return f"turn {event.turn}{_because(event.model)}: {event.finish}, {_count(event.calls, 'call')}, {used}{text}"


def _proposed(event: events.ToolProposed) -> str:
    arguments = event.call.malformed or json.dumps(event.call.arguments, ensure_ascii=False)
    return f"{event.call.call_id}: {event.call.tool} {arguments}"


def _decided(event: events.ApprovalDecided) -> str:
    length = {"once": "", "session": " for the session", "time": " for a time"}[event.scope]
    return f"{event.call_id}: {event.outcome}{length} by {event.by}{_because(event.reason)}"


def _started(event: events.ToolStarted) -> str:
    changes = f"; changes {', '.join(change.path for change in event.changes)}" if event.changes else ""
    uncaptured = f"; what it does to files is not captured: {event.uncaptured}" if event.uncaptured else ""
    return f"{event.call_id}{changes}{uncaptured}"


def _contacted(event: events.HostContacted) -> str:
    host = f"{event.host}:{event.port}" if event.port else event.host or "other hosts"
    if not event.allowed:
        return f"{event.call_id}: {host} refused {event.connections} times"
    moved = f"{event.sent_bytes} bytes sent, {event.received_bytes} received"
    return f"{event.call_id}: {host}, {event.connections} connections, {moved}"


def _changed(event: FilesChanged) -> str:
    if event.discarded:
        return f"{event.call_id}: {event.discarded} changes of a killed program were thrown away"
    missed = f"; not told: {event.missed}" if event.missed else ""
    return f"{event.call_id}: changes {', '.join(change.path for change in event.changes) or 'nothing that is told'}{missed}"


def _killed(event: events.KillReceipt) -> str:
    alive = f"{event.survivors} STILL ALIVE" if event.survivors else "none alive"
    return f"{event.call_id}: {_count(event.pids_seen, 'process')} killed in {event.elapsed_ms} ms, {alive}"


def _tool_finished(event: events.ToolFinished) -> str:
    failed = f" failed ({event.error})" if event.error else ""
    size = f", {event.size_bytes} bytes" if event.output else ""
    return f"{event.call_id}{failed} after {event.elapsed_ms} ms{size}: {event.text}"


_WORDS: dict[type[TapeEvent], Callable[[Any], str]] = {
    events.Input: _input,
    events.StatusChange: lambda event: f"{event.before} -> {event.after}{_because(event.reason)}",
    events.RunFinished: lambda event: f"{event.state} ({event.reason}) {event.detail}",
    events.CancelRequested: lambda event: f"by {event.by}{_because(event.reason)}",
    events.RunInterrupted: lambda event: event.reason,
    events.LimitReached: lambda event: f"{event.limit}: {event.value}",
    events.FinalAnswer: lambda event: f"{event.provider}/{event.model}: {event.text}",
    events.RoutingDecision: lambda event: f"{event.provider}/{event.model}: {event.why}",
    events.ContextAssembled: lambda event: (
        f"{_count(len(event.messages), 'message')} from {_count(len(event.runs), 'earlier run')}, {event.omitted_runs} left out"
    ),
    events.ProviderRequest: _request,
    events.ModelDelta: lambda event: f"turn {event.turn}: {event.text}",
    events.ModelTurn: _model_turn,
    events.ProviderAttempt: lambda event: (
        f"turn {event.turn}, attempt {event.attempt}: {event.failure}, again in {event.wait_ms} ms: {event.message}"
    ),
    events.ProviderError: lambda event: f"turn {event.turn}: {event.failure}: {event.message}{_because(event.remedy)}",
    events.Correction: lambda event: event.text,
    events.ToolProposed: _proposed,
    events.PolicyDecision: lambda event: f"{event.call_id}: {event.outcome} ({event.rule}): {event.reason}",
    events.ApprovalRequested: lambda event: f"{event.call_id}: {event.prompt}",
    events.ApprovalDecided: _decided,
    events.ToolStarted: _started,
    events.ToolOutput: lambda event: f"{event.call_id} {event.stream}: {event.text}",
    events.ToolFinished: _tool_finished,
    events.KillReceipt: _killed,
    FilesChanged: _changed,
    events.HostContacted: _contacted,
    OutputKept: lambda event: f"{event.call_id}: {event.size_bytes} bytes",
}
