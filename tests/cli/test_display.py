import io
import json
from typing import Any

import pytest

from palyra_trio.cli.display import Lines, Summary, Terminal
from palyra_trio.cli.exit_codes import of_run
from palyra_trio.core.codec import EVENT_CLASSES, TapeRow, encode, json_line
from palyra_trio.core.messages import ToolCall, Usage
from palyra_trio.core.run import RunState
from palyra_trio.core.tape import (
    RUN_STREAM,
    ApprovalDecided,
    ApprovalRequested,
    Correction,
    FinalAnswer,
    LimitReached,
    ModelDelta,
    ModelTurn,
    PolicyDecision,
    ProviderAttempt,
    ProviderError,
    RoutingDecision,
    RunFinished,
    RunInterrupted,
    TapeEvent,
    ToolFinished,
    ToolOutput,
    ToolProposed,
    ToolStarted,
)
from tests.core.instances import required

DONE = RunFinished(RunState.RUNNING, RunState.DONE, "final_answer")
ANSWER = FinalAnswer("It is done.", "openai", "m", usage=Usage(10, 0, 5))
CALL = ToolProposed(ToolCall("c1", "files.read", {"path": "a.txt"}))
ROUTED = RoutingDecision("openai", "m", "it was named")


def row(event: TapeEvent, seq: int = 1) -> TapeRow:
    return TapeRow(seq, RUN_STREAM + "R", seq, event.kind, 0, encode(event), b"\0" * 32)


def shown(*events: TapeEvent, stream: bool = False, color: bool = False, answers: bool = True) -> tuple[str, str]:
    """Return what a terminal display writes to stdout and to stderr."""
    out, err = io.StringIO(), io.StringIO()
    display = Terminal(out if answers else None, err, stream=stream, color=color)
    for seq, event in enumerate(events, 1):
        display.show(row(event, seq), event)
    return out.getvalue(), err.getvalue()


def turn(text: str = "") -> ModelTurn:
    return ModelTurn(1, text, "stop", Usage(), "m")


@pytest.mark.parametrize("cls", EVENT_CLASSES, ids=lambda cls: cls.__name__)
def test_every_kind_of_event_can_be_shown_and_only_answers_go_to_stdout(cls: type[TapeEvent]) -> None:
    event = cls(**required(cls))
    for stream in (False, True):
        out, _ = shown(event, stream=stream)
        assert out == ("" if stream or cls is not FinalAnswer else event.text)  # type: ignore[attr-defined]


def test_a_row_whose_body_was_erased_is_passed_over() -> None:
    out, err = io.StringIO(), io.StringIO()
    Terminal(out, err, stream=True, color=False).show(row(CALL), None)
    assert (out.getvalue(), err.getvalue()) == ("", "")


@pytest.mark.parametrize(
    ("events", "line"),
    [
        ([ROUTED], "model openai/m: it was named"),
        ([CALL, ToolFinished("c1", "four", 3)], '  files.read path="a.txt"  ok  3 ms, 4 bytes'),
        ([CALL, ToolFinished("c1", "x", 2500, "", "d", 20_000)], '  files.read path="a.txt"  ok  2.5 s, 20 kB'),
        ([CALL, ToolFinished("c1", "no such file", 1, "not_found")], "not_found  1 ms: no such file"),
        ([CALL, PolicyDecision("c1", "deny", "r", "it is off", "")], "refused  it is off"),
        ([CALL, ApprovalDecided("a", "c1", "denied", "me", "not now")], "denied  not now"),
        ([CALL, ApprovalDecided("a", "c1", "expired", "clock", "nobody")], "expired  nobody"),
        ([ProviderAttempt(1, 2, "network", "reset", 1500)], "attempt 2 failed (network: reset); again in 1.5 s"),
        ([Correction("say something")], "sent back: say something"),
        ([ProviderError(1, "auth", "bad key", "set another")], "error: bad key\nset another"),
        ([LimitReached("turns", 50)], "limit reached: 50 turns"),
        ([RunInterrupted("b", "shut down")], "interrupted: shut down"),
        ([RunFinished(RunState.RUNNING, RunState.FAILED, "limit_turns", "50 turns")], "failed: 50 turns"),
        ([RunFinished(RunState.RUNNING, RunState.CANCELLED, "cancelled")], "cancelled: cancelled"),
    ],
)
def test_what_happens_is_told_on_stderr(events: list[TapeEvent], line: str) -> None:
    out, err = shown(*events)
    assert out == ""
    assert line + "\n" in err


@pytest.mark.parametrize(
    "event",
    [
        turn("x"),
        ToolStarted("c1", "k"),
        PolicyDecision("c1", "allow", "r", "it reads", ""),
        ApprovalDecided("a", "c1", "granted", "me"),
        DONE,
    ],
)
def test_what_goes_as_it_should_makes_no_line_of_its_own(event: TapeEvent) -> None:
    assert shown(event) == ("", "")


def test_that_no_model_answers_is_said_once() -> None:
    routed = RoutingDecision("offline", "rules", "nothing is configured")
    _, err = shown(routed, routed)
    assert err.count("There is no language model") == 1


