"""Approvals and grants as the tape changes them, when a grant holds, and who waits for whom."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from palyra_trio.core.approvals import Approval, ApprovalState, Grant
from palyra_trio.core.errors import AlreadyDecided, Ambiguous, NotFound, StateConflict
from palyra_trio.core.identity import Principal, RunId, SessionId
from palyra_trio.core.policy import GrantScope, Pattern
from palyra_trio.core.run import RunState
from palyra_trio.core.session_events import SessionArchived
from palyra_trio.core.system_events import GrantRevoked
from palyra_trio.core.tape import (
    SESSION_STREAM,
    ApprovalDecided,
    ApprovalRequested,
    RunFinished,
    StatusChange,
    ToolStarted,
)
from palyra_trio.journal.approvals import GrantEnded, GrantHolds
from palyra_trio.journal.store import Outcome, SqliteStore
from tests.journal.tickets import (
    ALICE,
    BOB,
    FINISH,
    START,
    asked,
    commit,
    delta,
    for_run,
    opened,
    read,
    rows_of,
    run_id,
    session_id,
    ticket,
    verified,
)

PATTERN = Pattern("files.write", "notes/*")
WORK = "/home/alice/work"
FOR_APPROVAL = StatusChange(RunState.RUNNING, RunState.WAITING, "approval")
FOR_INPUT = StatusChange(RunState.RUNNING, RunState.WAITING, "input")


def requests(name: str, call: str = "", expires_ms: int = 0, **fields: Any) -> ApprovalRequested:
    fields = {"pattern": PATTERN} | fields
    return ApprovalRequested(name, call or f"call {name}", f"May {name}?", expires_ms, "files.write", "bb", **fields)


def decides(name: str, outcome: str = "granted", scope: GrantScope = "once", until_ms: int = 0) -> ApprovalDecided:
    return ApprovalDecided(name, f"call {name}", outcome, ALICE, "so be it", scope, until_ms)


def lives(number: int, session: int = 1, principal: str = ALICE, workspace: str = WORK) -> Any:
    """Return the ticket of a run that is under way."""
    return for_run(number, attrs.evolve(asked(session, principal), workspace=workspace), START)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteStore]:
    with SqliteStore(tmp_path) as store:
        commit(store, opened(1), lives(1))
        yield store


def grants(state_dir: Path, principal: str = ALICE, now_ms: int = 2000, **which: Any) -> tuple[Grant, ...]:
    with read(state_dir) as reader:
        return reader.approvals.grants(Principal(principal), now_ms, **which)


def approval(state_dir: Path, name: str) -> Approval:
    with read(state_dir) as reader:
        return reader.approvals.any(name)


def one(store: SqliteStore, *events: Any, at_ms: int = 1000, number: int = 1, **rest: Any) -> Outcome:
    (outcome,) = commit(store, for_run(number, *events, **rest), at_ms=at_ms)
    return outcome


def starts(name: str, grant: str) -> Any:
    """Return the ticket of an intent under a grant."""
    return for_run(1, ToolStarted(f"call {name}", f"key {name}", (), grant), guards=(GrantHolds(grant),))


def revokes(name: str) -> Any:
    return ticket(SESSION_STREAM + session_id(1), GrantRevoked(name, ALICE))


# --- approvals ---


def test_nothing_is_granted_to_a_run_that_was_interrupted_but_it_can_be_withdrawn(
    store: SqliteStore, tmp_path: Path
) -> None:
    rows_of(one(store, requests("A"), StatusChange(RunState.RUNNING, RunState.WAITING, "interrupted", "B1")))
    refused = one(store, decides("A"))
    assert isinstance(refused, StateConflict)
    assert "interrupted" in str(refused)
    rows_of(one(store, decides("A", "withdrawn")))
    assert approval(tmp_path, "A").state is ApprovalState.WITHDRAWN
    assert grants(tmp_path) == ()


def test_a_question_is_kept_as_it_was_asked(store: SqliteStore, tmp_path: Path) -> None:
    rows_of(one(store, requests("A", expires_ms=5000), requests("Q", pattern=None, question=True), at_ms=1500))
    assert approval(tmp_path, "A") == Approval(
        "A",
        RunId(run_id(1)),
        "call A",
        SessionId(session_id(1)),
        Principal(ALICE),
        WORK,
        "files.write",
        question=False,
        pattern=PATTERN,
        state=ApprovalState.PENDING,
        requested_ms=1500,
        expires_ms=5000,
    )
    assert (approval(tmp_path, "Q").question, approval(tmp_path, "Q").pattern) == (True, None)


@pytest.mark.parametrize("outcome", ["granted", "denied", "expired"])
@pytest.mark.parametrize("later", ["granted", "denied", "expired"])
def test_the_first_decision_stands_and_a_later_one_learns_so(
    store: SqliteStore, tmp_path: Path, outcome: str, later: str
) -> None:
    rows_of(one(store, requests("A")))
    first, second = commit(store, for_run(1, decides("A", outcome)), for_run(1, decides("A", later)), at_ms=1700)
    rows_of(first)
    assert isinstance(second, AlreadyDecided)
    assert f"was {outcome} already" in second.message
    found = approval(tmp_path, "A")
    assert (found.state, found.decided_ms, found.decided_by, found.reason) == (outcome, 1700, ALICE, "so be it")
    assert len(grants(tmp_path)) == (outcome == "granted")


@pytest.mark.parametrize(("at_ms", "granted"), [(4999, True), (5000, False), (5001, False)])
def test_a_grant_at_the_very_moment_of_expiry_comes_too_late(
    store: SqliteStore, tmp_path: Path, at_ms: int, granted: bool
) -> None:
    rows_of(one(store, requests("A", expires_ms=5000)))
    outcome = one(store, decides("A"), at_ms=at_ms)
    if granted:
        rows_of(outcome)
        assert len(grants(tmp_path)) == 1
    else:
        assert isinstance(outcome, AlreadyDecided)
        assert "has expired" in outcome.message
        assert grants(tmp_path) == ()
        rows_of(one(store, decides("A", "expired"), at_ms=at_ms))


def test_what_is_denied_may_come_late(store: SqliteStore, tmp_path: Path) -> None:
    rows_of(one(store, requests("A", expires_ms=5000)))
    rows_of(one(store, decides("A", "denied"), at_ms=6000))
    assert approval(tmp_path, "A").state is ApprovalState.DENIED


@pytest.mark.parametrize("scope", ["session", "time"])
def test_without_a_pattern_only_the_one_call_can_be_granted(store: SqliteStore, tmp_path: Path, scope: Any) -> None:
    rows_of(one(store, requests("A", pattern=None)))
    assert isinstance(one(store, decides("A", scope=scope, until_ms=9000)), StateConflict)
    assert (approval(tmp_path, "A").state, grants(tmp_path)) == (ApprovalState.PENDING, ())
    rows_of(one(store, decides("A")))


def test_a_decision_that_is_refused_leaves_nothing_of_its_ticket_behind(store: SqliteStore, tmp_path: Path) -> None:
    rows_of(one(store, requests("A"), requests("B")))
    rows_of(one(store, decides("B", "denied")))
    before = verified(tmp_path)
    assert isinstance(one(store, decides("A"), delta(), decides("B")), AlreadyDecided)
    assert (approval(tmp_path, "A").state, grants(tmp_path)) == (ApprovalState.PENDING, ())
    assert verified(tmp_path) == before


def test_a_decision_of_an_approval_that_nobody_knows_is_written_and_does_nothing(
    store: SqliteStore, tmp_path: Path
) -> None:
    rows_of(one(store, decides("A")))
    assert grants(tmp_path, ended=True) == ()


# --- grants ---


def test_a_grant_says_what_was_allowed_to_whom_by_whom(store: SqliteStore, tmp_path: Path) -> None:
    rows_of(one(store, requests("A"), requests("B"), requests("C", pattern=None)))
    rows_of(one(store, decides("A", scope="time", until_ms=9000), at_ms=1700))
    rows_of(one(store, decides("B", scope="session"), decides("C"), at_ms=1800))
    third, second, first = grants(tmp_path)
    assert first == Grant("A", Principal(ALICE), SessionId(session_id(1)), WORK, PATTERN, "time", 9000, 1700, ALICE)
    assert (second.scope, second.until_ms, second.pattern) == ("session", 0, PATTERN)
    assert (third.scope, third.pattern) == ("once", Pattern("files.write", ""))


def test_a_grant_for_one_call_is_used_up_by_the_first_of_two_starts_in_one_batch(
    store: SqliteStore, tmp_path: Path
) -> None:
    rows_of(one(store, requests("A"), decides("A")))
    first, second = commit(store, starts("A", "A"), starts("B", "A"), at_ms=1900)
    rows_of(first)
    assert isinstance(second, GrantEnded)
    (grant,) = grants(tmp_path)
    assert (grant.used_ms, grant.ended_ms) == (1900, 0)
    assert isinstance(commit(store, starts("A", "A"))[0], GrantEnded)


def test_a_start_that_is_refused_for_another_reason_does_not_use_a_grant_up(store: SqliteStore, tmp_path: Path) -> None:
    rows_of(one(store, requests("A"), decides("A")))
    both = for_run(1, ToolStarted("call A", "k", (), "A"), guards=(GrantHolds("A"), GrantHolds("no such")))
    assert isinstance(commit(store, both)[0], GrantEnded)
    assert grants(tmp_path)[0].used_ms == 0
    rows_of(commit(store, starts("A", "A"))[0])


@pytest.mark.parametrize(("scope", "until_ms"), [("session", 0), ("time", 9000)])
def test_a_standing_grant_lets_many_calls_start(
    store: SqliteStore, tmp_path: Path, scope: GrantScope, until_ms: int
) -> None:
    rows_of(one(store, requests("A"), decides("A", scope=scope, until_ms=until_ms)))
    for outcome in commit(store, *(starts(str(number), "A") for number in range(3))):
        rows_of(outcome)
    assert grants(tmp_path)[0].used_ms == 0


@pytest.mark.parametrize(("at_ms", "holds"), [(8999, True), (9000, False), (9001, False)])
def test_a_grant_for_a_time_ends_with_it(store: SqliteStore, tmp_path: Path, at_ms: int, holds: bool) -> None:
    rows_of(one(store, requests("A"), decides("A", scope="time", until_ms=9000)))
    (outcome,) = commit(store, starts("A", "A"), at_ms=at_ms)
    assert isinstance(outcome, GrantEnded) is not holds
    assert (len(grants(tmp_path, now_ms=at_ms)) == 1) is holds
    assert len(grants(tmp_path, now_ms=at_ms, ended=True)) == 1
    with read(tmp_path) as reader:
        assert bool(reader.approvals.standing(ALICE, session_id(1), WORK, at_ms)) is holds


@pytest.mark.parametrize("scope", ["once", "session", "time"])
def test_what_was_revoked_lets_nothing_start_and_is_revoked_once(
    store: SqliteStore, tmp_path: Path, scope: GrantScope
) -> None:
    rows_of(one(store, requests("A"), decides("A", scope=scope, until_ms=9000 if scope == "time" else 0)))
    revoked, started, again = commit(store, revokes("A"), starts("A", "A"), revokes("A"), at_ms=1900)
    rows_of(revoked)
    assert isinstance(started, GrantEnded)
    assert isinstance(again, StateConflict)
    assert grants(tmp_path) == ()
    assert [each.ended_ms for each in grants(tmp_path, ended=True)] == [1900]


def test_a_grant_that_was_used_can_be_revoked_while_its_run_lives(store: SqliteStore, tmp_path: Path) -> None:
    rows_of(one(store, requests("A"), decides("A")))
    for outcome in commit(store, starts("A", "A"), revokes("A"), at_ms=1900):
        rows_of(outcome)
    assert [(each.used_ms, each.ended_ms) for each in grants(tmp_path, ended=True)] == [(1900, 1900)]


def test_the_end_of_a_run_withdraws_its_questions_and_ends_what_was_granted_once(
    store: SqliteStore, tmp_path: Path
) -> None:
    commit(store, opened(2), lives(2, session=2))
    rows_of(one(store, requests("A"), requests("B"), requests("C"), requests("D")))
    rows_of(one(store, decides("B"), decides("C", scope="session"), decides("D", "denied")))
    rows_of(one(store, requests("E"), number=2))
    rows_of(one(store, FINISH, at_ms=2500))
    states = {name: approval(tmp_path, name).state for name in "ABCDE"}
    assert states == {"A": "withdrawn", "B": "granted", "C": "granted", "D": "denied", "E": "pending"}
    assert (approval(tmp_path, "A").decided_by, approval(tmp_path, "A").decided_ms) == ("run", 2500)
    assert [each.grant_id for each in grants(tmp_path)] == ["C"]
    assert isinstance(one(store, decides("A")), AlreadyDecided)


def test_a_call_that_asks_anew_withdraws_what_stood_about_it_only(store: SqliteStore, tmp_path: Path) -> None:
    rows_of(one(store, requests("A", "x"), requests("B", "y"), requests("C", "z")))
    rows_of(one(store, attrs.evolve(decides("B"), call_id="y"), attrs.evolve(decides("C"), call_id="z")))
    rows_of(one(store, requests("A2", "x"), requests("B2", "y"), at_ms=3000))
    assert [approval(tmp_path, name).state for name in ("A", "A2", "B", "B2")] == [
        "withdrawn",
        "pending",
        "granted",
        "pending",
    ]
    assert [each.grant_id for each in grants(tmp_path)] == ["C"]
    assert isinstance(commit(store, starts("B", "B"))[0], GrantEnded)


def test_the_end_of_a_session_ends_what_was_granted_for_it_and_nothing_else(store: SqliteStore, tmp_path: Path) -> None:
    commit(store, opened(2), lives(2, session=2))
    rows_of(one(store, requests("A"), requests("B")))
    rows_of(one(store, decides("A", scope="session"), decides("B", scope="time", until_ms=9000)))
    rows_of(one(store, requests("C"), decides("C", scope="session"), number=2))
    rows_of(one(store, FINISH))
    archived = ticket(SESSION_STREAM + session_id(1), SessionArchived(session_id(1), ALICE))
    rows_of(commit(store, archived, at_ms=2000)[0])
    assert [each.grant_id for each in grants(tmp_path)] == ["C", "B"]
    assert [each.grant_id for each in grants(tmp_path, ended=True)] == ["C", "B", "A"]


@pytest.mark.parametrize(
    ("session", "workspace", "principal", "standing"),
    [
        (1, WORK, ALICE, ["S", "T"]),
        (2, WORK, ALICE, ["T"]),
        (1, "/elsewhere", ALICE, []),
        (1, WORK, BOB, []),
    ],
)
def test_what_stands_for_a_run_depends_on_its_session_workspace_and_principal(
    store: SqliteStore, tmp_path: Path, session: int, workspace: str, principal: str, standing: list[str]
) -> None:
    rows_of(one(store, requests("O"), requests("S"), requests("T")))
    rows_of(one(store, decides("O"), decides("S", scope="session"), decides("T", scope="time", until_ms=9000)))
    with read(tmp_path) as reader:
        found = reader.approvals.standing(principal, session_id(session), workspace, 2000)
    assert sorted(each.grant_id for each in found) == standing


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["grant", "deny", "expire", "start", "revoke", "end"]),
        st.sampled_from("AB"),
        st.booleans(),
    ),
    max_size=12,
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(STEPS)
def test_whatever_happens_in_whatever_batches_a_call_starts_only_under_a_grant_that_holds_and_once(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, str, bool]]
) -> None:
    """Against a small model: each approval is open, granted, used or over. `joined` steps share a batch."""
    state = {"A": "open", "B": "open"}
    ended = False
    batches: list[list[tuple[Any, bool]]] = []
    for step, name, joined in steps:
        if step == "end":
            made, fits = for_run(1, FINISH), not ended
        elif step == "start":
            made, fits = starts(name, name), state[name] == "granted"
        elif step == "revoke":
            made, fits = revokes(name), state[name] in ("granted", "used")
        else:
            outcome = {"grant": "granted", "deny": "denied", "expire": "expired"}[step]
            made, fits = for_run(1, decides(name, outcome)), state[name] == "open"
        if fits:
            after = {"grant": "granted", "start": "used"}.get(step, "over")
            if step == "end":
                ended, state = True, dict.fromkeys(state, "over")
            else:
                state[name] = after
        if not joined or not batches:
            batches.append([])
        batches[-1].append((made, fits))
    with SqliteStore(tmp_path_factory.mktemp("law")) as store:
        commit(store, opened(1), lives(1), for_run(1, requests("A"), requests("B")))
        for batch in batches:
            outcomes = commit(store, *(made for made, _ in batch))
            assert [isinstance(outcome, tuple) for outcome in outcomes] == [fits for _, fits in batch]


# --- questions ---


def test_an_approval_is_found_by_the_beginning_of_its_id_and_by_its_own_principal_only(
    store: SqliteStore, tmp_path: Path
) -> None:
    commit(store, opened(2, BOB), lives(2, session=2, principal=BOB))
    rows_of(one(store, requests("01AB"), requests("01AC"), requests("01Z")))
    rows_of(one(store, requests("01AD"), number=2))
    with read(tmp_path) as reader:
        approvals = reader.approvals
        alice, bob = Principal(ALICE), Principal(BOB)
        assert [approvals.find(text, alice).approval_id for text in ("01AB", "01ac", "01z")] == ["01AB", "01AC", "01Z"]
        assert approvals.find("01A", bob).approval_id == "01AD"
        for text, principal in (
            *(("01AD", alice), ("01AB", bob), ("02", alice)),
            *(("", alice), ("01AB0", alice), ("\udcff", alice)),
        ):
            with pytest.raises(NotFound):
                approvals.find(text, principal)
        with pytest.raises(Ambiguous, match="01AC, 01AB"):
            approvals.find("01A", alice)
        with pytest.raises(NotFound):
            approvals.any("01A")


def test_a_grant_is_found_by_the_beginning_of_its_id_and_by_its_own_principal_only(
    store: SqliteStore, tmp_path: Path
) -> None:
    rows_of(one(store, requests("01AB"), requests("01AC"), decides("01AB"), decides("01AC", "denied")))
    with read(tmp_path) as reader:
        assert reader.approvals.grant("01a", Principal(ALICE)).grant_id == "01AB"
        for text, principal in (("01AC", ALICE), ("01AB", BOB), ("", ALICE)):
            with pytest.raises(NotFound):
                reader.approvals.grant(text, Principal(principal))


def test_the_prompt_is_the_one_of_the_tape(store: SqliteStore, tmp_path: Path) -> None:
    rows_of(one(store, requests("A"), requests("B"), delta()))
    with read(tmp_path) as reader:
        assert [reader.approvals.prompt(reader.approvals.any(name)) for name in "AB"] == ["May A?", "May B?"]
        unknown = attrs.evolve(reader.approvals.any("A"), approval_id="C")
        assert reader.approvals.prompt(unknown) == ""


def test_approvals_are_listed_newest_first_in_pages(store: SqliteStore, tmp_path: Path) -> None:
    rows_of(one(store, *(requests(name) for name in "ABCDE")))
    rows_of(one(store, decides("D", "denied")))
    with read(tmp_path) as reader:

        def names(**which: Any) -> str:
            return "".join(each.approval_id for each in reader.approvals.listed(Principal(ALICE), **which))

        assert names(pending=False) == "EDCBA"
        assert names(pending=True) == "ECBA"
        assert names(pending=True, most=2) == "EC"
        assert names(pending=True, before="C", most=2) == "BA"
        assert reader.approvals.listed(Principal(BOB), pending=False) == ()


def test_grants_are_listed_newest_first_in_pages(store: SqliteStore, tmp_path: Path) -> None:
    for name in "ABC":
        rows_of(one(store, requests(name), decides(name)))
    assert [each.grant_id for each in grants(tmp_path, most=2)] == ["C", "B"]
    assert [each.grant_id for each in grants(tmp_path, before="B", most=2)] == ["A"]
    assert grants(tmp_path, BOB) == ()


def test_what_expires_is_known_soonest_first_without_what_never_does_or_was_decided(
    store: SqliteStore, tmp_path: Path
) -> None:
    rows_of(one(store, requests("A", expires_ms=700), requests("B"), requests("C", expires_ms=300)))
    rows_of(one(store, requests("D", expires_ms=500), decides("D", "denied")))
    with read(tmp_path) as reader:
        assert reader.approvals.expiring() == ((300, "C"), (700, "A"))


def test_the_runs_that_wait_are_known_with_what_they_still_wait_for(store: SqliteStore, tmp_path: Path) -> None:
    for number in (2, 3, 4, 5):
        commit(store, opened(number), lives(number, session=number))
    rows_of(one(store, requests("A"), requests("B"), requests("C"), FOR_APPROVAL))
    rows_of(one(store, decides("B", "denied")))
    rows_of(one(store, requests("Q", question=True), FOR_INPUT, number=2))
    rows_of(one(store, requests("D"), FOR_APPROVAL, number=3))
    rows_of(one(store, decides("D"), number=3))
    rows_of(one(store, requests("E"), number=4))
    rows_of(one(store, StatusChange(RunState.RUNNING, RunState.WAITING, "interrupted"), number=5))
    with read(tmp_path) as reader:
        waiting = reader.approvals.waiting_runs()
        found = {each.run_id: (each.session_id, set(each.open)) for each in waiting}
    assert found == {
        run_id(1): (session_id(1), {"A", "C"}),
        run_id(2): (session_id(2), {"Q"}),
        run_id(3): (session_id(3), set()),
    }
    assert [each.run_id for each in waiting if each.granted] == [run_id(3)]
    rows_of(one(store, RunFinished(RunState.WAITING, RunState.CANCELLED, "cancelled")))
    with read(tmp_path) as reader:
        assert run_id(1) not in [each.run_id for each in reader.approvals.waiting_runs()]


def test_what_is_asked_is_met_run_by_run_in_its_order_and_each_commit_whole(store: SqliteStore, tmp_path: Path) -> None:
    commit(store, opened(2), lives(2, session=2))
    rows_of(one(store, requests("Z")))
    with read(tmp_path) as reader:
        place = reader.approvals.newest_place()
        assert reader.approvals.asked_after(place) == (place, ())
        assert reader.approvals.asked_after(0)[0] == place
    rows_of(one(store, requests("B"), requests("A"), requests("C")))
    rows_of(one(store, requests("D"), number=2))
    rows_of(one(store, decides("C", "denied")))
    met = []
    with read(tmp_path) as reader:
        for _ in range(3):
            place, asked = reader.approvals.asked_after(place)
            met.append("".join(each.approval_id for each in asked))
    assert met == ["BA", "D", ""]
