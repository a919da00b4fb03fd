"""A value that leaked is on no page afterwards, the rest is as it was, and the chain verifies."""

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from palyra_trio.core.agents import AgentSpec
from palyra_trio.core.chain import digest
from palyra_trio.core.errors import Busy, InvalidArgument, NotFound, StateConflict
from palyra_trio.core.messages import ToolCall, Usage
from palyra_trio.core.outputs import OutputKept
from palyra_trio.core.session_events import JobOutput, JobStarted, SessionOpened
from palyra_trio.core.system_events import AgentDefined, BodiesErased
from palyra_trio.core.tape import (
    SESSION_STREAM,
    SYSTEM_STREAM,
    ModelTurn,
    TapeEvent,
    ToolFinished,
    ToolOutput,
    ToolProposed,
    run_stream,
)
from palyra_trio.journal import erasure
from palyra_trio.journal.check import check_file
from palyra_trio.journal.erasure import Erasure, Place, blot, clear, search, text_at
from palyra_trio.journal.queries import Reader
from palyra_trio.journal.store import FILE_NAME, SqliteStore
from tests.journal.tickets import (
    ALICE,
    FINISH,
    START,
    asked,
    commit,
    delta,
    for_run,
    opened,
    run_id,
    session_id,
    ticket,
)

VALUE = 'hunter2 "and" more\nof it'
PLAIN = b"hunter2"
AT_MS = 9


def finished(text: str) -> ToolFinished:
    return ToolFinished("c", text, 1)


def record(state_dir: Path) -> None:
    """Record a run that holds the value in a call, its result, a blob and pieces of an answer, and one that does not."""
    call = ToolCall("c", "fetch", {"headers": {"x": VALUE}})
    with SqliteStore(state_dir) as store:
        commit(
            store,
            ticket(SESSION_STREAM + session_id(1), SessionOpened(session_id(1), ALICE, title='hunter2 "and" more')),
            for_run(
                1,
                asked(1, text=f"{VALUE} is what I use"),
                START,
                ToolProposed(call),
                finished(json.dumps({"sent": VALUE})),
            ),
            for_run(
                1,
                *map(delta, ("it is hunter2 ", '"and" ', "more\nof", " it", ", done")),
                blobs=[f"all of {VALUE}".encode(), b"else"],
            ),
            for_run(1, ModelTurn(1, "it is done", "stop", Usage(), "m"), FINISH),
            ticket(SYSTEM_STREAM, AgentDefined(AgentSpec("a", instructions=f"use {VALUE}!"), ALICE)),
            opened(2),
            for_run(2, asked(2, text="an innocent run"), START, finished("hunting"), FINISH),
        )


@pytest.fixture
def state_dir(tmp_path: Path) -> Path:
    record(tmp_path)
    return tmp_path


PLACE = Place(run_stream(run_id(1)), 3, "call.arguments.headers.x")


def erased(state_dir: Path, value: str = VALUE, parts: tuple[str, ...] = (), reason: str = "it leaked") -> Erasure:
    return erase(state_dir, PLACE, value, parts, reason)


def erase(state_dir: Path, place: Place, value: str, parts: tuple[str, ...], reason: str = "") -> Erasure:
    with SqliteStore(state_dir) as store:
        done, _ = blot(store, state_dir, place, [value], ALICE, reason, AT_MS, parts=parts)
        clear(state_dir)
    return done


def events(state_dir: Path, stream: str) -> Iterator[TapeEvent | None]:
    with closing(Reader(state_dir / FILE_NAME)) as reader:
        yield from [row.event() for row in reader.tape(stream)]


def files_with(state_dir: Path, value: bytes) -> list[str]:
    return [path.name for path in state_dir.rglob("*") if path.is_file() and value in path.read_bytes()]


def test_the_bytes_are_in_no_file_and_the_chain_verifies(state_dir: Path) -> None:
    assert files_with(state_dir, PLAIN)
    before = check_file(state_dir / FILE_NAME)
    done = erased(state_dir)
    report = check_file(state_dir / FILE_NAME)
    assert files_with(state_dir, PLAIN) == files_with(state_dir, b"of it") == []
    assert (report.faults, report.rows, report.erased) == ((), before.rows + 1, done.rows)
    assert (done.blobs, report.blobs) == (1, 1)


