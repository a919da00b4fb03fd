"""What an event changes beside the tape: one small function a kind, run in the transaction that writes the event.

A state moves by compare-and-set: an event names the state before it, and is rejected when that is not the state.
"""

import sqlite3
from collections.abc import Callable
from typing import Any

from palyra_trio.core.agents import DEFAULT_AGENT
from palyra_trio.core.bindings import AgentBound, AgentUnbound
from palyra_trio.core.chain import body_digest, canonical_json
from palyra_trio.core.errors import PalyraError, SessionBusy, SessionConflict, StateConflict
from palyra_trio.core.run import TRANSITIONS, RunState
from palyra_trio.core.session_events import JobEnded, JobStarted, SessionArchived, SessionOpened, SessionRenamed
from palyra_trio.core.system_events import (
    AdmissionPaused,
    AdmissionResumed,
    AgentDefined,
    AgentRemoved,
    BodiesErased,
    DefaultAgentSet,
    GrantRevoked,
    PolicyLoaded,
)
from palyra_trio.core.tape import (
    RUN_STREAM,
    ApprovalDecided,
    ApprovalRequested,
    Input,
    RunFinished,
    RunInterrupted,
    StatusChange,
)
from palyra_trio.core.tokens import TokenCreated, TokenRevoked
from palyra_trio.journal import approvals, jobs
from palyra_trio.journal.guards import PAUSED, POLICY

TITLE_CHARACTERS = 120


def title_of(text: str) -> str:
    """Return the first line of a prompt, short enough for a list."""
    line = next((line.strip() for line in text.splitlines() if line.strip()), "")
    return line if len(line) <= TITLE_CHARACTERS else line[: TITLE_CHARACTERS - 1] + "…"


def _input(db: sqlite3.Connection, stream: str, event: Input, at_ms: int) -> None:
    archived = "SELECT 1 FROM session WHERE session_id = ? AND archived_ms IS NOT NULL"
    if db.execute(archived, (event.session_id,)).fetchone():
        raise StateConflict(f"session {event.session_id} is archived", remedy="start a new session")
    db.execute(
        "INSERT INTO run (run_id, session_id, principal, agent, workspace, title, state, reason, payload_digest, boot_id,"
        " created_ms, updated_ms) VALUES (?, ?, ?, ?, ?, ?, ?, '', ?, '', ?, ?)",
        (
            stream.removeprefix(RUN_STREAM),
            event.session_id,
            event.principal,
            event.agent.name,
            event.workspace,
            title_of(event.text),
            RunState.QUEUED,
            event.payload_digest,
            at_ms,
            at_ms,
        ),
    )


def _move(db: sqlite3.Connection, stream: str, before: RunState, after: RunState, reason: str, at_ms: int) -> None:
    run_id = stream.removeprefix(RUN_STREAM)
    moved = db.execute(
        "UPDATE run SET state = ?, reason = ?, updated_ms = ? WHERE run_id = ? AND state = ?",
        (after, reason, at_ms, run_id, before),
    )
    if moved.rowcount != 1:
        raise StateConflict(f"run {run_id} is not {before}")
    if after not in TRANSITIONS[before]:
        raise StateConflict(f"run {run_id} cannot move from {before} to {after}")


def _status(db: sqlite3.Connection, stream: str, event: StatusChange, at_ms: int) -> None:
    _move(db, stream, event.before, event.after, event.reason, at_ms)
    if event.boot_id:
        db.execute("UPDATE run SET boot_id = ? WHERE run_id = ?", (event.boot_id, stream.removeprefix(RUN_STREAM)))


def _finished(db: sqlite3.Connection, stream: str, event: RunFinished, at_ms: int) -> None:
    _move(db, stream, event.before, event.state, event.reason, at_ms)
    approvals.withdraw(db, stream.removeprefix(RUN_STREAM), at_ms)


def _interrupted(db: sqlite3.Connection, stream: str, _event: RunInterrupted, at_ms: int) -> None:
    approvals.withdraw(db, stream.removeprefix(RUN_STREAM), at_ms)


def _session_opened(db: sqlite3.Connection, _stream: str, event: SessionOpened, at_ms: int) -> None:
    db.execute(
        "INSERT INTO session (session_id, principal, key, title, created_ms) VALUES (?, ?, ?, ?, ?)",
        (event.session_id, event.principal, event.key, event.title, at_ms),
    )


def _session_archived(db: sqlite3.Connection, _stream: str, event: SessionArchived, at_ms: int) -> None:
    archived = db.execute(
        "UPDATE session SET archived_ms = ?, key = NULL WHERE session_id = ? AND archived_ms IS NULL",
        (at_ms, event.session_id),
    )
    if archived.rowcount != 1:
        raise StateConflict(f"session {event.session_id} is archived already")
    approvals.session_closed(db, event.session_id, at_ms)


def _session_renamed(db: sqlite3.Connection, _stream: str, event: SessionRenamed, _at_ms: int) -> None:
    renamed = db.execute("UPDATE session SET title = ? WHERE session_id = ?", (event.title, event.session_id))
    if renamed.rowcount != 1:
        raise StateConflict(f"there is no session {event.session_id}")


def _agent_defined(db: sqlite3.Connection, _stream: str, event: AgentDefined, _at_ms: int) -> None:
    db.execute(
        "INSERT INTO agent (name, spec, is_default) VALUES (?, ?, 0) ON CONFLICT (name) DO UPDATE SET spec = excluded.spec",
        (event.spec.name, canonical_json(event.spec)),
    )


