"""Sessions and agents over the API, to look at."""

import attrs

from palyra_trio.core.session import Session
from palyra_trio.runtime.agents import KnownAgent
from palyra_trio.transports.api.reading import Paged
from palyra_trio.transports.api.route import API, Ask, get
from palyra_trio.transports.paging import next_page


class SessionsQuery(Paged, frozen=True):
    """`containing` is looked for in titles, those of runs too."""

    archived: bool = False
    containing: str = ""


@attrs.frozen
class SessionPage:
    sessions: tuple[Session, ...]
    next_page_token: str


@attrs.frozen
class AgentPage:
    agents: tuple[KnownAgent, ...]
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
    return await ask.gateway.ask(lambda reader: reader.find_session(session, ask.context.principal))


@get(f"{API}/agents")
async def list_agents(ask: Ask, query: Paged) -> AgentPage:
    """All agents, in order of name."""
    found = [each for each in await ask.gateway.agents() if each.spec.name > query.page_token]
    page = tuple(found[: query.page_size])
    return AgentPage(page, page[-1].spec.name if len(found) > len(page) else "")


@get(f"{API}/agents/{{name}}")
async def get_agent(ask: Ask, name: str) -> KnownAgent:
    """An agent by its name."""
    return await ask.gateway.agent(name)


ROUTES = (list_sessions, get_session, list_agents, get_agent)
