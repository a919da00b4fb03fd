"""Why a call was decided as it was, and what would be decided: as a person reads it, and as a program does."""

import json
from pathlib import Path
from typing import Any

import pytest

from palyra_trio.core.messages import ToolCall
from palyra_trio.core.policy import CallFacts, PathResource, PolicyRules, plain_facts
from palyra_trio.core.run import RunState
from palyra_trio.core.tape import (
    ApprovalDecided,
    ApprovalRequested,
    PolicyDecision,
    RunFinished,
    ToolFinished,
    ToolProposed,
    ToolStarted,
)
from palyra_trio.guard.cedar import CedarEngine
from palyra_trio.guard.policy_set import sources
from tests.cli.conftest import RUN, STARTED, Home, Palyra
from tests.cli.test_serve import serving
from tests.processes import Shell

NOW = CedarEngine(sources((), PolicyRules())).hash
APPROVAL = "01HZZZZZZZ0000000000000021"


def facts(tool: str, path: str, action: Any = "fs.write") -> dict[str, Any]:
    return plain_facts(CallFacts(tool, action, "medium", False, (PathResource(path),), "", "/project"))


@pytest.fixture
def recorded(home: Home) -> None:
    """A run with a call that was asked for and allowed, one that was denied by policies of then, and one that was wrong."""
    writes, reads = ToolCall("c1", "files.write", {"path": "a.txt"}), ToolCall("c2", "files.read", {"path": "b"})
    rule, denied = "write-in-workspace", "gone, or not"
    home.record_run(
        *STARTED,
        *map(ToolProposed, (writes, reads, ToolCall("c3", "nope", {}))),
        PolicyDecision("c1", "ask", rule, "a person decides", "d", NOW, facts("files.write", "a.txt")),
        PolicyDecision("c2", "deny", denied, "not read", "d", "0ld" * 20, facts("files.read", "b", "fs.read")),
        PolicyDecision("c3", "deny", "not_found", "there is no tool 'nope'", "d"),
        ApprovalRequested(APPROVAL, "c1", "May it?", tool="files.write"),
        ApprovalDecided(APPROVAL, "c1", "granted", "user:me", "go on"),
        PolicyDecision("c1", "allow", rule, "user:me allowed (once)", "d", NOW, facts("files.write", "a.txt")),
        ToolStarted("c1", "key", grant=APPROVAL),
        ToolFinished("c1", "wrote", 12),
        RunFinished(RunState.RUNNING, RunState.DONE, "final_answer"),
    )


# --- why ---


@pytest.mark.usefixtures("recorded")
def test_why_tells_what_happened_to_each_call_with_the_text_of_what_decided(palyra: Palyra) -> None:
    first, second, third = palyra("policy", "why", "last").stdout.split("\n\n")
    assert first.splitlines() == [
        'c1: files.write {"path": "a.txt"}',
        "  ask: a person decides",
        "    write-in-workspace, in preset default:20",
        '      @id("write-in-workspace")',
        '      @reason("it changes a file, so a person decides")',
        '      permit (principal, action == Daemon::Action::"fs.write", resource)',
        "      when { resource.inside_workspace && context.common.approved };",
        "  a person is asked",
        "  granted by user:me (once): go on",
        "  allow: user:me allowed (once)",
        f"  started under {APPROVAL}",
        "  done after 12 ms",
    ]
    assert second.splitlines()[1:] == [
        "  deny: not read",
        "    gone",
        "    or not",
        f"    (decided by the policies 0ld0ld0ld0ld; now {NOW[:12]} are in force)",
    ]
    assert third.splitlines() == ["c3: nope {}", "  deny: there is no tool 'nope'", "    not_found"]


@pytest.mark.usefixtures("recorded")
def test_why_can_be_asked_of_one_call(palyra: Palyra) -> None:
    assert palyra("policy", "why", f"{RUN}/c3").stdout.startswith("c3: nope {}\n")
    refused = palyra("policy", "why", "last/c9")
    assert refused.exit_code == 1
    assert "it has c1, c2, c3" in refused.stderr


@pytest.mark.usefixtures("recorded")
def test_why_tells_a_program_the_same(palyra: Palyra) -> None:
    found = json.loads(palyra("policy", "why", "last/c1", "--json").stdout)
    (call,) = found["calls"]
    assert found["run_id"] == RUN
    assert [each["outcome"] for each in call["decisions"]] == ["ask", "allow"]
    assert call["decisions"][0]["policies"][0]["file"] == "preset default"
    assert call["decisions"][0]["changed_since"] is False
    assert call["answers"] == [{"outcome": "granted", "by": "user:me", "reason": "go on", "scope": "once"}]
    assert (call["started"], call["grant"], call["error"]) == (True, APPROVAL, "")


# --- diff ---