def test_the_failure_of_the_provider_is_told_once() -> None:
    failed = RunFinished(RunState.RUNNING, RunState.FAILED, "provider_auth", "the very same words")
    _, err = shown(ProviderError(1, "auth", "the very same words"), failed)
    assert err.count("the very same words") == 1
    assert "failed: provider_auth" in err


def test_off_a_terminal_the_answer_comes_once_and_exactly() -> None:
    answer = FinalAnswer("a\x1b[31mb\u202e\r\n", "p", "m")
    assert shown(ModelDelta(1, "a"), turn("a"), answer, DONE)[0] == answer.text
    assert shown(FinalAnswer("no end", "p", "m"))[0] == "no end\n"


def test_on_a_terminal_the_answer_is_streamed_and_not_repeated() -> None:
    events = [ModelDelta(1, "It is "), ModelDelta(1, "done."), turn("It is done."), ANSWER, DONE]
    assert shown(*events, stream=True) == ("It is done.\n", "")


def test_an_answer_that_came_in_no_pieces_is_shown_on_a_terminal_too() -> None:
    assert shown(turn("It is done."), ANSWER, DONE, stream=True)[0] == "It is done.\n"


def test_a_line_about_a_call_does_not_stick_to_streamed_text() -> None:
    out, err = shown(ModelDelta(1, "Let me look."), CALL, ToolFinished("c1", "x", 1), stream=True)
    assert out == "Let me look.\n"
    assert err.startswith("  files.read")


def test_text_that_ends_its_line_gets_no_empty_one() -> None:
    assert shown(ModelDelta(1, "done\n"), turn("done\n"), ANSWER, stream=True)[0] == "done\n"


HIDING = "a\x1b]0;owned\x07b\x9bc\u202ed\u200be\x08"
SPELLED = "a\\u001b]0;owned\\u0007b\\u009bc\\u202ed\\u200be\\u0008"


@pytest.mark.parametrize(
    "event",
    [
        ModelDelta(1, HIDING),
        turn(HIDING),
        RoutingDecision("p", HIDING, "why"),
        Correction(HIDING),
        ProviderError(1, "auth", HIDING, HIDING),
        ProviderAttempt(1, 1, "network", HIDING, 1),
        RunInterrupted("b", HIDING),
        RunFinished(RunState.RUNNING, RunState.FAILED, "internal", HIDING),
        PolicyDecision(HIDING, "deny", "r", HIDING, ""),
        ApprovalDecided("a", HIDING, "denied", "me", HIDING),
        ToolFinished(HIDING, HIDING, 1, "failed"),
    ],
    ids=lambda event: type(event).__name__,
)
def test_no_text_of_others_reaches_the_terminal_as_more_than_text(event: TapeEvent) -> None:
    out, err = shown(event, stream=True)
    assert SPELLED in out + err
    assert not {"\x1b", "\x07", "\x9b", "\u202e", "\u200b", "\x08"} & set(out + err)


def test_neither_do_the_names_and_arguments_of_a_call() -> None:
    call = ToolProposed(ToolCall("c1", f"t{HIDING}", {HIDING: HIDING}))
    _, err = shown(call, ToolFinished("c1", "x", 1))
    assert not {"\x1b", "\x07", "\x9b", "\u202e", "\u200b", "\x08"} & set(err)
    assert f"t{SPELLED}" in err


def test_long_arguments_are_cut_to_a_line() -> None:
    call = ToolProposed(ToolCall("c1", "files.write", {"text": "x\n" * 10_000}))
    _, err = shown(call, ToolFinished("c1", "x", 1))
    assert err.count("\n") == 1
    assert len(err) < 200


@pytest.mark.parametrize(
    "event",
    [
        ToolProposed(ToolCall("c1", "x\nfiles.write asks: why")),
        PolicyDecision("c1", "deny", "r", "no\nfiles.write asks: why", ""),
        ApprovalDecided("a", "c1", "denied", "me", "no\nfiles.write asks: why"),
    ],
)
def test_no_text_of_a_call_can_pass_for_a_question(event: TapeEvent) -> None:
    _, err = shown(CALL, event, PolicyDecision("c1", "deny", "r", "off", ""))
    assert not any(line.startswith("files.write asks") for line in err.splitlines())


def test_json_hides_nothing_at_a_terminal() -> None:
    class Screen(io.StringIO):
        def isatty(self) -> bool:
            return True

    screen = Screen()
    answer = FinalAnswer("\u009b2J\u202e", "openai", "m")
    for display in (Lines(screen), Summary(screen, of_run)):
        for event in (answer, DONE):
            display.show(row(event), event)
    assert screen.getvalue().isascii()
    assert json.loads(screen.getvalue().splitlines()[-1])["answer"] == answer.text


def test_color_is_used_where_it_is_asked_for() -> None:
    events = [ROUTED, CALL, ToolFinished("c1", "x", 1), PolicyDecision("c1", "deny", "r", "off", "")]
    assert "\x1b[" not in shown(*events)[1]
    assert "\x1b[32mok\x1b[0m" in shown(*events, color=True)[1]


