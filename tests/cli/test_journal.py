import json
import shutil
import sqlite3
from base64 import b64encode
from contextlib import closing
from pathlib import Path

import pytest

from palyra_trio.core.chain import digest
from palyra_trio.core.messages import ToolCall
from palyra_trio.core.run import RunState
from palyra_trio.core.tape import FinalAnswer, RunFinished, ToolProposed
from palyra_trio.journal.store import SqliteStore
from tests.cli.conftest import STARTED, Home, Palyra


def change(file: Path) -> None:
    """Change what a row says, as somebody with an editor could."""
    with closing(sqlite3.connect(file, isolation_level=None)) as db:
        db.execute("DROP TRIGGER ev_no_update")
        db.execute("UPDATE ev SET at_ms = at_ms + 1 WHERE g = 2")


def test_a_journal_that_is_as_it_was_written_verifies(palyra: Palyra, home: Home) -> None:
    home.record_whole_run()
    result = palyra("journal", "verify")
    assert result.exit_code == 0
    assert result.stdout.endswith("every row is what was written\n")
    report = json.loads(palyra("journal", "verify", "--json").stdout)
    with SqliteStore(home.state_dir) as store:
        rows, head = store.head
    assert (report["ok"], report["rows"], report["head"], report["blobs"]) == (True, rows, head.hex(), 2)
    assert f"head    {head.hex()}\n" in result.stdout


def test_a_changed_row_is_a_fault_and_exit_status_1(palyra: Palyra, home: Home) -> None:
    home.record_run(*STARTED)
    change(home.journal)
    result = palyra("journal", "verify", str(home.journal))
    assert result.exit_code == 1
    assert "FAULT   row g=2" in result.stdout
    assert "every row" not in result.stdout
    result = palyra("journal", "verify", "--json")
    assert result.exit_code == 1
    assert json.loads(result.stdout)["ok"] is False


def test_a_copy_without_its_wal_is_noted(palyra: Palyra, home: Home) -> None:
    home.record_run()
    with SqliteStore(home.state_dir):
        shutil.copy(home.journal, home.folder / "copy.sqlite3")
    result = palyra("journal", "verify", "copy.sqlite3")
    assert result.exit_code == 0
    assert "copy.sqlite3-wal is missing" in result.stderr


def test_what_is_no_journal_is_refused(palyra: Palyra, home: Home) -> None:
    assert palyra("journal", "verify").exit_code == 1
    (home.folder / "no.sqlite3").write_bytes(b"no database at all, but some text of a certain length" * 10)
    result = palyra("journal", "verify", "no.sqlite3")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "cannot be read" in result.stderr


# --- erasing ---

LEAKED = "hunter2-hunter2-hunter2"


def record_leak(home: Home) -> None:
    home.record_run(
        *STARTED,
        ToolProposed(ToolCall("c1", "fetch", {"url": f"https://h/?key={LEAKED}"})),
        FinalAnswer(f"I sent {b64encode(LEAKED.encode()).decode()}", "openai", "m"),
        RunFinished(RunState.RUNNING, RunState.DONE, "final_answer"),
        text=f"use {LEAKED}",
    )
    home.record(blobs=((digest(LEAKED.encode()), LEAKED.encode()),))


def left(home: Home) -> list[Path]:
    return [path for path in home.state_dir.rglob("*") if path.is_file() and LEAKED.encode() in path.read_bytes()]


def test_a_value_that_leaked_is_erased_everywhere_and_the_journal_verifies(palyra: Palyra, home: Home) -> None:
    record_leak(home)
    result = palyra("journal", "redact", "last/4", "call.arguments.url", "--stdin", "--yes", input=f"{LEAKED}\n")
    assert (result.exit_code, result.stdout) == (0, "erased 3 events and 1 blobs\n"), result.output
    assert left(home) == []
    assert palyra("journal", "verify").exit_code == 0
    assert "hunter2" not in palyra("runs", "list").stdout + palyra("tape", "last", "--jsonl").stdout
    assert palyra("runs", "show", "last").exit_code == 0


def test_without_a_part_the_whole_field_is_erased(palyra: Palyra, home: Home) -> None:
    record_leak(home)
    report = json.loads(palyra("journal", "redact", "last/1", "text", "--yes", "--json").stdout)
    assert (report["rows"], report["blobs"], report["left_in"]) == (1, 0, [])


def test_a_file_that_still_holds_it_is_named_and_the_status_is_1(palyra: Palyra, home: Home) -> None:
    record_leak(home)
    (home.state_dir / "notes").write_text(LEAKED)
    result = palyra("journal", "redact", "last/4", "call.arguments.url", "--stdin", "--yes", input=LEAKED)
    assert (result.exit_code, "notes still holds it" in result.stderr) == (1, True)


@pytest.mark.parametrize(
    ("place", "field", "given", "words"),
    [
        ("last", "text", LEAKED, "is no place on a tape"),
        ("last/x", "text", LEAKED, "is no place on a tape"),
        ("last/1", "nothing", LEAKED, "no text in a field"),
        ("last/1", "text", "something else", "does not stand in text"),
        ("last/1", "text", "use", "would be found in too much"),
    ],
)
def test_what_cannot_be_meant_is_refused_and_nothing_is_erased(
    palyra: Palyra, home: Home, place: str, field: str, given: str, words: str
) -> None:
    record_leak(home)
    result = palyra("journal", "redact", place, field, "--stdin", "--yes", input=given)
    assert (result.exit_code, words in result.stderr) == (2, True), result.output
    assert left(home)


def test_nothing_is_erased_without_consent(palyra: Palyra, home: Home) -> None:
    record_leak(home)
    assert palyra("journal", "redact", "last/1", "text").exit_code == 2
    assert left(home)


def test_nothing_is_erased_beside_a_running_daemon(palyra: Palyra, home: Home) -> None:
    record_leak(home)
    with SqliteStore(home.state_dir):
        assert palyra("journal", "redact", "last/1", "text", "--yes").exit_code == 75
    assert left(home)


def test_erasing_again_writes_the_journal_anew(palyra: Palyra, home: Home) -> None:
    record_leak(home)
    palyra("journal", "redact", "last/1", "text", "--yes")
    again = palyra("journal", "redact", "last/1", "text", "--yes")
    assert (again.exit_code, "was erased already" in again.stdout) == (0, True)
    assert json.loads(palyra("journal", "redact", "last/1", "text", "--yes", "--json").stdout)["rows"] == 0
