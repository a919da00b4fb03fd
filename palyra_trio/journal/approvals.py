"""Approvals and grants, kept at hand beside the tape: what each event changes, when a grant holds, and who waits for whom.

The first decision of an approval that is committed stands; every later one is refused. A grant for one call is used
up in the commit that records the call's start.
"""

import sqlite3
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import attrs

from palyra_trio.core.approvals import Approval, ApprovalState, Grant
from palyra_trio.core.codec import decode
from palyra_trio.core.errors import AlreadyDecided, Ambiguous, NotFound, StateConflict
from palyra_trio.core.identity import Principal, RunId, SessionId
from palyra_trio.core.policy import Pattern
from palyra_trio.core.system_events import GrantRevoked
from palyra_trio.core.tape import RUN_STREAM, ApprovalDecided, ApprovalRequested, run_stream
from palyra_trio.core.text import clean

T = TypeVar("T")

_APPROVAL = (
    "approval_id, run_id, call_id, session_id, principal, workspace, tool, question, pattern_tool, pattern_resource,"
    " state, requested_ms, expires_ms, decided_ms, decided_by, reason"
)
_GRANT = (
    "grant_id, principal, session_id, workspace, tool, resource, scope, until_ms, made_ms, made_by,"
    " coalesce(used_ms, 0), coalesce(ended_ms, 0)"
)


@attrs.frozen
class WaitingRun:
    """A run that waits for a person: what it still waits for, and whether anything of it was granted."""

    run_id: RunId
    session_id: SessionId
    open: tuple[str, ...]
    granted: bool


@attrs.frozen
class GrantHolds:
    """Guard: the grant has not ended. One for a single call is used up by this."""

    grant_id: str


class GrantEnded(StateConflict):
    """The grant that a call was to start under has ended."""


# --- what an event changes ---


def requested(db: sqlite3.Connection, stream: str, event: ApprovalRequested, at_ms: int) -> None:
    run_id = stream.removeprefix(RUN_STREAM)
    pattern = event.pattern or Pattern("", "")
    withdraw(db, run_id, at_ms, call_id=event.call_id)
    db.execute(
        "INSERT INTO approval (approval_id, run_id, call_id, session_id, principal, workspace, tool, question,"
        " pattern_tool, pattern_resource, state, requested_ms, expires_ms)"
        " SELECT ?, run_id, ?, session_id, principal, workspace, ?, ?, ?, ?, 'pending', ?, ? FROM run WHERE run_id = ?",
        (
            event.approval_id,
            event.call_id,
            event.tool,
            event.question,
            pattern.tool,
            pattern.resource,
            at_ms,
            event.expires_at_ms,
            run_id,
        ),
    )


def decided(db: sqlite3.Connection, _stream: str, event: ApprovalDecided, at_ms: int) -> None:
    found = db.execute(
        "SELECT approval.state, expires_ms, pattern_tool, run.reason = 'interrupted' FROM approval JOIN run USING (run_id)"
        " WHERE approval_id = ?",
        (event.approval_id,),
    ).fetchone()
    if found is None:
        return  # of a journal that kept no approvals: its run has ended or was interrupted
    state, expires_ms, pattern_tool, interrupted = found
    if state == event.outcome == ApprovalState.WITHDRAWN:
        return  # with its run's interruption
    if state != ApprovalState.PENDING:
        raise AlreadyDecided(f"approval {event.approval_id} was {state} already")
    granted = event.outcome == ApprovalState.GRANTED
    if granted and interrupted:
        raise StateConflict("its run was interrupted, and does not go on", remedy="start another in its session")
    if granted and expires_ms and at_ms >= expires_ms:
        raise AlreadyDecided(f"approval {event.approval_id} has expired", remedy="the agent may ask again")
    if granted and event.scope != "once" and not pattern_tool:
        raise StateConflict(f"approval {event.approval_id} can be granted once only")
    db.execute(
        "UPDATE approval SET state = ?, decided_ms = ?, decided_by = ?, reason = ? WHERE approval_id = ?",
        (event.outcome, at_ms, event.by, event.reason, event.approval_id),
    )
    if granted:
        db.execute(
            "INSERT INTO granted (grant_id, principal, session_id, workspace, tool, resource, scope, until_ms, made_ms,"
            " made_by) SELECT approval_id, principal, session_id, workspace,"
            " iif(pattern_tool = '', tool, pattern_tool), pattern_resource, ?, ?, ?, ? FROM approval WHERE approval_id = ?",
            (event.scope, event.until_ms, at_ms, event.by, event.approval_id),
        )


