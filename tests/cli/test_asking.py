from pathlib import Path

import pytest

from palyra_trio.cli.asking import answer_of
from tests.processes import Shell, read_call, write_call

ANSWERED = {"text": "so be it"}


@pytest.mark.parametrize("line", ["y", "Y", " yes ", "YES"])
def test_yes_is_yes(line: str) -> None:
    assert answer_of(line) == (True, "")


@pytest.mark.parametrize("line", ["", " ", "n", "No"])
def test_no_is_no(line: str) -> None:
    assert answer_of(line) == (False, "the person said no")


@pytest.mark.parametrize("line", ["yes but", "y n", "yy", "not in this folder", "yes\u200b"])
def test_whatever_else_is_a_reason_why_not(line: str) -> None:
    assert answer_of(line) == (False, line.strip())


def test_the_diff_is_shown_with_what_hides_in_it_and_a_yes_carries_it_out(shell: Shell) -> None:
    (shell.folder / "a.txt").write_text("old\n")
    model = shell.script(write_call("a.txt", "new\x1b[8m\u202e\n"), ANSWERED)
    with shell.terminal("run", "--model", model, "go") as terminal:
        terminal.expect("-old")
        terminal.expect("+new\\u001b[8m\\u202e")
        terminal.expect("or a reason why not: ")
        terminal.type("y\n")
        terminal.expect("files.write")
        terminal.expect("ok")
        terminal.expect("so be it")
        assert terminal.ends() == 0
    assert (shell.folder / "a.txt").read_text() == "new\x1b[8m\u202e\n"
    assert shell.bodies("ApprovalDecided")[0]["outcome"] == "granted"
    assert "\u202e" not in terminal.shown


@pytest.mark.parametrize(("typed", "reason"), [("n", "the person said no"), ("use b.txt", "use b.txt")])
def test_a_no_or_a_reason_is_what_the_model_is_told(shell: Shell, typed: str, reason: str) -> None:
    with shell.terminal("run", "--model", shell.script(write_call("a.txt", "x"), ANSWERED), "go") as terminal:
        terminal.expect("or a reason why not: ")
        terminal.type(f"{typed}\n")
        terminal.expect(f"denied  {reason}")
        assert terminal.ends() == 0
    assert not (shell.folder / "a.txt").exists()
    (decided,) = shell.bodies("ApprovalDecided")
    assert (decided["outcome"], decided["reason"]) == ("denied", reason)


@pytest.mark.slow
def test_an_empty_line_is_asked_again_and_the_end_of_the_input_is_a_no(shell: Shell) -> None:
    with shell.terminal("run", "--model", shell.script(write_call("a.txt", "x"), ANSWERED), "go") as terminal:
        terminal.expect("or a reason why not: ")
        terminal.type("\n")
        terminal.expect("or a reason why not: ")
        terminal.type("\x04")
        terminal.expect("denied")
        assert terminal.ends() == 0


def test_two_questions_of_one_turn_are_put_one_after_the_other(shell: Shell) -> None:
    (shell.folder / ".env").write_text("A=1\n")
    (shell.folder / "id_rsa").write_text("B=2\n")
    with shell.terminal("run", "--model", shell.script(read_call(".env", "id_rsa"), ANSWERED), "go") as terminal:
        first = terminal.expect("or a reason why not: ")
        assert (".env" in first, "id_rsa is a key file" in first) == (True, False)
        terminal.type("y\n")
        assert "id_rsa is a key file" in terminal.expect("or a reason why not: ")
        terminal.type("n\n")
        assert terminal.ends() == 0
    assert [each["outcome"] for each in shell.bodies("ApprovalDecided")] == ["granted", "denied"]


def test_what_was_typed_before_the_question_was_shown_does_not_answer_it(shell: Shell) -> None:
    late = write_call("a.txt", "x", pause_s=0.5)
    with shell.terminal("run", "--model", shell.script(late, ANSWERED), "go") as terminal:
        terminal.expect("model scripted/")
        terminal.type("y\n")
        terminal.expect("or a reason why not: ")
        terminal.type("no, I did not mean that\n")
        assert terminal.ends() == 0
    assert shell.bodies("ApprovalDecided")[0]["reason"] == "no, I did not mean that"


@pytest.mark.slow
def test_a_question_that_expires_is_taken_back(shell: Shell) -> None:
    model = shell.script(write_call("a.txt", "x"), ANSWERED)
    with shell.terminal("run", "--model", model, "go", environ={"PALYRA_APPROVAL__EXPIRES_S": "1"}) as terminal:
        terminal.expect("or a reason why not: ")
        terminal.expect("expired")
        assert terminal.ends() == 0
    assert shell.bodies("ApprovalDecided")[0]["outcome"] == "expired"


def test_where_nobody_can_answer_nobody_is_asked(shell: Shell) -> None:
    model = shell.script(write_call("a.txt", "x"), ANSWERED)
    with shell.terminal("run", "--no-input", "--model", model, "go") as terminal:
        assert terminal.ends() == 4
    assert "or a reason why not" not in terminal.shown
    assert not list(Path(shell.folder).iterdir())
