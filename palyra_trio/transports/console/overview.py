"""The overview: what waits for me, what is active, what has ended, how the daemon stands and what today cost; stop all.

It is a picture of the journal at one moment. The live view draws it again when something has changed, and sends the panels
that now look different.
"""

from collections import Counter
from collections.abc import Mapping
from datetime import datetime, timedelta

import attrs
from markupsafe import Markup

from palyra_trio.core.errors import PeerError
from palyra_trio.core.identity import RunId, Scope, SessionId
from palyra_trio.core.run import OPEN, TERMINAL, RunState
from palyra_trio.core.system_events import AdmissionPaused, AdmissionResumed
from palyra_trio.core.tape import (
    ApprovalDecided,
    ApprovalRequested,
    Input,
    ModelTurn,
    ProviderRequest,
    RunFinished,
    RunInterrupted,
    StatusChange,
    ToolFinished,
    ToolStarted,
)
from palyra_trio.journal.queries import Reader, RunSummary
from palyra_trio.journal.usage import Used
from palyra_trio.runtime.gateway import Health
from palyra_trio.runtime.runs import INTERRUPTED
from palyra_trio.transports.console.approval_lines import ApprovalLine, approval_lines
from palyra_trio.transports.console.doing import doing, last_rows
from palyra_trio.transports.console.live import Open
from palyra_trio.transports.console.site import Answer, Site, Visit
from palyra_trio.transports.console.starting import offer
from palyra_trio.transports.console.watching import Drawn, open_panels

QUESTIONS = 10  # shown at once; more come up as these are answered
RUNS = 12
CHANGES = (
    *(Input, StatusChange, RunFinished, RunInterrupted, ApprovalRequested, ApprovalDecided),
    *(ProviderRequest, ModelTurn, ToolStarted, ToolFinished, AdmissionPaused, AdmissionResumed),
)
PANELS = ("waiting", "running", "recent", "facts")
ACTIVE_WORDS = (RunState.RUNNING, RunState.QUEUED, RunState.WAITING, INTERRUPTED)  # for runs that have not ended


@attrs.frozen
class RunLine:
    """A run in a list. `word` says how it stands, `why` what for, or what it does."""

    run_id: RunId
    session_id: SessionId
    title: str
    agent: str
    word: str
    why: str
    updated_ms: int


@attrs.frozen
class Found:
    """What the overview shows. `pending` counts all questions, of which the oldest are in `questions`.

    A new one comes last, so that none slides under the pointer of who is about to answer another. `active` counts all runs
    that have not ended, by how they stand; the first of them are in `live`: those that run, the newest first, and then those
    that wait.
    """

    pending: int
    questions: tuple[ApprovalLine, ...]
    active: Mapping[str, int]
    live: tuple[RunLine, ...]
    ended: tuple[RunLine, ...]
    today: Used
    health: Health


def run_line(run: RunSummary) -> RunLine:
    """Return a run as lists show it. One that was interrupted goes on for nobody, so it is called that."""
    word = INTERRUPTED if run.state is RunState.WAITING and run.reason == INTERRUPTED else run.state.value
    why = run.reason if run.state in (RunState.FAILED, RunState.WAITING) and run.reason != word else ""
    return RunLine(run.run_id, run.session_id, run.title, run.agent, word, why, run.updated_ms)


def add(site: Site) -> None:
    site.navigation.append(("Overview", "/"))

    @site.page("/")
    async def overview(visit: Visit) -> Answer:
        g, found = await _look(site, visit)
        answering = await site.gateway.answering(None, visit.context)
        offered = await offer(site.gateway, visit.context, answering.agent.spec.name)
        last = await site.gateway.ask(lambda reader: reader.runs(visit.context.principal, most=1))
        workspace = last[0].workspace if last else ""
        panels = _panels(site, visit, found)
        return site.render("overview.html", visit, panels=panels, place=str(g), offer=offered, workspace=workspace)

    @site.live("/overview/live")
    async def live(visit: Visit) -> Open:
        visit = attrs.evolve(visit, here="/")

        async def draw() -> Drawn:
            g, found = await _look(site, visit)
            return Drawn(g, _panels(site, visit, found))

        return open_panels(site.gateway.journal.feed, CHANGES, draw)

    @site.write("/runs/stop-all", Scope.RUN)
    async def stop_every_run(visit: Visit) -> Answer:
        stopped = await site.gateway.stop_all("all runs were stopped", visit.context)
        if stopped.failed:
            told = "; ".join(f"{name}: {error}" for name, error in stopped.failed)
            raise PeerError(f"{len(stopped.failed)} could not be stopped: {told}")
        return site.done(visit)


async def _look(site: Site, visit: Visit) -> tuple[int, Found]:
    """Return what there is to show, and a global position that it is not older than."""
    principal, health = visit.context.principal, site.gateway.health()
    today = datetime.fromtimestamp(health.now_ms / 1000).replace(hour=0, minute=0, second=0, microsecond=0)
    from_ms, to_ms = (int(each.timestamp() * 1000) for each in (today, today + timedelta(days=1)))

    def read(reader: Reader) -> Found:
        pending = reader.approvals.listed(principal, pending=True)[::-1]
        active = sorted(reader.runs(principal, states=OPEN, most=-1), key=lambda run: run.state is RunState.WAITING)
        standing = Counter(run_line(run).word for run in active)
        return Found(
            len(pending),
            approval_lines(reader, pending[:QUESTIONS]),
            {word: standing[word] for word in ACTIVE_WORDS if standing[word]},
            tuple(_live(reader, run) for run in active[:RUNS]),
            tuple(map(run_line, reader.runs(principal, states=TERMINAL, most=RUNS))),
            reader.used(principal, from_ms, to_ms),
            health,
        )

    g = site.gateway.journal.feed.g
    return g, await site.gateway.ask(read)


def _live(reader: Reader, run: RunSummary) -> RunLine:
    line = run_line(run)
    return attrs.evolve(line, why=doing(last_rows(reader, run.run_id))) if run.state is RunState.RUNNING else line


def _panels(site: Site, visit: Visit, found: Found) -> Mapping[str, Markup]:
    return {name: site.part("overview_panels.html", name, visit, found) for name in PANELS}
