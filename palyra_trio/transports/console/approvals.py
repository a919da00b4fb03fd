"""Approvals: what waits for a person, what was answered, and what stands allowed since, each to be taken back."""

from collections.abc import Mapping
from urllib.parse import urlencode

import attrs
from markupsafe import Markup

from palyra_trio.core.approvals import Grant
from palyra_trio.core.commands import RevokeGrant
from palyra_trio.core.identity import Scope
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
from palyra_trio.journal.queries import Reader
from palyra_trio.transports.console.approval_lines import ApprovalLine, approval_lines
from palyra_trio.transports.console.live import Open
from palyra_trio.transports.console.site import Answer, Site, Visit
from palyra_trio.transports.console.watching import Drawn, open_panels

QUESTIONS = 50  # shown at once; more come up as these are answered
DECIDED = 10  # the newest, on the first page
LISTED = 50
CHANGES = (ApprovalRequested, ApprovalDecided, GrantRevoked, ToolStarted, SessionArchived, StatusChange, RunFinished)
PANELS = ("pending", "standing", "decided")
TEMPLATE = "approval_panels.html"


@attrs.frozen
class Found:
    """What the first page shows. `waiting` counts all questions that wait.

    Of these the oldest are in `questions`: a new one comes last, so that none slides under the pointer.
    """

    waiting: int
    questions: tuple[ApprovalLine, ...]
    standing: tuple[Grant, ...]
    decided: tuple[ApprovalLine, ...]
    now_ms: int


def add(site: Site) -> None:
    site.navigation.append(("Approvals", "/approvals"))

    @site.page("/approvals")
    async def approvals(visit: Visit) -> Answer:
        drawn = await draw(visit)
        return site.render("approvals.html", visit, panels=drawn.panels, place=str(drawn.g))

    @site.live("/approvals/live")
    async def live(visit: Visit) -> Open:
        visit = attrs.evolve(visit, here="/approvals")
        return open_panels(site.gateway.journal.feed, CHANGES, lambda: draw(visit))

    async def draw(visit: Visit) -> Drawn:
        g, now_ms = site.gateway.journal.feed.g, site.gateway.health().now_ms
        found = await site.gateway.ask(lambda reader: _found(reader, visit, now_ms))
        ends = [each.until_ms for each in found.standing if each.until_ms]
        again_in_s = (min(ends) - now_ms) / 1000 if ends else float("inf")
        return Drawn(g, _panels(site, visit, found), again_in_s)

    @site.page("/approvals/history")
    async def history(visit: Visit) -> Answer:
        before = visit.query.get("before", "")

        def read(reader: Reader) -> tuple[ApprovalLine, ...]:
            listed = reader.approvals.listed(visit.context.principal, pending=False, before=before, most=LISTED)
            return approval_lines(reader, listed)

        found = await site.gateway.ask(read)
        older = urlencode({"before": found[-1].approval.approval_id}) if len(found) == LISTED else ""
        return site.render("approval_history.html", visit, found=found, older=older)

    @site.page("/approvals/grants")
    async def grants(visit: Visit) -> Answer:
        before, now_ms = visit.query.get("before", ""), site.gateway.health().now_ms

        def read(reader: Reader) -> tuple[tuple[Grant, str], ...]:
            principal = visit.context.principal
            listed = reader.approvals.grants(principal, now_ms, ended=True, before=before, most=LISTED)
            return tuple((each, _revoked_by(reader, each) if each.ended_ms else "") for each in listed)

        found = await site.gateway.ask(read)
        older = urlencode({"before": found[-1][0].grant_id}) if len(found) == LISTED else ""
        return site.render("approval_grants.html", visit, found=found, older=older)

    @site.write("/grants/<grant_id>/revoke", Scope.APPROVE)
    async def revoke(visit: Visit, grant_id: str) -> Answer:
        await site.gateway.submit(RevokeGrant(grant_id), visit.context)
        return site.done(visit, "/approvals")


def _found(reader: Reader, visit: Visit, now_ms: int) -> Found:
    principal = visit.context.principal
    waiting = reader.approvals.listed(principal, pending=True)[::-1]
    newest = reader.approvals.listed(principal, pending=False, most=DECIDED + len(waiting))
    return Found(
        len(waiting),
        approval_lines(reader, waiting[:QUESTIONS]),
        reader.approvals.grants(principal, now_ms),
        approval_lines(reader, [each for each in newest if each.decided_ms][:DECIDED]),
        now_ms,
    )


def _revoked_by(reader: Reader, grant: Grant) -> str:
    """Return who took back a grant, "" where it has ended by itself."""
    for row in reader.newest(SESSION_STREAM + grant.session_id, GrantRevoked.kind, -1):
        event = row.event()
        if isinstance(event, GrantRevoked) and event.grant_id == grant.grant_id:
            return event.by
    return ""


def _panels(site: Site, visit: Visit, found: Found) -> Mapping[str, Markup]:
    return {name: site.part(TEMPLATE, name, visit, found) for name in PANELS}