def withdraw(db: sqlite3.Connection, run_id: str, at_ms: int, *, call_id: str | None = None) -> None:
    """Close what a run (or one of its calls) still has open: it has ended, or asks anew."""
    this = "run_id = ?1 AND (?2 IS NULL OR call_id = ?2)"
    db.execute(
        "UPDATE granted SET ended_ms = ?3 WHERE scope = 'once' AND ended_ms IS NULL"
        f" AND grant_id IN (SELECT approval_id FROM approval WHERE {this})",
        (run_id, call_id, at_ms),
    )
    db.execute(
        "UPDATE approval SET state = 'withdrawn', decided_ms = ?3, decided_by = 'run'"
        f" WHERE state = 'pending' AND {this}",
        (run_id, call_id, at_ms),
    )


def session_closed(db: sqlite3.Connection, session_id: str, at_ms: int) -> None:
    """End what was allowed for the session."""
    db.execute(
        "UPDATE granted SET ended_ms = ? WHERE session_id = ? AND scope = 'session' AND ended_ms IS NULL",
        (at_ms, session_id),
    )


def revoked(db: sqlite3.Connection, _stream: str, event: GrantRevoked, at_ms: int) -> None:
    ended = db.execute(
        "UPDATE granted SET ended_ms = ? WHERE grant_id = ? AND ended_ms IS NULL", (at_ms, event.grant_id)
    )
    if ended.rowcount != 1:
        raise StateConflict(f"grant {event.grant_id} has ended already")


def check_grant(db: sqlite3.Connection, guard: GrantHolds, at_ms: int) -> None:
    """Raise GrantEnded unless the grant holds; use it up if it is for one call."""
    found = db.execute(
        "SELECT scope, until_ms, coalesce(used_ms, ended_ms) FROM granted WHERE grant_id = ?", (guard.grant_id,)
    ).fetchone()
    if found is None or found[2] is not None or (found[1] and at_ms >= found[1]):
        raise GrantEnded(f"grant {guard.grant_id} has ended")
    if found[0] == "once":
        db.execute("UPDATE granted SET used_ms = ? WHERE grant_id = ?", (at_ms, guard.grant_id))


# --- questions ---

_SOME = 3  # of several that fit, to name them


