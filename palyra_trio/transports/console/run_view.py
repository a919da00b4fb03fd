"""A run's page as it goes on: panels folded from its tape, a page of that tape, and what of it is alive right now.

What was folded up to the place that a browser names is what its page shows; the rest is sent. Processes leave no row behind
when they come and go, so while a run has any, they are looked at again every LOOK_S for as long as somebody watches.
"""

from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager

import attrs
import trio
from markupsafe import Markup

from palyra_trio.core.codec import TapeRow
from palyra_trio.core.errors import OffsetAhead
from palyra_trio.core.run import RunState
from palyra_trio.core.session_events import RunUndone
from palyra_trio.core.tape import SESSION_STREAM, FileChange, ModelDelta, run_stream
from palyra_trio.core.trees import beneath
from palyra_trio.journal.queries import Reader, RunSummary
from palyra_trio.runtime.live_tree import LiveTree
from palyra_trio.runtime.undo import undone
from palyra_trio.tools.processes import Process
from palyra_trio.tools.undo import net_changes
from palyra_trio.transports.console.live import Update, View
from palyra_trio.transports.console.run_picture import RunPicture
from palyra_trio.transports.console.site import Site, Visit
from palyra_trio.transports.console.timeline import Timeline
from palyra_trio.transports.console.watching import EACH_S, wait_past_any
from palyra_trio.transports.console.waterfall import Chart, draw

TEMPLATE = "run_panels.html"
FOLDED = ("head", "waiting", "chart", "verdicts", "used", "pages")  # panels that the run's tape alone decides
BESIDE = ("files", "alive")
ITEMS = 60  # of the picture on the page; its own page has all
LOOK_S = 2.0
DEEPEST = 5  # to which processes are set in


@attrs.frozen
class Beside:
    """What the tape of a run does not tell of it: whether it was undone, and what of it is alive."""

    undone: RunUndone | None
    tree: LiveTree

    def nested(self, processes: Sequence[Process]) -> Iterator[tuple[int, Process]]:
        """Yield processes, each beneath its parent and with how deep it is, at most DEEPEST."""
        known = {each.pid: each for each in processes}
        for pid, depth in beneath({each.pid: each.parent for each in processes}):
            yield min(depth, DEEPEST), known[pid]


@attrs.define
class RunPage:
    """A run as its page shows it, up to row `place`."""

    run: RunSummary
    picture: RunPicture
    timeline: Timeline
    place: int = 0

    def add(self, rows: tuple[TapeRow, ...], place: int) -> None:
        self.picture.add(rows)
        self.timeline.add(rows)
        self.place = place

    def chart(self, most: int, upto: int | None = None) -> Chart:
        """Return the picture of the last `most` items, or of those before the item with the number `upto`."""
        picture, items = self.picture, self.picture.items[:upto]
        later = self.picture.items[len(items) :]
        return draw(items, picture.began_ms, later[0].began_ms if later else picture.at_ms, most)

    def changes(self) -> tuple[FileChange, ...]:
        return net_changes(self.picture.changes().told)

    def panels(self, site: Site, visit: Visit, beside: Beside | None) -> Mapping[str, Markup]:
        """Return the panels by name, those of `BESIDE` only where that was looked at."""
        chart = self.chart(ITEMS)
        made = {name: site.part(TEMPLATE, name, visit, self, chart) for name in FOLDED}
        if beside is not None:
            made |= {name: site.part(TEMPLATE, name, visit, self, beside) for name in BESIDE}
        return made


def read_page(reader: Reader, run: RunSummary, timeline: Timeline, upto: int | None = None) -> RunPage:
    """Return a run's page as its tape stands, or stood at row `upto`. Raises OffsetAhead when there is no such row."""
    place = reader.last_seq(run_stream(run.run_id))
    if upto is not None:
        if upto > place:
            raise OffsetAhead(f"run {run.run_id} has {place} rows, not {upto}", remedy="load the page again")
        place = upto
    page = RunPage(run, RunPicture(run.run_id), timeline)
    rows = reader.tape(run_stream(run.run_id), deltas=timeline.filter.deltas)
    page.add(tuple(row for row in rows if row.seq <= place), place)
    return page


async def look_beside(site: Site, visit: Visit, run: RunSummary) -> Beside:
    """Return how it is with a run besides its tape."""
    taken_back = await site.gateway.ask(lambda reader: undone(reader, run))
    return Beside(taken_back, await site.gateway.tree(run.run_id, visit.context))


@asynccontextmanager
async def open_run(site: Site, visit: Visit, page: RunPage) -> AsyncGenerator[View, None]:
    """Go on with a page from its place, for the length of the block."""
    yield _RunView(site, visit, page)


class _RunView:
    """What changes on a run's page, for one browser."""

    def __init__(self, site: Site, visit: Visit, page: RunPage) -> None:
        self._site = site
        self._visit = visit
        self._page = page
        self._streams = (run_stream(page.run.run_id), SESSION_STREAM + page.run.session_id)
        self._sent = page.panels(site, visit, None)
        self._shown = page.timeline.page, page.timeline.last
        self._g = -1
        self._alive = False
        self._next_at = trio.current_time()

    @property
    def settled(self) -> bool:
        return self._page.picture.state is not RunState.RUNNING

    async def next(self) -> Update | None:
        page, feed = self._page, self._site.gateway.journal.feed
        while True:
            if self._g >= 0:
                with trio.move_on_after(LOOK_S if self._alive else float("inf")):
                    await wait_past_any(feed, self._streams, self._g)
                await trio.sleep_until(self._next_at)
            g = feed.g
            rows = await self._site.gateway.ask(self._rows)
            beside = await look_beside(self._site, self._visit, page.run)
            if rows:
                shown = (
                    rows if page.timeline.filter.deltas else tuple(row for row in rows if row.kind != ModelDelta.kind)
                )
                page.add(shown, rows[-1].seq)
            html = self._changes(beside)
            self._g, self._next_at = g, trio.current_time() + EACH_S
            self._alive = bool(beside.tree.calls or beside.tree.jobs)
            if html or rows:
                return Update(str(page.place), html)

    def _rows(self, reader: Reader) -> tuple[TapeRow, ...]:
        found: list[TapeRow] = []
        while rows := reader.page(self._streams[0], found[-1].seq if found else self._page.place):
            found += rows
        return tuple(found)

    def _changes(self, beside: Beside) -> str:
        panels = self._page.panels(self._site, self._visit, beside)
        changed = [html for name, html in panels.items() if html != self._sent.get(name)]
        self._sent = panels
        timeline = self._page.timeline
        number, last = self._shown
        self._shown = timeline.page, timeline.last
        if (number, bool(last)) != (timeline.page, bool(timeline.last)):
            changed.append(self._site.part(TEMPLATE, "tape", self._page))
        elif timeline.last != last:
            changed.append(self._site.part(TEMPLATE, "lines", self._page, timeline.lines(last)))
        return "".join(changed)
