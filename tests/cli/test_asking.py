import json
from pathlib import Path

import attrs
import pytest

from palyra_trio.cli.asking import decision_of, question_of
from palyra_trio.core.commands import DecideApproval
from palyra_trio.core.errors import InvalidArgument
from palyra_trio.core.policy import Pattern
from palyra_trio.core.tape import ApprovalRequested
from tests.processes import Shell, read_call, write_call

ANSWERED = {"text": "so be it"}


NOW_MS = 1_000_000
HOUR_MS = 3_600_000
PATTERN = Pattern("files.write", "src/*")
CALL = ApprovalRequested("A", "c", "files.write asks", tool="files.write")
LASTING = attrs.evolve(CALL, pattern=PATTERN)
ASKED = attrs.evolve(CALL, tool="ask_user", question=True)


@pytest.mark.parametrize("line", ["y", "Y", " yes ", "YES"])
def test_yes_is_yes_once(line: str) -> None:
    assert decision_of(LASTING, line, NOW_MS) == DecideApproval("A", True)


@pytest.mark.parametrize("line", ["n", "No", None])
def test_no_and_the_end_of_the_input_are_no(line: str | None) -> None:
    assert decision_of(LASTING, line, NOW_MS) == DecideApproval("A", False, "the person said no")


@pytest.mark.parametrize("line", ["yes but", "y n", "yy", "not in this folder", "yes\u200b", "so no", "t is too long"])
def test_whatever_else_is_a_reason_why_not(line: str) -> None:
    assert decision_of(LASTING, line, NOW_MS) == DecideApproval("A", False, line.strip())


@pytest.mark.parametrize("line", ["s", "session", " S "])
def test_the_pattern_can_be_allowed_for_the_session(line: str) -> None:
    assert decision_of(LASTING, line, NOW_MS) == DecideApproval("A", True, scope="session")


@pytest.mark.parametrize("line", ["t 2h", "time 2h", " T  2H"])
def test_the_pattern_can_be_allowed_for_a_time(line: str) -> None:
    until_ms = NOW_MS + 2 * HOUR_MS
    assert decision_of(LASTING, line, NOW_MS) == DecideApproval("A", True, scope="time", until_ms=until_ms)


@pytest.mark.parametrize("line", ["t", "time", "t 2", "t 0h", "t soon"])
def test_a_time_without_a_length_is_asked_again(line: str) -> None:
    with pytest.raises(InvalidArgument, match="for how long"):
        decision_of(LASTING, line, NOW_MS)


@pytest.mark.parametrize("line", ["s", "session", "t", "t 2h", "time 2h"])
def test_where_nothing_may_stand_it_can_be_allowed_once_only(line: str) -> None:
    with pytest.raises(InvalidArgument, match="once only"):
        decision_of(CALL, line, NOW_MS)


@pytest.mark.parametrize("request_", [CALL, LASTING, ASKED])
@pytest.mark.parametrize("line", ["", " \t"])
def test_an_empty_line_answers_nothing(request_: ApprovalRequested, line: str) -> None:
    with pytest.raises(InvalidArgument):
        decision_of(request_, line, NOW_MS)


@pytest.mark.parametrize("line", ["2", "blue", "no", "s", "t 2h"])
def test_whatever_is_typed_answers_a_question(line: str) -> None:
    assert decision_of(ASKED, f" {line} ", NOW_MS) == DecideApproval("A", True, line)


def test_the_end_of_the_input_declines_a_question() -> None:
    assert decision_of(ASKED, None, NOW_MS) == DecideApproval("A", False, "the person declined to answer")


def test_only_what_may_stand_is_offered_for_longer_and_by_its_pattern() -> None:
    assert "files.write src/*" in question_of(LASTING)
    assert "[s]ession" not in question_of(CALL)
    assert "allow" not in question_of(ASKED)


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
        assert "question 1 of 2" in first
        terminal.type("y\n")
        second = terminal.expect("or a reason why not: ")
        assert "id_rsa is a key file" in second
        assert "question 2 of 2" in second
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


ASKS = {"calls": [{"tool": "ask_user", "arguments": {"question": "Which?", "choices": ["red", "blue"]}}]}


@pytest.mark.parametrize(("typed", "result"), [("2\n", "blue"), ("\ngreen\n", "green")])
def test_a_question_of_the_agent_is_answered_by_a_number_or_in_words(shell: Shell, typed: str, result: str) -> None:
    with shell.terminal("run", "--model", shell.script(ASKS, ANSWERED), "go") as terminal:
        assert "  | Which?\n  | 1. red\n  | 2. blue\n" in terminal.expect("your answer (Ctrl-D declines): ")
        terminal.type(typed)
        assert terminal.ends() == 0
    assert shell.bodies("ToolFinished")[0]["text"] == result


def test_a_question_of_the_agent_can_be_declined(shell: Shell) -> None:
    with shell.terminal("run", "--model", shell.script(ASKS, ANSWERED), "go") as terminal:
        terminal.expect("your answer (Ctrl-D declines): ")
        terminal.type("\x04")
        terminal.expect("denied  the person declined to answer")
        assert terminal.ends() == 0


def test_what_is_allowed_for_the_session_is_not_asked_again_and_elsewhere_it_is(shell: Shell) -> None:
    turns = [write_call(path, "x") for path in ("src/a", "src/b", "src/deep/c")]
    with shell.terminal("run", "--model", shell.script(*turns, ANSWERED), "go") as terminal:
        assert "or allow files.write src/* for the [s]ession" in terminal.expect("or a reason why not: ")
        terminal.type("s\n")
        assert "file       src/deep/c (new)" in terminal.expect("or a reason why not: ")
        terminal.type("t 60d\n")
        assert "within 30 days" in terminal.expect("or a reason why not: ")
        terminal.type("t 2h\n")
        assert terminal.ends() == 0
    scopes = [each["scope"] for each in shell.bodies("ApprovalDecided")]
    assert scopes == ["session", "time"]
    assert (shell.folder / "src/b").exists()


def test_an_answer_from_elsewhere_withdraws_the_question_and_the_next_one_is_put(shell: Shell) -> None:
    calls = {"calls": [*write_call("a", "x")["calls"], *write_call("b", "x")["calls"]]}
    with shell.terminal("run", "--model", shell.script(calls, ANSWERED), "go") as terminal:
        assert "question 1 of 2" in terminal.expect("or a reason why not: ")
        first, second = (each["approval_id"] for each in shell.bodies("ApprovalRequested"))
        assert shell.run("approvals", "deny", first, "--reason", "not a").returncode == 0
        terminal.expect("files.write: denied elsewhere, by user:")
        assert "question 2 of 2" in terminal.expect("or a reason why not: ")
        terminal.type("y\n")
        assert terminal.ends() == 0
        late = shell.run("approvals", "deny", second)
        assert (late.returncode, late.stdout) == (1, "")
        assert "was granted by user:" in late.stderr
    assert (shell.folder / "b").exists()
    assert not (shell.folder / "a").exists()
    assert json.loads(shell.run("approvals", "list", "--json").stdout) == {"approvals": []}


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
