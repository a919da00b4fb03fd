"""Approvals and grants as a person sees them in a list: what was asked, what became of it, and what stands since."""

from enum import StrEnum

import attrs

from palyra_trio.core.identity import Principal, RunId, SessionId
from palyra_trio.core.policy import GrantScope, Pattern


class ApprovalState(StrEnum):
    PENDING = "pending"
    GRANTED = "granted"
    DENIED = "denied"
    EXPIRED = "expired"
    WITHDRAWN = "withdrawn"


@attrs.frozen
class Approval:
    """A question to a person, as it stands. `expires_ms` 0 means never; `decided_ms` 0, not yet."""

    approval_id: str
    run_id: RunId
    call_id: str
    session_id: SessionId
    principal: Principal
    workspace: str
    tool: str
    question: bool
    pattern: Pattern | None
    state: ApprovalState
    requested_ms: int
    expires_ms: int
    decided_ms: int = 0
    decided_by: str = ""
    reason: str = ""


@attrs.frozen
class Grant:
    """What a person allowed. `scope` `once` is for the one call that was asked about, `session` for what `pattern` covers
    in that session, `time` for what it covers in that workspace until `until_ms`.

    It has ended when it was revoked, when its session or its time is over; one for a call also when that was started
    (`used_ms`) and its run is over. 0 is not yet.
    """

    grant_id: str
    principal: Principal
    session_id: SessionId
    workspace: str
    pattern: Pattern
    scope: GrantScope
    until_ms: int
    made_ms: int
    made_by: str
    used_ms: int = 0
    ended_ms: int = 0

    def over(self, now_ms: int) -> bool:
        """Return whether nothing more can start under it."""
        return bool(self.used_ms or self.ended_ms or (self.until_ms and self.until_ms <= now_ms))
