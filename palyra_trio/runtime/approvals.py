"""Calls that wait for a person: each is parked here until somebody decides, it expires, or its run ends."""

from collections.abc import Callable

import attrs
import trio

from palyra_trio.core.errors import AlreadyDecided, NotOwner, PalyraError
from palyra_trio.core.identity import Principal
from palyra_trio.core.tape import ApprovalDecided, ApprovalRequested

Settle = Callable[[PalyraError | None], None]


@attrs.define(eq=False)
class Pending:
    """An open approval. The first decision stands; `settle` tells who decided that it is durable, or came too late."""

    request: ApprovalRequested
    principal: Principal
    decision: ApprovalDecided | None = None
    decided: trio.Event = attrs.Factory(trio.Event)
    settle: Settle = lambda _error: None


class Approvals:
    """The open approvals of this process, by id."""

    def __init__(self) -> None:
        self._open: dict[str, Pending] = {}

    def park(self, request: ApprovalRequested, principal: Principal) -> Pending:
        pending = Pending(request, principal)
        self._open[request.approval_id] = pending
        return pending

    def close(self, pending: Pending) -> None:
        """Take an approval off the list. A decision that comes later is refused."""
        self._open.pop(pending.request.approval_id, None)

    def decide(self, approval_id: str, granted: bool, by: Principal, reason: str, settle: Settle) -> None:
        """Decide an open approval and wake its call. Raises AlreadyDecided when it is not open, and NotOwner."""
        pending = self._open.get(approval_id)
        if pending is None or pending.decision is not None:
            raise AlreadyDecided(
                f"approval {approval_id} is not open", remedy="it was decided, has expired, or its run has ended"
            )
        if pending.principal != by:
            raise NotOwner(f"approval {approval_id} belongs to another principal's run")
        outcome = "granted" if granted else "denied"
        pending.decision = ApprovalDecided(approval_id, pending.request.call_id, outcome, by, reason)
        pending.settle = settle
        pending.decided.set()
