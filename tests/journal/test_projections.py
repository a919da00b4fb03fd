"""What each event changes beside the tape, by compare-and-set, and what a violated rule is called."""

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from palyra_trio.core.agents import AgentSpec
from palyra_trio.core.errors import PalyraError, StateConflict
from palyra_trio.core.run import RunState
from palyra_trio.core.tape import (
    SYSTEM_STREAM,
    AgentDefined,
    AgentRemoved,
    DefaultAgentSet,
    RunFinished,
    SessionArchived,
    StatusChange,
    TapeEvent,
)
from palyra_trio.journal.projections import PROJECTIONS, TITLE_CHARACTERS, title_of, translate_conflict
from palyra_trio.journal.queries import RunSummary
from palyra_trio.journal.store import SqliteStore
from tests.journal.tickets import (
    ALICE,
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


def test_projections_are_of_kinds_that_change_something() -> None:
    assert sorted(PROJECTIONS) == [1, 2, 3, 64, 65, 81, 82, 83]


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
