"""The life of a run and the life of a tool call, as tables. Terminal rows are empty."""

from enum import StrEnum

from palyra_trio.core.errors import StateConflict


class RunState(StrEnum):
    QUEUED = "queued"
    RUNNING = "running"
    WAITING = "waiting"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"


class RunInput(StrEnum):
    START = "start"
    PARK = "park"
    RESUME = "resume"
    FINISH = "finish"
    FAIL = "fail"
    CANCEL = "cancel"


TRANSITIONS: dict[RunState, dict[RunInput, RunState]] = {
    RunState.QUEUED: {
        RunInput.START: RunState.RUNNING,
        RunInput.FAIL: RunState.FAILED,
        RunInput.CANCEL: RunState.CANCELLED,
    },
    RunState.RUNNING: {
        RunInput.PARK: RunState.WAITING,
        RunInput.FINISH: RunState.DONE,
        RunInput.FAIL: RunState.FAILED,
        RunInput.CANCEL: RunState.CANCELLED,
    },
    RunState.WAITING: {
        RunInput.PARK: RunState.WAITING,
        RunInput.RESUME: RunState.RUNNING,
        RunInput.FAIL: RunState.FAILED,
        RunInput.CANCEL: RunState.CANCELLED,
    },
    RunState.DONE: {},
    RunState.FAILED: {},
    RunState.CANCELLED: {},
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
    IN_DOUBT = "in_doubt"


class CallInput(StrEnum):
    DENY = "deny"
    ASK = "ask"
    START = "start"
    FINISH = "finish"
    DOUBT = "doubt"


CALL_TRANSITIONS: dict[CallState, dict[CallInput, CallState]] = {
    CallState.PROPOSED: {
        CallInput.DENY: CallState.DENIED,
        CallInput.ASK: CallState.ASKED,
        CallInput.START: CallState.STARTED,
    },
    CallState.ASKED: {
        CallInput.DENY: CallState.DENIED,
        CallInput.ASK: CallState.ASKED,
        CallInput.START: CallState.STARTED,
    },
    CallState.STARTED: {CallInput.FINISH: CallState.FINISHED, CallInput.DOUBT: CallState.IN_DOUBT},
    CallState.IN_DOUBT: {CallInput.START: CallState.STARTED, CallInput.FINISH: CallState.FINISHED},
    CallState.DENIED: {},
    CallState.FINISHED: {},
}

SETTLED = frozenset(state for state, row in CALL_TRANSITIONS.items() if not row)


def advance(state: RunState, move: RunInput) -> RunState:
    """Return the state that follows. Raises StateConflict when the table has no such move."""
    try:
        return TRANSITIONS[state][move]
    except KeyError:
        raise StateConflict(f"a run that is {state} cannot {move}") from None


def advance_call(state: CallState, move: CallInput) -> CallState:
    """Return the call state that follows. Raises StateConflict when the table has no such move."""
    try:
        return CALL_TRANSITIONS[state][move]
    except KeyError:
        raise StateConflict(f"a tool call that is {state} cannot {move}") from None
