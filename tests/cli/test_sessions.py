import json

import pytest

from palyra_trio.cli.open import principal
from palyra_trio.journal import search
from tests.cli.conftest import RUN, SESSION, STARTED, Home, Palyra


def test_a_list_of_nothing_is_an_answer(palyra: Palyra) -> None:
    result = palyra("sessions", "list")
    assert (result.exit_code, result.stdout, result.stderr) == (0, "", "no sessions yet\n")
    assert json.loads(palyra("sessions", "list", "--json").stdout) == {"sessions": []}


def test_sessions_are_listed_with_their_whole_ids(palyra: Palyra, home: Home) -> None:
    home.record_run()
    header, row = palyra("sessions", "list").stdout.splitlines()
    assert header.split("\t") == ["SESSION", "AGE", "KEY", "TITLE"]
    assert row.split("\t")[0] == SESSION
    assert row.split("\t")[3] == "a session"
    (listed,) = json.loads(palyra("sessions", "list", "--json").stdout)["sessions"]
    assert (listed["session_id"], listed["principal"]) == (SESSION, principal())


def test_sessions_of_others_are_not_there(palyra: Palyra, home: Home) -> None:
    home.record_run(by="user:somebody-else")
    assert palyra("sessions", "list").stdout == ""
    result = palyra("sessions", "show", SESSION)
    assert (result.exit_code, result.stdout) == (1, "")
    assert "there is no session" in result.stderr


def test_a_session_is_shown_with_its_runs(palyra: Palyra, home: Home) -> None:
    home.record_run(*STARTED, text="first\nline")
    said = palyra("sessions", "show", "last").stdout
    assert said.startswith(f"session  {SESSION}\ntitle    a session\n")
    assert said.splitlines()[-1].split("\t")[::2] == [RUN, "interrupted"]
    shown = json.loads(palyra("sessions", "show", SESSION[:24], "--json").stdout)
    assert [(run["run_id"], run["state"]) for run in shown["runs"]] == [(RUN, "interrupted")]


def test_a_session_is_renamed_to_the_first_line_of_what_is_said(palyra: Palyra, home: Home) -> None:
    home.record_whole_run()
    result = palyra("sessions", "rename", "last", "\nThe fence\nand more")
    assert (result.exit_code, result.stdout) == (0, f"session {SESSION} is called The fence\n")
    renamed = json.loads(palyra("sessions", "rename", SESSION[:24], "The gate", "--json").stdout)["session"]
    assert (renamed["session_id"], renamed["title"]) == (SESSION, "The gate")
    assert palyra("sessions", "list").stdout.splitlines()[1].split("\t")[3] == "The gate"
    refused = palyra("sessions", "rename", "last", " ", "--json")
    assert json.loads(refused.stderr)["error"]["code"] == "invalid_argument"


def test_an_archived_session_is_listed_on_request_only(palyra: Palyra, home: Home) -> None:
    home.record_whole_run()
    result = palyra("sessions", "archive", "last")
    assert (result.exit_code, result.stdout) == (0, f"archived session {SESSION}\n")
    assert palyra("sessions", "list").stdout == ""
    assert "(archived) a session" in palyra("sessions", "list", "--archived").stdout
    assert palyra("sessions", "show", SESSION).stdout.startswith(f"session  {SESSION} (archived)\n")
    again = palyra("sessions", "archive", SESSION, "--json")
    assert json.loads(again.stderr)["error"]["code"] == "state_conflict"


def test_what_was_said_in_a_session_is_found(palyra: Palyra, home: Home) -> None:
    home.record_run(*STARTED, text="Paint\nthe FENCE")
    result = palyra("sessions", "search", "last", "fence", "paint")
    header, row = result.stdout.splitlines()
    assert header.split("\t") == ["RUN", "SEQ", "AGE", "WHAT", "TEXT"]
    assert row.split("\t")[:2] + row.split("\t")[3:] == [RUN, "1", "prompt", "Paint the FENCE"]
    (hit,) = json.loads(palyra("sessions", "search", SESSION, "the fence", "--json").stdout)["hits"]
    assert (hit["run_id"], hit["part"]) == (RUN, "prompt")
    assert [each["text"] for each in hit["excerpt"] if each["found"]] == ["the", "FENCE"]
    nothing = palyra("sessions", "search", "last", "zebra")
    assert (nothing.exit_code, nothing.stdout, nothing.stderr) == (0, "", "nobody said that\n")
    assert json.loads(palyra("sessions", "search", "last", " ", "--json").stderr)["error"]["code"] == "invalid_argument"


def test_a_session_is_searched_to_its_beginning(palyra: Palyra, home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    home.record_run(*STARTED, text="Paint the fence")
    monkeypatch.setattr(search, "SCAN_ROWS", 1)
    assert "Paint the fence" in palyra("sessions", "search", "last", "fence").stdout
