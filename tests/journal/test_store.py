"""The SQLite store on real files: places, guards, the one-run rule, append-only, locks, modes."""

import os
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from palyra_trio.core.agents import AgentSpec
from palyra_trio.core.chain import GENESIS, SALT_BYTES, body_digest, digest
from palyra_trio.core.errors import (
    ConfigInvalid,
    JournalInvalid,
    PalyraError,
    RunConflict,
    SessionBusy,
    SessionConflict,
    StateConflict,
    StateLocked,
)
from palyra_trio.core.identity import Principal
from palyra_trio.core.run import RunState
from palyra_trio.core.session_events import SessionArchived
from palyra_trio.core.system_events import AgentDefined
from palyra_trio.core.tape import SYSTEM_STREAM, CancelRequested, StatusChange, run_stream
from palyra_trio.journal import store as store_module
from palyra_trio.journal.guards import AgentIsNew, AlreadyThere, RunIn, SessionIsIdle
from palyra_trio.journal.store import FILE_NAME, LOCK_NAME, SCHEMA_VERSION, SqliteStore
from tests.journal.tickets import (
    ALICE,
    BOB,
    FINISH,
    START,
    accepted,
    asked,
    commit,
    delta,
    for_run,
    opened,
    read,
    rows_of,
    run_id,
    seqs,
    session_id,
    ticket,
    verified,
)

RUNNING = frozenset({RunState.RUNNING})


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteStore]:
    with SqliteStore(tmp_path) as store:
        yield store


# --- places and the chain ---


def test_rows_have_dense_places_in_the_journal_and_on_their_tape(store: SqliteStore, tmp_path: Path) -> None:
    outcomes = commit(store, for_run(1, delta("a"), delta("b")), for_run(2, delta()), for_run(1, delta("c")))
    rows = [row for outcome in outcomes for row in rows_of(outcome)]
    assert [(row.g, row.stream, row.seq) for row in rows] == [
        (1, run_stream(run_id(1)), 1),
        (2, run_stream(run_id(1)), 2),
        (3, run_stream(run_id(2)), 1),
        (4, run_stream(run_id(1)), 3),
    ]
    assert store.head == (4, rows[-1].hash)
    assert verified(tmp_path).head == rows[-1].hash


def test_rows_are_stored_as_they_were_returned(store: SqliteStore, tmp_path: Path) -> None:
    (outcome,) = commit(store, for_run(1, delta("a"), CancelRequested(ALICE)), at_ms=77)
    with read(tmp_path) as reader:
        assert reader.page(run_stream(run_id(1)), 0) == rows_of(outcome)
    assert [row.event() for row in rows_of(outcome)] == [delta("a"), CancelRequested(ALICE)]
    assert {row.at_ms for row in rows_of(outcome)} == {77}


def test_places_and_chain_go_on_after_a_reopening(tmp_path: Path) -> None:
    for _ in range(3):
        with SqliteStore(tmp_path) as store:
            commit(store, for_run(1, delta()), for_run(2, delta()))
            commit(store, for_run(1, delta()))
            outcome = commit(store, for_run(1, delta()))[0]
    assert seqs(outcome) == [9]
    assert rows_of(outcome)[0].g == 12
    found = verified(tmp_path)
    assert (found.rows, found.fault) == (12, "")


@settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(batches=st.lists(st.lists(st.lists(st.integers(1, 3), max_size=3), max_size=4), max_size=5))
def test_any_batches_give_a_journal_that_verifies(
    tmp_path_factory: pytest.TempPathFactory, batches: list[list[list[int]]]
) -> None:
    state_dir = tmp_path_factory.mktemp("any")
    for batch in batches:
        with SqliteStore(state_dir) as store:
            commit(store, *(for_run(each[0], *([delta()] * len(each))) for each in batch if each))
    with SqliteStore(state_dir):
        pass
    assert verified(state_dir).fault == ""


