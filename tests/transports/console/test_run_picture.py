"""What a run's page says, row by row."""

import attrs

from palyra_trio.core.codec import TapeRow, encode
from palyra_trio.core.messages import Usage
from palyra_trio.core.run import RunState
from palyra_trio.core.tape import FileChange, KillReceipt, ProviderError, RunFinished, StatusChange, TapeEvent
from palyra_trio.transports.console.run_picture import RunPicture
from tests.core.tapes import (
    ASSEMBLED,
    PARKED,
    RESUMED,
    ROUTED,
    STARTED,
    asked_for,
    asks,
    begun,
    decided,
    gated,
    proposed,
    request,
    result,
    said,
)

BEGUN = (asked_for("do it\nwell"), STARTED, ROUTED, ASSEMBLED, request())
ASKED = (*BEGUN, said("", 1, 2), proposed("a"), proposed("b"), gated("a"), gated("b", "ask"), begun("a"), result("a"))


def picture(*events: TapeEvent) -> RunPicture:
    rows = [TapeRow(n, "run:R", n, each.kind, n * 1000, encode(each), b"") for n, each in enumerate(events, 1)]
    return RunPicture("R").add(rows)


def test_a_run_that_thinks_waits_for_its_model_and_its_turn_goes_on() -> None:
    found = picture(*BEGUN)
    assert (found.word, found.title, found.model, found.turns) == ("running", "do it", "scripted/m", 1)
    assert [each.what for each in found.waits()] == ["the answer of scripted/m"]
    assert [(each.name, each.going_on) for each in found.items] == [("turn 1", True)]


def test_calls_have_their_times_and_what_was_not_allowed_its_words() -> None:
    found = picture(*ASKED, asks("b"), PARKED)
    assert (found.word, found.calls, found.allowed, found.usage) == ("waiting", 2, 1, Usage(10, 1, 2))
    assert [(each.name, each.going_on) for each in found.items[1:]] == [("files.read", False), ("files.read", True)]
    assert found.items[1].took_ms("tool", 0) == 1000
    (question,) = found.questions()
    assert (question.approval_id, question.prompt) == ("A-b", "May it?")
    (verdict,) = found.verdicts.values()
    assert (verdict.word, verdict.said) == ("asked", ["ask: because"])


def test_an_answer_ends_the_question_and_is_told() -> None:
    granted = picture(*ASKED, asks("b"), PARKED, decided("b", "granted"), RESUMED, gated("b"), begun("b"), result("b"))
    assert granted.questions() == ()
    (verdict,) = granted.verdicts.values()
    assert (verdict.word, verdict.said[1:]) == ("done", ["granted by user:alice (once)"])
    assert granted.items[2].took_ms("asked", 0) == 2000
    denied = picture(*ASKED, asks("b"), PARKED, decided("b", "denied", "no"))
    assert next(iter(denied.verdicts.values())).word == "denied"
    assert denied.items[2].outcome == "denied"


def test_an_ended_run_waits_for_nothing_and_nothing_of_it_goes_on() -> None:
    error = ProviderError(1, "network", "no route")
    failed = picture(*BEGUN, error, RunFinished(RunState.RUNNING, RunState.FAILED, "provider", "no route"))
    assert (failed.ended, failed.detail, failed.waits()) == (True, "no route", ())
    assert (failed.items[0].outcome, failed.items[0].failed) == ("network", True)
    cut = picture(*ASKED, asks("b"), PARKED, RunFinished(RunState.WAITING, RunState.CANCELLED, "cancelled"))
    assert cut.questions() == ()
    assert not any(each.going_on for each in cut.items)


def test_an_interrupted_run_is_called_that_and_asks_nothing() -> None:
    cut = picture(*BEGUN, StatusChange(RunState.RUNNING, RunState.WAITING, "interrupted"))
    assert (cut.word, cut.waits(), cut.questions()) == ("interrupted", (), ())
    assert not cut.items[0].going_on


def test_files_and_killed_processes_are_counted() -> None:
    change = FileChange("a.txt", None, "00" * 32)
    wrote = attrs.evolve(begun("b"), changes=(change,))
    found = picture(*ASKED, gated("b"), wrote, KillReceipt("b", 3, 0, 5), result("b"))
    assert (found.changes().told, found.killed, found.survivors) == ((change,), 3, 0)


def test_a_tape_of_which_a_part_was_erased_is_told_as_far_as_it_goes() -> None:
    events = (*ASKED, RunFinished(RunState.RUNNING, RunState.DONE, "final_answer"))
    for gone in range(1, len(events) + 1):
        rows = [
            TapeRow(n, "run:R", n, each.kind, n, None if n == gone else encode(each), b"")
            for n, each in enumerate(events, 1)
        ]
        found = RunPicture("R").add(rows)
        assert found.seq == len(events)
        found.waits()
