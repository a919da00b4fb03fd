import attrs
import pytest

from palyra_trio.core.approvals import Approval, ApprovalState, Grant
from palyra_trio.core.commands import DecideApproval
from palyra_trio.core.errors import InvalidArgument
from palyra_trio.core.identity import Principal, RunId, SessionId
from palyra_trio.core.policy import GrantScope, Pattern
from palyra_trio.pb import approvals_pb2, runs_pb2
from palyra_trio.transports.convert_approvals import (
    approval_message,
    approval_of_message,
    decision,
    decision_message,
    grant_message,
    grant_of_message,
)

PATTERN = Pattern("files.write", "src/*")
APPROVAL = Approval(
    "A", RunId("R"), "c1", SessionId("S"), Principal("user:alice"), "/project", "files.write", True, PATTERN,
    ApprovalState.GRANTED, 1, 2, 3, "user:bob", "because",
)  # fmt: skip
GRANT = Grant("A", Principal("user:alice"), SessionId("S"), "/project", PATTERN, "time", 5, 1, "user:bob", 2, 3)


@pytest.mark.parametrize("state", ApprovalState)
def test_an_approval_is_the_same_on_the_other_side(state: ApprovalState) -> None:
    approval = attrs.evolve(APPROVAL, state=state)
    assert approval_of_message(approval_message(approval)) == approval
    assert {field.name for field, _ in approval_message(approval).ListFields()} == names(Approval)


def test_no_pattern_is_not_an_empty_one() -> None:
    approval = attrs.evolve(APPROVAL, pattern=None)
    assert not approval_message(approval).HasField("pattern")
    assert approval_of_message(approval_message(approval)) == approval


@pytest.mark.parametrize("scope", ["once", "session", "time"])
def test_a_grant_and_a_decision_are_the_same_on_the_other_side(scope: GrantScope) -> None:
    grant = attrs.evolve(GRANT, scope=scope)
    assert grant_of_message(grant_message(grant)) == grant
    assert {field.name for field, _ in grant_message(grant).ListFields()} == names(Grant)
    command = DecideApproval("A", True, "because", scope, 5)
    assert decision(decision_message(command)) == command
    assert {field.name for field, _ in decision_message(command).ListFields()} == names(DecideApproval)


def test_a_client_that_names_no_scope_allows_once() -> None:
    assert decision(runs_pb2.Decision(approval_id="A", granted=True)) == DecideApproval("A", True)


@pytest.mark.parametrize("number", [-1, 4])
def test_a_scope_or_state_that_nobody_knows_is_refused(number: int) -> None:
    with pytest.raises(InvalidArgument, match="is no GrantScope"):
        decision(runs_pb2.Decision(scope=number))  # type: ignore[arg-type]
    with pytest.raises(InvalidArgument, match="is no ApprovalState"):
        approval_of_message(approvals_pb2.Approval())


def names(kind: type[attrs.AttrsInstance]) -> set[str]:
    return {field.name for field in attrs.fields(kind)}
