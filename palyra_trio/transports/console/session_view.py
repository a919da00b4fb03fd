"""A session as it goes on: its runs followed side by side, and the changes of their stories as updates.

A place names the session, the runs that are open, and the newest one, each with the seq of its tape that was shown:
`SESSION:SEQ,RUN:SEQ,RUN:SEQ`. Runs that were accepted after the newest are shown whole.
"""

from collections.abc import AsyncGenerator, Iterable, Mapping
from contextlib import asynccontextmanager

import trio
from markupsafe import Markup

from palyra_trio.core.errors import Interrupted, InvalidArgument, OffsetAhead, PalyraError
from palyra_trio.core.identity import RunId, SessionId
from palyra_trio.core.run import RunState
from palyra_trio.core.session import Session
from palyra_trio.core.session_events import SessionRenamed
from palyra_trio.core.tape import SESSION_STREAM, Input, run_stream
from palyra_trio.journal.queries import Reader, RunSummary, whole_tape
from palyra_trio.transports.console.live import Update, View
from palyra_trio.transports.console.site import Site, Visit
from palyra_trio.transports.console.transcript import Block, End, Grown, RunStory

PLACES = 70  # runs that can be open in a session at once, and some
TEMPLATE = "transcript.html"
PARTS = "session_parts.html"


def read_story(reader: Reader, run: RunSummary) -> RunStory:
    """Return the story of a run as its tape stands. Pieces of text are read only where no whole turn holds them."""
    story = RunStory(run.run_id).add_all(whole_tape(reader, run.run_id))
    return RunStory(run.run_id).add_all(whole_tape(reader, run.run_id, deltas=True)) if story.unfinished_turn else story


def place_of(stories: Iterable[RunStory], others: Mapping[SessionId, int] = {}) -> str:
    """Return the place behind what these stories show, which are in the order of the session, and behind other tapes."""
    shown = tuple(stories)
    runs = (f"{each.run_id}:{each.seq}" for each in shown if each is shown[-1] or not each.end.ended_ms)
    return ",".join((*(f"{name}:{seq}" for name, seq in others.items()), *runs))


def parse_place(text: str) -> dict[str, int]:
    """Return the seqs of a place. Raises InvalidArgument."""
    found: dict[str, int] = {}
    for each in filter(None, text.split(",")):
        name, _, seq = each.partition(":")
        if not (seq.isascii() and seq.isdigit() and len(seq) < 16 and name.isalnum()) or len(found) >= PLACES:
            raise InvalidArgument("that is no place in a session", remedy="load the page again")
        found[name] = int(seq)
    return found


@asynccontextmanager
async def open_session(
    site: Site, visit: Visit, session_id: SessionId, place: dict[str, int]
) -> AsyncGenerator[View, None]:
    """Follow a session of the visitor's from a place on, for the length of the block."""
    async with trio.open_nursery() as nursery:
        view = _SessionView(site, visit, session_id, nursery)
        nursery.start_soon(view.watch_title, place.pop(session_id, 0))
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
        self._seq = 0
        self._send, self._receive = trio.open_memory_channel[Update | PalyraError](0)

    @property
    def settled(self) -> bool:
        return all(story.end.state is not RunState.RUNNING for story in self._stories.values())

    async def next(self) -> Update | None:
        found = await self._receive.receive()
        if isinstance(found, PalyraError):
            raise found
        return found

    async def watch_title(self, seq: int) -> None:
        """Send what the session is called, whenever it was renamed behind row `seq` of its own tape."""
        self._seq = seq
        try:
            while True:
                g = self._feed.g
                seq, renamed = await self._site.gateway.ask(self._renamed)
                self._seq = seq  # a place with it goes out with the title, or after it
                if renamed is not None:
                    await self._send.send(Update(self._place(), self._site.part(PARTS, "heading", renamed)))
                await self._feed.wait_for_kind(SessionRenamed.kind, g)
        except PalyraError as error:
            await self._send.send(error)

    def _renamed(self, reader: Reader) -> tuple[int, Session | None]:
        """Return the newest seq of the session's tape, and the session if it was renamed since."""
        seq, stream = self._seq, SESSION_STREAM + self._session_id
        kinds = set[int]()
        while rows := reader.page(stream, seq):
            seq = rows[-1].seq
            kinds.update(row.kind for row in rows)
        renamed = SessionRenamed.kind in kinds
        return seq, reader.find_session(self._session_id, self._visit.context.principal) if renamed else None

    def _place(self) -> str:
        return place_of(self._stories.values(), {self._session_id: self._seq})

    async def watch(self, place: dict[str, int]) -> None:
        """Follow the runs of a place, and each that is accepted from then on."""
        try:
            for run_id, seq in place.items():
                self._begin(RunId(run_id), seq)
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
        story.seq = seq
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
                await self._send.send(Update(self._place(), html))

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
