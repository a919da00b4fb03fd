import json

import pytest

from palyra_trio.cli.open import principal
from palyra_trio.cli.tape import WORDS_CHARACTERS, readable
from palyra_trio.core.codec import TapeRow, encode
from palyra_trio.core.tape import (
    RUN_STREAM,
    Correction,
    ModelDelta,
    TapeEvent,
)
from tests.cli.conftest import RUN, STARTED, Home, Palyra


def rows(*events: TapeEvent) -> list[TapeRow]:
    return [
        TapeRow(seq, RUN_STREAM + RUN, seq, event.kind, 0, encode(event), b"") for seq, event in enumerate(events, 1)
    ]


def said(*events: TapeEvent) -> list[tuple[str, str, str]]:
    """Return of each line its seq, its kind and its words."""
    parts = [line.split(None, 3) for line in readable(rows(*events))]
    return [(part[0], part[2], part[3] if len(part) > 3 else "") for part in parts]


def test_a_tape_is_read_in_order_an_event_a_line(palyra: Palyra, home: Home) -> None:
    home.record_whole_run()
    result = palyra("tape", "last")
    lines = [line.split(None, 3) for line in result.stdout.splitlines()]
    assert [line[0] for line in lines] == [*map(str, range(1, 13)), "13-14", "15", "16", "17"]
    assert lines[0][2:] == ["Input", f"{principal()} over cli, agent default: do it"]
    assert lines[-1][2:] == ["RunFinished", "done (final_answer)"]
    assert RUN in result.stderr


def test_pieces_of_one_turn_are_one_line_and_those_of_another_are_not() -> None:
    deltas = (ModelDelta(1, "Hel"), ModelDelta(1, "lo"), ModelDelta(2, "a"), Correction("x"), ModelDelta(2, "b"))
    assert said(*deltas) == [
        ("1-2", "ModelDelta", "turn 1: Hello"),
        ("3", "ModelDelta", "turn 2: a"),
        ("4", "Correction", "x"),
        ("5", "ModelDelta", "turn 2: b"),
    ]


def test_what_would_deceive_a_reader_is_spelled_out_on_its_one_line() -> None:
    (line,) = said(Correction("a\x1b[2J\u202e\nb"))
    assert line[2] == "a\\u001b[2J\\u202e ⏎ b"


def test_a_long_text_is_cut() -> None:
    ((_, _, text),) = said(Correction("x" * 10_000))
    assert len(text) == WORDS_CHARACTERS
    ((_, _, text),) = said(ModelDelta(1, "x" * 10_000), ModelDelta(1, "y" * 10_000))
    assert len(text) == WORDS_CHARACTERS


def test_jsonl_is_every_event_whole(palyra: Palyra, home: Home) -> None:
    home.record_whole_run()
    events = [json.loads(line) for line in palyra("tape", RUN, "--jsonl").stdout.splitlines()]
    assert [event["seq"] for event in events] == list(range(1, len(events) + 1))
    assert [event["body"]["text"] for event in events if event["kind"] == "ModelDelta"] == ["It is ", "done."]
    assert events[0]["stream"] == f"run:{RUN}"


def test_a_tape_can_be_read_from_a_place_and_by_kind(palyra: Palyra, home: Home) -> None:
    home.record_whole_run()
    everything = palyra("tape", RUN, "--jsonl").stdout.splitlines()
    assert palyra("tape", RUN, "--jsonl", "--after", "3").stdout.splitlines() == everything[3:]
    assert palyra("tape", RUN, "--jsonl", "--after", str(len(everything))).stdout == ""
    lines = palyra("tape", RUN, "--kind", "toolfinished", "--kind", "ToolStarted").stdout.splitlines()
    assert [line.split()[2] for line in lines] == ["ToolStarted", "ToolFinished"]


@pytest.mark.parametrize("options", [(), ("--jsonl",), ("--after", "3"), ("--kind", "toolfinished")])
def test_following_a_run_that_has_ended_shows_what_there_is(
    palyra: Palyra, home: Home, options: tuple[str, ...]
) -> None:
    home.record_whole_run()
    followed, read = palyra("tape", RUN, "--follow", *options), palyra("tape", RUN, *options)
    assert (followed.exit_code, followed.stdout, followed.stderr) == (0, read.stdout, read.stderr)
    assert followed.stdout


def test_following_a_run_that_nobody_runs_says_so(palyra: Palyra, home: Home) -> None:
    home.record_run(*STARTED)
    result = palyra("tape", RUN, "--follow")
    assert (result.exit_code, result.stdout) == (0, palyra("tape", RUN).stdout)
    assert f"run {RUN} is interrupted: nobody runs it now" in result.stderr


def test_a_place_that_the_tape_has_not_reached_is_refused(palyra: Palyra, home: Home) -> None:
    home.record_run()
    result = palyra("tape", RUN, "--after", "2")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "has 1 rows, not 2" in result.stderr


@pytest.mark.parametrize(("text", "status"), [("last", 1), (RUN, 1), ("no-id", 2)])
def test_the_tape_of_another_cannot_be_read(palyra: Palyra, home: Home, text: str, status: int) -> None:
    home.record_run(by="user:somebody-else")
    result = palyra("tape", text)
    assert (result.exit_code, result.stdout) == (status, "")


def test_there_is_no_tape_before_the_first_run(palyra: Palyra) -> None:
    result = palyra("tape", "last")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "nothing has run yet" in result.stderr
