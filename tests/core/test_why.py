"""What a run waits for, at each point of its life."""

import attrs

from palyra_trio.core.codec import TapeRow, encode
from palyra_trio.core.tape import CancelRequested, RunFinished, TapeEvent
from palyra_trio.core.why import Standing, Wait, standing, waits_of
from tests.core.tapes import (
    ASSEMBLED,
    CANCELLED,
    PARKED,
    ROUTED,
    RUNNING,
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

WORKING = Wait("nothing: it is at work", 0)
MODEL = (asked_for(), STARTED, ROUTED, ASSEMBLED, request())
TURN = (*MODEL, said("", 1, 2), proposed("a"), proposed("b"))


def rows(*events: TapeEvent) -> list[TapeRow]:
    """Return the rows of a tape whose event number n, from 1, was recorded at n seconds."""
    return [TapeRow(n, "run:R", n, each.kind, n * 1000, encode(each), b"") for n, each in enumerate(events, 1)]


def test_a_run_in_line_waits_for_its_turn_since_it_was_accepted() -> None:
    (wait,) = waits_of(rows(asked_for()))
    assert (wait.what.partition(":")[0], wait.since_ms, wait.until_ms) == ("its turn", 1000, 0)


def test_a_run_that_thinks_waits_for_its_model_since_it_was_asked() -> None:
    assert waits_of(rows(*MODEL)) == (Wait("the answer of scripted/m", 5000),)


def test_every_open_question_is_told_with_its_deadline_and_how_to_answer() -> None:
    asked = attrs.evolve(asks("a"), tool="files.write", expires_at_ms=90_000)
    question = attrs.evolve(asks("b"), tool="ask_user", question=True)
    found = waits_of(rows(*TURN, gated("a", "ask"), asked, gated("b", "ask"), question, PARKED))
    assert found == (
        Wait("your approval of files.write", 10_000, 90_000, "A-a"),
        Wait("your answer to its question", 12_000, 0, "A-b"),
    )


def test_a_tool_at_work_is_told_with_the_time_that_it_has_and_not_once_it_is_done() -> None:
    started = (*TURN, gated("a"), gated("b"), begun("a"), begun("b"), result("b"))
    (wait,) = waits_of(rows(*started))
    limit_ms = asked_for().agent.limits.tool_s * 1000
    assert wait == Wait("the tool files.read", 11_000, 11_000 + int(limit_ms))


def test_what_was_answered_is_waited_for_no_longer() -> None:
    found = waits_of(rows(*TURN, gated("a", "ask"), asks("a"), gated("b", "deny"), PARKED, decided("a", "granted")))
    assert [attrs.evolve(each, since_ms=0) for each in found] == [WORKING]


def test_a_run_that_has_ended_waits_for_nothing() -> None:
    ended = RunFinished(RUNNING, CANCELLED, "cancelled")
    assert waits_of(rows(*MODEL, CancelRequested("user:alice"), ended)) == ()


def test_how_a_run_stands_is_its_end_or_what_it_waits_for_and_nothing_where_nobody_goes_on_with_it() -> None:
    ended = RunFinished(RUNNING, CANCELLED, "provider_failed", "no answer")
    stands = standing(rows(*TURN, ended), interrupted=False)
    assert (stands, stands.ending) == (Standing("provider_failed", "no answer", ()), "provider_failed: no answer")
    assert standing(rows(*MODEL), interrupted=False) == Standing("", "", (Wait("the answer of scripted/m", 5000),))
    assert standing(rows(*MODEL), interrupted=True) == standing((), interrupted=True) == Standing("", "", ())
    assert Standing("final_answer", "", ()).ending == "final_answer"
