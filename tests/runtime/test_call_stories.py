"""What became of each call, read off a tape."""

import pytest

from palyra_trio.core.codec import TapeRow, encode
from palyra_trio.core.errors import NotFound
from palyra_trio.core.messages import ToolCall
from palyra_trio.core.tape import (
    ApprovalDecided,
    ApprovalRequested,
    FinalAnswer,
    PolicyDecision,
    TapeEvent,
    ToolFinished,
    ToolProposed,
    ToolStarted,
)
from palyra_trio.runtime.call_stories import Event, call_stories, in_words

WRITES, READS = ToolCall("c1", "files.write", {"path": "a"}), ToolCall("c2", "files.read", {"path": "b"})
EVENTS: list[TapeEvent] = [
    ToolProposed(WRITES),
    ToolProposed(READS),
    PolicyDecision("c1", "ask", "write-in-workspace", "a person decides", ""),
    PolicyDecision("c2", "allow", "read-in-workspace", "it only reads", ""),
    ApprovalRequested("a1", "c1", "May it?"),
    ToolStarted("c2", "key"),
    ToolFinished("c2", "text", 3),
    ApprovalDecided("a1", "c1", "granted", "user:me"),
    PolicyDecision("c1", "allow", "write-in-workspace", "user:me allowed (once)", ""),
    ToolStarted("c1", "key", grant="a1"),
    ToolFinished("c1", "wrote", 4),
    FinalAnswer("done", "p", "m"),
]
ROWS = [TapeRow(seq, "run:r", seq, event.kind, seq * 10, encode(event), b"") for seq, event in enumerate(EVENTS, 1)]


def test_each_call_has_its_own_steps_in_order() -> None:
    first, second = call_stories(ROWS)
    assert (first.call, second.call) == (WRITES, READS)
    assert [step.seq for step in first.steps] == [3, 5, 8, 9, 10, 11]
    assert [step.event for step in second.steps] == [EVENTS[3], EVENTS[5], EVENTS[6]]
    assert first.steps[0].at_ms == 30
    assert [each.outcome for each in first.decisions] == ["ask", "allow"]


def test_one_call_can_be_asked_for() -> None:
    (story,) = call_stories(ROWS, "c2")
    assert story.call == READS


def test_a_call_that_is_not_there_is_refused_with_those_that_are() -> None:
    with pytest.raises(NotFound) as refused:
        call_stories(ROWS, "c3")
    assert refused.value.remedy == "it has c1, c2"
    assert call_stories([]) == ()


@pytest.mark.parametrize(
    ("event", "words"),
    [
        (PolicyDecision("c", "deny", "rule", "it is too far", "00"), "deny: it is too far"),
        (ApprovalRequested("A", "c", "May it?"), "a person is asked"),
        (ApprovalRequested("A", "c", "Which?", question=True), "a person is asked a question"),
        (ApprovalDecided("A", "c", "granted", "user:me", scope="session"), "granted by user:me (session)"),
        (ApprovalDecided("A", "c", "denied", "user:me", "no"), "denied by user:me: no"),
        (ToolStarted("c", "k", grant="G"), "started under G"),
        (ToolFinished("c", "", 7, "timeout"), "failed (timeout) after 7 ms"),
        (ToolFinished("c", "", 7), "done after 7 ms"),
    ],
)
def test_each_step_has_its_words(event: Event, words: str) -> None:
    assert in_words(event) == words