def test_every_row_has_a_salt_of_its_own(tmp_path: Path) -> None:
    with SqliteStore(tmp_path) as store:
        commit(store, for_run(1, delta(), delta()), for_run(2, delta()))
    with read(tmp_path) as reader:
        salts = [row.salt for row in reader.chain()]
    assert all(salt is not None and len(salt) == SALT_BYTES for salt in salts)
    assert len(set(salts)) == 3


def test_an_empty_batch_or_ticket_leaves_nothing(store: SqliteStore) -> None:
    assert commit(store) == []
    assert commit(store, ticket("system")) == [()]
    assert store.head == (0, GENESIS)


def test_a_stream_that_was_dropped_from_memory_keeps_its_place(
    store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_module, "STREAMS_KEPT", 2)
    for expected in (1, 2, 3):
        outcomes = commit(store, *(for_run(number, delta()) for number in range(1, 5)))
        assert [seqs(outcome) for outcome in outcomes] == [[expected]] * 4


# --- guards ---


def test_a_rejected_ticket_leaves_nothing_and_the_others_commit(store: SqliteStore, tmp_path: Path) -> None:
    gone = for_run(9, delta("never"), guards=(RunIn(run_id(9), RUNNING),), blobs=[b"never"])
    outcomes = commit(store, for_run(1, delta("a")), gone, for_run(1, delta("b")))
    assert [type(outcome) for outcome in outcomes] == [tuple, StateConflict, tuple]
    assert (seqs(outcomes[0]), seqs(outcomes[2])) == ([1], [2])
    found = verified(tmp_path)
    assert (found.rows, found.fault) == (2, "")
    with read(tmp_path) as reader:
        assert reader.last_seq(run_stream(run_id(9))) == 0
        assert list(reader.blobs()) == []


def test_guards_see_what_earlier_tickets_of_the_same_batch_did(store: SqliteStore) -> None:
    starts, stops = for_run(1, START), for_run(1, FINISH)
    outcomes = commit(
        store,
        for_run(1, delta("too early"), guards=(RunIn(run_id(1), RUNNING),)),
        accepted(1),
        starts,
        for_run(1, delta("in time"), guards=(RunIn(run_id(1), RUNNING),)),
        stops,
        for_run(1, delta("too late"), guards=(RunIn(run_id(1), RUNNING),)),
    )
    assert [isinstance(outcome, PalyraError) for outcome in outcomes] == [True, False, False, False, False, True]
    assert str(outcomes[0]) == f"run {run_id(1)} is unknown"
    assert str(outcomes[5]) == f"run {run_id(1)} is done"
    assert [seqs(outcome) for outcome in outcomes[1:5]] == [[1], [2], [3], [4]]


def test_what_a_rejected_ticket_changed_on_the_way_is_taken_back(store: SqliteStore, tmp_path: Path) -> None:
    wrong = for_run(1, START, StatusChange(RunState.WAITING, RunState.RUNNING))
    (_, refused) = commit(store, accepted(1), wrong)
    assert isinstance(refused, StateConflict)
    with read(tmp_path) as reader:
        run = reader.run(run_id(1))
    assert run is not None
    assert run.state is RunState.QUEUED


def test_a_run_is_accepted_once(store: SqliteStore) -> None:
    outcomes = commit(store, accepted(1), accepted(1))
    outcomes += commit(store, accepted(1), accepted(1, payload="11"), accepted(1, principal=BOB))
    assert [type(outcome) for outcome in outcomes] == [tuple, AlreadyThere, AlreadyThere, RunConflict, RunConflict]
    assert isinstance(outcomes[1], AlreadyThere)
    assert outcomes[1].session_id == session_id(1)


def test_two_of_a_batch_cannot_both_use_what_only_one_may(store: SqliteStore) -> None:
    commit(store, accepted(1), for_run(1, START))
    guard = (RunIn(run_id(1), RUNNING),)
    first, second = commit(store, for_run(1, FINISH, guards=guard), for_run(1, FINISH, guards=guard))
    assert seqs(first) == [3]
    assert isinstance(second, StateConflict)


