import json
import os

import pytest

from palyra_trio.core.messages import ToolCall, Usage
from palyra_trio.core.policy import Outcome
from palyra_trio.core.run import RunState
from palyra_trio.core.tape import (
    ModelTurn,
    PolicyDecision,
    ProviderRequest,
    RunFinished,
    StatusChange,
    ToolProposed,
    run_stream,
)
from palyra_trio.journal.store import entry, lock_state_dir
from tests.cli.conftest import RUN, SESSION, STARTED, Home, Palyra

OTHER = "01HZZZZZZZ0000000000000022"
REFUSED = RunFinished(RunState.QUEUED, RunState.FAILED, "denied", "no")


def listed(palyra: Palyra, *options: str) -> list[tuple[str, str]]:
    runs = json.loads(palyra("runs", "list", "--json", *options).stdout)["runs"]
    return [(run["run_id"], run["state"]) for run in runs]


def test_a_list_of_nothing_is_an_answer(palyra: Palyra) -> None:
    result = palyra("runs", "list")
    assert (result.exit_code, result.stdout, result.stderr) == (0, "", "no runs yet\n")
    assert listed(palyra) == []


def test_runs_are_listed_newest_first_with_the_reason_of_a_failure(palyra: Palyra, home: Home) -> None:
    home.record_whole_run()
    home.record_run(REFUSED, run_id=OTHER, text="second")
    rows = [line.split("\t") for line in palyra("runs", "list").stdout.splitlines()]
    assert rows[0] == ["RUN", "AGE", "STATE", "TITLE"]
    assert [(row[0], *row[2:]) for row in rows[1:]] == [(OTHER, "failed: denied", "second"), (RUN, "done", "do it")]


def test_runs_are_listed_by_state_and_by_session(palyra: Palyra, home: Home) -> None:
    home.record_whole_run()
    home.record_run(*STARTED, run_id=OTHER)
    assert listed(palyra, "--state", "done") == [(RUN, "done")]
    assert listed(palyra, "--state", "interrupted", "--state", "failed") == [(OTHER, "interrupted")]
    assert listed(palyra, "--state", "running") == []
    assert listed(palyra, "--session", SESSION) == [(OTHER, "interrupted"), (RUN, "done")]
    assert palyra("runs", "list", "--session", "nobodys").exit_code == 1


def test_a_run_is_running_while_a_process_holds_the_state_directory(palyra: Palyra, home: Home) -> None:
    home.record_run(*STARTED)
    assert listed(palyra) == [(RUN, "interrupted")]
    lock = lock_state_dir(home.state_dir)
    try:
        assert listed(palyra) == [(RUN, "running")]
    finally:
        os.close(lock)


def test_a_run_is_shown_with_what_it_did_and_what_to_do_next(palyra: Palyra, home: Home) -> None:
    home.record_whole_run()
    result = palyra("runs", "show", "last")
    assert result.stdout.startswith(f"run      {RUN}\n")
    assert result.stdout.endswith("\n\nIt is done.\n")
    assert f"palyra-trio tape {RUN}" in result.stderr
    assert f"palyra-trio runs diff {RUN}" in result.stderr
    assert "cancel" not in result.stderr


def test_a_run_is_found_by_the_unique_beginning_of_its_id(palyra: Palyra, home: Home) -> None:
    home.record_whole_run()
    home.record_run(run_id=OTHER)
    assert json.loads(palyra("runs", "show", OTHER[:-1].lower(), "--json").stdout)["run"]["run_id"] == OTHER
    result = palyra("runs", "show", "01HZ")
    assert result.exit_code == 1
    assert RUN in result.stderr
    assert OTHER in result.stderr


def test_nobody_sees_or_ends_the_run_of_another(palyra: Palyra, home: Home) -> None:
    home.record_run(*STARTED, by="user:somebody-else")
    for verb in ("show", "cancel", "diff", "undo"):
        result = palyra("runs", verb, RUN)
        assert (result.exit_code, result.stdout) == (1, "")
    assert listed(palyra) == []


def test_a_run_that_was_left_behind_can_be_cancelled_and_only_once(palyra: Palyra, home: Home) -> None:
    home.record_run(*STARTED)
    assert palyra("runs", "cancel", "last", "--reason", "enough").stdout == f"cancelled run {RUN}\n"
    assert listed(palyra) == [(RUN, "cancelled")]
    assert "by user:" in palyra("tape", RUN, "--kind", "CancelRequested").stdout
    assert palyra("runs", "cancel", RUN).exit_code == 1


def test_nothing_is_cancelled_while_another_process_holds_the_journal(palyra: Palyra, home: Home) -> None:
    home.record_run(*STARTED)
    lock = lock_state_dir(home.state_dir)
    try:
        result = palyra("runs", "cancel", RUN, "--json")
    finally:
        os.close(lock)
    assert result.exit_code == 75
    assert json.loads(result.stderr)["error"]["code"] == "state_locked"


