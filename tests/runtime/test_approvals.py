"""Open approvals: the first decision stands, only the run's own principal decides, and what is closed stays closed."""

import pytest

from palyra_trio.core.errors import AlreadyDecided, NotOwner, PalyraError
from palyra_trio.core.tape import ApprovalDecided, ApprovalRequested
from palyra_trio.runtime.approvals import Approvals, Pending
from tests.fakes import ME, OTHER


def _parked() -> tuple[Approvals, Pending]:
    approvals = Approvals()
    return approvals, approvals.park(ApprovalRequested("a1", "call", "may I?"), ME.principal)


def _ignore(_error: PalyraError | None) -> None:
    pass


def test_a_decision_wakes_the_call_and_says_who_and_why() -> None:
    approvals, pending = _parked()
    approvals.decide("a1", False, ME.principal, "not now", _ignore)
    assert pending.decided.is_set()
    assert pending.decision == ApprovalDecided("a1", "call", "denied", ME.principal, "not now")
    assert pending.settle is _ignore


def test_the_first_decision_stands() -> None:
    approvals, pending = _parked()
    approvals.decide("a1", True, ME.principal, "", _ignore)
    with pytest.raises(AlreadyDecided):
        approvals.decide("a1", False, ME.principal, "", _ignore)
    assert pending.decision is not None
    assert pending.decision.outcome == "granted"


def test_another_principal_does_not_decide() -> None:
    approvals, pending = _parked()
    with pytest.raises(NotOwner):
        approvals.decide("a1", True, OTHER.principal, "", _ignore)
    assert pending.decision is None
    approvals.decide("a1", True, ME.principal, "", _ignore)


def test_a_closed_approval_is_decided_already() -> None:
    approvals, pending = _parked()
    approvals.close(pending)
    approvals.close(pending)
    with pytest.raises(AlreadyDecided):
        approvals.decide("a1", True, ME.principal, "", _ignore)


def test_an_unknown_approval_is_decided_already() -> None:
    with pytest.raises(AlreadyDecided):
        _parked()[0].decide("a2", True, ME.principal, "", _ignore)