def test_an_agent_is_new_once(store: SqliteStore) -> None:
    defined = AgentDefined(AgentSpec("a"), ALICE)
    new = ticket(SYSTEM_STREAM, defined, guards=(AgentIsNew("a"),))
    other = ticket(SYSTEM_STREAM, AgentDefined(AgentSpec("b"), ALICE), guards=(AgentIsNew("b"),))
    outcomes = commit(store, new, new, other, ticket(SYSTEM_STREAM, defined))
    assert [type(outcome) for outcome in outcomes] == [tuple, StateConflict, tuple, tuple]


def test_a_session_is_idle_when_every_run_of_it_has_ended(store: SqliteStore) -> None:
    idle = ticket("x", delta(), guards=(SessionIsIdle(session_id(1)),))
    outcomes = commit(store, idle, accepted(1), idle, for_run(1, START), idle, accepted(2, session=2))
    outcomes += commit(store, for_run(1, FINISH), idle)
    assert [isinstance(outcome, StateConflict) for outcome in outcomes] == [False, False, True, False, True] + [
        False
    ] * 3


# --- one live run a session ---


@pytest.mark.parametrize("first", [(START,), (START, StatusChange(RunState.RUNNING, RunState.WAITING, "approval"))])
def test_a_second_live_run_of_a_session_is_refused(store: SqliteStore, first: tuple[StatusChange, ...]) -> None:
    outcomes = commit(store, accepted(1), accepted(2), for_run(1, *first), for_run(2, START, delta()))
    assert isinstance(outcomes[3], SessionBusy)
    assert seqs(commit(store, for_run(2, delta()))[0]) == [2]


def test_the_next_run_of_a_session_starts_once_the_first_has_ended(store: SqliteStore) -> None:
    outcomes = commit(store, accepted(1), accepted(2), for_run(1, START), for_run(1, FINISH), for_run(2, START))
    assert seqs(outcomes[4]) == [2]


def test_runs_of_two_sessions_are_live_side_by_side(store: SqliteStore) -> None:
    outcomes = commit(store, accepted(1, session=1), accepted(2, session=2), for_run(1, START), for_run(2, START))
    assert not any(isinstance(outcome, PalyraError) for outcome in outcomes)


def test_a_session_key_is_taken_until_the_session_is_archived(store: SqliteStore) -> None:
    first, second, his = commit(store, opened(1, key="work"), opened(2, key="work"), opened(3, BOB, key="work"))
    assert isinstance(second, SessionConflict)
    assert seqs(first) == seqs(his) == [1]
    archive = ticket(f"session:{session_id(1)}", SessionArchived(session_id(1), ALICE))
    assert [type(each) for each in commit(store, archive, opened(4, key="work"))] == [tuple, tuple]


# --- append-only ---


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM ev",
        "DELETE FROM ev WHERE g = 1",
        "UPDATE ev SET body = x'00' WHERE g = 1",
        "UPDATE ev SET body = NULL WHERE g = 1",
        "UPDATE ev SET salt = NULL WHERE g = 1",
        "UPDATE ev SET seq = 5, body = NULL, salt = NULL WHERE g = 1",
        "UPDATE ev SET kind = 5, body = NULL, salt = NULL WHERE g = 1",
        "UPDATE ev SET at_ms = 5, body = NULL, salt = NULL WHERE g = 1",
        "UPDATE ev SET hash = x'00', body = NULL, salt = NULL WHERE g = 1",
        "UPDATE ev SET g = 9, body = NULL, salt = NULL WHERE g = 1",
        "UPDATE ev SET stream = 9, body = NULL, salt = NULL WHERE g = 1",
        "UPDATE ev SET body = NULL, salt = NULL WHERE g = 2",
        "UPDATE ev SET body = NULL, salt = NULL",
    ],
)
def test_the_tape_cannot_be_changed(tmp_path: Path, statement: str) -> None:
    with SqliteStore(tmp_path) as store:
        commit(store, for_run(1, delta(), delta()))
    with closing(sqlite3.connect(tmp_path / FILE_NAME, isolation_level=None)) as db:
        db.execute("INSERT INTO erased SELECT g, x'00' FROM ev WHERE g = 1")
        before = db.execute("SELECT * FROM ev").fetchall()
        with pytest.raises(sqlite3.IntegrityError, match="append-only"):
            db.execute(statement)
        assert db.execute("SELECT * FROM ev").fetchall() == before


