import subprocess
import sys

import pytest

from tests.cli.conftest import Palyra


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_of_a_shell_asks_this_program(palyra: Palyra, shell: str) -> None:
    result = palyra("completion", shell)
    assert result.exit_code == 0
    assert f"_PALYRA_TRIO_COMPLETE={shell}_complete" in result.stdout
    assert "palyra-trio" in result.stdout


def test_the_program_answers_what_the_script_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("_PALYRA_TRIO_COMPLETE", "bash_complete")
    monkeypatch.setenv("COMP_WORDS", "palyra-trio runs un")
    monkeypatch.setenv("COMP_CWORD", "2")
    start = "import sys; sys.argv = ['palyra-trio']; from palyra_trio.cli.main import main; main()"
    answer = subprocess.run([sys.executable, "-c", start], capture_output=True, text=True, check=False)
    assert answer.stdout == "plain,undo\n"


def test_another_shell_is_a_fault_of_usage(palyra: Palyra) -> None:
    assert palyra("completion", "tcsh").exit_code == 2