@pytest.mark.usefixtures("recorded")
def test_diff_lists_and_counts_the_recorded_calls_that_would_be_decided_otherwise(
    palyra: Palyra, tmp_path: Path
) -> None:
    new = tmp_path / "new"
    new.mkdir()
    (new / "mine.cedar").write_text(
        '@id("no-a") forbid (principal, action, resource) when { context.common.tool.name == "files.write" };'
    )
    result = palyra("policy", "diff", "current", str(new))
    assert result.stdout.splitlines()[1:] == [f"{RUN}\tc1\tfiles.write\ta.txt\task\tdeny\tno-a forbids it (no-a)"]
    assert result.stderr == "1 ask -> deny\n1 of 2 recorded calls would be decided otherwise (runs looked at: 1)\n"
    found = json.loads(palyra("policy", "diff", "default", "strict", "--runs", "last", "--json").stdout)
    assert found["counts"] == [{"old": "ask", "new": "ask every time", "calls": 1}]
    assert (found["judged"], found["changes"][0]["call_id"]) == (2, "c1")
    same = palyra("policy", "diff", "current", "default")
    assert (same.exit_code, same.stdout) == (0, "")
    assert palyra("policy", "diff", "current", "nope").exit_code == 2


# --- explain ---


def test_explain_shows_both_passes_and_who_would_be_asked(palyra: Palyra) -> None:
    result = palyra("policy", "explain", "files.write", "--path", "notes/.env")
    first, second, *passes = result.stdout.splitlines()
    assert first == "files.write on notes/.env (fs.write, risk medium)"
    assert second.startswith("ask every time: notes/.env is an environment file")
    assert passes == [
        "  unasked: not allowed",
        "    sensitive-path, in preset default:52",
        "  once a person says yes to this call: allowed",
        "    write-in-workspace, in preset default:20",
        "  when a person said yes for longer: not allowed",
        "    sensitive-path, in preset default:52",
    ]


@pytest.mark.parametrize(
    ("arguments", "outcome", "policies"),
    [
        (("files.read", "--path", "a"), "allow", ["read-in-workspace"]),
        (("files.read", "--path", "../a"), "deny", ["outside-workspace"]),
        (("files.read", "--path", "a", "--user", "user:mallory"), "deny", ["not-mallory"]),
        (("files.read", "--path", "a", "--workspace", "/elsewhere"), "allow", ["read-in-workspace"]),
        (("files.read", "--path", "/elsewhere/a", "--workspace", "/elsewhere"), "allow", ["read-in-workspace"]),
        (("fetch.get", "--host", "example.com:8080"), "ask", ["fetch"]),
        (("fetch.get", "--host", "internal", "--ip-class", "private"), "deny", ["public-addresses-only"]),
        (("vault", "--secret", "github", "--action", "secret.use", "--risk", "high"), "deny", []),
        (("sh", "--program", "/bin/sh", "--opaque", "--tier", "4", "--action", "process.exec", "--risk", "high"), "ask", ["opaque-program", "start-program"]),
    ],
)  # fmt: skip
def test_explain_answers_for_a_program(
    palyra: Palyra, home: Home, arguments: tuple[str, ...], outcome: str, policies: list[str]
) -> None:
    folder = home.state_dir.parent / ".config" / "palyra-trio" / "policies"
    folder.mkdir(parents=True)
    (folder / "m.cedar").write_text(
        '@id("not-mallory") forbid (principal in Daemon::User::"user:mallory", action, resource);'
    )
    found = json.loads(palyra("policy", "explain", *arguments, "--json").stdout)
    deciding = {each["id"] for one in found["passes"][:2] for each in one["policies"]}
    assert found["outcome"] == outcome
    assert deciding == set(policies)
    assert [each["approval"] for each in found["passes"]] == ["none", "once", "standing"]


def test_explain_says_what_is_missing(palyra: Palyra) -> None:
    result = palyra("policy", "explain", "files.write")
    assert result.exit_code == 2
    assert "files.write (fs.write) needs a path" in result.stderr
    assert palyra("policy", "explain", "nope", "--path", "a").exit_code == 2


# --- as it really goes ---


def test_what_a_run_did_is_told_and_judged_anew_by_a_daemons_policies(shell: Shell) -> None:
    calls = {"calls": [{"tool": "files.write", "arguments": {"path": "a.txt", "text": "x"}}]}
    model = shell.script(calls, {"text": "done"})
    with serving(shell) as daemon:
        ran = shell.run("run", "--model", model, "--yes-to", "files.write", "go")
        assert ran.returncode == 0, ran.stderr
        told = shell.run("policy", "why", "last").stdout
        assert "  allow: files.write was allowed with the run (--yes-to files.write)" in told
        assert "    write-in-workspace, in preset default:20" in told
        shell.run("tools", "disable", "files.write")
        moved = shell.run("policy", "why", "last").stdout
        assert "(decided by the policies " in moved
        changed = shell.run("policy", "diff", "default", "trusted-workspace")
        assert changed.stdout == ""
        assert "0 of 1 recorded calls" in changed.stderr
        shell.run("tools", "reset", "files.write")
        changed = shell.run("policy", "diff", "default", "trusted-workspace")
        assert "\tfiles.write\ta.txt\task\tallow\tthe workspace is trusted" in changed.stdout
        assert changed.stderr.startswith("1 ask -> allow\n")
        again = shell.run("run", "--model", model, "--no-input", "go")
        assert again.returncode == 4, again.stderr
        daemon.process.terminate()
        assert daemon.ends() == 0
