"""What each event changes beside the tape, by compare-and-set, and what a violated rule is called."""

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from palyra_trio.core.agents import AgentSpec
from palyra_trio.core.errors import PalyraError, StateConflict
from palyra_trio.core.run import RunState
from palyra_trio.core.session_events import SessionArchived, SessionRenamed
from palyra_trio.core.system_events import AgentDefined, AgentRemoved, DefaultAgentSet
from palyra_trio.core.tape import SYSTEM_STREAM, RunFinished, StatusChange, TapeEvent
from palyra_trio.core.tokens import TokenCreated, TokenRevoked, token_of
from palyra_trio.journal.projections import TITLE_CHARACTERS, title_of, translate_conflict
from palyra_trio.journal.queries import RunSummary
from palyra_trio.journal.store import SqliteStore
from tests.journal.tickets import (
    ALICE,
    BOB,
    FINISH,
    START,
    accepted,
    commit,
    for_run,
    opened,
    read,
    run_id,
    session_id,
    ticket,
)

WAIT = StatusChange(RunState.RUNNING, RunState.WAITING, "approval")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteStore]:
    with SqliteStore(tmp_path) as store:
        yield store


def summary(state_dir: Path, number: int = 1) -> RunSummary:
    with read(state_dir) as reader:
        found = reader.run(run_id(number))
    assert found is not None
    return found


def apply(store: SqliteStore, *events: TapeEvent) -> list[PalyraError]:
    """Commit each event on the system's tape by itself, and return what was refused."""
    outcomes = commit(store, *(ticket(SYSTEM_STREAM, event) for event in events))
    return [outcome for outcome in outcomes if isinstance(outcome, PalyraError)]


def agents(state_dir: Path) -> dict[str, tuple[AgentSpec, bool]]:
    with read(state_dir) as reader:
        return {spec.name: (spec, is_default) for spec, is_default in reader.agents()}


def test_an_input_makes_a_queued_run(store: SqliteStore, tmp_path: Path) -> None:
    commit(store, accepted(1, session=7, text="\n  count the words\nplease"), at_ms=50)
    run = summary(tmp_path)
    assert (run.state, run.reason, run.session_id, run.principal) == (RunState.QUEUED, "", session_id(7), ALICE)
    assert (run.title, run.agent, run.boot_id) == ("count the words", "default", "")
    assert (run.created_ms, run.updated_ms) == (50, 50)


def test_a_run_moves_with_its_tape(store: SqliteStore, tmp_path: Path) -> None:
    commit(store, accepted(1), for_run(1, START), at_ms=1)
    assert (summary(tmp_path).state, summary(tmp_path).boot_id) == (RunState.RUNNING, "B1")
    commit(store, for_run(1, WAIT), at_ms=2)
    waiting = summary(tmp_path)
    assert (waiting.state, waiting.reason, waiting.boot_id) == (RunState.WAITING, "approval", "B1")
    commit(store, for_run(1, RunFinished(RunState.WAITING, RunState.CANCELLED, "cancelled")), at_ms=3)
    ended = summary(tmp_path)
    assert (ended.state, ended.reason, ended.created_ms, ended.updated_ms) == (RunState.CANCELLED, "cancelled", 1, 3)


@pytest.mark.parametrize(
    "event",
    [
        FINISH,
        WAIT,
        RunFinished(RunState.WAITING, RunState.FAILED, "x"),
        StatusChange(RunState.WAITING, RunState.RUNNING),
    ],
)
def test_a_move_from_a_state_that_the_run_is_not_in_is_refused(
    store: SqliteStore, tmp_path: Path, event: TapeEvent
) -> None:
    outcomes = commit(store, accepted(1), for_run(1, event))
    assert isinstance(outcomes[1], StateConflict)
    assert summary(tmp_path).state is RunState.QUEUED


@pytest.mark.parametrize("after", [RunState.RUNNING, RunState.FAILED, RunState.DONE])
def test_a_run_that_has_ended_cannot_be_moved_again(store: SqliteStore, tmp_path: Path, after: RunState) -> None:
    commit(store, accepted(1), for_run(1, START), for_run(1, FINISH))
    (refused,) = commit(store, for_run(1, StatusChange(RunState.DONE, after)))
    assert str(refused) == f"run {run_id(1)} cannot move from done to {after}"
    assert summary(tmp_path).state is RunState.DONE


def test_an_archived_session_takes_no_run(store: SqliteStore, tmp_path: Path) -> None:
    archive = ticket(f"session:{session_id(1)}", SessionArchived(session_id(1), ALICE))
    outcomes = commit(store, opened(1), archive, accepted(1))
    assert isinstance(outcomes[2], StateConflict)
    assert "is archived" in str(outcomes[2])
    with read(tmp_path) as reader:
        assert reader.run(run_id(1)) is None


def test_a_run_that_does_not_exist_cannot_move(store: SqliteStore) -> None:
    assert isinstance(commit(store, for_run(5, START))[0], StateConflict)


