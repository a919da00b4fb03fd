"""Sessions over the API: which there are, what one is called, and putting one away."""

import attrs

from palyra_trio.core.commands import ArchiveSession, RenameSession
from palyra_trio.core.identity import Scope
from palyra_trio.core.session import Session
from palyra_trio.transports.api.approvals import Nothing
from palyra_trio.transports.api.reading import Paged, Said
from palyra_trio.transports.api.route import API, Ask, get, post
from palyra_trio.transports.paging import next_page


class SessionsQuery(Paged, frozen=True):
    """`containing` is looked for in titles, those of runs too."""

    archived: bool = False
    containing: str = ""


class Title(Said, frozen=True):
    """What a session is called: the first line of this."""

    title: str


@attrs.frozen
class SessionPage:
    sessions: tuple[Session, ...]
    next_page_token: str


@get(f"{API}/sessions")
async def list_sessions(ask: Ask, query: SessionsQuery) -> SessionPage:
    """Your sessions, newest first; archived ones only if asked for."""
    found = await ask.gateway.ask(
        lambda reader: reader.sessions(
            ask.context.principal,
            archived=query.archived,
            before=query.page_token,
            containing=query.containing,
            most=query.page_size,
        )
    )
    return SessionPage(found, next_page(found, query.page_size, lambda each: each.session_id))


@get(f"{API}/sessions/{{session}}")
async def get_session(ask: Ask, session: str) -> Session:
    """A session of yours. It is named by its key, its id, an unambiguous beginning of that, or `last`."""
    return await _session(ask, session)


@post(f"{API}/sessions/{{session}}/rename", Scope.RUN)
async def rename_session(ask: Ask, session: str, body: Title) -> Session:
    """Give a session of yours another title. It may be asked for again."""
    session_id = (await _session(ask, session)).session_id
    await ask.gateway.submit(RenameSession(session_id, body.title), ask.context)
    return await _session(ask, session_id)


@post(f"{API}/sessions/{{session}}/archive", Scope.RUN, refuses=("state_conflict",))
async def archive_session(ask: Ask, session: str, body: Nothing) -> Session:
    """Put a session away: it takes no more runs, its jobs are killed, and its key is free again.

    One that is archived is answered the same.
    """
    found = await _session(ask, session)
    if found.archived_ms is None:
        await ask.gateway.submit(ArchiveSession(found.session_id), ask.context)
    return await _session(ask, found.session_id)


async def _session(ask: Ask, name: str) -> Session:
    return await ask.gateway.ask(lambda reader: reader.find_session(name, ask.context.principal))


ROUTES = (list_sessions, get_session, rename_session, archive_session)
