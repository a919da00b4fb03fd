"""Sessions: the list, and one of them as a conversation that goes on: said, asked, sent, interrupted, stopped, archived."""

from urllib.parse import urlencode

import attrs

from palyra_trio.core.commands import Accepted, ArchiveSession, CancelRun, RenameSession
from palyra_trio.core.errors import NotFound
from palyra_trio.core.identity import Principal, RunId, Scope, SessionId
from palyra_trio.core.session import Session, SessionRef
from palyra_trio.core.session_events import SessionArchived, SessionOpened, SessionRenamed
from palyra_trio.core.tape import SESSION_STREAM, Input, RunFinished, RunInterrupted, StatusChange
from palyra_trio.journal.queries import Reader
from palyra_trio.transports.console.live import Open
from palyra_trio.transports.console.overview import RunLine, run_line
from palyra_trio.transports.console.session_view import PARTS, open_session, parse_place, place_of, read_story
from palyra_trio.transports.console.site import Answer, Site, Visit
from palyra_trio.transports.console.starting import offer, order_of
from palyra_trio.transports.console.transcript import RunStory
from palyra_trio.transports.console.watching import Drawn, open_panels

CHANGES = (SessionOpened, SessionRenamed, SessionArchived, Input, StatusChange, RunFinished, RunInterrupted)
LISTED = 50
RUNS = 30  # of a session on one page, and fewer where they are long
BLOCKS = 150  # after which no earlier run is added


@attrs.frozen
class Shown:
    """A part of a session, and how far its own tape is. `earlier` is the oldest run that is shown, where there are more.

    It is `last` if it goes to the session's end.
    """

    session: Session
    seq: int
    stories: tuple[RunStory, ...]
    earlier: RunId | None
    workspace: str
    last: bool


@attrs.frozen
class Listed:
    """A session in the list, and its newest run."""

    session: Session
    last: RunLine | None


@attrs.frozen
class Asked:
    """Which sessions a page of the list is to show."""

    q: str
    archived: bool
    before: str

    @classmethod
    def by(cls, visit: Visit) -> "Asked":
        said = visit.query.get
        return cls(said("q", "").strip(), bool(said("archived")), said("before", ""))

    def of(self, reader: Reader, principal: Principal) -> list[Listed]:
        found = reader.sessions(principal, archived=self.archived, before=self.before, containing=self.q, most=LISTED)
        last = [reader.runs(principal, session_id=each.session_id, most=1) for each in found]
        return [Listed(each, run_line(run[0]) if run else None) for each, run in zip(found, last, strict=True)]

    def after(self, before: str) -> str:
        """Return the query of the page that begins after a session."""
        return urlencode({"q": self.q, "archived": "yes" if self.archived else "", "before": before})

    @property
    def query(self) -> str:
        return self.after(self.before)


