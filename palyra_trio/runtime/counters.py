"""What happened since this process began, in numbers: a fold of the rows as they are published, exact at every moment.

Sums only. What a principal used over time is in the journal. No row tells of the spans of a trace: who sends them counts them.
"""

from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

import attrs

from palyra_trio.core.codec import KIND_NAMES, TapeRow
from palyra_trio.core.messages import Usage
from palyra_trio.core.tape import (
    ApprovalDecided,
    KillReceipt,
    ModelTurn,
    PolicyDecision,
    RunFinished,
    TapeEvent,
    ToolFinished,
)


@attrs.define
class Counters:
    """Counts by name, and within a name by what tells one apart: an outcome, an error, a kind."""

    events: Counter[str] = attrs.Factory(Counter)
    runs_ended: Counter[str] = attrs.Factory(Counter)
    tool_results: Counter[str] = attrs.Factory(Counter)
    policy_decisions: Counter[str] = attrs.Factory(Counter)
    approvals_decided: Counter[str] = attrs.Factory(Counter)
    usage: Usage = Usage()
    processes_killed: int = 0
    survivors: int = 0
    spans_lost: int = 0
    spans_rejected: int = 0

    def take(self, rows: Iterable[TapeRow]) -> None:
        """Count rows that have just become durable, whatever their streams."""
        for row in rows:
            self.events[KIND_NAMES.get(row.kind) or str(row.kind)] += 1
            step = _STEPS.get(row.kind)
            if step is not None and (event := row.event()) is not None:
                step(self, event)


def _ended(counters: Counters, event: RunFinished) -> None:
    counters.runs_ended[event.state] += 1


def _turn(counters: Counters, event: ModelTurn) -> None:
    counters.usage += event.usage


def _result(counters: Counters, event: ToolFinished) -> None:
    counters.tool_results[event.error or "ok"] += 1


def _decision(counters: Counters, event: PolicyDecision) -> None:
    counters.policy_decisions[event.outcome] += 1


def _approval(counters: Counters, event: ApprovalDecided) -> None:
    counters.approvals_decided[event.outcome] += 1


def _killed(counters: Counters, event: KillReceipt) -> None:
    counters.processes_killed += event.pids_seen
    counters.survivors += event.survivors


_FOLDS: dict[type[TapeEvent], Callable[[Counters, Any], None]] = {
    RunFinished: _ended,
    ModelTurn: _turn,
    ToolFinished: _result,
    PolicyDecision: _decision,
    ApprovalDecided: _approval,
    KillReceipt: _killed,
}
_STEPS = {cls.kind: step for cls, step in _FOLDS.items()}
