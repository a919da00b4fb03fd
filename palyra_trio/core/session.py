"""Which session a request means: found, to be created, or refused. Decides only; looking up is the caller's."""

from enum import StrEnum

import attrs

from palyra_trio.core.errors import InvalidArgument, NotFound, SessionConflict, StateConflict
from palyra_trio.core.identity import Principal, SessionId

MAX_KEY_LENGTH = 200


class WhenBusy(StrEnum):
    """What happens to a message for a session with a live run."""

    FOLLOWUP = "followup"
    INTERRUPT = "interrupt"
    REJECT = "reject"


@attrs.frozen
class SessionRef:
    """How a caller names a session: by id, by its own key, by both (they must agree), or not at all: a new one."""

    session_id: SessionId | None = None
    key: str | None = None
    require_existing: bool = False


@attrs.frozen
class Session:
    """A session as it is stored. `key` is None once archived."""

    session_id: SessionId
    principal: Principal
    key: str | None
    title: str
    created_ms: int
    archived_ms: int | None = None


def resolve(ref: SessionRef, by_id: Session | None, by_key: Session | None, principal: Principal) -> Session | None:
    """Return the session that `ref` names, or None when one is to be created.

    Any device of the session's principal may continue it. To another principal it is as if there were none. `by_key` is
    one of the principal's own. Raises InvalidArgument, NotFound, SessionConflict, StateConflict.
    """
    if ref.key is not None and not 0 < len(ref.key) <= MAX_KEY_LENGTH:
        raise InvalidArgument(f"a session key has 1 to {MAX_KEY_LENGTH} characters")
    if ref.session_id is not None and (by_id is None or by_id.principal != principal):
        raise NotFound(f"there is no session {ref.session_id}", remedy="`palyra-trio sessions list` shows them")
    if by_id is not None and ref.key is not None and by_id.key != ref.key:
        raise SessionConflict(
            f"session {by_id.session_id} does not have the key {ref.key!r}", remedy="pass one of the two"
        )
    found = by_id or by_key
    if found is None:
        if ref.require_existing:
            raise NotFound(f"there is no session with the key {ref.key!r}" if ref.key else "no session was named")
        return None
    if found.archived_ms is not None:
        raise StateConflict(f"session {found.session_id} is archived", remedy="start a new session")
    return found
