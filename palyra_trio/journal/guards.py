"""Guards: what must hold at the very moment at which a ticket commits. Data; the store evaluates them inside the batch."""

import sqlite3

import attrs

from palyra_trio.core.errors import RunConflict, StateConflict
from palyra_trio.core.run import TERMINAL, RunState
from palyra_trio.journal.approvals import GrantHolds, check_grant

PAUSED = "paused"  # the name in table `meta` of the event by which new runs are not taken
POLICY = "policy"  # the name in table `meta` of the hash of the policies in force

_ENDED = ", ".join(f"'{state}'" for state in sorted(TERMINAL))


@attrs.frozen
class RunIsNew:
    """Guard: no run has this id. With the same payload digest the ticket is rejected as `AlreadyThere`."""

    run_id: str
    payload_digest: str
    principal: str


@attrs.frozen
class RunIn:
    """Guard: the run is in one of these states."""

    run_id: str
    states: frozenset[RunState]


@attrs.frozen
class AgentIsNew:
    """Guard: no agent of this name is defined."""

    name: str


@attrs.frozen
class SessionIsIdle:
    """Guard: every run of the session has ended."""

    session_id: str


@attrs.frozen
class PolicyIs:
    """Guard: the policies in force are the ones with this hash, those that a call was judged by."""

    hash: str


Guard = RunIsNew | RunIn | AgentIsNew | SessionIsIdle | PolicyIs | GrantHolds


class AlreadyThere(StateConflict):
    """The run exists, in `session_id`, with the same payload: the caller attaches to it."""

    code = "run_exists"

    def __init__(self, run_id: str, session_id: str) -> None:
        super().__init__(f"run {run_id} exists")
        self.session_id = session_id


class PolicyChanged(StateConflict):
    """A call was judged by policies that are not in force any more: it is to be judged anew."""


def check(db: sqlite3.Connection, guard: Guard, at_ms: int) -> None:
    """Raise a PalyraError unless the guard holds. Only GrantHolds writes: it uses up a grant for one call."""
    match guard:
        case PolicyIs(wanted):
            if db.execute("SELECT value FROM meta WHERE name = ?", (POLICY,)).fetchone() != (wanted,):
                raise PolicyChanged("the policies changed after the call was judged")
        case GrantHolds():
            check_grant(db, guard, at_ms)
        case AgentIsNew(name):
            if db.execute("SELECT 1 FROM agent WHERE name = ?", (name,)).fetchone():
                raise StateConflict(f"there is an agent {name!r} already", remedy="replace it, or take another name")
        case SessionIsIdle(session_id):
            live = f"SELECT 1 FROM run WHERE session_id = ? AND state NOT IN ({_ENDED}) LIMIT 1"
            if db.execute(live, (session_id,)).fetchone():
                raise StateConflict(f"session {session_id} has a live run", remedy="cancel it first")
        case RunIsNew() | RunIn():
            _check_run(db, guard)


def _check_run(db: sqlite3.Connection, guard: RunIsNew | RunIn) -> None:
    found = db.execute(
        "SELECT state, session_id, payload_digest, principal FROM run WHERE run_id = ?", (guard.run_id,)
    ).fetchone()
    if isinstance(guard, RunIsNew):
        if found is not None and found[2:] == (guard.payload_digest, guard.principal):
            raise AlreadyThere(guard.run_id, found[1])
        if found is not None:
            raise RunConflict(f"run {guard.run_id} exists with another payload", remedy="ask under another id or key")
    elif found is None or found[0] not in guard.states:
        raise StateConflict(f"run {guard.run_id} is {found[0] if found else 'unknown'}")