def test_a_question_is_shown_whole() -> None:
    prompt = "files.write asks: why\nworkspace: /w\n" + "+line\n" * 500
    err = io.StringIO()
    Terminal(io.StringIO(), err, stream=True, color=False).ask(ApprovalRequested("a", "c1", prompt))
    assert prompt in err.getvalue()


def at_prompt(text: str) -> tuple[Terminal, io.StringIO]:
    err = io.StringIO()
    terminal = Terminal(io.StringIO(), err, stream=True, color=False)
    terminal.prompt(text)
    return terminal, err


def test_what_is_told_before_the_answer_comes_above_the_line_that_asks() -> None:
    terminal, err = at_prompt("it may stand\nallow? ")
    terminal.note("news")
    assert err.getvalue() == "it may stand\nallow? \nnews\nallow? "
    terminal.answered()
    terminal.note("more")
    assert err.getvalue().endswith("allow? more\n")  # the person's Enter is not ours to write


def test_a_question_that_is_withdrawn_leaves_a_line_of_its_own() -> None:
    terminal, err = at_prompt("allow? ")
    terminal.withdraw()
    terminal.withdraw()
    terminal.note("denied elsewhere")
    assert err.getvalue() == "allow? \ndenied elsewhere\n"


def test_nothing_hides_in_the_line_that_asks() -> None:
    terminal, err = at_prompt("allow a\u202e? ")
    terminal.note("x")
    assert err.getvalue() == "allow a\\u202e? \nx\nallow a\\u202e? "


def test_beside_a_program_the_terminal_keeps_to_stderr() -> None:
    out, err = shown(ROUTED, ModelDelta(1, "It"), turn("It"), ANSWER, DONE, stream=True, answers=False)
    assert out == ""
    assert "model openai/m" in err


def test_lines_are_the_rows_as_they_are_stored() -> None:
    out = io.StringIO()
    rows = [row(CALL, 1), row(FinalAnswer("é“\u202e\n", "p", "m"), 2)]
    for each in rows:
        Lines(out).show(each, each.event())
    lines = out.getvalue().split("\n")
    assert lines == [*map(json_line, rows), ""]
    said: list[dict[str, Any]] = [json.loads(line) for line in lines[:-1]]
    assert [each["seq"] for each in said] == [1, 2]
    assert said[1]["body"]["text"] == "é“\u202e\n"
    assert said[0]["hash"] == "00" * 32


@pytest.mark.parametrize(
    ("end", "status"),
    [(DONE, 0), (RunFinished(RunState.RUNNING, RunState.FAILED, "provider_auth", "bad key"), 6)],
)
def test_the_summary_is_one_object_at_the_end(end: RunFinished, status: int) -> None:
    out = io.StringIO()
    summary = Summary(out, of_run)
    answered = (ANSWER,) if end is DONE else ()
    for seq, event in enumerate((CALL, *answered), 1):
        summary.show(row(event, seq), event)
    assert out.getvalue() == ""
    summary.show(row(end, 9), end)
    said = json.loads(out.getvalue())
    assert said == {
        "run_id": "R",
        "state": end.state,
        "reason": end.reason,
        "detail": end.detail,
        "answer": "It is done." if answered else None,
        "provider": "openai" if answered else None,
        "model": "m" if answered else None,
        "usage": {"input_tokens": 10, "cached_input_tokens": 0, "output_tokens": 5} if answered else None,
        "last_seq": 9,
        "exit_status": status,
    }


# --- the output of programs ---


def live(*events: TapeEvent, color: bool = False) -> str:
    err = io.StringIO()
    display = Terminal(io.StringIO(), err, stream=True, color=color, live=True)
    for seq, event in enumerate(events, 1):
        display.show(row(event, seq), event)
    return err.getvalue()


def test_what_a_program_writes_is_shown_dim_as_it_comes() -> None:
    output = ToolOutput("c1", "stdout", "one\ntwo\n")
    assert live(CALL, output) == "  | one\n  | two\n"
    assert live(CALL, output, color=True) == "\x1b[2m  | one\x1b[0m\n\x1b[2m  | two\x1b[0m\n"
    assert shown(CALL, output) == ("", "")


def test_that_there_was_more_comes_before_the_result_with_the_command_that_prints_it() -> None:
    told = live(CALL, ToolOutput("c1", "stdout", "x\n" * 100), ToolFinished("c1", "done", 5)).splitlines()
    assert len(told) == 22
    assert told[-2] == "  | … the rest: palyra-trio runs output R c1"
    assert told[-1].endswith("ok  5 ms, 4 bytes")


def test_output_comes_above_a_question_that_is_being_answered() -> None:
    err = io.StringIO()
    terminal = Terminal(io.StringIO(), err, stream=True, color=False, live=True)
    terminal.prompt("Allow? [y/n] ")
    event = ToolOutput("c1", "stdout", "\x1b[1Ay\n")
    terminal.show(row(event), event)
    assert err.getvalue() == "Allow? [y/n] \n  | \\u001b[1Ay\nAllow? [y/n] "