def test_the_diff_tells_what_the_run_wrote(palyra: Palyra, home: Home) -> None:
    home.record_whole_run()
    told = "--- a/a.txt\n+++ b/a.txt\n@@ -1 +1 @@\n-old\n+new\n"
    assert palyra("runs", "diff", RUN).stdout == told
    as_json = json.loads(palyra("runs", "diff", RUN, "--json").stdout)
    assert (as_json["diff"], [each["path"] for each in as_json["changes"]]) == (told, ["a.txt"])


def test_a_run_that_changed_nothing_has_an_empty_diff_and_nothing_to_undo(palyra: Palyra, home: Home) -> None:
    home.record_run(REFUSED)
    result = palyra("runs", "diff", RUN)
    assert (result.exit_code, result.stdout, result.stderr) == (0, "", f"run {RUN} changed no file\n")
    assert palyra("runs", "undo", RUN, "--yes").exit_code == 1


def test_a_run_is_undone_after_it_was_said_what_that_means(palyra: Palyra, home: Home) -> None:
    home.record_whole_run()
    result = palyra("runs", "undo", RUN, "--yes")
    assert (result.exit_code, result.stdout) == (0, f"undone: run {RUN}\n")
    assert result.stderr == f"in {home.folder}:\n  put back a.txt\n"
    assert (home.folder / "a.txt").read_bytes() == b"old\n"


def test_without_a_terminal_and_without_yes_nothing_is_undone(palyra: Palyra, home: Home) -> None:
    home.record_whole_run()
    result = palyra("runs", "undo", RUN)
    assert result.exit_code == 2
    assert "--yes" in result.stderr
    assert (home.folder / "a.txt").read_bytes() == b"new\n"


def test_what_was_changed_since_is_not_undone(palyra: Palyra, home: Home) -> None:
    home.record_whole_run()
    (home.folder / "a.txt").write_text("mine")
    result = palyra("runs", "undo", RUN, "--yes")
    assert (result.exit_code, result.stdout) == (1, "")
    assert (home.folder / "a.txt").read_text() == "mine"


@pytest.mark.parametrize("events", [(), STARTED, (*STARTED, StatusChange(RunState.RUNNING, RunState.WAITING, "x"))])
def test_a_run_that_has_not_ended_is_not_undone(palyra: Palyra, home: Home, events: tuple[StatusChange, ...]) -> None:
    home.record_run(*events)
    assert "wait for its end" in palyra("runs", "undo", RUN, "--yes").stderr


def test_why_tells_how_a_run_ended_or_what_it_waits_for(palyra: Palyra, home: Home) -> None:
    home.record_run(
        *STARTED, ProviderRequest(1, 1, (), ""), StatusChange(RunState.RUNNING, RunState.WAITING, "approval")
    )
    waits = palyra("runs", "why", "last").stdout
    assert waits.splitlines()[0] == f"run {RUN} is waiting"
    assert waits.splitlines()[1].startswith("waits for the answer of openai/m, for ")
    assert json.loads(palyra("runs", "why", "last", "--json").stdout)["waits"][0]["since_ms"] > 0
    ended = RunFinished(RunState.WAITING, RunState.FAILED, "limit_turns", "50 turns")
    home.record(entry(run_stream(RUN), ended))
    result = palyra("runs", "why", "last")
    assert result.stdout == f"run {RUN} failed (limit_turns): 50 turns\n"
    assert result.stderr == ""  # no policy had a part in it


@pytest.mark.parametrize(("outcome", "told"), [("deny", True), ("allow", False), ("ask", False)])
def test_why_names_the_policies_only_where_one_has_refused_a_call(
    palyra: Palyra, home: Home, outcome: Outcome, told: bool
) -> None:
    home.record_run(
        *STARTED,
        ProviderRequest(1, 1, (), ""),
        ModelTurn(1, "", "tool_calls", Usage(), "m", 1),
        ToolProposed(ToolCall("c", "files.edit", {})),
        PolicyDecision("c", outcome, "a rule", "a reason", ""),
        RunFinished(RunState.RUNNING, RunState.CANCELLED, "cancelled"),
    )
    result = palyra("runs", "why", "last")
    assert result.stdout == f"run {RUN} was cancelled (cancelled)\n"
    assert (f"palyra-trio policy why {RUN}" in result.stderr) == told


def test_why_says_that_nobody_goes_on_with_an_interrupted_run_and_what_to_do(palyra: Palyra, home: Home) -> None:
    home.record_run(*STARTED)
    result = palyra("runs", "why", "last")
    assert result.stdout == f"run {RUN} is interrupted\n"
    assert "its process has gone" in result.stderr
    assert f'next: palyra-trio run --session {SESSION} "…"\n      palyra-trio runs cancel {RUN}\n' in result.stderr
