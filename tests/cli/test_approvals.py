"""Approvals answered from another shell: beside a run, a daemon here or elsewhere, and with nobody there."""

import json
import signal
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import attrs
import pytest

from palyra_trio.cli.approvals import _holds, _state
from palyra_trio.core.approvals import Approval, ApprovalState, Grant
from palyra_trio.core.identity import Principal, RunId, SessionId
from palyra_trio.core.policy import Pattern
from tests.processes import AtTerminal, Shell, write_call

ANSWERED = {"text": "so be it"}
ASKS = {"calls": [{"tool": "ask_user", "arguments": {"question": "Which?", "choices": ["red", "blue"]}}]}
ASKED = "or a reason why not: "


@contextmanager
def asking(shell: Shell, *turns: dict[str, Any], until: str = ASKED) -> Generator[AtTerminal]:
    """A run at a terminal that has asked."""
    with shell.terminal("run", "--model", shell.script(*turns, ANSWERED), "go") as terminal:
        terminal.expect(until)
        yield terminal


@contextmanager
def serving(shell: Shell) -> Generator[str]:
    """A daemon, and the address that it listens on."""
    with shell.process("serve", "--port", "0") as daemon:
        assert daemon.stdout is not None
        yield daemon.stdout.readline().split()[-1]
        daemon.send_signal(signal.SIGTERM)
        assert daemon.wait() == 0


def detached(shell: Shell, *turns: dict[str, Any]) -> str:
    """Leave a run to the daemon, and return its id once it has asked."""
    left = shell.run("run", "--detach", "--model", shell.script(*turns, ANSWERED), "go")
    assert left.returncode == 0, left.stderr
    run_id = left.stdout.strip()
    shell.until_waiting(run_id)
    return run_id


