"""Pages, the ways to name a run or session, and lists."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from palyra_trio.core.bindings import AgentBound, AgentUnbound, BindingPlace, Target
from palyra_trio.core.errors import Ambiguous, InvalidArgument, JournalInvalid, NotFound
from palyra_trio.core.identity import Principal
from palyra_trio.core.run import RunState
from palyra_trio.core.session_events import SessionArchived
from palyra_trio.core.tape import SYSTEM_STREAM, CancelRequested, RunFinished, StatusChange, TapeEvent, run_stream
from palyra_trio.journal.queries import PAGE_BYTES, PAGE_ROWS, Reader, whole_tape
from palyra_trio.journal.store import FILE_NAME, SqliteStore
from tests.journal.tickets import (
    ALICE,
    BOB,
    FINISH,
    START,
    accepted,
    commit,
    delta,
    for_run,
    opened,
    run_id,
    session_id,
    ticket,
)

ME, HIM = Principal(ALICE), Principal(BOB)
STREAM = run_stream(run_id(1))
WAIT = StatusChange(RunState.RUNNING, RunState.WAITING, "approval")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteStore]:
    with SqliteStore(tmp_path) as store:
        yield store


@pytest.fixture
def reader(store: SqliteStore, tmp_path: Path) -> Iterator[Reader]:
    with closing(Reader(tmp_path / FILE_NAME)) as reader:
        yield reader


def accept(store: SqliteStore, number: int, *events: TapeEvent, session: int = 1, principal: str = ALICE) -> None:
    commit(store, accepted(number, session, principal), for_run(number, *events))


def seqs(reader: Reader, after_seq: int, most: int = PAGE_ROWS) -> list[int]:
    return [row.seq for row in reader.page(STREAM, after_seq, most)]


# --- the tape ---


def test_rows_of_one_kind_come_newest_first(store: SqliteStore, reader: Reader) -> None:
    commit(store, accepted(1), for_run(1, START, delta("a"), WAIT, delta("b")), for_run(2, delta("c")))
    assert [row.seq for row in reader.newest(STREAM, delta().kind, 5)] == [5, 3]
    assert [row.seq for row in reader.newest(STREAM, delta().kind, 1)] == [5]
    assert reader.newest("run:unknown", delta().kind, 5) == ()


def test_a_page_starts_after_a_seq_and_is_bounded_by_rows(store: SqliteStore, reader: Reader) -> None:
    commit(store, for_run(1, *(delta() for _ in range(5))), for_run(2, delta()))
    assert seqs(reader, 0) == [1, 2, 3, 4, 5]
    assert seqs(reader, 2, most=2) == [3, 4]
    assert seqs(reader, 5) == seqs(reader, 50) == []
    assert reader.page(run_stream("unknown"), 0) == ()


def test_a_page_is_bounded_by_bytes_and_never_empty_before_the_end(store: SqliteStore, reader: Reader) -> None:
    large = delta("x" * (PAGE_BYTES // 3))
    commit(store, for_run(1, large, large, large, large, delta("x" * (PAGE_BYTES + 1)), delta()))
    assert seqs(reader, 0) == [1, 2, 3]
    assert seqs(reader, 3) == [4, 5]
    assert seqs(reader, 4) == [5]
    assert seqs(reader, 5) == [6]


def test_a_reader_sees_a_commit_at_once(store: SqliteStore, reader: Reader) -> None:
    for seq in (1, 2, 3):
        commit(store, for_run(1, delta()))
        assert reader.last_seq(STREAM) == seq
        assert seqs(reader, seq - 1) == [seq]


def test_a_tape_can_be_read_without_its_deltas(store: SqliteStore, reader: Reader) -> None:
    commit(store, for_run(1, delta(), CancelRequested(ALICE), delta()))
    assert [row.seq for row in whole_tape(reader, run_id(1))] == [2]
    assert [row.seq for row in whole_tape(reader, run_id(1), deltas=True)] == [1, 2, 3]
    assert [row.seq for row in reader.tape(STREAM)] == [1, 2, 3]


def test_the_newest_row_tells_when_it_was_written(store: SqliteStore, reader: Reader) -> None:
    assert reader.newest_at_ms() == 0
    for at_ms in (2000, 1000):  # by a clock that went backwards
        store.append_batch([opened(at_ms)], at_ms)
        assert reader.newest_at_ms() == at_ms


def test_the_last_seq_of_an_unknown_tape_is_zero(reader: Reader) -> None:
    assert reader.last_seq(STREAM) == 0


def test_a_blob_is_read_by_its_digest(store: SqliteStore, reader: Reader) -> None:
    one = for_run(1, delta(), blobs=[b"large"])
    commit(store, one)
    assert reader.blob(one.blobs[0][0]) == b"large"
    with pytest.raises(NotFound, match="no blob 00"):
        reader.blob("00" * 32)


# --- naming runs ---


def test_a_run_is_found_by_last_by_its_id_and_by_the_beginning_of_it(store: SqliteStore, reader: Reader) -> None:
    accept(store, 1, session=1)
    accept(store, 20, session=2)
    accept(store, 3, session=3, principal=BOB)
    assert reader.find_run("last", ME).run_id == run_id(20)
    assert reader.find_run("last", HIM).run_id == run_id(3)
    assert reader.find_run(run_id(1), ME).run_id == run_id(1)
    assert reader.find_run(run_id(20)[:-1].lower(), ME).run_id == run_id(20)


def test_a_beginning_that_fits_several_runs_is_ambiguous(store: SqliteStore, reader: Reader) -> None:
    for number in range(1, 6):
        accept(store, number, session=number)
    with pytest.raises(Ambiguous, match=f"'01RUN' fits more than one run: {run_id(5)}, {run_id(4)}, {run_id(3)}"):
        reader.find_run("01RUN", ME)


def test_the_run_of_another_is_not_found(store: SqliteStore, reader: Reader) -> None:
    accept(store, 3, principal=BOB)
    for text in (run_id(3), "last", "01RUN", "zzz"):
        with pytest.raises(NotFound, match=f"there is no run '{text}'"):
            reader.find_run(text, ME)


@pytest.mark.parametrize("text", ["", "*", "01RU?", "[0-9]", "01RUN'--", "a b"])
def test_what_is_no_beginning_of_an_id_is_refused(reader: Reader, text: str) -> None:
    with pytest.raises(InvalidArgument):
        reader.find_run(text, ME)
    with pytest.raises(InvalidArgument):
        reader.find_session(text, ME)


def test_an_unknown_run_is_none(reader: Reader) -> None:
    assert reader.run(run_id(1)) is None


# --- lists of runs ---


def test_runs_are_listed_newest_first_by_principal_session_and_state(store: SqliteStore, reader: Reader) -> None:
    accept(store, 1, START, FINISH, session=1)
    accept(store, 2, START, session=1)
    accept(store, 3, START, WAIT, session=2)
    accept(store, 4, session=2)
    accept(store, 5, session=3, principal=BOB)

    def listed(**which: object) -> list[int]:
        return [int(run.run_id[-2:]) for run in reader.runs(ME, **which)]  # type: ignore[arg-type]

    assert listed() == [4, 3, 2, 1]
    assert listed(most=2) == [4, 3]
    assert listed(session_id=session_id(1)) == [2, 1]
    assert listed(states=[RunState.RUNNING, RunState.WAITING]) == [3, 2]
    assert listed(session_id=session_id(1), states=[RunState.DONE]) == [1]
    assert [run.run_id for run in reader.runs(HIM)] == [run_id(5)]


def test_a_run_that_was_interrupted_is_listed_as_that_and_not_as_waiting(store: SqliteStore, reader: Reader) -> None:
    accept(store, 1, START, WAIT, session=1)
    left = StatusChange(RunState.RUNNING, RunState.WAITING, "interrupted", "boot-1")
    accept(store, 2, START, left, session=2)
    accept(store, 3, session=3)

    def listed(*words: str) -> list[str]:
        return [run.run_id for run in reader.runs(ME, words=words)]

    assert listed("interrupted") == [run_id(2)]
    assert listed("waiting") == [run_id(1)]
    assert listed("waiting", "interrupted", "queued") == [run_id(3), run_id(2), run_id(1)]


def test_the_live_run_of_a_session_is_the_one_that_started_and_has_not_ended(
    store: SqliteStore, reader: Reader
) -> None:
    accept(store, 1, START, FINISH)
    accept(store, 2)
    assert reader.live_run(session_id(1)) is None
    commit(store, for_run(2, START))
    live = reader.live_run(session_id(1))
    assert live is not None
    assert (live.run_id, live.state) == (run_id(2), RunState.RUNNING)
    commit(store, for_run(2, WAIT))
    waiting = reader.live_run(session_id(1))
    assert waiting is not None
    assert waiting.reason == "approval"
    assert reader.live_run(session_id(2)) is None


def test_earlier_runs_are_those_of_the_session_that_ended_before_in_line_newest_first(
    store: SqliteStore, reader: Reader
) -> None:
    accept(store, 9, START, FINISH)
    accept(store, 2, RunFinished(RunState.QUEUED, RunState.CANCELLED, "cancelled"))
    accept(store, 3, START, FINISH, session=2)
    accept(store, 4)
    accept(store, 5, START, RunFinished(RunState.RUNNING, RunState.FAILED, "x"))
    accept(store, 6)
    assert reader.earlier_runs(session_id(1), run_id(6)) == (run_id(5), run_id(2), run_id(9))
    assert reader.earlier_runs(session_id(1), run_id(5)) == (run_id(2), run_id(9))
    assert reader.earlier_runs(session_id(1), run_id(9)) == ()


def test_runs_that_were_live_in_another_process_are_found_until_they_are_marked(
    store: SqliteStore, reader: Reader
) -> None:
    accept(store, 1, START, session=1)
    accept(store, 2, START, WAIT, session=2)
    accept(store, 3, StatusChange(RunState.QUEUED, RunState.RUNNING, boot_id="B2"), session=3)
    accept(store, 4, session=4)
    accept(store, 5, START, FINISH, session=5)
    assert [run.run_id for run in reader.left_live("B2")] == [run_id(2), run_id(1)]
    assert [run.run_id for run in reader.left_live("B1")] == [run_id(3)]
    commit(store, for_run(1, StatusChange(RunState.RUNNING, RunState.WAITING, "interrupted", "B2")))
    assert [run.run_id for run in reader.left_live("B2")] == [run_id(2)]


# --- sessions ---


def test_a_session_is_found_by_last_by_key_by_id_and_by_the_beginning_of_it(store: SqliteStore, reader: Reader) -> None:
    commit(store, opened(1, key="my-work"), opened(20), opened(3, BOB, key="my-work"))
    accept(store, 1, session=1)
    assert reader.find_session("last", ME).session_id == session_id(1)
    assert reader.find_session("my-work", ME).session_id == session_id(1)
    assert reader.find_session("my-work", HIM).session_id == session_id(3)
    assert reader.find_session(session_id(20), ME).session_id == session_id(20)
    assert reader.find_session(session_id(20)[:-1].lower(), ME).session_id == session_id(20)
    with pytest.raises(Ambiguous, match="fits more than one session"):
        reader.find_session("01SESS", ME)
    with pytest.raises(NotFound):
        reader.find_session(session_id(3), ME)
    with pytest.raises(NotFound):
        reader.find_session("last", HIM)


def test_sessions_are_listed_newest_first_and_archived_ones_only_when_asked_for(
    store: SqliteStore, reader: Reader
) -> None:
    commit(store, opened(1, key="a"), opened(2), opened(3, BOB))
    commit(store, ticket(f"session:{session_id(1)}", SessionArchived(session_id(1), ALICE)))
    assert [each.session_id for each in reader.sessions(ME)] == [session_id(2)]
    assert [each.session_id for each in reader.sessions(ME, archived=True)] == [session_id(2), session_id(1)]
    assert len(reader.sessions(ME, archived=True, most=1)) == 1
    assert reader.session_by_key(ALICE, "a") is None
    assert reader.session(session_id(9)) is None


# --- files and the pool ---


def test_what_agents_are_bound_to_is_listed_by_target_and_name(store: SqliteStore, reader: Reader) -> None:
    bound = [
        AgentBound("session", session_id(1), "default", ALICE),
        AgentBound("channel", "cli", "default", ALICE),
        AgentBound("channel", "b", "default", BOB),
        AgentUnbound("channel", "cli", ALICE),
    ]
    commit(store, ticket(SYSTEM_STREAM, *bound))
    assert reader.bindings() == (
        (BindingPlace(Target.CHANNEL, "b"), "default"),
        (BindingPlace(Target.SESSION, session_id(1)), "default"),
    )


def test_a_journal_that_is_not_there_is_refused_in_words(tmp_path: Path) -> None:
    with pytest.raises(JournalInvalid, match="does not exist"):
        Reader(tmp_path / FILE_NAME)
    assert not (tmp_path / FILE_NAME).exists()


def test_a_reader_cannot_write(store: SqliteStore, reader: Reader) -> None:
    commit(store, for_run(1, delta()))
    with pytest.raises(Exception, match="readonly database"):
        reader._db.execute("INSERT INTO meta VALUES ('x', 'y')")


def test_the_writers_mark_says_whether_it_has_the_journal_open(tmp_path: Path) -> None:
    with SqliteStore(tmp_path), closing(Reader(tmp_path / FILE_NAME)) as reader:
        assert reader.writer_mark() == "open"
    with closing(Reader(tmp_path / FILE_NAME)) as reader:
        assert reader.writer_mark() == "closed"
