"""What persons, and the clock, decide: put on the tape, where the first decision stands, and told to the run.

A decision is durable before it is acknowledged, and does not need the run to be alive: one that waits is woken.
"""

from palyra_trio.core.approvals import Approval, ApprovalState, Grant
from palyra_trio.core.codec import TapeRow
from palyra_trio.core.commands import DecideApproval
from palyra_trio.core.errors import AlreadyDecided, InvalidArgument, PalyraError
from palyra_trio.core.identity import Principal
from palyra_trio.core.system_events import GrantRevoked
from palyra_trio.core.tape import SESSION_STREAM, ApprovalDecided, run_stream
from palyra_trio.journal.store import entry
from palyra_trio.journal.writer import Ticket
from palyra_trio.runtime.runs import Settle
from palyra_trio.runtime.sessions import Sessions
from palyra_trio.runtime.state import RuntimeState

MAX_TIME_MS = 30 * 24 * 3600 * 1000  # a month: whoever wants it for longer writes a policy


def decision_of(approval: Approval, command: DecideApproval, by: Principal, now_ms: int) -> ApprovalDecided:
    """Return the decision that a command makes of an approval.

    Raises AlreadyDecided, and InvalidArgument for a standing grant where only this call may be allowed, a time that is
    over or too long, and a question that is answered with nothing.
    """
    check_open(approval)
    scope, until_ms = command.scope, command.until_ms
    if command.granted and scope != "once" and approval.pattern is None:
        raise InvalidArgument(f"{approval.tool} can be allowed once only here", remedy="allow it once")
    if scope == "time" and not now_ms < until_ms <= now_ms + MAX_TIME_MS:
        raise InvalidArgument(
            "the time until which it stands must lie ahead, and within 30 days",
            remedy="give until_ms, a Unix time in ms",
        )
    if approval.question and command.granted and not command.reason.strip():
        raise InvalidArgument("the answer is empty", remedy="answer the question, or decline it")
    outcome = ApprovalState.GRANTED if command.granted else ApprovalState.DENIED
    kept = (scope, until_ms if scope == "time" else 0) if command.granted else ("once", 0)
    return ApprovalDecided(approval.approval_id, approval.call_id, outcome, by, command.reason, *kept)


def check_open(approval: Approval) -> None:
    """Raise AlreadyDecided, with what became of it, unless the approval waits for a decision."""
    if approval.state is not ApprovalState.PENDING:
        by = f" by {approval.decided_by}" if approval.decided_by else ""
        raise AlreadyDecided(f"approval {approval.approval_id} was {approval.state}{by} already")


class Approvals:
    """The way of every decision to the tape, and from there to the run that it is about."""

    def __init__(self, state: RuntimeState, sessions: Sessions) -> None:
        self._state = state
        self._sessions = sessions

    def decide(self, approval: Approval, decision: ApprovalDecided, settle: Settle) -> None:
        """Record a decision; `settle` is told when it is durable, or that another came first."""

        def committed(rows: tuple[TapeRow, ...]) -> None:
            self._sessions.decided(approval, decision, rows[-1].seq)
            settle(None)

        stream = run_stream(approval.run_id)
        self._state.journal.submit(Ticket((entry(stream, decision),), on_commit=committed, on_refusal=settle))

    def revoke(self, grant: Grant, by: Principal, settle: Settle) -> None:
        """End a grant: what has not started under it will not, and what runs under it is stopped."""

        def committed(_rows: tuple[TapeRow, ...]) -> None:
            self._sessions.revoked(grant.grant_id)
            settle(None)

        revoked = entry(SESSION_STREAM + grant.session_id, GrantRevoked(grant.grant_id, by))
        self._state.journal.submit(Ticket((revoked,), on_commit=committed, on_refusal=settle))

    async def expire(self, approval_id: str) -> None:
        """Record that nobody answered in time, unless somebody did."""
        approval = await self._state.readers.ask(lambda reader: reader.approvals.any(approval_id))
        if approval.state is ApprovalState.PENDING:
            decision = ApprovalDecided(
                approval_id, approval.call_id, ApprovalState.EXPIRED, "clock", "nobody answered in time"
            )
            self.decide(approval, decision, _ignore)


def _ignore(_error: PalyraError | None) -> None:
    """A decision that came first stands, and a journal that has stopped is said elsewhere."""
