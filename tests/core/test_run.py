"""Every pair of a state and an input, against the tables written out once more by hand."""

from itertools import product

import pytest

from palyra_trio.core.errors import StateConflict
from palyra_trio.core.run import (
    CALL_TRANSITIONS,
    LIVE,
    SETTLED,
    TERMINAL,
    TRANSITIONS,
    CallInput,
    CallState,
    RunInput,
    RunState,
    advance,
    advance_call,
)

# One line a state: what each input leads to, `-` where it is refused.
RUNS = """
              start     park      resume    finish    fail      cancel
    queued    running   -         -         -         failed    cancelled
    running   -         waiting   -         done      failed    cancelled
    waiting   -         waiting   running   -         failed    cancelled
    done      -         -         -         -         -         -
    failed    -         -         -         -         -         -
    cancelled -         -         -         -         -         -
"""
CALLS = """
              deny      ask       start     finish    doubt
    proposed  denied    asked     started   -         -
    denied    -         -         -         -         -
    asked     denied    asked     started   -         -
    started   -         -         -         finished  in_doubt
    finished  -         -         -         -         -
    in_doubt  -         -         started   finished  -
"""


def expected(table: str) -> dict[tuple[str, str], str]:
    columns, *rows = [line.split() for line in table.strip().splitlines()]
    return {(row[0], move): after for row in rows for move, after in zip(columns, row[1:], strict=True)}


@pytest.mark.parametrize(("state", "move"), list(product(RunState, RunInput)))
def test_a_run_moves_as_the_table_says(state: RunState, move: RunInput) -> None:
    after = expected(RUNS)[state, move]
    if after != "-":
        assert advance(state, move) is RunState(after)
        return
    with pytest.raises(StateConflict, match=f"a run that is {state} cannot {move}"):
        advance(state, move)


@pytest.mark.parametrize(("state", "move"), list(product(CallState, CallInput)))
def test_a_tool_call_moves_as_the_table_says(state: CallState, move: CallInput) -> None:
    after = expected(CALLS)[state, move]
    if after != "-":
        assert advance_call(state, move) is CallState(after)
        return
    with pytest.raises(StateConflict, match=f"a tool call that is {state} cannot {move}"):
        advance_call(state, move)


def test_every_state_has_a_row_and_the_hand_written_tables_have_every_pair() -> None:
    assert set(TRANSITIONS) == set(RunState)
    assert set(CALL_TRANSITIONS) == set(CallState)
    assert set(expected(RUNS)) == set(product(RunState, RunInput))
    assert set(expected(CALLS)) == set(product(CallState, CallInput))


def test_the_ends_are_the_states_with_empty_rows() -> None:
    assert set(TERMINAL) == {RunState.DONE, RunState.FAILED, RunState.CANCELLED}
    assert set(LIVE) == {RunState.RUNNING, RunState.WAITING}
    assert set(SETTLED) == {CallState.DENIED, CallState.FINISHED}


def test_every_state_that_is_no_end_can_be_cancelled_and_can_fail() -> None:
    for state in set(RunState) - TERMINAL:
        assert advance(state, RunInput.CANCEL) is RunState.CANCELLED
        assert advance(state, RunInput.FAIL) is RunState.FAILED


def test_the_words_on_the_tape_are_the_specified_ones() -> None:
    assert [str(state) for state in RunState] == ["queued", "running", "waiting", "done", "failed", "cancelled"]
