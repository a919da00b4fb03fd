"""Finding what was said in a session: a page of excerpts, each with a way to its place in the conversation."""

from urllib.parse import urlencode

from palyra_trio.core.session import Session
from palyra_trio.journal.queries import Reader
from palyra_trio.journal.search import Hit, SearchPage
from palyra_trio.transports.console.site import Answer, Site, Visit


def add(site: Site) -> None:
    @site.page("/sessions/<session_id>/search")
    async def search(visit: Visit, session_id: str) -> Answer:
        session, page = await site.gateway.search(lambda reader: _found(reader, visit, session_id))
        q, before = _asked(visit)
        return site.render(
            "session_search.html",
            visit,
            session=session,
            q=q,
            hits=[(hit, place_of(session, hit)) for hit in page.hits],
            older=urlencode({"q": q, "before": page.before}) if page.before else "",
            goes_on=bool(before),
        )


def place_of(session: Session, hit: Hit) -> str:
    """Return where a hit stands: its session as far as to its run, at the piece that `transcript` makes of it."""
    match hit.part:
        case "prompt":
            piece = f"asked-{hit.run_id}"
        case "answer":
            piece = f"said-{hit.run_id}-{hit.turn}"
        case _:
            piece = f"call-{hit.run_id}-{hit.proposed_seq}"
    return f"/sessions/{session.session_id}?to={hit.run_id}#{piece}"


def _asked(visit: Visit) -> tuple[str, str]:
    return visit.query.get("q", "").strip(), visit.query.get("before", "")


def _found(reader: Reader, visit: Visit, session_id: str) -> tuple[Session, SearchPage]:
    """Return the visitor's session, and what was found in it; nothing where nothing was looked for.

    Raises NotFound, InvalidArgument.
    """
    session, (q, before) = reader.find_session(session_id, visit.context.principal), _asked(visit)
    found = reader.search(session.session_id, visit.context.principal, q, before) if q else SearchPage((), "")
    return session, found