def _agent_removed(db: sqlite3.Connection, _stream: str, event: AgentRemoved, _at_ms: int) -> None:
    if db.execute("DELETE FROM agent WHERE name = ?", (event.agent,)).rowcount != 1:
        if event.agent == DEFAULT_AGENT.name:
            raise StateConflict(
                f"the agent {event.agent!r} comes with the program and was not changed, so there is nothing to remove",
                remedy="make another agent the default one instead",
            )
        raise StateConflict(f"there is no agent {event.agent!r}")
    if event.agent != DEFAULT_AGENT.name:  # what was bound to this one is answered by the built-in one from now on
        db.execute("DELETE FROM binding WHERE agent = ?", (event.agent,))


def _default_agent_set(db: sqlite3.Connection, _stream: str, event: DefaultAgentSet, _at_ms: int) -> None:
    db.execute("UPDATE agent SET is_default = (name = ?)", (event.agent,))
    found = db.execute("SELECT count(*) FROM agent WHERE is_default").fetchone()
    if found != (1,) and event.agent != DEFAULT_AGENT.name:
        raise StateConflict(f"there is no agent {event.agent!r}")


def _agent_bound(db: sqlite3.Connection, _stream: str, event: AgentBound, _at_ms: int) -> None:
    known = db.execute("SELECT 1 FROM agent WHERE name = ?", (event.agent,)).fetchone()
    if known is None and event.agent != DEFAULT_AGENT.name:
        raise StateConflict(f"there is no agent {event.agent!r}")
    db.execute(
        "INSERT OR REPLACE INTO binding (target, name, agent) VALUES (?, ?, ?)",
        (event.target, event.name, event.agent),
    )


def _agent_unbound(db: sqlite3.Connection, _stream: str, event: AgentUnbound, _at_ms: int) -> None:
    removed = db.execute("DELETE FROM binding WHERE target = ? AND name = ?", (event.target, event.name))
    if removed.rowcount != 1:
        raise StateConflict(f"no agent is bound to the {event.target} {event.name!r}")


def _token_created(db: sqlite3.Connection, _stream: str, event: TokenCreated, at_ms: int) -> None:
    db.execute(
        "INSERT INTO token (token_id, name, principal, scopes, hash, expires_ms, created_ms, created_by)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        (
            event.token_id,
            event.name,
            event.principal,
            " ".join(event.scopes),
            event.hash,
            event.expires_ms,
            at_ms,
            event.by,
        ),
    )


def _token_revoked(db: sqlite3.Connection, _stream: str, event: TokenRevoked, at_ms: int) -> None:
    revoked = db.execute(
        "UPDATE token SET revoked_ms = ? WHERE token_id = ? AND revoked_ms IS NULL", (at_ms, event.token_id)
    )
    if revoked.rowcount != 1:
        raise StateConflict(f"token {event.token_id} is not there, or was revoked already")


def _policy_loaded(db: sqlite3.Connection, _stream: str, event: PolicyLoaded, _at_ms: int) -> None:
    db.execute("INSERT OR REPLACE INTO meta (name, value) VALUES (?, ?)", (POLICY, event.hash))


def _paused(db: sqlite3.Connection, _stream: str, event: AdmissionPaused, _at_ms: int) -> None:
    db.execute("INSERT OR REPLACE INTO meta (name, value) VALUES (?, ?)", (PAUSED, canonical_json(event).decode()))


def _resumed(db: sqlite3.Connection, _stream: str, _event: AdmissionResumed, _at_ms: int) -> None:
    db.execute("DELETE FROM meta WHERE name = ?", (PAUSED,))


def _bodies_erased(db: sqlite3.Connection, _stream: str, event: BodiesErased, _at_ms: int) -> None:
    for g in event.rows:
        salt, body = db.execute("SELECT salt, body FROM ev WHERE g = ?", (g,)).fetchone()
        db.execute("INSERT INTO erased (g, body_digest) VALUES (?, ?)", (g, body_digest(salt, body)))
        db.execute("UPDATE ev SET salt = NULL, body = NULL WHERE g = ?", (g,))
    db.executemany("DELETE FROM blob WHERE digest = ?", [(bytes.fromhex(digest),) for digest in event.blobs])


PROJECTIONS: dict[int, Callable[[sqlite3.Connection, str, Any, int], None]] = {
    Input.kind: _input,
    StatusChange.kind: _status,
    RunFinished.kind: _finished,
    RunInterrupted.kind: _interrupted,
    SessionOpened.kind: _session_opened,
    SessionArchived.kind: _session_archived,
    SessionRenamed.kind: _session_renamed,
    JobStarted.kind: jobs.started,
    JobEnded.kind: jobs.ended,
    AgentDefined.kind: _agent_defined,
    AgentRemoved.kind: _agent_removed,
    DefaultAgentSet.kind: _default_agent_set,
    AgentBound.kind: _agent_bound,
    AgentUnbound.kind: _agent_unbound,
    TokenCreated.kind: _token_created,
    TokenRevoked.kind: _token_revoked,
    ApprovalRequested.kind: approvals.requested,
    ApprovalDecided.kind: approvals.decided,
    GrantRevoked.kind: approvals.revoked,
    PolicyLoaded.kind: _policy_loaded,
    AdmissionPaused.kind: _paused,
    AdmissionResumed.kind: _resumed,
    BodiesErased.kind: _bodies_erased,
}


def translate_conflict(error: sqlite3.IntegrityError) -> PalyraError:
    """Return what a violated unique index means. Any other violation is a fault of ours and is raised."""
    text = str(error)
    if "session.principal, session.key" in text:
        return SessionConflict("another session took this key meanwhile", remedy="try again")
    if "run.session_id" in text:
        return SessionBusy("the session has a live run")
    if "token.token_id" in text:
        return StateConflict(
            "this token was made before, and its secret told then",
            remedy="rotate it, or make another under another key",
        )
    raise error
