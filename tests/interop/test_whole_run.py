"""The whole program against a server that this project did not write: two tool calls, then a streamed answer."""

from pathlib import Path

import pytest

from tests.interop.foreign_server import ANSWER, MODEL, PROMPT, README, ForeignServer
from tests.processes import Shell


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    shell = Shell.below(tmp_path)
    (shell.folder / "README.md").write_text(README)
    return shell


def test_the_command_line_gets_its_answer(shell: Shell, foreign: ForeignServer) -> None:
    done = shell.run("run", "--model", f"openai/{MODEL}", PROMPT, environ={"OPENAI_BASE_URL": foreign.base_url})
    assert (done.returncode, done.stdout) == (0, ANSWER + "\n")
    assert f"model openai/{MODEL}" in done.stderr

    asked = foreign.requests()
    assert [each["matched_rule"] for each in asked] == ["list", "read", "answer"]
    assert all(each["stream"] for each in asked)
    calls = [each["call"] for each in shell.bodies("ToolProposed")]
    assert [(call["tool"], call["arguments"]) for call in calls] == [
        ("files.list", {"path": "."}),
        ("files.read", {"path": "README.md", "max_lines": 20}),
    ]
    assert "swordfish" in shell.bodies("ToolFinished")[1]["text"]
    deltas = [each["text"] for each in shell.bodies("ModelDelta")]
    assert "".join(deltas) == ANSWER
    assert [each["finish"] for each in shell.bodies("ModelTurn")] == ["tool_calls", "tool_calls", "stop"]
    shell.assert_verifies()


@pytest.mark.slow
def test_at_a_terminal_the_answer_is_streamed_once(shell: Shell, foreign: ForeignServer) -> None:
    with shell.terminal(
        "run", "--model", f"openai/{MODEL}", PROMPT, environ={"OPENAI_BASE_URL": foreign.base_url}
    ) as terminal:
        terminal.expect("files.list")
        terminal.expect("files.read")
        assert terminal.ends() == 0
    assert terminal.shown.count(ANSWER) == 1


@pytest.mark.slow
def test_a_second_prompt_finds_the_first_in_its_context(shell: Shell, foreign: ForeignServer) -> None:
    ask = ["run", "--model", f"openai/{MODEL}", "--session", "notes"]
    first = shell.run(*ask, PROMPT, environ={"OPENAI_BASE_URL": foreign.base_url})
    # The rules answer at once when a tool's result of the session's earlier run says the password.
    second = shell.run(*ask, "Say it again.", environ={"OPENAI_BASE_URL": foreign.base_url})
    assert (first.stdout, second.stdout) == (ANSWER + "\n", ANSWER + "\n")
    assert [each["matched_rule"] for each in foreign.requests()] == ["list", "read", "answer", "answer"]