def test_what_an_earlier_deletion_left_on_a_page_goes_too(state_dir: Path) -> None:
    with closing(sqlite3.connect(state_dir / FILE_NAME, isolation_level=None)) as db:
        db.execute("PRAGMA secure_delete = OFF")
        db.execute("INSERT INTO meta (name, value) VALUES ('x', ?)", (f"{'-' * 9000}{VALUE}",))
        db.execute("DELETE FROM meta WHERE name = 'x'")
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    erased(state_dir)
    assert files_with(state_dir, PLAIN) == []


def test_what_does_not_hold_it_stays(state_dir: Path) -> None:
    others = list(events(state_dir, run_stream(run_id(2))))
    erased(state_dir)
    assert list(events(state_dir, run_stream(run_id(2)))) == others
    kept = [type(event).__name__ for event in events(state_dir, run_stream(run_id(1))) if event is not None]
    assert kept == ["StatusChange", "ModelTurn", "RunFinished"]


def test_the_erasure_is_an_event_that_names_what_went_and_not_the_value(state_dir: Path) -> None:
    done = erased(state_dir)
    *_, event = events(state_dir, SYSTEM_STREAM)
    assert isinstance(event, BodiesErased)
    assert (len(event.rows), event.blobs) == (done.rows, (digest(f"all of {VALUE}".encode()),))
    assert (event.stream, event.seq, event.field, event.by, event.reason) == (
        PLACE.stream,
        3,
        PLACE.field,
        ALICE,
        "it leaked",
    )


def test_lists_show_it_no_longer(state_dir: Path) -> None:
    erased(state_dir)
    with closing(Reader(state_dir / FILE_NAME)) as reader:
        assert reader.run(run_id(1)).title == "[redacted:erased]"  # type: ignore[union-attr]
        assert reader.session(session_id(1)).title == "[redacted:erased]"  # type: ignore[union-attr]
        assert reader.run(run_id(2)).title == "an innocent run"  # type: ignore[union-attr]
        ((agent, _),) = reader.agents()
    assert agent.instructions == "use [redacted:erased]!"


def test_a_part_of_it_is_looked_for_where_it_was_cut(tmp_path: Path) -> None:
    secret = "abcdefghijklmnopqrstuvwxyz0123456789"
    with SqliteStore(tmp_path) as store:
        commit(store, opened(1), for_run(1, asked(1), START, finished(f"cut {secret[:20]}…"), finished(secret), FINISH))
    place = Place(run_stream(run_id(1)), 4, "text")
    assert erase(tmp_path, place, secret, (secret[:16], secret[-16:])).rows == 2
    assert files_with(tmp_path, secret[:16].encode()) == []


def test_output_that_arrived_in_pieces_is_put_together_to_look(tmp_path: Path) -> None:
    halves = [VALUE[:9], VALUE[9:]]
    watched = [
        ToolOutput("c", "stdout", f"..{halves[0]}"),
        ToolOutput("c", "stderr", "else"),
        ToolOutput("c", "stdout", halves[1]),
    ]
    blobs = [f"kept {halves[0]}".encode(), f"{halves[1]} kept".encode(), b"the last piece"]
    kept = [OutputKept("c", digest(each), len(each)) for each in blobs]
    with SqliteStore(tmp_path) as store:
        commit(store, opened(1), for_run(1, asked(1), START, *watched, *kept, finished(VALUE), FINISH, blobs=blobs))
    done = erase(tmp_path, Place(run_stream(run_id(1)), 9, "text"), VALUE, ())
    assert (done.rows, done.blobs) == (3, 2)
    assert [type(each).__name__ for each in events(tmp_path, run_stream(run_id(1)))].count("NoneType") == 3
    assert files_with(tmp_path, halves[1].encode()) == []
    assert check_file(tmp_path / FILE_NAME).faults == ()


def test_a_job_that_runs_and_wrote_it_must_end_first(tmp_path: Path) -> None:
    job = JobStarted("01J", run_id(1), "c", "/bin/x", ("x",), ".", 4, "mark", 9)
    stream = SESSION_STREAM + session_id(1)
    with SqliteStore(tmp_path) as store:
        commit(store, opened(1), ticket(stream, job, JobOutput("01J", "stdout", VALUE)))
    with pytest.raises(StateConflict, match="job 01J holds it"):
        erase(tmp_path, Place(stream, 3, "text"), VALUE, ())


