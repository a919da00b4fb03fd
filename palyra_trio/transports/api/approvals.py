"""Approvals and grants over the API: what waits for a person, the answer, and what stands allowed since.

An answer may be sent again: when it is the one that was given, it is answered like the first time.
"""

import attrs

from palyra_trio.core.approvals import Approval, ApprovalState, Grant
from palyra_trio.core.commands import DecideApproval, RevokeGrant
from palyra_trio.core.errors import AlreadyDecided, StateConflict
from palyra_trio.core.identity import Principal, Scope
from palyra_trio.core.policy import GrantScope
from palyra_trio.journal.queries import Reader
from palyra_trio.transports.api.reading import Number, Paged, Said
from palyra_trio.transports.api.route import API, Ask, get, post
from palyra_trio.transports.paging import next_page


class ApprovalsQuery(Paged, frozen=True):
    """With `decided`, also those that wait no longer."""

    decided: bool = False


class GrantsQuery(Paged, frozen=True):
    """With `ended`, also those that hold no longer."""

    ended: bool = False


class Decision(Said, frozen=True):
    """A person's answer. `reason` is told to the model, and is the answer to a question.

    `scope` says for how long: this call, the session, or until `until_ms` (Unix time) in this workspace.
    """

    granted: bool
    reason: str = ""
    scope: GrantScope = "once"
    until_ms: Number = 0


class Nothing(Said, frozen=True):
    """An empty object, or no body."""


@attrs.frozen
class ApprovalPage:
    approvals: tuple[Approval, ...]
    next_page_token: str


@attrs.frozen
class AskedApproval:
    """An approval, and the `prompt` exactly as a person is shown it; "" once that was erased."""

    approval: Approval
    prompt: str


@attrs.frozen
class GrantPage:
    grants: tuple[Grant, ...]
    next_page_token: str


@get(f"{API}/approvals")
async def list_approvals(ask: Ask, query: ApprovalsQuery) -> ApprovalPage:
    """What your runs wait for a person to say, newest first."""
    found = await ask.gateway.ask(
        lambda reader: reader.approvals.listed(
            ask.context.principal, pending=not query.decided, before=query.page_token, most=query.page_size
        )
    )
    return ApprovalPage(found, next_page(found, query.page_size, lambda each: each.approval_id))


@get(f"{API}/approvals/{{approval}}")
async def get_approval(ask: Ask, approval: str) -> AskedApproval:
    """An approval, by its id or an unambiguous beginning of it, and what is asked."""

    def read(reader: Reader) -> AskedApproval:
        found = reader.approvals.find(approval, ask.context.principal)
        return AskedApproval(found, reader.approvals.prompt(found))

    return await ask.gateway.ask(read)


@post(f"{API}/approvals/{{approval}}/decide", Scope.APPROVE, refuses=("already_decided", "state_conflict"))
async def decide_approval(ask: Ask, approval: str, body: Decision) -> Approval:
    """Answer. The first answer stands: the same one again is answered like the first time, and another one is refused."""
    command = DecideApproval(approval, body.granted, body.reason, body.scope, body.until_ms)
    refused: AlreadyDecided | None = None
    try:
        await ask.gateway.submit(command, ask.context)
    except AlreadyDecided as error:
        refused = error

    def read(reader: Reader) -> Approval:
        found = reader.approvals.find(approval, ask.context.principal)
        if refused is not None and not _says_so(reader, found, ask.context.principal, body):
            raise refused
        return found

    return await ask.gateway.ask(read)


def _says_so(reader: Reader, found: Approval, principal: Principal, body: Decision) -> bool:
    """Return whether `body` is what this very person has answered."""
    wanted = ApprovalState.GRANTED if body.granted else ApprovalState.DENIED
    if (found.state, found.decided_by, found.reason) != (wanted, principal, body.reason):
        return False
    if not body.granted:
        return True
    grant = reader.approvals.grant(found.approval_id, principal)
    return (grant.scope, grant.until_ms) == (body.scope, body.until_ms if body.scope == "time" else 0)


@get(f"{API}/grants")
async def list_grants(ask: Ask, query: GrantsQuery) -> GrantPage:
    """What you have allowed and still holds, newest first."""
    now_ms = ask.gateway.health().now_ms
    found = await ask.gateway.ask(
        lambda reader: reader.approvals.grants(
            ask.context.principal, now_ms, ended=query.ended, before=query.page_token, most=query.page_size
        )
    )
    return GrantPage(found, next_page(found, query.page_size, lambda each: each.grant_id))


@post(f"{API}/grants/{{grant}}/revoke", Scope.APPROVE, refuses=("state_conflict",))
async def revoke_grant(ask: Ask, grant: str, body: Nothing) -> Grant:
    """End what was allowed. One that has ended already is answered the same."""
    found = await ask.gateway.ask(lambda reader: reader.approvals.grant(grant, ask.context.principal))
    try:
        await ask.gateway.submit(RevokeGrant(found.grant_id), ask.context)
    except StateConflict:
        if not found.over(ask.gateway.health().now_ms):
            raise
    return await ask.gateway.ask(lambda reader: reader.approvals.grant(found.grant_id, ask.context.principal))


ROUTES = (list_approvals, get_approval, decide_approval, list_grants, revoke_grant)