def pending(shell: Shell, *options: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(shell.run(*options, "approvals", "list", "--json").stdout)["approvals"]
    return found


def grants(shell: Shell, *options: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(shell.run("approvals", "grants", "--json", *options).stdout)["grants"]
    return found


# --- two terminals ---


def test_what_one_terminal_asks_another_allows(shell: Shell) -> None:
    with asking(shell, write_call("a.txt", "x")) as terminal:
        (approval,) = pending(shell)
        run_id = shell.runs()[0].run_id
        listed = shell.run("approvals", "list").stdout
        assert approval["approval_id"] in listed
        assert "pending, expires in 9 min" in listed
        shown = shell.run("approvals", "show", approval["approval_id"].lower()[:-2])
        assert shown.stdout.endswith(f"\n\n{shell.bodies('ApprovalRequested')[0]['prompt']}\n")
        assert f"palyra-trio approvals allow {approval['approval_id']}" in shown.stderr
        assert "\twaiting: approval\t" in shell.run("runs", "list").stdout
        told = shell.run("runs", "show", run_id)
        assert f"waits    files.write, approval {approval['approval_id']}" in told.stdout
        assert f"palyra-trio approvals show {approval['approval_id']}" in told.stderr
        allowed = shell.run("approvals", "allow", approval["approval_id"][:-1])
        assert (allowed.returncode, allowed.stdout, allowed.stderr) == (0, "allowed once: files.write\n", "")
        terminal.expect("files.write: granted elsewhere, by user:")
        terminal.expect("so be it")
        assert terminal.ends() == 0
    assert (shell.folder / "a.txt").read_text() == "x"
    assert pending(shell) == []
    assert "nothing waits for you" in shell.run("approvals", "list").stderr


def test_the_model_is_told_why_another_terminal_denied(shell: Shell) -> None:
    with asking(shell, write_call("a.txt", "x")) as terminal:
        (approval,) = pending(shell)
        denied = shell.run("approvals", "deny", approval["approval_id"], "--reason", "use b.txt", "--json")
        assert json.loads(denied.stdout)["state"] == "denied"
        terminal.expect("denied  use b.txt")
        assert terminal.ends() == 0
    told = shell.run("tape", "last").stdout
    assert "asks: it changes a file, so a person decides" in told
    assert "denied by user:" in told
    assert "(use b.txt)" in told
    assert not (shell.folder / "a.txt").exists()


def test_a_decision_that_comes_too_late_fails_and_says_who_was_first(shell: Shell) -> None:
    with asking(shell, write_call("a.txt", "x")) as terminal:
        (approval,) = pending(shell)
        terminal.type("y\n")
        terminal.expect("so be it")
        for verb in ("allow", "deny"):
            late = shell.run("approvals", verb, approval["approval_id"])
            assert (late.returncode, late.stdout) == (1, "")
            assert f"approval {approval['approval_id']} was granted by user:" in late.stderr
        assert terminal.ends() == 0
    late = shell.run("approvals", "deny", approval["approval_id"], "--json")
    assert (late.returncode, json.loads(late.stderr)["error"]["code"]) == (1, "already_decided")


def test_of_two_that_decide_at_once_one_wins_and_the_other_is_told(shell: Shell) -> None:
    with asking(shell, write_call("a.txt", "x")) as terminal:
        (approval,) = pending(shell)
        with (
            shell.process("approvals", "allow", approval["approval_id"]) as allows,
            shell.process("approvals", "deny", approval["approval_id"]) as denies,
        ):
            told = [each.communicate()[1] for each in (allows, denies)]
        assert sorted((allows.returncode, denies.returncode)) == [0, 1]
        assert "already" in told[allows.returncode == 0]
        assert terminal.ends() == 0
    (decided,) = shell.bodies("ApprovalDecided")
    assert (decided["outcome"] == "granted") == (allows.returncode == 0) == (shell.folder / "a.txt").exists()


def test_what_a_run_asked_that_has_ended_cannot_be_allowed(shell: Shell) -> None:
    with asking(shell, write_call("a.txt", "x")) as terminal:
        (approval,) = pending(shell)
        assert shell.run("runs", "cancel", "last").returncode == 0
        assert terminal.ends() == 130
    dead = shell.run("approvals", "allow", approval["approval_id"])
    assert (dead.returncode, dead.stdout) == (1, "")
    assert "was withdrawn" in dead.stderr
    assert "withdrawn by run" in shell.run("approvals", "show", approval["approval_id"]).stdout


def test_a_question_is_answered_from_another_terminal(shell: Shell) -> None:
    with asking(shell, ASKS, until="your answer (Ctrl-D declines): ") as terminal:
        (approval,) = pending(shell)
        assert "a question" in shell.run("approvals", "list").stdout
        assert "waiting: input" in shell.run("runs", "list").stdout
        unanswered = shell.run("approvals", "allow", approval["approval_id"])
        assert unanswered.returncode == 2
        assert "--answer TEXT" in unanswered.stderr
        answered = shell.run("approvals", "allow", approval["approval_id"], "--answer", "2")
        assert answered.stdout == "answered\n"
        terminal.expect("ask_user: granted elsewhere")
        assert terminal.ends() == 0
    assert shell.bodies("ToolFinished")[0]["text"] == "blue"


# --- grants ---


def test_what_was_allowed_for_longer_is_listed_and_taken_back(shell: Shell) -> None:
    turns = [write_call(path, "x") for path in ("src/a", "src/b")]
    with asking(shell, *turns) as terminal:
        (approval,) = pending(shell)
        allowed = shell.run("approvals", "allow", approval["approval_id"], "--for", "2h")
        assert allowed.stdout.startswith("allowed until 20")
        assert allowed.stdout.endswith(": files.write src/*\n")
        assert terminal.ends() == 0
    assert (shell.folder / "src/b").exists()
    (grant,) = grants(shell)
    assert (grant["grant_id"], grant["scope"]) == (approval["approval_id"], "time")
    assert "files.write src/*" in shell.run("approvals", "grants").stdout
    revoked = shell.run("approvals", "revoke", grant["grant_id"][:-1])
    assert (revoked.returncode, revoked.stdout) == (0, f"revoked grant {grant['grant_id'][:-1]}\n")
    assert grants(shell) == []
    assert "nothing stands allowed" in shell.run("approvals", "grants").stderr
    assert ", over\t" in shell.run("approvals", "grants", "--all").stdout
    assert shell.run("approvals", "revoke", grant["grant_id"]).returncode == 1
    with asking(shell, write_call("src/c", "x")) as terminal:
        terminal.type("n\n")
        assert terminal.ends() == 0


def test_where_nothing_may_stand_only_once_is_allowed(shell: Shell) -> None:
    (shell.folder / ".env").write_text("KEY=1\n")
    with asking(shell, write_call(".env", "x")) as terminal:
        (approval,) = pending(shell)
        for length in (["--session"], ["--for", "2h"]):
            refused = shell.run("approvals", "allow", approval["approval_id"], *length)
            assert refused.returncode == 2
            assert "once only" in refused.stderr
        assert shell.run("approvals", "allow", approval["approval_id"]).returncode == 0
        assert terminal.ends() == 0
    assert grants(shell) == []
    (used,) = grants(shell, "--all")
    assert used["scope"] == "once"
    assert "one call of files.write" in shell.run("approvals", "grants", "--all").stdout


# --- without a terminal that asks ---


def test_a_run_that_was_left_to_the_daemon_waits_for_ever_and_goes_on_when_it_is_answered(shell: Shell) -> None:
    with serving(shell):
        run_id = detached(shell, write_call("a.txt", "x"))
        (approval,) = pending(shell)
        assert (approval["run_id"], approval["expires_ms"]) == (run_id, 0)
        assert shell.run("approvals", "allow", approval["approval_id"]).stderr == ""
        assert shell.run("run", "--attach", run_id).stdout == "so be it\n"
    assert (shell.folder / "a.txt").exists()
    shell.assert_verifies()


def test_with_nobody_there_a_decision_is_recorded_and_it_is_said_how_the_run_goes_on(shell: Shell) -> None:
    with serving(shell):
        run_id = detached(shell, write_call("a.txt", "x"))
    assert "waiting: approval" in shell.run("runs", "list").stdout
    (approval,) = pending(shell)
    allowed = shell.run("approvals", "allow", approval["approval_id"])
    assert (allowed.returncode, allowed.stdout) == (0, "allowed once: files.write\n")
    assert f"palyra-trio run --attach {run_id}" in allowed.stderr
    assert not (shell.folder / "a.txt").exists()
    assert shell.run("approvals", "deny", approval["approval_id"]).returncode == 1
    with serving(shell):
        assert shell.run("run", "--attach", run_id).stdout == "so be it\n"
    assert (shell.folder / "a.txt").exists()
    shell.assert_verifies()


def test_a_daemon_elsewhere_is_answered_too(shell: Shell) -> None:
    with serving(shell) as address:
        run_id = detached(shell, write_call("src/a", "x"), write_call("src/b", "x"), ASKS)
        token = (shell.state_dir / "token").read_bytes()
        connected = shell.run("connect", address, "--name", "home", "--token-file", "-", "--yes", stdin=token)
        assert connected.returncode == 0, connected.stderr
        there = ("--daemon", "home")
        (approval,) = pending(shell, *there)
        shown = shell.run(*there, "approvals", "show", approval["approval_id"], "--json")
        assert json.loads(shown.stdout)["prompt"] == shell.bodies("ApprovalRequested", run_id)[0]["prompt"]
        allowed = shell.run(*there, "approvals", "allow", approval["approval_id"], "--session")
        assert (allowed.returncode, allowed.stderr) == (0, "")
        shell.until_waiting(run_id, count=2)
        assert shell.run(*there, "approvals", "allow", approval["approval_id"]).returncode == 1
        granted = shell.run(*there, "approvals", "grants").stdout
        assert "files.write src/*" in granted
        assert shell.run(*there, "approvals", "revoke", approval["approval_id"]).returncode == 0
        (question,) = pending(shell, *there)
        assert shell.run(*there, "approvals", "deny", question["approval_id"]).returncode == 0
        assert shell.run(*there, "run", "--attach", run_id).stdout == "so be it\n"


# --- misuse ---


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (["list"], 0, "nothing waits for you"),
        (["list", "--all"], 0, "nothing was asked yet"),
        (["grants"], 0, "nothing stands allowed"),
        (["show", "01"], 1, "nothing has run yet"),
        (["allow", "01", "--session", "--for", "2h"], 2, "choose one"),
        (["allow", "01", "--for", "soon"], 2, "is no length of time"),
    ],
)
def test_where_nothing_was_asked(shell: Shell, arguments: list[str], status: int, said: str) -> None:
    done = shell.run("approvals", *arguments)
    assert (done.returncode, done.stdout) == (status, "")
    assert said in done.stderr