def test_what_came_after_a_search_is_found_and_what_went_since_is_left_alone(state_dir: Path) -> None:
    found = search(state_dir, [VALUE])
    with SqliteStore(state_dir) as store:
        late = [delta(VALUE[:5]), delta(VALUE[5:]), finished(VALUE), FINISH]
        commit(store, opened(3), for_run(3, asked(3), START, *late, blobs=[f"late {VALUE}".encode()]))
        assert blot(store, state_dir, PLACE, [VALUE], ALICE, "", AT_MS, found=found)[0] == Erasure(13, 2, ())
        assert blot(store, state_dir, PLACE, [VALUE], ALICE, "", AT_MS, found=found)[0] == Erasure(0, 0, ())
        clear(state_dir)
    assert files_with(state_dir, PLAIN) == []
    assert check_file(state_dir / FILE_NAME).faults == ()


def test_a_copy_that_an_upgrade_left_is_deleted(state_dir: Path) -> None:
    copy = state_dir / f"{FILE_NAME}.before-v5"
    copy.write_bytes((state_dir / FILE_NAME).read_bytes())
    assert erased(state_dir).copies == (copy.name,)
    assert not copy.exists()


def test_erasing_again_finds_nothing_and_records_nothing(state_dir: Path) -> None:
    erased(state_dir)
    rows = check_file(state_dir / FILE_NAME).rows
    assert erased(state_dir) == Erasure(0, 0, ())
    assert check_file(state_dir / FILE_NAME).rows == rows


def test_the_journal_goes_on_after_it(state_dir: Path) -> None:
    erased(state_dir)
    with SqliteStore(state_dir) as store:
        commit(store, opened(3), for_run(3, asked(3, text="goes on"), START, FINISH))
    assert check_file(state_dir / FILE_NAME).faults == ()


def test_a_run_that_has_not_ended_is_not_erased_from(tmp_path: Path) -> None:
    with SqliteStore(tmp_path) as store:
        commit(store, opened(1), for_run(1, asked(1, text=VALUE), START))
    with pytest.raises(StateConflict, match="has not ended") as caught:
        erased(tmp_path)
    assert f"runs cancel {run_id(1)}" in caught.value.remedy
    assert files_with(tmp_path, PLAIN)


def test_a_run_that_goes_on_from_one_that_holds_it_must_end_first(state_dir: Path) -> None:
    with SqliteStore(state_dir) as store:
        commit(store, for_run(3, asked(1, text="and then?")))
    assert erased(state_dir).rows  # it waits in line, and will read the session as it is then


def test_a_run_that_has_begun_from_one_that_holds_it_must_end_first(state_dir: Path) -> None:
    with SqliteStore(state_dir) as store:
        commit(store, for_run(3, asked(1, text="and then?"), START))
    with pytest.raises(StateConflict, match=f"run {run_id(3)} goes on from run {run_id(1)}") as caught:
        erased(state_dir)
    assert f"runs cancel {run_id(3)}" in caught.value.remedy
    assert files_with(state_dir, PLAIN)


def test_a_reader_that_keeps_old_pages_is_told_of(state_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(erasure, "WAIT_S", 0.01)
    with closing(sqlite3.connect(state_dir / FILE_NAME, isolation_level=None)) as db:
        db.execute("BEGIN")
        db.execute("SELECT count(*) FROM ev").fetchone()
        with pytest.raises(Busy, match=r"cannot be rebuilt|erased bytes"):
            erased(state_dir)
        db.execute("COMMIT")
    clear(state_dir)
    assert files_with(state_dir, PLAIN) == []


def test_a_reason_that_holds_the_value_is_refused(state_dir: Path) -> None:
    with pytest.raises(InvalidArgument, match="would record the value again"):
        erased(state_dir, reason=f"because {VALUE}")


def test_the_text_of_a_field_is_found_by_its_path(state_dir: Path) -> None:
    assert text_at(state_dir, PLACE) == VALUE
    with pytest.raises(InvalidArgument, match="no text in a field 'call'") as caught:
        text_at(state_dir, Place(PLACE.stream, 3, "call"))
    assert "call.arguments.headers.x" in caught.value.remedy


def test_a_row_that_is_not_there_or_was_erased_is_said(state_dir: Path) -> None:
    with pytest.raises(NotFound, match="has no row 99"):
        text_at(state_dir, Place(PLACE.stream, 99, "text"))
    erased(state_dir)
    assert text_at(state_dir, PLACE) is None
    with pytest.raises(NotFound, match="no journal"):
        text_at(state_dir / "none", PLACE)
