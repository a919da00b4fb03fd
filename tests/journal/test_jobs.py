"""Jobs beside the tape: they follow their events, and are found by their own principal only."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from palyra_trio.core.errors import Ambiguous, InvalidArgument, NotFound, PalyraError, StateConflict
from palyra_trio.core.identity import Principal
from palyra_trio.core.session_events import JobEnded, JobOutput, JobStarted, SessionArchived, SessionOpened
from palyra_trio.core.tape import SESSION_STREAM, TapeEvent
from palyra_trio.journal.jobs import Jobs
from palyra_trio.journal.queries import Reader
from palyra_trio.journal.store import FILE_NAME, SqliteStore, entry
from palyra_trio.journal.writer import Ticket

ME, OTHER = Principal("user:me"), Principal("user:other")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteStore]:
    with SqliteStore(tmp_path) as store:
        put(store, "S1", SessionOpened("S1", ME))
        put(store, "S2", SessionOpened("S2", OTHER))
        yield store


@pytest.fixture
def jobs(store: SqliteStore, tmp_path: Path) -> Iterator[Jobs]:
    with closing(Reader(tmp_path / FILE_NAME)) as reader:
        yield reader.jobs


def put(store: SqliteStore, session_id: str, *events: TapeEvent, at_ms: int = 5) -> None:
    ticket = Ticket(tuple(entry(SESSION_STREAM + session_id, event) for event in events))
    (outcome,) = store.append_batch([ticket], at_ms)
    if isinstance(outcome, PalyraError):
        raise outcome


def started(job_id: str) -> JobStarted:
    return JobStarted(job_id, "R1", "c1", "/bin/cat", ("cat", "é"), "/work", 4, "mark", 9)


def test_a_job_is_what_its_events_say(store: SqliteStore, jobs: Jobs) -> None:
    put(store, "S1", started("J1"), at_ms=3)
    running = jobs.find("J1", ME)
    assert (running.session_id, running.principal, running.started_ms, running.started) == ("S1", ME, 3, started("J1"))
    assert (running.ended, running.ended_ms) == (None, 0)
    ended = JobEnded("J1", "stopped", by="user:me", pids_seen=2)
    put(store, "S1", ended, at_ms=8)
    over = jobs.find("J1", ME)
    assert (over.ended, over.ended_ms) == (ended, 8)
    assert jobs.any("J1") == over


def test_it_ends_once(store: SqliteStore) -> None:
    put(store, "S1", started("J1"), JobEnded("J1", "exited", 0))
    with pytest.raises(StateConflict, match="ended already"):
        put(store, "S1", JobEnded("J1", "lost"))


def test_an_archived_session_takes_none(store: SqliteStore, jobs: Jobs) -> None:
    put(store, "S1", SessionArchived("S1", ME))
    with pytest.raises(StateConflict, match="archived"):
        put(store, "S1", started("J1"))
    assert jobs.running() == ()


def test_lists_are_of_one_principal_newest_first_and_by_the_page(store: SqliteStore, jobs: Jobs) -> None:
    for name in ("J1", "J2", "J3"):
        put(store, "S1", started(name))
    put(store, "S2", started("J4"))
    put(store, "S1", JobEnded("J2", "exited", 0))

    def names(**how: object) -> list[str]:
        return [each.job_id for each in jobs.listed(ME, **how)]  # type: ignore[arg-type]

    assert names(ended=True) == ["J3", "J2", "J1"]
    assert names(ended=False) == ["J3", "J1"]
    assert names(ended=True, most=2) == ["J3", "J2"]
    assert names(ended=True, before="J2") == ["J1"]
    assert names(ended=True, session_id="S2") == []
    assert {each.job_id for each in jobs.running()} == {"J1", "J3", "J4"}


def test_a_job_is_found_by_the_beginning_of_its_id_and_by_its_owner(store: SqliteStore, jobs: Jobs) -> None:
    put(store, "S1", started("01AB"), started("01AC"))
    assert jobs.find("01ab", ME).job_id == "01AB"
    assert jobs.find("last", ME).job_id == "01AC"
    with pytest.raises(Ambiguous, match="01AC, 01AB"):
        jobs.find("01", ME)
    with pytest.raises(NotFound):
        jobs.find("01AB", OTHER)
    with pytest.raises(NotFound):
        jobs.find("last", OTHER)
    with pytest.raises(InvalidArgument):
        jobs.find("0*", ME)


def test_what_was_watched_is_that_jobs_output_in_order(store: SqliteStore, jobs: Jobs) -> None:
    put(store, "S1", started("J1"), started("J2"))
    put(store, "S1", JobOutput("J1", "stdout", "ön"), JobOutput("J2", "stdout", "x"), JobOutput("J1", "stderr", "e\n"))
    assert jobs.watched(jobs.find("J1", ME)) == "öne\n".encode()
