"""What must hold at the moment of a commit: each guard, by what came before it in the same batch too."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from palyra_trio.core.agents import AgentSpec
from palyra_trio.core.errors import PalyraError, RunConflict
from palyra_trio.core.run import RunState
from palyra_trio.core.session_events import SessionArchived
from palyra_trio.core.system_events import AgentDefined, PolicyLoaded
from palyra_trio.core.tape import SESSION_STREAM, SYSTEM_STREAM
from palyra_trio.journal.approvals import GrantEnded, GrantHolds
from palyra_trio.journal.guards import (
    AgentIsNew,
    AlreadyThere,
    Guard,
    PolicyIs,
    RunIn,
    RunIsNew,
    SessionIsIdle,
)
from palyra_trio.journal.store import Outcome, SqliteStore
from palyra_trio.journal.writer import Ticket
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
    run_id,
    session_id,
    ticket,
    verified,
)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteStore]:
    with SqliteStore(tmp_path) as store:
        commit(store, opened(1))
        yield store


def said(outcome: Outcome) -> str:
    """Return what a ticket was refused with, "" if it was not."""
    return type(outcome).__name__ if isinstance(outcome, PalyraError) else ""


def under(*guards: Guard) -> Ticket:
    return for_run(9, delta(), guards=guards)


def loaded(policies: str) -> Ticket:
    return ticket(SYSTEM_STREAM, PolicyLoaded(policies, (), "boot"))


# --- runs ---


@pytest.mark.parametrize(
    ("payload", "principal", "refusal"),
    [("00", ALICE, AlreadyThere), ("01", ALICE, RunConflict), ("00", BOB, RunConflict)],
)
def test_a_run_id_that_is_taken_attaches_or_conflicts(
    store: SqliteStore, payload: str, principal: str, refusal: type[PalyraError]
) -> None:
    first, second = commit(store, accepted(1), accepted(1, principal=principal, payload=payload))
    assert said(first) == ""
    assert type(second) is refusal
    assert not isinstance(second, AlreadyThere) or second.session_id == session_id(1)


@pytest.mark.parametrize(
    ("events", "state"), [((), RunState.QUEUED), ((START,), RunState.RUNNING), ((START, FINISH), RunState.DONE)]
)
def test_a_run_is_in_the_state_that_its_tape_says(
    store: SqliteStore, events: tuple[object, ...], state: RunState
) -> None:
    commit(store, for_run(1, asked(), *events))  # type: ignore[arg-type]
    guards = [under(RunIn(run_id(1), frozenset({each}))) for each in RunState]
    assert [said(outcome) == "" for outcome in commit(store, *guards)] == [each is state for each in RunState]


def test_an_unknown_run_is_in_no_state(store: SqliteStore) -> None:
    (outcome,) = commit(store, under(RunIn(run_id(7), frozenset(RunState))))
    assert said(outcome) == "StateConflict"
    assert "unknown" in str(outcome)


def test_a_session_is_idle_once_each_of_its_runs_has_ended(store: SqliteStore) -> None:
    idle = SessionIsIdle(session_id(1))
    batch = [under(idle), accepted(1), under(idle), for_run(1, START), under(idle), for_run(1, FINISH), under(idle)]
    refused = [said(outcome) for outcome in commit(store, *batch)]
    assert refused == ["", "", "StateConflict", "", "StateConflict", "", ""]


def test_another_sessions_runs_do_not_count(store: SqliteStore) -> None:
    commit(store, opened(2), accepted(2, session=2))
    archive = ticket(
        SESSION_STREAM + session_id(1), SessionArchived(session_id(1), ALICE), guards=(SessionIsIdle(session_id(1)),)
    )
    assert said(commit(store, archive)[0]) == ""


def test_an_agents_name_is_new_once(store: SqliteStore) -> None:
    defines = ticket(SYSTEM_STREAM, AgentDefined(AgentSpec("a"), ALICE), guards=(AgentIsNew("a"),))
    assert [said(outcome) for outcome in commit(store, defines, defines)] == ["", "StateConflict"]


# --- policies and grants ---


def test_a_call_that_was_judged_by_other_policies_is_to_be_judged_anew(store: SqliteStore) -> None:
    batch = [under(PolicyIs("one")), loaded("one"), under(PolicyIs("one")), loaded("two"), under(PolicyIs("one"))]
    refused = [said(outcome) for outcome in commit(store, *batch, under(PolicyIs("two")))]
    assert refused == ["PolicyChanged", "", "", "", "PolicyChanged", ""]


def test_the_policies_in_force_outlive_the_process(tmp_path: Path) -> None:
    with SqliteStore(tmp_path) as store:
        commit(store, loaded("one"))
    with SqliteStore(tmp_path) as store:
        assert said(commit(store, under(PolicyIs("one")))[0]) == ""
        assert said(commit(store, under(PolicyIs("two")))[0]) == "PolicyChanged"


def test_a_grant_that_nobody_made_does_not_hold(store: SqliteStore) -> None:
    (outcome,) = commit(store, under(GrantHolds("A")))
    assert isinstance(outcome, GrantEnded)


@pytest.mark.parametrize(
    "guard",
    [
        RunIsNew(run_id(1), "01", ALICE),
        RunIn(run_id(1), frozenset({RunState.DONE})),
        AgentIsNew("a"),
        SessionIsIdle(session_id(1)),
        PolicyIs("two"),
        GrantHolds("A"),
    ],
    ids=lambda guard: type(guard).__name__,
)
@pytest.mark.parametrize("changes", [False, True])
def test_a_guard_that_does_not_hold_leaves_nothing_of_its_ticket_behind(
    store: SqliteStore, tmp_path: Path, guard: Guard, changes: bool
) -> None:
    defines = ticket(SYSTEM_STREAM, AgentDefined(AgentSpec("a"), ALICE))
    commit(store, accepted(1), defines, loaded("one"))
    before = verified(tmp_path)
    refused = for_run(1, START, guards=(guard,)) if changes else under(guard)
    (outcome,) = commit(store, refused)
    assert said(outcome)
    assert verified(tmp_path) == before
    assert said(commit(store, for_run(1, START, guards=(RunIn(run_id(1), frozenset({RunState.QUEUED})),)))[0]) == ""
