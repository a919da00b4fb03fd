"""`decide` walked case by case: what follows from each shape of a view, and the final-answer contract."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from palyra_trio.core.agents import Limits, limit_source
from palyra_trio.core.run import RunState
from palyra_trio.core.tape import Correction, LimitReached, ProviderError, TapeEvent
from palyra_trio.core.turn import FINAL_ANSWER_CONTRACT, CallModel, Correct, Fail, Finish, Settle, decide
from palyra_trio.core.view import RunView
from tests.core.tapes import (
    FINISHED,
    PARKED,
    RESUMED,
    asked_for,
    asks,
    begun,
    decided,
    gated,
    legal_tapes,
    proposed,
    request,
    result,
    running,
    said,
    view_of,
)

TWO_CALLS = (request(), said("", calls=2), proposed("a"), proposed("b"))


def fits(_answer: str) -> str:
    return ""


def never_fits(_answer: str) -> str:
    return "it is no JSON"


# --- nothing to do ---


@pytest.mark.parametrize("state", [state for state in RunState if state is not RunState.RUNNING])
def test_a_run_that_is_not_running_asks_for_nothing(state: RunState) -> None:
    view = running(request(), said("hi"))
    view.state = state
    assert decide(view, fits) is None


def test_a_run_that_waits_asks_for_nothing_and_goes_on_when_it_is_resumed() -> None:
    waiting = (*TWO_CALLS, gated("a", "ask"), asks("a"), gated("b", "deny"), PARKED)
    assert decide(running(*waiting), fits) is None
    assert decide(running(*waiting, RESUMED), fits) == Settle(("a",))


def test_a_finished_run_asks_for_nothing() -> None:
    assert decide(running(request(), said("hi"), FINISHED), fits) is None


# --- model calls ---


def test_a_run_begins_with_the_first_model_call() -> None:
    assert decide(running(), fits) == CallModel(1)


@pytest.mark.parametrize("turn", [1, 2])
def test_a_model_call_that_was_lost_on_the_way_is_made_again_as_the_same_turn(turn: int) -> None:
    first = (request(), said("", calls=1), proposed("a"), begun("a"), result("a"))
    view = running(*(first if turn == 2 else ()), request(turn))
    assert decide(view, fits) == CallModel(turn)


def test_results_are_sent_to_the_model_once_all_calls_are_settled() -> None:
    started = (*TWO_CALLS, gated("a"), begun("a"), gated("b"), begun("b"))
    assert decide(running(*started), fits) == Settle(("a", "b"))
    assert decide(running(*started, result("b")), fits) == Settle(("a",))
    assert decide(running(*started, result("b"), result("a")), fits) == CallModel(2)


@pytest.mark.parametrize(
    "open_end",
    [(), (gated("b"),), (gated("b"), begun("b")), (gated("b", "ask"), asks("b"))],
    ids=["proposed", "allowed", "started", "asked"],
)
def test_a_run_cannot_end_while_a_call_is_unsettled(open_end: tuple[TapeEvent, ...]) -> None:
    text_and_calls = (request(), said("I am done", calls=2), proposed("a"), proposed("b"))
    view = running(*text_and_calls, gated("a", "deny"), *open_end)
    assert decide(view, fits) == Settle(("b",))


def test_a_granted_call_is_still_to_be_settled() -> None:
    view = running(*TWO_CALLS, gated("a", "deny"), gated("b", "ask"), asks("b"), decided("b", "granted"))
    assert decide(view, fits) == Settle(("b",))


def test_a_refused_call_is_an_outcome_that_the_model_hears_of() -> None:
    view = running(*TWO_CALLS, gated("a", "deny"), gated("b", "ask"), asks("b"), decided("b", "expired"))
    assert decide(view, fits) == CallModel(2)


# --- the final answer ---


def test_an_answer_that_keeps_the_contract_ends_the_run() -> None:
    assert decide(running(request(), said("42")), fits) == Finish(said("42"))


def test_the_answer_is_what_is_checked() -> None:
    seen: list[str] = []

    def check(answer: str) -> str:
        seen.append(answer)
        return ""

    decide(running(request(), said('{"a": 1}')), check)
    assert seen == ['{"a": 1}']


@pytest.mark.parametrize("empty", ["", " \n\t"])
def test_an_empty_answer_is_corrected_once_and_then_fails_the_run(empty: str) -> None:
    first = (request(), said(empty))
    step = decide(running(*first), fits)
    assert isinstance(step, Correct)
    assert "the answer is empty" in step.text
    corrected = (*first, Correction(step.text))
    assert decide(running(*corrected), fits) == CallModel(2)
    second = (*corrected, request(2), said(empty, 2))
    assert decide(running(*second), fits) == Fail(FINAL_ANSWER_CONTRACT, "the answer is empty")


def test_an_answer_against_its_schema_is_corrected_once_and_then_fails_the_run() -> None:
    first = (request(), said("no JSON"))
    step = decide(running(*first), never_fits)
    assert isinstance(step, Correct)
    assert "it is no JSON" in step.text
    second = (*first, Correction(step.text), request(2), said("still none", 2))
    assert decide(running(*second), never_fits) == Fail(FINAL_ANSWER_CONTRACT, "it is no JSON")
    assert decide(running(*second), fits) == Finish(said("still none", 2))


def test_tool_calls_after_a_correction_do_not_spend_the_second_chance() -> None:
    corrected = (request(), said(""), Correction("again"))
    looked = (request(2), said("", 2, calls=1), proposed("a"), begun("a"), result("a"))
    assert decide(running(*corrected, *looked), fits) == CallModel(3)
    assert decide(running(*corrected, *looked, request(3), said("42", 3)), fits) == Finish(said("42", 3))
    assert decide(running(*corrected, *looked, request(3), said("", 3)), fits) == Fail(
        FINAL_ANSWER_CONTRACT, "the answer is empty"
    )


# --- failures and limits ---


def test_a_failed_model_call_ends_the_run() -> None:
    view = running(request(), ProviderError(1, "auth", "the key was refused"))
    assert decide(view, fits) == Fail("provider_auth", "the key was refused")


def test_the_turn_beyond_the_limit_is_not_taken() -> None:
    limits = Limits(turns=2)
    first = (request(), said("", calls=1), proposed("a"), begun("a"), result("a"))
    second = (request(2), said("", 2, calls=1), proposed("b"), begun("b"), result("b"))
    assert decide(running(*first, limits=limits), fits) == CallModel(2)
    assert decide(running(*first, *second, limits=limits), fits) == Fail(
        "limit_turns", "the run reached its limit of 2 turns, " + limit_source("turns"), "turns", 2
    )


def test_an_answer_in_the_last_turn_still_counts() -> None:
    assert decide(running(request(), said("42"), limits=Limits(turns=1)), fits) == Finish(said("42"))


def test_a_correction_takes_a_turn() -> None:
    view = running(request(), said(""), Correction("again"), limits=Limits(turns=1))
    assert decide(view, fits) == Fail(
        "limit_turns", f"the run reached its limit of 1 turns, {limit_source('turns')}", "turns", 1
    )


def test_calls_beyond_the_limit_are_not_run_and_it_is_said_where_the_limit_is_set() -> None:
    assert decide(running(*TWO_CALLS, limits=Limits(tool_calls=2)), fits) == Settle(("a", "b"))
    assert decide(running(*TWO_CALLS, limits=Limits(tool_calls=1)), fits) == Fail(
        "limit_tool_calls",
        "the run reached its limit of 1 tool calls, set by the agent or by limits.tool_calls of the configuration",
        "tool_calls",
        1,
    )


def test_a_limit_that_is_on_the_tape_ends_the_run() -> None:
    step = decide(running(request(), LimitReached("active_s", 30)), fits)
    assert isinstance(step, Fail)
    assert (step.reason, step.limit, step.value) == ("limit_active_s", "active_s", 30)


# --- the law ---


@given(legal_tapes(), st.integers(0, 60), st.booleans())
def test_decide_changes_nothing_and_ends_a_run_only_when_all_is_settled(
    tape: list[TapeEvent], cut: int, good: bool
) -> None:
    view = view_of(*tape[:cut])
    step = decide(view, fits if good else never_fits)
    assert view == view_of(*tape[:cut])
    if isinstance(step, Finish):
        assert not view.unsettled()
        assert step.turn.text.strip()
        assert good
    if isinstance(step, Settle):
        assert step.call_ids == view.unsettled() != ()
    assert (step is None) == (view.state is not RunState.RUNNING)


def test_a_view_that_was_never_started_asks_for_nothing() -> None:
    assert decide(RunView(), fits) is None
    assert decide(view_of(asked_for()), fits) is None
