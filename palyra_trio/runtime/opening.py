"""Sessions found and opened: which one a caller means, and what opening one writes. Who runs in it is `sessions`'."""

import attrs

from palyra_trio.core.codec import TapeRow
from palyra_trio.core.commands import OpenSession, SessionResolved
from palyra_trio.core.identity import Principal, RequestContext, SessionId
from palyra_trio.core.session import Session, SessionRef, resolve
from palyra_trio.core.session_events import SessionArchived, SessionOpened
from palyra_trio.core.tape import SESSION_STREAM
from palyra_trio.journal.guards import Guard, SessionIsIdle
from palyra_trio.journal.projections import title_of
from palyra_trio.journal.queries import Reader
from palyra_trio.journal.store import Entry, entry
from palyra_trio.runtime.checks import check_no_secret
from palyra_trio.runtime.state import RuntimeState


@attrs.frozen
class Opening:
    """A session that is to be opened: what that writes, and what must hold for it when it is written.

    `replaced` is the session that is archived for it, or "".
    """

    opened: SessionOpened
    entries: tuple[Entry, ...]
    guards: tuple[Guard, ...]
    replaced: str = ""

    def result(self, rows: tuple[TapeRow, ...]) -> SessionResolved:
        event = self.opened
        session = Session(
            SessionId(event.session_id), Principal(event.principal), event.key, event.title, rows[-1].at_ms
        )
        return SessionResolved(session, created=True)


def find_session(reader: Reader, ref: SessionRef, context: RequestContext) -> Session | None:
    """Return the session that `ref` names, None when one is to be opened. Raises what `core.session.resolve` raises."""
    by_id = reader.session(ref.session_id) if ref.session_id else None
    by_key = reader.session_by_key(context.principal, ref.key) if ref.key else None
    return resolve(ref, by_id, by_key, context.principal)


async def prepare_opening(
    state: RuntimeState, command: OpenSession, context: RequestContext
) -> SessionResolved | Opening:
    """Return the session that was found, or what opening it writes. Nothing is written yet.

    Raises what `core.session.resolve` raises, and InvalidArgument for a new key with a secret in it. That a session with a
    live run is not reset is the journal's to see to.
    """
    found = await state.readers.ask(lambda reader: find_session(reader, command.ref, context))
    if found is not None and not command.reset:
        return SessionResolved(found, created=False)
    entries: list[Entry] = []
    guards: list[Guard] = []
    key = command.ref.key
    if found is None:
        check_no_secret(key or "", "the session key", state.redactor)
    else:
        key = found.key
        archived = SessionArchived(found.session_id, context.principal)
        entries.append(entry(SESSION_STREAM + found.session_id, archived))
        guards.append(SessionIsIdle(found.session_id))
    session_id = state.new_id()
    opened = SessionOpened(session_id, context.principal, key, title_of(state.redactor.recordable(command.title)))
    entries.append(entry(SESSION_STREAM + session_id, opened))
    return Opening(opened, tuple(entries), tuple(guards), found.session_id if found is not None else "")
