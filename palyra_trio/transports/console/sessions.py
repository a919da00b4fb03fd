"""Sessions: the list, and one of them as a conversation that goes on: said, asked, sent, interrupted, stopped, archived."""

from urllib.parse import urlencode

import attrs

from palyra_trio.core.commands import Accepted, ArchiveSession, CancelRun, RenameSession, StartRun
from palyra_trio.core.errors import InvalidArgument
from palyra_trio.core.identity import RunId, Scope, SessionId
from palyra_trio.core.session import Session, SessionRef, WhenBusy
from palyra_trio.journal.queries import Reader
from palyra_trio.transports.console.live import Open
from palyra_trio.transports.console.overview import RunLine, run_line
from palyra_trio.transports.console.session_view import open_session, parse_place, place_of, read_story
from palyra_trio.transports.console.site import Answer, Site, Visit, redirect
from palyra_trio.transports.console.transcript import RunStory

LISTED = 50
RUNS = 30  # of a session on one page, and fewer where they are long
BLOCKS = 150  # after which no earlier run is added


@attrs.frozen
class Shown:
    """A part of a session. `earlier` is the oldest run that is shown, where there are more before it."""

    session: Session
    stories: tuple[RunStory, ...]
    earlier: RunId | None
    workspace: str


@attrs.frozen
class Listed:
    """A session in the list, and its newest run."""

    session: Session
    last: RunLine | None


def add(site: Site) -> None:
    site.navigation.append(("Sessions", "/sessions"))

    @site.page("/sessions")
    async def listed(visit: Visit) -> Answer:
        q, archived = visit.query.get("q", "").strip(), bool(visit.query.get("archived"))
        before = visit.query.get("before", "")

        def read(reader: Reader) -> list[Listed]:
            principal = visit.context.principal
            found = reader.sessions(principal, archived=archived, before=before, containing=q, most=LISTED)
            last = [reader.runs(principal, session_id=each.session_id, most=1) for each in found]
            return [Listed(each, run_line(run[0]) if run else None) for each, run in zip(found, last, strict=True)]

        found = await site.gateway.ask(read)
        more = {"q": q, "archived": "yes" if archived else "", "before": found[-1].session.session_id if found else ""}
        full = len(found) == LISTED
        return site.render(
            "sessions.html", visit, listed=found, q=q, archived=archived, more=urlencode(more) if full else ""
        )

    @site.page("/sessions/<session_id>")
    async def session(visit: Visit, session_id: str) -> Answer:
        before = visit.query.get("before", "")
        shown = await site.gateway.ask(lambda reader: _shown(reader, visit, session_id, before))
        agents = await site.gateway.agents()
        answering = await site.gateway.answering(shown.session.session_id, visit.context)
        return site.render(
            "session.html",
            _at(visit, shown.session.session_id),
            **attrs.asdict(shown, recurse=False),
            place=None if before else place_of(shown.stories),
            agents=agents,
            answering=answering.agent.spec.name,
        )

    @site.live("/sessions/<session_id>/live")
    async def live(visit: Visit, session_id: str) -> Open:
        found = await site.gateway.ask(lambda reader: reader.find_session(session_id, visit.context.principal))
        place = parse_place(visit.query.get("after", ""))
        return open_session(site, _at(visit, found.session_id), found.session_id, place)

    @site.write("/sessions", Scope.RUN)
    async def start(visit: Visit) -> Answer:
        accepted = await _start(visit, SessionRef(), visit.form.get("workspace", "").strip())
        return redirect(f"/sessions/{accepted.session_id}")

    @site.write("/sessions/<session_id>/messages", Scope.RUN)
    async def send(visit: Visit, session_id: str) -> Answer:
        last = await site.gateway.ask(
            lambda reader: reader.runs(visit.context.principal, session_id=session_id, most=1)
        )
        workspace = last[0].workspace if last else visit.form.get("workspace", "").strip()
        ref = SessionRef(SessionId(session_id), require_existing=True)
        accepted = await _start(visit, ref, workspace)
        return site.done(visit, f"/sessions/{accepted.session_id}")

    async def _start(visit: Visit, ref: SessionRef, workspace: str) -> Accepted:
        busy = visit.form.get("when_busy") or None
        if busy not in (None, *WhenBusy):
            raise InvalidArgument(f"{busy!r} is no way to send", remedy=f"choose one of {', '.join(WhenBusy)}")
        command = StartRun(
            visit.form.get("text", "").replace("\r\n", "\n"),
            session=ref,
            agent=visit.form.get("agent", ""),
            workspace=workspace,
            detached=True,  # a page may be left, and its questions wait
            when_busy=WhenBusy(busy) if busy else None,
        )
        accepted = await site.gateway.submit(command, visit.context)
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


def _shown(reader: Reader, visit: Visit, session_id: str, before: str) -> Shown:
    """Return the newest runs of a session before run `before`, or of all: as many as make a page. Raises NotFound."""
    principal = visit.context.principal
    session = reader.find_session(session_id, principal)
    runs = reader.runs(principal, session_id=session.session_id, before=before, most=RUNS + 1)
    stories: list[RunStory] = []
    for run in runs[:RUNS]:
        if sum(len(each.blocks) for each in stories) >= BLOCKS:
            break
        stories.append(read_story(reader, run))
    earlier = runs[len(stories) - 1].run_id if len(stories) < len(runs) else None
    return Shown(session, tuple(reversed(stories)), earlier, runs[0].workspace if runs else "")
