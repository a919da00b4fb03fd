"""The life of a run and the life of a tool call, as tables: which states may follow which. Terminal rows are empty."""

from collections.abc import Mapping
from enum import StrEnum

from palyra_trio.core.errors import StateConflict


class RunState(StrEnum):
    QUEUED = "queued"
    RUNNING = "running"
    WAITING = "waiting"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"


_CUT_SHORT = frozenset({RunState.FAILED, RunState.CANCELLED})

TRANSITIONS: Mapping[RunState, frozenset[RunState]] = {
    RunState.QUEUED: frozenset({RunState.RUNNING}) | _CUT_SHORT,
    RunState.RUNNING: frozenset({RunState.WAITING, RunState.DONE}) | _CUT_SHORT,
    RunState.WAITING: frozenset({RunState.WAITING, RunState.RUNNING}) | _CUT_SHORT,
    RunState.DONE: frozenset(),
    RunState.FAILED: frozenset(),
    RunState.CANCELLED: frozenset(),
}

LIVE = frozenset({RunState.RUNNING, RunState.WAITING})
TERMINAL = frozenset(state for state, row in TRANSITIONS.items() if not row)
OPEN = frozenset(TRANSITIONS) - TERMINAL


class CallState(StrEnum):
    PROPOSED = "proposed"
    DENIED = "denied"
    ASKED = "asked"
    STARTED = "started"
    FINISHED = "finished"


CALL_TRANSITIONS: Mapping[CallState, frozenset[CallState]] = {
    CallState.PROPOSED: frozenset({CallState.DENIED, CallState.ASKED, CallState.STARTED}),
    CallState.ASKED: frozenset({CallState.DENIED, CallState.ASKED, CallState.STARTED}),
    CallState.STARTED: frozenset({CallState.FINISHED}),
    CallState.DENIED: frozenset(),
    CallState.FINISHED: frozenset(),
}

SETTLED = frozenset(state for state, row in CALL_TRANSITIONS.items() if not row)


def advance_call(before: CallState, after: CallState) -> CallState:
    """Return `after`. Raises StateConflict when the table has no such move."""
    if after not in CALL_TRANSITIONS[before]:
        raise StateConflict(f"a tool call that is {before} cannot become {after}")
    return after
