"""A session as it goes on: its runs followed side by side, and the changes of their stories as updates.

A place names the runs that are open, and the newest one, each with the seq that was shown: `RUN:SEQ,RUN:SEQ`. Runs that were
accepted after the newest are shown whole.
"""

from collections.abc import AsyncGenerator, Iterable
from contextlib import asynccontextmanager

import trio
from markupsafe import Markup

from palyra_trio.core.errors import Interrupted, InvalidArgument, OffsetAhead, PalyraError
from palyra_trio.core.identity import RunId, SessionId
from palyra_trio.core.run import RunState
from palyra_trio.core.tape import Input, run_stream
from palyra_trio.journal.queries import Reader, RunSummary, whole_tape
from palyra_trio.transports.console.live import Update, View
from palyra_trio.transports.console.site import Site, Visit
from palyra_trio.transports.console.transcript import Block, End, Grown, RunStory

PLACES = 70  # runs that can be open in a session at once, and some
TEMPLATE = "transcript.html"


def read_story(reader: Reader, run: RunSummary) -> RunStory:
    """Return the story of a run as its tape stands. Pieces of text are read only where no whole turn holds them."""
    story = RunStory(run.run_id).add_all(whole_tape(reader, run.run_id))
    return RunStory(run.run_id).add_all(whole_tape(reader, run.run_id, deltas=True)) if story.unfinished_turn else story


def place_of(stories: Iterable[RunStory]) -> str:
    """Return the place behind what these stories show; they are in the order of the session."""
    shown = tuple(stories)
    return ",".join(f"{each.run_id}:{each.seq}" for each in shown if each is shown[-1] or not each.end.ended_ms)


def parse_place(text: str) -> dict[RunId, int]:
    """Return the seqs of a place. Raises InvalidArgument."""
    found: dict[RunId, int] = {}
    for each in filter(None, text.split(",")):
        run_id, _, seq = each.partition(":")
        if not (seq.isascii() and seq.isdigit() and len(seq) < 16 and run_id.isalnum()) or len(found) >= PLACES:
            raise InvalidArgument("that is no place in a session", remedy="load the page again")
        found[RunId(run_id)] = int(seq)
    return found


@asynccontextmanager
async def open_session(
    site: Site, visit: Visit, session_id: SessionId, place: dict[RunId, int]
) -> AsyncGenerator[View, None]:
    """Follow a session of the visitor's from a place on, for the length of the block."""
    async with trio.open_nursery() as nursery:
        view = _SessionView(site, visit, session_id, nursery)
        nursery.start_soon(view.watch, place)
        yield view
        nursery.cancel_scope.cancel()


class _SessionView:
    """What changes in a session, for one browser: each update waits until it was taken, and nothing is queued."""

    def __init__(self, site: Site, visit: Visit, session_id: SessionId, nursery: trio.Nursery) -> None:
        self._site = site
        self._visit = visit
        self._session_id = session_id
        self._nursery = nursery
        self._feed = site.gateway.journal.feed
        self._stories: dict[str, RunStory] = {}
        self._send, self._receive = trio.open_memory_channel[Update | PalyraError](0)

    @property
    def settled(self) -> bool:
        return all(story.end.state is not RunState.RUNNING for story in self._stories.values())

    async def next(self) -> Update | None:
        found = await self._receive.receive()
        if isinstance(found, PalyraError):
            raise found
        return found

    async def watch(self, place: dict[RunId, int]) -> None:
        """Follow the runs of a place, and each that is accepted from then on."""
        try:
            for run_id, seq in place.items():
                self._begin(run_id, seq)
            while True:
                g = self._feed.g
                for run in await self._site.gateway.ask(self._accepted_since):
                    self._begin(run.run_id, 0)
                await self._feed.wait_for_kind(Input.kind, g)
        except PalyraError as error:
            await self._send.send(error)

    def _accepted_since(self, reader: Reader) -> tuple[RunSummary, ...]:
        """Return the runs of the session that were accepted after the newest one, in that order. Raises OffsetAhead."""
        newest = next(reversed(self._stories), "")
        found = reader.runs(self._visit.context.principal, session_id=self._session_id, most=PLACES)
        known = [index for index, run in enumerate(found) if run.run_id == newest]
        if newest and not known:
            raise OffsetAhead(f"run {newest} is none of the newest here", remedy="load the page again")
        return tuple(reversed(found[: known[0]] if known else found))

    def _begin(self, run_id: RunId, seq: int) -> None:
        story = self._stories[run_id] = RunStory(run_id)
        self._nursery.start_soon(self._follow, story, run_id, seq)

    async def _follow(self, story: RunStory, run_id: RunId, seq: int) -> None:
        """Send what changes in a run behind row `seq` until it has ended."""
        try:
            await self._follow_to_end(story, run_id, seq)
        except PalyraError as error:
            await self._send.send(error)

    async def _follow_to_end(self, story: RunStory, run_id: RunId, seq: int) -> None:
        context, gateway = self._visit.context, self._site.gateway
        follower = await gateway.follow(run_id, seq, context)
        if seq:
            rows = await gateway.ask(lambda reader: whole_tape(reader, run_id, deltas=True))
            story.add_all(row for row in rows if row.seq <= seq)
            for _ in story.take_changes():
                pass
        new = not seq
        while True:
            g = self._feed.g
            try:
                rows = await follower.next_rows()
            except Interrupted:
                await self._feed.wait_past(run_stream(run_id), g)
                follower = await gateway.follow(run_id, story.seq, context)
                continue
            if not rows:
                return
            story.add_all(rows)
            html = self._whole(story) if new else self._changes(story)
            new = False
            if html:
                await self._send.send(Update(place_of(self._stories.values()), html))

    def _whole(self, story: RunStory) -> Markup:
        for _ in story.take_changes():
            pass
        return self._site.part(TEMPLATE, "run", self._visit, story)

    def _changes(self, story: RunStory) -> Markup:
        return Markup("").join(self._part(story, each) for each in story.take_changes())

    def _part(self, story: RunStory, each: Block | Grown | End) -> Markup:
        match each:
            case Grown():
                return self._site.part(TEMPLATE, "grown", each)
            case End():
                return self._site.part(TEMPLATE, "end", self._visit, story)
            case _:
                return self._site.part(TEMPLATE, "block", self._visit, story, each)