def test_a_body_and_its_salt_can_be_erased_together_and_the_chain_still_verifies(tmp_path: Path) -> None:
    with SqliteStore(tmp_path) as store:
        commit(store, for_run(1, delta("secret"), delta()))
    with closing(sqlite3.connect(tmp_path / FILE_NAME, isolation_level=None)) as db:
        salt, body = db.execute("SELECT salt, body FROM ev WHERE g = 1").fetchone()
        db.execute("INSERT INTO erased VALUES (1, ?)", (body_digest(salt, body),))
        db.execute("UPDATE ev SET salt = NULL, body = NULL WHERE g = 1")
    found = verified(tmp_path)
    assert (found.rows, found.erased, found.fault) == (2, 1, "")
    with SqliteStore(tmp_path) as store:
        assert seqs(commit(store, for_run(1, delta()))[0]) == [3]
    assert verified(tmp_path).fault == ""


# --- blobs ---


def test_a_blob_is_stored_once(store: SqliteStore, tmp_path: Path) -> None:
    commit(store, for_run(1, delta(), blobs=[b"large", b"other"]), for_run(2, delta(), blobs=[b"large"]))
    commit(store, for_run(1, delta(), blobs=[b"large"]))
    with read(tmp_path) as reader:
        assert sorted(reader.blobs()) == sorted((digest(body), body) for body in (b"large", b"other"))


# --- the file, its modes and its lock ---


def test_files_are_the_owners_alone(tmp_path: Path) -> None:
    state_dir = tmp_path / "deep" / "state"
    old = os.umask(0)
    try:
        with SqliteStore(state_dir) as store:
            commit(store, for_run(1, delta()))
            modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in state_dir.iterdir()}
    finally:
        os.umask(old)
    assert modes.keys() == {FILE_NAME, f"{FILE_NAME}-wal", f"{FILE_NAME}-shm", LOCK_NAME}
    assert set(modes.values()) == {0o600}
    assert stat.S_IMODE(state_dir.stat().st_mode) == 0o700


def test_a_second_handle_is_refused_and_told_who_holds_the_directory(store: SqliteStore, tmp_path: Path) -> None:
    with pytest.raises(StateLocked, match=f"in use by process {os.getpid()}"):
        SqliteStore(tmp_path)
    assert not isinstance(commit(store, for_run(1, delta()))[0], PalyraError)


def test_a_second_process_is_refused_and_told_who_holds_the_directory(store: SqliteStore, tmp_path: Path) -> None:
    script = "import sys; from pathlib import Path; from palyra_trio.journal.store import SqliteStore\n"
    script += "SqliteStore(Path(sys.argv[1]))"
    other = subprocess.run([sys.executable, "-c", script, tmp_path], capture_output=True, text=True, check=False)
    assert other.returncode == 1
    assert f"StateLocked: {tmp_path} is in use by process {os.getpid()}" in other.stderr


def test_the_lock_is_given_up_at_the_end_and_after_a_failed_opening(tmp_path: Path) -> None:
    SqliteStore(tmp_path).close()
    SqliteStore(tmp_path).abandon()
    with closing(sqlite3.connect(tmp_path / FILE_NAME)) as db:
        db.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    for _ in range(2):
        with pytest.raises(JournalInvalid, match=f"schema version {SCHEMA_VERSION + 1}"):
            SqliteStore(tmp_path)


