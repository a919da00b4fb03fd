"""Every pair of states, against the tables written out once more by hand."""

from itertools import product

import pytest

from palyra_trio.core.errors import StateConflict
from palyra_trio.core.run import (
    CALL_TRANSITIONS,
    LIVE,
    SETTLED,
    TERMINAL,
    TRANSITIONS,
    CallState,
    RunState,
    advance_call,
)

# One line a state: what may follow it.
RUNS = """
    queued     running failed cancelled
    running    waiting done failed cancelled
    waiting    waiting running failed cancelled
    done
    failed
    cancelled
"""
CALLS = """
    proposed   denied asked started
    denied
    asked      denied asked started
    started    finished
    finished
"""


def written(table: str) -> dict[str, set[str]]:
    rows = [line.split() for line in table.strip().splitlines()]
    return {state: set(following) for state, *following in rows}


def test_a_run_moves_as_the_table_says() -> None:
    assert written(RUNS) == TRANSITIONS
    assert set(TRANSITIONS) == set(RunState)


@pytest.mark.parametrize(("before", "after"), list(product(CallState, repeat=2)))
def test_a_tool_call_moves_as_the_table_says(before: CallState, after: CallState) -> None:
    if after in written(CALLS)[before]:
        assert advance_call(before, after) is after
        return
    with pytest.raises(StateConflict, match=f"a tool call that is {before} cannot become {after}"):
        advance_call(before, after)


def test_every_state_of_a_tool_call_has_a_row() -> None:
    assert set(CALL_TRANSITIONS) == set(CallState)


def test_the_ends_are_the_states_with_empty_rows() -> None:
    assert set(TERMINAL) == {RunState.DONE, RunState.FAILED, RunState.CANCELLED}
    assert set(LIVE) == {RunState.RUNNING, RunState.WAITING}
    assert set(SETTLED) == {CallState.DENIED, CallState.FINISHED}


def test_the_words_on_the_tape_are_the_specified_ones() -> None:
    assert [str(state) for state in RunState] == ["queued", "running", "waiting", "done", "failed", "cancelled"]