@attrs.frozen
class Approvals:
    """The read side: approvals and grants as they stand."""

    _db: sqlite3.Connection

    def find(self, text: str, principal: Principal) -> Approval:
        """Return the approval of the principal's runs that has this id, or an id that alone begins so.

        Raises NotFound, for another's too, and Ambiguous.
        """
        bound = (principal, *_beginning_with(text))
        found = [*self._approvals("principal = ? AND approval_id >= ? AND approval_id < ?", bound, _SOME)]
        return _only(found, text, "approval", "list", lambda each: each.approval_id)

    def prompt(self, approval: Approval) -> str:
        """Return what the person is shown, exactly as it is on the tape; "" where that was erased."""
        rows = self._db.execute(
            "SELECT ev.body FROM ev JOIN stream ON stream.id = ev.stream"
            " WHERE stream.name = ? AND ev.kind = ? AND ev.body IS NOT NULL ORDER BY ev.seq DESC",
            (run_stream(approval.run_id), ApprovalRequested.kind),
        )
        for (body,) in rows:
            event = decode(ApprovalRequested.kind, body)
            if isinstance(event, ApprovalRequested) and event.approval_id == approval.approval_id:
                return event.prompt
        return ""

    def listed(self, principal: Principal, *, pending: bool, before: str = "", most: int = -1) -> tuple[Approval, ...]:
        """Return the principal's approvals, newest first: those that wait, or all. The next page is `before` the last."""
        where = "principal = ? AND (? = '' OR approval_id < ?)" + (" AND state = 'pending'" if pending else "")
        return tuple(self._approvals(where, (principal, before, before), most))

    def expiring(self) -> tuple[tuple[int, str], ...]:
        """Return when each open approval of anybody expires, and its id, the soonest first."""
        return tuple(
            self._db.execute(
                "SELECT expires_ms, approval_id FROM approval WHERE state = 'pending' AND expires_ms > 0"
                " ORDER BY expires_ms"
            )
        )

    def any(self, approval_id: str) -> Approval:
        """Return an approval of anybody's. Raises NotFound."""
        for each in self._approvals("approval_id = ?", (approval_id,), 1):
            return each
        raise NotFound(f"there is no approval {approval_id}")

    def newest_place(self) -> int:
        """Return the place of the approval that was asked for last, 0 before the first."""
        return int(self._db.execute("SELECT coalesce(max(rowid), 0) FROM approval").fetchone()[0])

    def asked_after(self, place: int) -> tuple[int, tuple[Approval, ...]]:
        """Return what one run asked for next after a place and still waits for, and the place behind it.

        What was asked for in one commit is not torn apart. Nothing and the same place when nothing waits.
        """
        rows = self._db.execute(
            f"SELECT rowid, {_APPROVAL} FROM approval NOT INDEXED WHERE rowid > ? AND state = 'pending' ORDER BY rowid",
            (place,),
        )
        found: list[Approval] = []
        for rowid, *row in rows:
            approval = _approval(row)
            if found and approval.run_id != found[0].run_id:
                break
            found.append(approval)
            place = rowid
        return place, tuple(found)

    def waiting_runs(self) -> tuple[WaitingRun, ...]:
        """Return the runs that wait for a person, or have been answered and did not go on yet."""
        rows = self._db.execute(
            "SELECT run.run_id, run.session_id, approval.approval_id, approval.state FROM run LEFT JOIN approval"
            " ON approval.run_id = run.run_id AND approval.state IN ('pending', 'granted')"
            " WHERE run.state = 'waiting' AND run.reason IN ('approval', 'input') ORDER BY run.run_id"
        )
        found: dict[RunId, WaitingRun] = {}
        for run_id, session_id, approval_id, state in rows:
            run = found.setdefault(RunId(run_id), WaitingRun(RunId(run_id), SessionId(session_id), (), granted=False))
            if state == ApprovalState.PENDING:
                run = attrs.evolve(run, open=(*run.open, approval_id))
            found[run.run_id] = attrs.evolve(run, granted=run.granted or state == ApprovalState.GRANTED)
        return tuple(found.values())

    def grant(self, text: str, principal: Principal) -> Grant:
        """Return the grant that the principal's runs have with this id, or an id that alone begins so.

        Raises NotFound, for another's too, and Ambiguous.
        """
        bound = (principal, *_beginning_with(text))
        found = [*self._grants(f"principal = ? AND grant_id >= ? AND grant_id < ? LIMIT {_SOME}", bound)]
        return _only(found, text, "grant", "grants", lambda each: each.grant_id)

    def grants(
        self, principal: Principal, now_ms: int, *, ended: bool = False, before: str = "", most: int = -1
    ) -> tuple[Grant, ...]:
        """Return what was allowed to the principal's runs, newest first; what has ended only if asked for.

        The next page is `before` the last.
        """
        where = (
            "principal = ? AND (? = '' OR grant_id < ?)"
            " AND (? OR (ended_ms IS NULL AND (until_ms = 0 OR until_ms > ?))) ORDER BY grant_id DESC LIMIT ?"
        )
        return tuple(self._grants(where, (principal, before, before, ended, now_ms, most)))

    def standing(self, principal: str, session_id: str, workspace: str, now_ms: int) -> tuple[Grant, ...]:
        """Return the standing grants that hold for a run of that session in that workspace."""
        return tuple(
            self._grants(
                "principal = ? AND workspace = ? AND ended_ms IS NULL AND (until_ms = 0 OR until_ms > ?)"
                " AND (scope = 'time' OR (scope = 'session' AND session_id = ?))",
                (principal, workspace, now_ms, session_id),
            )
        )

    def _approvals(self, where: str, bound: tuple[Any, ...], most: int) -> Iterator[Approval]:
        for row in self._db.execute(
            f"SELECT {_APPROVAL} FROM approval WHERE {where} ORDER BY approval_id DESC LIMIT ?", (*bound, most)
        ):
            yield _approval(row)

    def _grants(self, where: str, values: tuple[Any, ...]) -> Iterator[Grant]:
        for row in self._db.execute(f"SELECT {_GRANT} FROM granted WHERE {where}", values):
            found: Any = (*row[:4], Pattern(row[4], row[5]), *row[6:])
            yield Grant(*found)


def _approval(row: Sequence[Any]) -> Approval:
    pattern = Pattern(row[8], row[9]) if row[8] else None
    values: Any = (*row[:7], bool(row[7]), pattern, ApprovalState(row[10]), *row[11:])
    return Approval(*values)


def _beginning_with(text: str) -> tuple[str, str]:
    """Return between which two words the ids lie that begin with `text`: from the first, up to the second."""
    beginning = clean(text).upper()
    return beginning, beginning + "["  # what follows Z, the last letter of an id


def _only(found: list[T], text: str, what: str, shows: str, name: Callable[[T], str]) -> T:
    if not found or not text:
        raise NotFound(f"there is no {what} {text!r} of yours", remedy=f"`palyra-trio approvals {shows}` shows them")
    if len(found) > 1:
        raise Ambiguous(
            f"{text!r} fits more than one {what}: {', '.join(map(name, found))}", remedy="pass more of the id"
        )
    return found[0]
