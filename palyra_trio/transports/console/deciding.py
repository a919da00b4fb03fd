"""What a person answers to a question of an agent: allow once, for the session or a time, deny, or the words it asked for."""

from collections.abc import Mapping

from palyra_trio.core.commands import DecideApproval
from palyra_trio.core.errors import InvalidArgument
from palyra_trio.core.identity import Scope
from palyra_trio.transports.console.site import Answer, Site, Visit

SPANS_MS = {"10min": 600_000, "1h": 3_600_000, "8h": 8 * 3_600_000, "1d": 24 * 3_600_000}
SAID_NO = "the person said no"


def add(site: Site) -> None:
    @site.write("/approvals/<approval_id>/decide", Scope.APPROVE)
    async def decide(visit: Visit, approval_id: str) -> Answer:
        decision = decision_of(approval_id, visit.form, site.gateway.health().now_ms)
        await site.gateway.submit(decision, visit.context)
        return site.done(visit)


def decision_of(approval_id: str, form: Mapping[str, str], now_ms: int) -> DecideApproval:
    """Return what a form decides. Raises InvalidArgument for one that decides nothing."""
    reason = form.get("reason", "").strip()
    match form.get("answer"):
        case "once":
            return DecideApproval(approval_id, True, reason)
        case "session":
            return DecideApproval(approval_id, True, reason, "session")
        case "time" if form.get("span") in SPANS_MS:
            return DecideApproval(approval_id, True, reason, "time", now_ms + SPANS_MS[form["span"]])
        case None if choice := form.get("choice"):
            return DecideApproval(approval_id, True, choice)
        case "deny":
            return DecideApproval(approval_id, False, reason or SAID_NO)
    raise InvalidArgument("that is no answer", remedy="choose one of the buttons")
