"""What each event does to a run's view, and the laws of folding: prefixes, looking ahead, and order."""

import itertools
from copy import deepcopy

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from palyra_trio.core.codec import EVENT_CLASSES, TapeRow, encode
from palyra_trio.core.errors import JournalInvalid, StateConflict
from palyra_trio.core.file_events import FilesChanged
from palyra_trio.core.messages import Attachment, Message, Usage
from palyra_trio.core.outputs import OutputKept
from palyra_trio.core.run import TRANSITIONS, CallState, RunState
from palyra_trio.core.session_events import SessionOpened
from palyra_trio.core.tape import (
    ApprovalDecided,
    ApprovalRequested,
    CancelRequested,
    Correction,
    FinalAnswer,
    HostContacted,
    KillReceipt,
    LimitReached,
    ModelDelta,
    ProviderAttempt,
    ProviderError,
    RunFinished,
    RunInterrupted,
    StatusChange,
    TapeEvent,
    ToolFinished,
    ToolOutput,
    run_stream,
)
from palyra_trio.core.view import _STEPS, RunView, fold, fold_rows, loose_ends
from tests.core.instances import required
from tests.core.tapes import (
    ASSEMBLED,
    DONE,
    FAILED,
    FINISHED,
    PARKED,
    QUEUED,
    RESUMED,
    ROUTED,
    RUNNING,
    STARTED,
    WAITING,
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

STREAM = run_stream("R")
ONLY_WATCHED_ON_A_RUN: tuple[type[TapeEvent], ...] = (
    RunInterrupted,
    ModelDelta,
    ProviderAttempt,
    ToolOutput,
    KillReceipt,
    FilesChanged,
    HostContacted,
    OutputKept,
)
ABOUT_NO_RUN = tuple(cls for cls in EVENT_CLASSES if cls.kind >= SessionOpened.kind)


def rows_of(events: list[TapeEvent]) -> list[TapeRow]:
    return [
        TapeRow(seq, STREAM, seq, event.kind, 0, encode(event), bytes(32)) for seq, event in enumerate(events, start=1)
    ]


# --- the life of a run ---


def test_an_input_opens_the_transcript() -> None:
    picture = Attachment("a.png", "image/png", 3, "ab")
    view = view_of(asked_for("look", attachments=(picture,)))
    assert view.state is QUEUED
    assert view.messages == [Message("user", "look", attachments=(picture,))]
    assert view.input is not None
    assert view.input.text == "look"


def test_a_status_change_moves_the_run_and_says_why_it_waits() -> None:
    view = running(PARKED)
    assert (view.state, view.reason) == (WAITING, "approval")
    fold(view, RESUMED)
    assert (view.state, view.reason) == (RUNNING, "")


def test_a_finished_run_is_terminal() -> None:
    view = running(request(), said("42"), FinalAnswer("42", "scripted", "m"), FINISHED)
    assert view.terminal
    assert view.finished == FINISHED
    assert view.answer == FinalAnswer("42", "scripted", "m")
    assert not running().terminal


@pytest.mark.parametrize(("before", "after"), list(itertools.product(RunState, repeat=2)))
def test_a_run_moves_only_as_the_table_says(before: RunState, after: RunState) -> None:
    for event in (StatusChange(before, after), RunFinished(before, after, "reason")):
        view = RunView(state=before)
        if after in TRANSITIONS[before]:
            assert fold(view, event).state is after
        else:
            with pytest.raises(StateConflict, match=f"cannot move from {before} to {after}"):
                fold(view, event)
            assert view.state is before


def test_a_move_from_another_state_than_the_views_is_refused() -> None:
    with pytest.raises(StateConflict, match="a run that is running cannot move from waiting to running"):
        running(RESUMED)
    with pytest.raises(StateConflict):
        running(FINISHED, FINISHED)


def test_who_cancelled_which_limit_and_which_failure_are_known() -> None:
    assert running(CancelRequested("user:bob")).cancelled_by == "user:bob"
    assert running(LimitReached("turns", 5)).limit == LimitReached("turns", 5)
    failed = running(request(), ProviderError(1, "auth", "no key"))
    assert failed.failure == ProviderError(1, "auth", "no key")
    assert not failed.in_model_call


# --- model turns ---


def test_the_routing_and_the_context_are_known() -> None:
    view = running()
    assert (view.routing, view.context, view.requested) == (ROUTED, ASSEMBLED, 2)


def test_a_request_begins_a_model_call_and_counts_what_it_sent() -> None:
    view = running(request(1, 2, "cc", "dd"))
    assert (view.turn, view.in_model_call, view.requested) == (1, True, 4)
    fold(view, said("hi"))
    assert not view.in_model_call


def test_usage_adds_up_over_the_turns() -> None:
    assert running(request(), said("a"), Correction("no"), request(2), said("b", 2)).usage == Usage(20, 2, 4)


def test_a_turn_without_calls_is_an_answer_at_once() -> None:
    assert running(request(), said("hi")).messages[1:] == [Message("assistant", "hi")]


def test_a_correction_is_told_to_the_model_and_counted() -> None:
    view = running(request(), said(""), Correction("say something"))
    assert view.messages[-1] == Message("user", "say something")
    assert view.corrections == 1


# --- tool calls ---


@pytest.mark.parametrize("order", list(itertools.permutations("abc")))
def test_results_stand_in_the_order_of_the_proposals_whatever_finished_first(order: tuple[str, ...]) -> None:
    view = running(request(), said("let me see", calls=3), *map(proposed, "abc"))
    for call_id in "abc":
        fold(fold(view, gated(call_id)), begun(call_id))
    for count, call_id in enumerate(order, start=1):
        assert len(view.messages) == 1
        assert view.unsettled() == tuple(each for each in "abc" if each not in order[: count - 1])
        fold(view, result(call_id))
    calls = tuple(proposed(call_id).call for call_id in "abc")
    assert view.messages[1:] == [
        Message("assistant", "let me see", calls),
        *(Message("tool", f"result of {call_id}", call_id=call_id) for call_id in "abc"),
    ]


def test_a_batch_stays_open_while_one_of_its_calls_is_still_to_be_proposed() -> None:
    view = running(request(), said("", calls=2), proposed("a"), gated("a", "deny"))
    assert len(view.messages) == 1
    fold(fold(view, proposed("b")), gated("b", "deny"))
    assert [message.role for message in view.messages[1:]] == ["assistant", "tool", "tool"]


def test_a_denied_call_is_answered_with_the_policys_reason() -> None:
    view = running(request(), said("", calls=1), proposed("a"), gated("a", "deny"))
    assert view.calls["a"].state is CallState.DENIED
    assert view.messages[-1] == Message("tool", "Refused by policy: because", call_id="a")


@pytest.mark.parametrize(
    ("outcome", "reason", "answer"),
    [
        ("denied", "not that file", "Refused (denied): not that file"),
        ("expired", "", "Refused (expired): no reason was given"),
        ("withdrawn", "the run ended", "Refused (withdrawn): the run ended"),
    ],
)
def test_a_call_that_was_not_granted_is_answered_with_the_outcome(outcome: str, reason: str, answer: str) -> None:
    view = running(request(), said("", calls=1), proposed("a"), gated("a", "ask"), asks("a"))
    assert (view.calls["a"].asked, view.calls["a"].waits) == (asks("a"), True)
    assert view.unsettled() == ("a",)
    fold(view, decided("a", outcome, reason))
    assert view.messages[-1] == Message("tool", answer, call_id="a")
    assert view.unsettled() == ()
    assert view.calls["a"].granted is None


def test_a_granted_call_is_allowed_and_still_has_to_run() -> None:
    view = running(request(), said("", calls=1), proposed("a"), gated("a", "ask"), asks("a"), decided("a", "granted"))
    call = view.calls["a"]
    assert (call.allowed, call.state, call.settled, call.waits) == (True, CallState.ASKED, False, False)
    assert call.granted == decided("a", "granted")
    fold(view, begun("a"))
    assert (call.state, call.started) == (CallState.STARTED, begun("a"))


def test_a_granted_call_that_asks_anew_waits_again_and_only_the_newest_question_is_answered() -> None:
    again = ApprovalRequested("A2", "a", "And now?")
    view = running(*ASKED, decided("a", "granted"), gated("a", "ask"), again)
    call = view.calls["a"]
    assert (call.asked, call.granted, call.waits, view.can_go_on) == (again, None, True, False)
    with pytest.raises(StateConflict, match="does not wait for approval 'A-a'"):
        fold(view, decided("a", "granted"))
    fold(view, ApprovalDecided("A2", "a", "granted", "user:alice"))
    assert (call.waits, view.can_go_on) == (False, True)


def test_a_granted_call_that_the_policies_refuse_now_is_settled() -> None:
    view = running(*ASKED, decided("a", "granted"), gated("a", "deny"))
    assert (view.calls["a"].state, view.calls["a"].allowed) == (CallState.DENIED, False)
    assert view.messages[-1] == Message("tool", "Refused by policy: because", call_id="a")


@pytest.mark.parametrize(
    ("events", "waiting", "can_go_on"),
    [
        ((), (), True),
        ((gated("a", "ask"), asks("a")), ("a",), True),
        ((gated("a", "ask"), asks("a"), gated("b", "ask"), asks("b")), ("a", "b"), False),
        ((gated("a", "ask"), asks("a"), gated("b", "deny")), ("a",), False),
        ((gated("a", "ask"), asks("a"), gated("b"), begun("b")), ("a",), True),
        ((gated("a", "ask"), asks("a"), gated("b", "ask"), asks("b"), decided("b", "granted")), ("a",), True),
        ((gated("a", "ask"), asks("a"), gated("b", "ask"), asks("b"), decided("b", "denied")), ("a",), False),
        ((gated("a", "deny"), gated("b", "deny")), (), True),
    ],
)
def test_a_run_can_go_on_unless_every_call_that_is_left_waits_for_a_person(
    events: tuple[TapeEvent, ...], waiting: tuple[str, ...], can_go_on: bool
) -> None:
    view = running(request(), said("", calls=2), *map(proposed, "ab"), *events)
    assert (view.waiting(), view.can_go_on) == (waiting, can_go_on)


def test_the_context_or_a_result_taints_a_run_for_good() -> None:
    assert not running().tainted
    tainted = attrs.evolve(ASSEMBLED, tainted=True)
    assert view_of(asked_for(), STARTED, ROUTED, tainted, request()).tainted
    stranger = attrs.evolve(result("a"), untrusted=True)
    view = running(request(), said("", calls=2), *map(proposed, "ab"), begun("a"), stranger)
    fold(fold(view, begun("b")), result("b"))
    assert view.tainted


def test_a_run_that_ends_withdraws_what_is_asked_and_stops_what_has_begun() -> None:
    view = running(request(), said("", calls=4), *map(proposed, "abcd"), gated("a", "ask"), asks("a"), begun("b"))
    for event in (gated("c", "ask"), asks("c"), decided("c", "granted")):
        fold(view, event)
    assert loose_ends(view, "cancelled") == [
        ApprovalDecided("A-a", "a", "withdrawn", "run", "the run ended"),
        ToolFinished("b", "Stopped: the run ended (cancelled).", 0, "stopped"),
    ]


def test_calls_are_counted_over_all_turns() -> None:
    first = (request(), said("", calls=2), *map(proposed, "ab"), gated("a", "deny"), gated("b", "deny"))
    view = running(*first, request(2), said("", 2, calls=1), proposed("c"))
    assert view.tool_calls == 3
    assert view.batch == ["c"]
    assert list(view.calls) == ["a", "b", "c"]


CALL = (request(), said("", calls=1), proposed("a"))
ASKED = (*CALL, gated("a", "ask"), asks("a"))


@pytest.mark.parametrize(
    ("before", "event"),
    [
        (CALL, proposed("a")),
        (CALL, gated("b")),
        (CALL, asks("b")),
        (CALL, decided("b", "granted")),
        (CALL, begun("b")),
        (CALL, result("b")),
        (CALL, result("a")),
        (CALL, decided("a", "granted")),
        (CALL, decided("a", "denied")),
        (ASKED, attrs.evolve(decided("a", "granted"), approval_id="A-b")),
        ((*ASKED, decided("a", "denied")), decided("a", "granted")),
        ((*CALL, gated("a", "deny")), gated("a")),
        ((*CALL, begun("a")), gated("a", "ask")),
        ((*CALL, gated("a", "deny")), begun("a")),
        ((*CALL, begun("a")), begun("a")),
        ((*CALL, begun("a")), gated("a", "deny")),
        ((*CALL, begun("a"), result("a")), result("a")),
        ((*CALL, begun("a"), result("a"), request(2), said("", 2, calls=1), proposed("b")), gated("a")),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, TapeEvent) else None,
)
def test_what_cannot_happen_to_a_call_is_refused(before: tuple[TapeEvent, ...], event: TapeEvent) -> None:
    view = running(*before)
    untouched = deepcopy(view)
    with pytest.raises(StateConflict):
        fold(view, event)
    assert view == untouched


# --- the laws ---


@pytest.mark.parametrize("cls", ONLY_WATCHED_ON_A_RUN + ABOUT_NO_RUN, ids=lambda cls: cls.__name__)
def test_an_event_that_is_only_watched_changes_nothing(cls: type[TapeEvent]) -> None:
    view = running(request())
    assert fold(view, cls(**required(cls))) == running(request())


def test_every_kind_of_a_run_either_moves_the_view_or_is_known_not_to() -> None:
    of_a_run = set(EVENT_CLASSES) - set(ABOUT_NO_RUN)
    assert set(_STEPS) == of_a_run - set(ONLY_WATCHED_ON_A_RUN)


@given(legal_tapes(), st.data())
def test_folding_a_prefix_and_then_the_rest_is_folding_all(tape: list[TapeEvent], data: st.DataObject) -> None:
    rows = rows_of(tape)
    cut = data.draw(st.integers(0, len(rows)))
    whole = fold_rows(RunView(), rows)
    assert fold_rows(fold_rows(RunView(), rows[:cut]), rows[cut:]) == whole
    assert whole == attrs.evolve(view_of(*tape), seq=len(tape))


@given(legal_tapes(), st.data())
def test_looking_ahead_is_folding_and_leaves_the_view_as_it_was(tape: list[TapeEvent], data: st.DataObject) -> None:
    start = data.draw(st.integers(0, len(tape)))
    end = data.draw(st.integers(start, len(tape)))
    view = view_of(*tape[:start])
    before = deepcopy(view)
    ahead = view.ahead(tape[start:end])
    assert ahead == view_of(*tape[:end])
    assert view == before


@given(legal_tapes(), st.data())
def test_a_view_that_moves_on_does_not_change_what_was_looked_ahead(tape: list[TapeEvent], data: st.DataObject) -> None:
    start = data.draw(st.integers(0, len(tape) - 1))
    view = view_of(*tape[:start])
    ahead = view.ahead(tape[start : start + 1])
    kept = deepcopy(ahead)
    for event in tape[start:]:
        fold(view, event)
    assert ahead == kept


def test_looking_ahead_at_nothing_is_the_view_itself() -> None:
    view = running()
    assert view.ahead([]) is view


@given(legal_tapes())
def test_a_transcript_answers_every_call_that_it_shows_in_order(tape: list[TapeEvent]) -> None:
    view = view_of(*tape)
    shown = [call.call_id for message in view.messages for call in message.calls]
    answered = [message.call_id for message in view.messages if message.role == "tool"]
    assert shown == answered == list(view.calls)


# --- rows ---


@given(legal_tapes(), st.data())
def test_whatever_rows_are_erased_the_rest_is_told_and_no_call_is_shown_without_its_answer(
    tape: list[TapeEvent], data: st.DataObject
) -> None:
    erased = data.draw(st.sets(st.integers(0, len(tape) - 1)))
    rows = [row._replace(body=None) if at in erased else row for at, row in enumerate(rows_of(tape))]
    view = fold_rows(RunView(), rows)
    shown = [call.call_id for message in view.messages for call in message.calls]
    answered = [message.call_id for message in view.messages if message.role == "tool"]
    assert shown == answered
    assert len(set(shown)) == len(shown)
    ends = [at for at, event in enumerate(tape) if isinstance(event, RunFinished)]
    assert view.terminal == bool(ends and not erased.intersection(ends))


def test_a_fold_without_the_deltas_is_the_same_view() -> None:
    rows = rows_of([asked_for(), STARTED, request(), ModelDelta(1, "h"), ModelDelta(1, "i"), said("hi")])
    thin = [row for row in rows if row.kind != ModelDelta.kind]
    assert fold_rows(RunView(), thin) == fold_rows(RunView(), rows)


def test_rows_that_are_out_of_order_or_repeated_are_refused() -> None:
    rows = rows_of([asked_for(), STARTED, ROUTED])
    with pytest.raises(JournalInvalid, match="run:R has seq 2 after 3"):
        fold_rows(RunView(), [rows[0], rows[2], rows[1]])
    with pytest.raises(JournalInvalid, match="seq 1 after 1"):
        fold_rows(RunView(), [rows[0], rows[0]])


def test_a_row_of_an_unknown_kind_only_counts() -> None:
    row = TapeRow(1, STREAM, 1, 250, 0, b'{"v":1}', bytes(32))
    assert fold_rows(RunView(), [row]) == RunView(seq=1)


def test_a_run_that_failed_may_have_been_queued_or_waiting() -> None:
    assert view_of(asked_for(), RunFinished(QUEUED, FAILED, "x")).state is FAILED
    assert running(PARKED, RunFinished(WAITING, FAILED, "x")).state is FAILED
    with pytest.raises(StateConflict):
        running(PARKED, RunFinished(WAITING, DONE, "final_answer"))
