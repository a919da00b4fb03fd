import signal
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.processes import AtTerminal, Shell, write_call

HANGS = {"deltas": ["thinking"], "hang": True}


@contextmanager
def chatting(shell: Shell, *turns: dict[str, Any], environ: dict[str, str] | None = None) -> Generator[AtTerminal]:
    with shell.terminal("chat", "--model", shell.script(*turns, loop=True), environ=environ) as terminal:
        terminal.expect("› ")
        yield terminal


def sessions(shell: Shell) -> int:
    return len({run.session_id for run in shell.runs()})


def test_messages_are_answered_in_one_session(shell: Shell) -> None:
    with chatting(shell, {"text": "hello"}) as terminal:
        for text in ("one", "two"):
            terminal.type(f"{text}\n")
            terminal.expect("hello")
            terminal.expect("› ")
        terminal.type("/quit\n")
        assert terminal.ends() == 0
    assert shell.states() == [("one", "done"), ("two", "done")]
    assert sessions(shell) == 1
    shell.assert_verifies()


@pytest.mark.slow
def test_ctrl_d_leaves_and_the_session_can_be_continued(shell: Shell) -> None:
    for arguments in ([], ["--continue"]):
        with shell.terminal("chat", "--model", shell.script({"text": "hello"}), *arguments) as terminal:
            terminal.expect("› ")
            terminal.type("go\n")
            terminal.expect("hello")
            terminal.expect("› ")
            terminal.type("\x04")
            assert terminal.ends() == 0
    assert sessions(shell) == 1


def test_a_question_takes_the_next_line(shell: Shell) -> None:
    with chatting(shell, write_call("a.txt", "x"), {"text": "so be it"}) as terminal:
        terminal.type("write it\n")
        terminal.expect("files.write asks")
        terminal.expect("a reason why not: ")
        terminal.type("not here\n")
        terminal.expect("denied  not here")
        terminal.expect("so be it")
        terminal.expect("› ")
        terminal.type("write it all the same\n")
        terminal.expect("a reason why not: ")
        terminal.type("y\n")
        terminal.expect("so be it")
        terminal.type("/quit\n")
        assert terminal.ends() == 0
    assert (shell.folder / "a.txt").read_text() == "x"


def test_questions_of_one_turn_are_put_one_after_another_and_a_cancel_withdraws_the_rest(shell: Shell) -> None:
    asks = {"tool": "ask_user", "arguments": {"question": "Which?", "choices": ["red", "blue"]}}
    calls = {"calls": [asks, *write_call("a.txt", "x")["calls"]]}
    with chatting(shell, calls) as terminal:
        terminal.type("go\n")
        assert "question 1 of 2" in terminal.expect("your answer")
        terminal.type("2\n")
        assert "question 2 of 2" in terminal.expect("a reason why not: ")
        terminal.type("/cancel\n")
        terminal.expect("cancelled")
        terminal.expect("› ")
        terminal.type("/quit\n")
        assert terminal.ends() == 0
    outcomes = [(each["outcome"], each["reason"]) for each in shell.bodies("ApprovalDecided")]
    assert outcomes == [("granted", "2"), ("withdrawn", "the run ended")]


@pytest.mark.slow
def test_what_is_said_meanwhile_comes_next(shell: Shell) -> None:
    with chatting(shell, {"deltas": ["slow", "ly"], "delta_pause_s": 0.5}) as terminal:
        terminal.type("one\n")
        terminal.expect("slow")
        terminal.type("two\n")
        terminal.expect("slowly")
        terminal.expect("› ")
        terminal.type("/quit\n")
        assert terminal.ends() == 0
    assert shell.states() == [("one", "done"), ("two", "done")]


def test_an_interruption_comes_before_what_is_in_line_and_is_seen(shell: Shell) -> None:
    with chatting(shell, {"pause_s": 1, **write_call("a.txt", "x")}, {"text": "so be it"}) as terminal:
        terminal.type("live\nqueued\n/interrupt urgent\n")
        for _ in range(2):
            terminal.expect("a reason why not: ")
            terminal.type("n\n")
            terminal.expect("so be it")
        terminal.expect("› ")
        terminal.type("/quit\n")
        assert terminal.ends() == 0
    ends = {}
    for run in shell.runs():
        asked, *_, end = shell.tape(run.run_id)
        ends[end["g"]] = (asked["body"]["text"], end["body"]["state"])
    assert [ends[g] for g in sorted(ends)] == [("live", "cancelled"), ("urgent", "done"), ("queued", "done")]


def test_ctrl_c_stops_the_run_and_then_leaves(shell: Shell) -> None:
    with chatting(shell, HANGS) as terminal:
        terminal.type("go\n")
        terminal.expect("thinking")
        terminal.type("\x03")
        terminal.expect("cancelled")
        terminal.expect("› ")
        terminal.type("\x03")
        assert terminal.ends() == 0
    assert shell.states() == [("go", "cancelled")]


def test_leaving_cancels_what_has_not_ended(shell: Shell) -> None:
    with chatting(shell, HANGS, environ={"PALYRA_DAEMON__DRAIN_S": "100"}) as terminal:
        terminal.type("one\n")
        terminal.expect("thinking")
        terminal.type("two\nthree\n/quit\n")
        assert terminal.ends() == 0
    assert shell.states() == [("one", "cancelled"), ("two", "cancelled"), ("three", "cancelled")]


def test_sigterm_drains(shell: Shell) -> None:
    with chatting(shell, HANGS, environ={"PALYRA_DAEMON__DRAIN_S": "0"}) as terminal:
        terminal.type("go\n")
        terminal.expect("thinking")
        terminal.signal(signal.SIGTERM)
        assert terminal.ends() == 143
    assert shell.states() == [("go", "interrupted")]


@pytest.mark.slow
def test_a_second_sigterm_does_not_wait(shell: Shell) -> None:
    with chatting(shell, HANGS, environ={"PALYRA_DAEMON__DRAIN_S": "100"}) as terminal:
        terminal.type("go\n")
        terminal.expect("thinking")
        terminal.signal(signal.SIGTERM)
        terminal.expect("leaving")
        terminal.signal(signal.SIGTERM)
        assert terminal.ends() == 143


@pytest.mark.slow
def test_lines_that_are_no_messages(shell: Shell) -> None:
    with chatting(shell, {"text": "hello"}) as terminal:
        for line in ("", "   ", "/help", "/cancel", "/no such thing"):
            terminal.type(f"{line}\n")
            terminal.expect("› ")
        terminal.type("/quit\n")
        assert terminal.ends() == 0
    assert shell.states() == []


@pytest.mark.slow
def test_a_refusal_is_told_and_the_chat_goes_on(shell: Shell) -> None:
    with shell.terminal("chat", "--model", f"scripted/{shell.root}/none.json") as terminal:
        terminal.expect("› ")
        terminal.type("go\n")
        terminal.expect("error: the script")
        terminal.expect("› ")
        terminal.type("/quit\n")
        assert terminal.ends() == 0


def test_without_a_terminal_there_is_no_chat(shell: Shell) -> None:
    done = shell.run("chat")
    assert done.returncode == 2
    assert "needs a terminal" in done.stderr
