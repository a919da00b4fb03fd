import pytest

from palyra_trio.core.codec import EVENT_CLASSES, TapeRow, encode
from palyra_trio.core.event_words import _WORDS, words
from palyra_trio.core.messages import ToolCall, Usage
from palyra_trio.core.tape import ApprovalDecided, Correction, ModelTurn, ProviderRequest, TapeEvent, ToolProposed


def said(event: TapeEvent) -> str:
    row = TapeRow(1, "run:x", 1, event.kind, 0, encode(event), b"")
    return words(row, row.event())


def test_every_kind_of_event_of_a_run_has_its_words() -> None:
    of_runs = {cls for cls in EVENT_CLASSES if cls.kind < 64}
    assert set(_WORDS) == of_runs


def test_arguments_that_were_no_json_are_shown_as_they_came() -> None:
    assert said(ToolProposed(ToolCall("c1", "t", malformed="{oops"))) == "c1: t {oops"


@pytest.mark.parametrize(
    ("decided", "told"),
    [
        (ApprovalDecided("a", "c1", "granted", "me"), "c1: granted by me"),
        (ApprovalDecided("a", "c1", "granted", "me", "", "session"), "c1: granted for the session by me"),
        (ApprovalDecided("a", "c1", "granted", "me", "", "time", 1), "c1: granted for a time by me"),
        (ApprovalDecided("a", "c1", "denied", "me", "not now"), "c1: denied by me (not now)"),
    ],
)
def test_a_decision_says_for_how_long_by_whom_and_why(decided: ApprovalDecided, told: str) -> None:
    assert said(decided) == told


def test_what_is_counted_agrees_with_its_number() -> None:
    told = [said(ModelTurn(1, "", "stop", Usage(), "m", calls)) for calls in (1, 2)]
    assert [each.split(", ")[1] for each in told] == ["1 call", "2 calls"]
    assert said(ProviderRequest(1, 1, (), "t")) == "turn 1: 1 message, 0 of them new"


def test_an_erased_body_and_an_unknown_kind_are_said_to_be_that() -> None:
    erased = TapeRow(1, "run:x", 1, Correction.kind, 0, None, b"")
    assert words(erased, erased.event()) == "(erased)"
    unknown = TapeRow(1, "run:x", 1, 999, 0, b"{}", b"")
    assert "this version does not know" in words(unknown, unknown.event())