def test_what_is_not_there_is_not_found_and_several_are_not_one(shell: Shell) -> None:
    calls = {"calls": [*write_call("a", "x")["calls"], *write_call("b", "x")["calls"]]}
    with asking(shell, calls) as terminal:
        assert "there is no approval" in shell.run("approvals", "show", "7ZZZ").stderr
        several = shell.run("approvals", "deny", "0")
        assert several.returncode == 1
        assert "fits more than one approval" in several.stderr
        assert shell.run("approvals", "revoke", "7ZZZ").returncode == 1
        terminal.type("\x03")
        assert terminal.ends() == 130


def test_one_that_nobody_has_marked_yet_is_shown_as_expired() -> None:
    asked = Approval(
        "A", RunId("R"), "c", SessionId("S"), Principal("p"), "/", "t", False, None, ApprovalState.PENDING, 1, 1000
    )  # fmt: skip
    assert _state(asked, 999) == "pending, expires in 0 s"
    assert _state(asked, 1000) == "expired"


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({}, "once"),
        ({"used_ms": 5}, "once, used"),
        ({"used_ms": 5, "ended_ms": 6}, "once, over"),
        ({"scope": "session"}, "for session S"),
        ({"scope": "session", "ended_ms": 6}, "for session S, over"),
        ({"scope": "time", "until_ms": 61_000}, "until 1970-01-01 00:01Z"),
        ({"scope": "time", "until_ms": 1_000}, "until 1970-01-01 00:00Z, over"),
    ],
)
def test_a_grant_says_for_how_long_it_holds_and_whether_it_still_does(fields: dict[str, Any], told: str) -> None:
    made = Grant("G", Principal("p"), SessionId("S"), "/", Pattern("t", "*"), "once", 0, 1, "p")
    assert _holds(attrs.evolve(made, **fields), 1_000) == told
