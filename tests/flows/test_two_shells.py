"""Two shells and one state directory: the second works through the process that holds it, be it a `run` or `serve`."""

import json
import signal
import subprocess
from collections.abc import Callable, Generator
from contextlib import AbstractContextManager, contextmanager

import pytest

from tests.processes import Shell

FIRST, SECOND = "01HZZZZZZZ0000000000000071", "01HZZZZZZZ0000000000000072"
HANGS = {"deltas": ["thinking"], "hang": True}

Holding = Callable[[Shell], AbstractContextManager["subprocess.Popen[str]"]]


@contextmanager
def by_a_run(shell: Shell) -> Generator["subprocess.Popen[str]"]:
    """Nobody serves, so the first `run` holds the directory."""
    with _hanging_run(shell) as first:
        yield first


@contextmanager
def by_serve(shell: Shell) -> Generator["subprocess.Popen[str]"]:
    with shell.process("serve", "--port", "0") as daemon:
        assert daemon.stdout is not None
        assert daemon.stdout.readline().startswith("ready ")
        with _hanging_run(shell) as first:
            yield first
        daemon.terminate()
        assert daemon.wait() == 0


@contextmanager
def _hanging_run(shell: Shell) -> Generator["subprocess.Popen[str]"]:
    with shell.process("run", "--run-id", FIRST, "--model", shell.script(HANGS), "first", "--jsonl") as first:
        _until(first, "ModelDelta")
        yield first


def _until(process: "subprocess.Popen[str]", kind: str) -> list[str]:
    """Read rows until one of this kind has come, and return them."""
    assert process.stdout is not None
    lines = []
    for line in process.stdout:
        lines.append(line)
        if json.loads(line)["kind"] == kind:
            return lines
    pytest.fail(f"no {kind} came, but {lines}, {process.communicate()[1]}")


@pytest.mark.parametrize("holding", [by_a_run, by_serve])
def test_a_second_shell_runs_lists_follows_and_cancels(shell: Shell, holding: Holding) -> None:
    with holding(shell) as first:
        second = shell.run("run", "--run-id", SECOND, "--model", "offline/rules", "what time is it")
        assert second.returncode == 0, second.stderr
        listed = json.loads(shell.run("runs", "list", "--json").stdout)["runs"]
        assert [(run["run_id"], run["state"]) for run in listed] == [(SECOND, "done"), (FIRST, "running")]
        assert listed[0]["session_id"] != listed[1]["session_id"]
        with (
            shell.process("tape", FIRST, "--follow", "--jsonl") as whole,
            shell.process("tape", FIRST, "--follow", "--jsonl", "--after", "3") as part,
            shell.process("tape", FIRST, "--follow") as read,
            shell.process("tape", FIRST, "--follow") as left,
        ):
            begun = _until(whole, "ModelDelta")
            assert left.stdout is not None
            while "thinking" not in left.stdout.readline():
                pass
            left.send_signal(signal.SIGINT)
            assert left.wait() == 130
            cancelled = shell.run("runs", "cancel", FIRST, "--reason", "enough")
            assert (cancelled.returncode, cancelled.stdout) == (0, f"cancelled run {FIRST}\n")
            rest, _ = whole.communicate()
            lines, _ = part.communicate()
            shown, said = read.communicate()
        assert first.wait() == 130
    jsonl = shell.run("tape", FIRST, "--jsonl").stdout
    assert "".join(begun) + rest == jsonl
    assert lines.splitlines() == jsonl.splitlines()[3:]
    assert shown == shell.run("tape", FIRST).stdout
    assert said.startswith(f"run {FIRST} of session ")
    assert shell.bodies("CancelRequested", FIRST)[0]["reason"] == "enough"
    assert shell.states() == [("first", "cancelled"), ("what time is it", "done")]
    shell.assert_verifies()


@contextmanager
def _waiting(shell: Shell) -> Generator[tuple["subprocess.Popen[str]", "subprocess.Popen[str]"]]:
    """A `run` that has ended and says that it waits for the other one, which it holds."""
    with (
        _hanging_run(shell) as first,
        shell.process("run", "--run-id", SECOND, "--model", shell.script(HANGS), "second", "--jsonl") as second,
    ):
        _until(second, "ModelDelta")
        assert shell.run("runs", "cancel", FIRST).returncode == 0
        assert first.stderr is not None
        while "waiting for the runs of other terminals (1 live)" not in first.stderr.readline():
            assert first.poll() is None
        assert shell.states() == [("first", "cancelled"), ("second", "running")]
        yield first, second


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_wait_for_the_runs_of_others(shell: Shell, number: signal.Signals) -> None:
    with _waiting(shell) as (first, _):
        first.send_signal(number)
        assert first.wait() == 130  # how its own run ended
    assert shell.states() == [("first", "cancelled"), ("second", "interrupted")]
    assert shell.bodies("RunInterrupted", SECOND)
    shell.assert_verifies()


def test_a_run_that_waits_for_others_ends_with_the_last_of_them(shell: Shell) -> None:
    with _waiting(shell) as (first, second):
        assert shell.run("runs", "cancel", SECOND).returncode == 0
        assert (first.wait(), second.wait()) == (130, 130)
    assert shell.states() == [("first", "cancelled"), ("second", "cancelled")]
    shell.assert_verifies()


def test_following_what_nobody_runs_shows_what_there_is(shell: Shell) -> None:
    with _hanging_run(shell) as first:
        first.kill()
        first.wait()
    followed = shell.run("tape", FIRST, "--follow")
    assert followed.returncode == 0
    assert "thinking" in followed.stdout
    assert f"run {FIRST} is interrupted" in followed.stderr
    assert followed.stdout == shell.run("tape", FIRST).stdout
