"""Between protobuf messages and approvals, grants and a person's decisions, both ways; as `convert` is for the rest."""

import attrs

from palyra_trio.core.approvals import Approval, ApprovalState, Grant
from palyra_trio.core.commands import DecideApproval
from palyra_trio.core.identity import Principal, RunId, SessionId
from palyra_trio.core.policy import GrantScope, Pattern
from palyra_trio.pb import approvals_pb2, runs_pb2
from palyra_trio.transports.convert import known

_SCOPES: dict[runs_pb2.GrantScope, GrantScope] = {
    runs_pb2.GRANT_SCOPE_UNSPECIFIED: "once",
    runs_pb2.GRANT_SCOPE_ONCE: "once",
    runs_pb2.GRANT_SCOPE_SESSION: "session",
    runs_pb2.GRANT_SCOPE_TIME: "time",
}
_SCOPE_NUMBERS = {scope: number for number, scope in _SCOPES.items()}
_STATES: dict[approvals_pb2.ApprovalState, ApprovalState] = {
    approvals_pb2.APPROVAL_STATE_PENDING: ApprovalState.PENDING,
    approvals_pb2.APPROVAL_STATE_GRANTED: ApprovalState.GRANTED,
    approvals_pb2.APPROVAL_STATE_DENIED: ApprovalState.DENIED,
    approvals_pb2.APPROVAL_STATE_EXPIRED: ApprovalState.EXPIRED,
    approvals_pb2.APPROVAL_STATE_WITHDRAWN: ApprovalState.WITHDRAWN,
}
_STATE_NUMBERS = {state: number for number, state in _STATES.items()}


def decision(message: runs_pb2.Decision) -> DecideApproval:
    scope = known(_SCOPES, message.scope, "GrantScope")
    return DecideApproval(message.approval_id, message.granted, message.reason, scope, message.until_ms)


def decision_message(command: DecideApproval) -> runs_pb2.Decision:
    return runs_pb2.Decision(**attrs.asdict(command) | {"scope": _SCOPE_NUMBERS[command.scope]})


def approval_message(approval: Approval) -> approvals_pb2.Approval:
    plain = attrs.asdict(approval, recurse=False)
    changed = {"pattern": approval.pattern and _pattern_message(approval.pattern)}
    return approvals_pb2.Approval(**plain | changed | {"state": _STATE_NUMBERS[approval.state]})


def approval_of_message(message: approvals_pb2.Approval) -> Approval:
    return Approval(
        message.approval_id,
        RunId(message.run_id),
        message.call_id,
        SessionId(message.session_id),
        Principal(message.principal),
        message.workspace,
        message.tool,
        message.question,
        _pattern(message.pattern) if message.HasField("pattern") else None,
        known(_STATES, message.state, "ApprovalState"),
        message.requested_ms,
        message.expires_ms,
        message.decided_ms,
        message.decided_by,
        message.reason,
    )


def grant_message(grant: Grant) -> approvals_pb2.Grant:
    plain = attrs.asdict(grant, recurse=False)
    return approvals_pb2.Grant(
        **plain | {"pattern": _pattern_message(grant.pattern), "scope": _SCOPE_NUMBERS[grant.scope]}
    )


def grant_of_message(message: approvals_pb2.Grant) -> Grant:
    return Grant(
        message.grant_id,
        Principal(message.principal),
        SessionId(message.session_id),
        message.workspace,
        _pattern(message.pattern),
        known(_SCOPES, message.scope, "GrantScope"),
        message.until_ms,
        message.made_ms,
        message.made_by,
        message.used_ms,
        message.ended_ms,
    )


def _pattern(message: approvals_pb2.Pattern) -> Pattern:
    return Pattern(message.tool, message.resource)


def _pattern_message(pattern: Pattern) -> approvals_pb2.Pattern:
    return approvals_pb2.Pattern(**attrs.asdict(pattern))