def add(site: Site) -> None:
    site.navigation.append(("Sessions", "/sessions"))

    @site.page("/sessions")
    async def listed(visit: Visit) -> Answer:
        asked = Asked.by(visit)
        g, found = await look(visit, asked)
        more = asked.after(found[-1].session.session_id) if len(found) == LISTED else ""
        panel = site.part(PARTS, "listed", found, asked.q)
        return site.render("sessions.html", visit, panel=panel, asked=asked, more=more, place=str(g))

    @site.live("/sessions/live")
    async def live_list(visit: Visit) -> Open:
        asked = Asked.by(visit)

        async def draw() -> Drawn:
            g, found = await look(visit, asked)
            return Drawn(g, {"listed": site.part(PARTS, "listed", found, asked.q)})

        return open_panels(site.gateway.journal.feed, CHANGES, draw)

    async def look(visit: Visit, asked: Asked) -> tuple[int, list[Listed]]:
        """Return the sessions of a page, and a global position that they are not older than."""
        g = site.gateway.journal.feed.g
        return g, await site.gateway.ask(lambda reader: asked.of(reader, visit.context.principal))

    @site.page("/sessions/<session_id>")
    async def session(visit: Visit, session_id: str) -> Answer:
        shown = await site.gateway.ask(lambda reader: _shown(reader, visit, session_id))
        answering = await site.gateway.answering(shown.session.session_id, visit.context)
        offered = await offer(site.gateway, visit.context, answering.agent.spec.name, shown.stories)
        return site.render(
            "session.html",
            _at(visit, shown.session.session_id),
            **attrs.asdict(shown, recurse=False),
            heading=site.part(PARTS, "heading", shown.session),
            place=place_of(shown.stories, {shown.session.session_id: shown.seq}) if shown.last else None,
            offer=offered,
        )

    @site.live("/sessions/<session_id>/live")
    async def live(visit: Visit, session_id: str) -> Open:
        found = await site.gateway.ask(lambda reader: reader.find_session(session_id, visit.context.principal))
        place = parse_place(visit.query.get("after", ""))
        return open_session(site, _at(visit, found.session_id), found.session_id, place)

    @site.write("/sessions", Scope.RUN, files=True)
    async def start(visit: Visit) -> Answer:
        accepted = await _start(visit, SessionRef(), visit.form.get("workspace", "").strip())
        return site.lead(visit, f"/sessions/{accepted.session_id}")

    @site.write("/sessions/<session_id>/messages", Scope.RUN, files=True)
    async def send(visit: Visit, session_id: str) -> Answer:
        last = await site.gateway.ask(
            lambda reader: reader.runs(visit.context.principal, session_id=session_id, most=1)
        )
        workspace = last[0].workspace if last else visit.form.get("workspace", "").strip()
        ref = SessionRef(SessionId(session_id), require_existing=True)
        accepted = await _start(visit, ref, workspace)
        return site.done(visit, f"/sessions/{accepted.session_id}")

    async def _start(visit: Visit, ref: SessionRef, workspace: str) -> Accepted:
        accepted = await site.gateway.submit(order_of(visit, ref, workspace), visit.context)
        assert isinstance(accepted, Accepted)
        return accepted

    @site.write("/sessions/<session_id>/rename", Scope.RUN)
    async def rename(visit: Visit, session_id: str) -> Answer:
        await site.gateway.submit(RenameSession(SessionId(session_id), visit.form.get("title", "")), visit.context)
        return site.done(visit, f"/sessions/{session_id}")

    @site.write("/sessions/<session_id>/archive", Scope.RUN)
    async def archive(visit: Visit, session_id: str) -> Answer:
        await site.gateway.submit(ArchiveSession(SessionId(session_id)), visit.context)
        return site.done(visit, "/sessions")

    @site.write("/runs/<run_id>/cancel", Scope.RUN)
    async def cancel(visit: Visit, run_id: str) -> Answer:
        await site.gateway.submit(CancelRun(RunId(run_id), visit.form.get("reason", "")), visit.context)
        return site.done(visit)


def _at(visit: Visit, session_id: SessionId) -> Visit:
    """Return the visit as one of the session's page, so that a form leads back there wherever it was rendered."""
    return attrs.evolve(visit, here=f"/sessions/{session_id}")


def _shown(reader: Reader, visit: Visit, session_id: str) -> Shown:
    """Return the runs of a session up to the run `to`, or before `before`, or to the newest: as many as make a page.

    Raises NotFound.
    """
    principal, to, before = visit.context.principal, visit.query.get("to", ""), visit.query.get("before", "")
    session_id = reader.find_session(session_id, principal).session_id
    seq = reader.last_seq(SESSION_STREAM + session_id)
    session = reader.find_session(session_id, principal)  # not older than `seq`
    runs = reader.runs(principal, session_id=session_id, before=before, most=RUNS + 1)
    last = not before
    until = reader.find_run(to, principal) if to else None
    if until is not None and until.session_id != session_id:
        raise NotFound(f"session {session_id} has no run {to!r}")
    if until is not None and until.run_id != (runs[0].run_id if runs else None):
        runs = (until, *reader.runs(principal, session_id=session_id, before=until.run_id, most=RUNS))
        last = False
    stories: list[RunStory] = []
    for run in runs[:RUNS]:
        if sum(len(each.blocks) for each in stories) >= BLOCKS:
            break
        stories.append(read_story(reader, run))
    earlier = runs[len(stories) - 1].run_id if len(stories) < len(runs) else None
    return Shown(session, seq, tuple(reversed(stories)), earlier, runs[0].workspace if runs else "", last)