def test_a_session_is_opened_and_archived_once(store: SqliteStore, tmp_path: Path) -> None:
    commit(store, opened(1, key="work"), at_ms=5)
    archive = SessionArchived(session_id(1), ALICE)
    first, second = commit(store, *(ticket(f"session:{session_id(1)}", archive) for _ in range(2)), at_ms=9)
    assert not isinstance(first, PalyraError)
    assert isinstance(second, StateConflict)
    with read(tmp_path) as reader:
        session = reader.session(session_id(1))
    assert session is not None
    assert (session.principal, session.key, session.created_ms, session.archived_ms) == (ALICE, None, 5, 9)


def test_a_session_has_the_title_that_it_was_given_last(store: SqliteStore, tmp_path: Path) -> None:
    commit(store, opened(1))
    for title in ("first", "second"):
        commit(store, ticket(f"session:{session_id(1)}", SessionRenamed(session_id(1), title, ALICE)))
    (refused,) = commit(store, ticket(f"session:{session_id(2)}", SessionRenamed(session_id(2), "x", ALICE)))
    assert isinstance(refused, StateConflict)
    with read(tmp_path) as reader:
        session = reader.session(session_id(1))
    assert session is not None
    assert session.title == "second"


def test_an_agent_is_defined_defined_anew_and_removed(store: SqliteStore, tmp_path: Path) -> None:
    anew = AgentSpec("a", model="x/y", tools=("files.read",))
    assert apply(store, AgentDefined(AgentSpec("a"), ALICE), AgentDefined(anew, ALICE)) == []
    assert agents(tmp_path) == {"a": (anew, False)}
    (refused,) = apply(store, AgentRemoved("a", ALICE), AgentRemoved("a", ALICE))
    assert isinstance(refused, StateConflict)
    assert agents(tmp_path) == {}


def test_there_is_one_default_agent_and_it_exists(store: SqliteStore, tmp_path: Path) -> None:
    apply(store, AgentDefined(AgentSpec("a"), ALICE), AgentDefined(AgentSpec("b"), ALICE))
    assert apply(store, DefaultAgentSet("a", ALICE), DefaultAgentSet("b", ALICE)) == []
    (refused,) = apply(store, DefaultAgentSet("c", ALICE))
    assert str(refused) == "there is no agent 'c'"
    assert {name: is_default for name, (_, is_default) in agents(tmp_path).items()} == {"a": False, "b": True}
    apply(store, AgentDefined(AgentSpec("b", model="x/y"), ALICE))
    assert agents(tmp_path)["b"][1]


def made(token_id: str, *scopes: str, expires_ms: int = 0) -> TokenCreated:
    return TokenCreated(token_id, "laptop", ALICE, scopes, f"hash of {token_id}", expires_ms, "user:root")


def test_a_token_is_there_from_its_creation_and_revoked_once(store: SqliteStore, tmp_path: Path) -> None:
    first, second = made("T1", "run", "read", expires_ms=50), made("T2", "fly", "worker")
    outcomes = commit(store, ticket(SYSTEM_STREAM, first), ticket(SYSTEM_STREAM, second), at_ms=5)
    assert not any(isinstance(outcome, PalyraError) for outcome in outcomes)
    with read(tmp_path) as reader:
        assert reader.tokens() == (token_of(second, 5), token_of(first, 5))
        assert reader.tokens(before="T2") == (token_of(first, 5),)
        assert reader.tokens(most=1) == (token_of(second, 5),)
    revoked = ticket(SYSTEM_STREAM, TokenRevoked("T1", BOB))
    again, unknown = ticket(SYSTEM_STREAM, TokenRevoked("T1", BOB)), ticket(SYSTEM_STREAM, TokenRevoked("T9", BOB))
    outcomes = commit(store, revoked, again, unknown, at_ms=9)
    assert [isinstance(outcome, StateConflict) for outcome in outcomes] == [False, True, True]
    with read(tmp_path) as reader:
        assert [each.revoked_ms for each in reader.tokens()] == [None, 9]
        assert reader.tokens(revoked=False) == (token_of(second, 5),)


def test_a_rotation_that_loses_a_race_makes_no_token(store: SqliteStore, tmp_path: Path) -> None:
    rotations = [ticket(SYSTEM_STREAM, made(name, "run"), TokenRevoked("T1", ALICE)) for name in ("T2", "T3")]
    outcomes = commit(store, ticket(SYSTEM_STREAM, made("T1", "run")), *rotations)
    assert [isinstance(outcome, StateConflict) for outcome in outcomes] == [False, False, True]
    with read(tmp_path) as reader:
        assert [each.token_id for each in reader.tokens(revoked=False)] == ["T2"]


def test_a_violation_that_no_rule_explains_is_raised() -> None:
    fault = sqlite3.IntegrityError("UNIQUE constraint failed: ev.stream, ev.seq")
    with pytest.raises(sqlite3.IntegrityError):
        translate_conflict(fault)


@pytest.mark.parametrize(
    ("text", "title"),
    [
        ("", ""),
        (" \n\t\n", ""),
        ("one", "one"),
        ("\n  one  \ntwo", "one"),
        ("x" * TITLE_CHARACTERS, "x" * TITLE_CHARACTERS),
        ("x" * (TITLE_CHARACTERS + 1), "x" * (TITLE_CHARACTERS - 1) + "…"),
    ],
)
def test_a_title_is_the_first_line_that_says_something(text: str, title: str) -> None:
    assert title_of(text) == title
