"""What became of each call of a run, and why, read off its tape: what was decided, who was asked and said what.

The texts of the policies are looked up elsewhere; a tape holds their ids, and the hash of the set.
"""

from collections.abc import Iterable

import attrs

from palyra_trio.core.codec import TapeRow
from palyra_trio.core.errors import NotFound
from palyra_trio.core.messages import ToolCall
from palyra_trio.core.tape import (
    ApprovalDecided,
    ApprovalRequested,
    PolicyDecision,
    ToolFinished,
    ToolProposed,
    ToolStarted,
)

Event = PolicyDecision | ApprovalRequested | ApprovalDecided | ToolStarted | ToolFinished
EVENTS = (PolicyDecision, ApprovalRequested, ApprovalDecided, ToolStarted, ToolFinished)


@attrs.frozen
class Step:
    """One thing that happened to a call. `at_ms` is Unix time."""

    seq: int
    at_ms: int
    event: Event


@attrs.frozen
class Story:
    """A call, and what happened to it in order."""

    call: ToolCall
    steps: tuple[Step, ...]

    @property
    def decisions(self) -> tuple[PolicyDecision, ...]:
        return tuple(step.event for step in self.steps if isinstance(step.event, PolicyDecision))


def call_stories(rows: Iterable[TapeRow], call_id: str = "") -> tuple[Story, ...]:
    """Return the stories of the calls on a tape, or that of one call. Raises NotFound when there is no such call."""
    calls: dict[str, ToolCall] = {}
    steps: dict[str, list[Step]] = {}
    for row in rows:
        event = row.event()
        if isinstance(event, ToolProposed):
            calls[event.call.call_id] = event.call
            steps[event.call.call_id] = []
        elif isinstance(event, EVENTS) and event.call_id in steps:
            steps[event.call_id].append(Step(row.seq, row.at_ms, event))
    if call_id and call_id not in calls:
        raise NotFound(f"the run has no call {call_id!r}", remedy=f"it has {', '.join(calls) or 'none'}")
    return tuple(Story(calls[each], tuple(steps[each])) for each in calls if call_id in ("", each))


def in_words(event: Event) -> str:
    """Return what happened to a call, as a person is told. It may hold words of the model's, or of a stranger's."""
    match event:
        case PolicyDecision(outcome=outcome, reason=reason):
            return f"{outcome}: {reason}"
        case ApprovalRequested(question=question):
            return "a person is asked" + (" a question" if question else "")
        case ApprovalDecided(outcome=outcome, by=by, reason=reason, scope=scope):
            length = f" ({scope})" if outcome == "granted" else ""
            return f"{outcome} by {by}{length}{f': {reason}' if reason else ''}"
        case ToolStarted(grant=grant):
            return f"started{f' under {grant}' if grant else ''}"
        case ToolFinished(error=error, elapsed_ms=elapsed_ms):
            return f"{f'failed ({error})' if error else 'done'} after {elapsed_ms} ms"
