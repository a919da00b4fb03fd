"""Pausing, resuming and stopping, with a daemon and without one, and a look inside."""

import json

from tests.cli.conftest import STARTED, Home, Palyra
from tests.processes import Shell


def test_a_pause_without_a_daemon_holds_until_it_is_ended(shell: Shell) -> None:
    assert shell.run("pause", "--reason", "lunch").returncode == 0
    refused = shell.run("run", "hello")
    assert (refused.returncode, refused.stdout) == (75, "")
    assert "paused that: lunch" in refused.stderr
    assert "palyra-trio resume" in refused.stderr
    assert json.loads(shell.run("resume", "--json").stdout) == {"paused": False}
    assert shell.run("run", "what time is it?").returncode == 0


def test_everything_is_stopped_and_nothing_new_starts(shell: Shell) -> None:
    with shell.process("serve", "--port", "0"):
        shell.run("status", "--wait", "15")
        started = json.loads(shell.run("run", "--detach", "--json", "create hello.py").stdout)["run_id"]
        told = json.loads(shell.run("stop", "--all", "--pause", "--reason", "enough", "--json").stdout)
        assert told == {"runs": [started], "jobs": [], "not_stopped": [], "paused": True}
        status = json.loads(shell.run("status", "--json").stdout)
        assert status["paused_because"] == "enough"
        assert "new runs are not taken" in shell.run("status").stdout
        assert shell.run("run", "hello").returncode == 75
        why = shell.run("runs", "why", "last").stdout
    assert "cancelled" in why


def test_runs_that_an_earlier_process_left_are_stopped_too(palyra: Palyra, home: Home) -> None:
    home.record_run(*STARTED)
    stopped = palyra("stop", "--all")
    assert (stopped.exit_code, stopped.stdout.split()[0]) == (0, "cancelled")
    again = palyra("stop", "--all")
    assert (again.exit_code, again.stdout, again.stderr) == (0, "", "nothing was running\n")


def test_what_is_to_be_stopped_is_said_and_has_not_ended(palyra: Palyra, home: Home) -> None:
    assert palyra("stop").exit_code == 2
    assert palyra("stop", "--all", "last").exit_code == 2
    assert palyra("stop", "--all").stderr == "nothing was running\n"
    home.record_whole_run()
    ended = palyra("stop", "last")
    assert ended.exit_code == 1
    assert "is done already" in ended.stderr


def test_the_tasks_of_a_daemon_are_shown_as_a_tree(shell: Shell) -> None:
    assert shell.run("debug", "tasks").returncode == 69
    with shell.process("serve", "--port", "0"):
        shell.run("status", "--wait", "15")
        lines = shell.run("debug", "tasks").stdout.splitlines()
        assert json.loads(shell.run("debug", "tasks", "--json").stdout)["tasks"]
    assert any("Gateway.serve" in line and line.startswith("  ") for line in lines)
