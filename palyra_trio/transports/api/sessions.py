"""Sessions over the API: which there are, what one is called, what was said in it, and putting one away."""

from typing import Annotated

import attrs
import msgspec

from palyra_trio.core.commands import ArchiveSession, RenameSession
from palyra_trio.core.identity import Scope
from palyra_trio.core.session import Session
from palyra_trio.journal.search import QUERY_CHARACTERS, Hit
from palyra_trio.transports.api.approvals import Nothing
from palyra_trio.transports.api.reading import Paged, Said
from palyra_trio.transports.api.route import API, Ask, get, post
from palyra_trio.transports.paging import next_page


class SessionsQuery(Paged, frozen=True):
    """`containing` is looked for in titles, those of runs too."""

    archived: bool = False
    containing: str = ""


class SearchQuery(Paged, frozen=True, kw_only=True):
    """`q` is words, all of which a text must have, each anywhere in it and in any case."""

    q: Annotated[str, msgspec.Meta(max_length=QUERY_CHARACTERS)]


class Title(Said, frozen=True):
    """What a session is called: the first line of this."""

    title: str


@attrs.frozen
class SessionPage:
    sessions: tuple[Session, ...]
    next_page_token: str


@attrs.frozen
class HitPage:
    hits: tuple[Hit, ...]
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


@get(f"{API}/sessions/{{session}}/search")
async def search_session(ask: Ask, session: str, query: SearchQuery) -> HitPage:
    """What was said in a session of yours with these words, newest first: prompts, answers, calls of tools and their results.

    A page may hold few hits, or none, and yet not be the last: how much is looked through for one is bounded.
    """
    found = await ask.gateway.search(
        lambda reader: reader.search(session, ask.context.principal, query.q, query.page_token, query.page_size)
    )
    return HitPage(found.hits, found.before)


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


ROUTES = (list_sessions, get_session, search_session, rename_session, archive_session)