def test_a_file_that_is_no_journal_is_refused_in_words(tmp_path: Path) -> None:
    (tmp_path / FILE_NAME).write_bytes(b"not a database at all" * 100)
    with pytest.raises(JournalInvalid, match="file is not a database"):
        SqliteStore(tmp_path)


@pytest.mark.parametrize("name", [LOCK_NAME, FILE_NAME])
@pytest.mark.parametrize("what", ["a link", "a link to nothing", "a pipe", "a folder", "a socket"])
def test_nothing_is_written_through_what_somebody_planted(tmp_path: Path, name: str, what: str) -> None:
    state_dir, precious = tmp_path / "state", tmp_path / "precious"
    state_dir.mkdir()
    if what == "a pipe":
        os.mkfifo(state_dir / name)
    elif what == "a folder":
        (state_dir / name).mkdir()
    elif what == "a socket":
        os.mknod(state_dir / name, stat.S_IFSOCK)
    else:
        (state_dir / name).symlink_to(precious)
    if what == "a link":
        precious.write_text("mine")
    with pytest.raises(ConfigInvalid, match=f"{name} is no regular file"):
        SqliteStore(state_dir)
    assert not precious.exists() or precious.read_text() == "mine"
    (state_dir / name).rmdir() if what == "a folder" else (state_dir / name).unlink()
    SqliteStore(state_dir).close()


def test_what_has_another_name_is_not_cut_as_the_lock_file(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("mine")
    (tmp_path / LOCK_NAME).hardlink_to(tmp_path / "precious")
    with pytest.raises(ConfigInvalid, match="another name"):
        SqliteStore(tmp_path)
    assert (tmp_path / "precious").read_text() == "mine"


@pytest.mark.parametrize("suffix", ["-wal", "-shm"])
def test_what_sqlite_keeps_beside_the_journal_is_not_written_through_a_link_either(tmp_path: Path, suffix: str) -> None:
    state_dir, precious = tmp_path / "state", tmp_path / "precious"
    SqliteStore(state_dir).close()
    precious.write_text("mine")
    (state_dir / f"{FILE_NAME}{suffix}").symlink_to(precious)
    with pytest.raises(JournalInvalid, match="cannot be opened"):
        SqliteStore(state_dir)
    assert precious.read_text() == "mine"


def test_the_lock_file_names_the_process_whatever_it_held_before(tmp_path: Path) -> None:
    (tmp_path / LOCK_NAME).write_text("123456789012345\n")
    with SqliteStore(tmp_path):
        assert (tmp_path / LOCK_NAME).read_text() == f"{os.getpid()}\n"


def test_a_closed_journal_needs_no_wal(tmp_path: Path) -> None:
    with SqliteStore(tmp_path) as store:
        commit(store, for_run(1, delta()), accepted(2))
    assert {path.name for path in tmp_path.iterdir()} == {FILE_NAME, LOCK_NAME}
    copy = tmp_path / "elsewhere"
    copy.mkdir()
    (copy / FILE_NAME).write_bytes((tmp_path / FILE_NAME).read_bytes())
    assert verified(copy).rows == 2


def test_a_batch_that_breaks_in_the_middle_leaves_nothing(store: SqliteStore, tmp_path: Path) -> None:
    commit(store, for_run(1, delta()))
    head = verified(tmp_path)
    with pytest.raises(sqlite3.IntegrityError):
        commit(store, for_run(1, delta()), accepted(2), for_run(2, asked()))
    assert verified(tmp_path) == head
    with read(tmp_path) as reader:
        assert reader.run(run_id(2)) is None
        assert reader.runs(Principal(ALICE)) == ()


def test_every_commit_is_synced_to_the_disk(store: SqliteStore) -> None:
    assert store._db.execute("PRAGMA synchronous").fetchone() == (2,)
    assert store._db.execute("PRAGMA journal_mode").fetchone() == ("wal",)
