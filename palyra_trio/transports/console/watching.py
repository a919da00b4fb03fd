"""Waiting for what happens on tapes, and drawing panels anew when it has: what several live views do alike."""

import math
from collections.abc import AsyncGenerator, Awaitable, Callable, Collection, Iterable, Mapping
from contextlib import asynccontextmanager
from functools import partial

import attrs
import trio
from markupsafe import Markup

from palyra_trio.core.tape import TapeEvent
from palyra_trio.journal.feed import Feed
from palyra_trio.transports.console.live import Update, View

EACH_S = 0.5  # the least between two updates

Wait = Callable[[], Awaitable[None]]


async def wait_for_any(feed: Feed, kinds: Iterable[type[TapeEvent]], g: int) -> None:
    """Return once a row of one of these kinds was published beyond the global position `g`."""
    await _first_of([partial(feed.wait_for_kind, each.kind, g) for each in kinds])


async def wait_past_any(feed: Feed, streams: Iterable[str], g: int) -> None:
    """Return once one of the streams may have a row beyond the global position `g`."""
    await _first_of([partial(feed.wait_past, each, g) for each in streams])


async def _first_of(waits: Iterable[Wait]) -> None:
    async with trio.open_nursery() as nursery:

        async def wait(until: Wait) -> None:
            await until()
            nursery.cancel_scope.cancel()

        for each in waits:
            nursery.start_soon(wait, each)


@attrs.frozen
class Drawn:
    """Panels by name, and a global position that what they show is not older than.

    They look different without any row `again_in_s` from now, and once `changed` returns.
    """

    g: int
    panels: Mapping[str, Markup]
    again_in_s: float = math.inf
    changed: Wait = trio.sleep_forever


class Panels:
    """Panels that are drawn again when rows of some kinds have come; those that then look different are sent."""

    settled = True

    def __init__(
        self,
        feed: Feed,
        kinds: Collection[type[TapeEvent]],
        draw: Callable[[], Awaitable[Drawn]],
        each_s: float = EACH_S,
    ) -> None:
        self._feed = feed
        self._kinds = kinds
        self._draw = draw
        self._each_s = each_s
        self._sent: Mapping[str, Markup] = {}
        self._g = 0
        self._again_at = math.inf
        self._changed: Wait = trio.sleep_forever
        self._next_at = trio.current_time()

    async def next(self) -> Update | None:
        while True:
            if self._sent:
                with trio.move_on_at(self._again_at):
                    await _first_of([partial(wait_for_any, self._feed, self._kinds, self._g), self._changed])
            await trio.sleep_until(self._next_at)
            drawn = await self._draw()
            changed = [html for name, html in drawn.panels.items() if html != self._sent.get(name)]
            now = trio.current_time()
            self._g, self._sent, self._next_at = drawn.g, drawn.panels, now + self._each_s
            self._again_at, self._changed = now + drawn.again_in_s, drawn.changed
            if changed:
                return Update(str(drawn.g), "".join(changed))


@asynccontextmanager
async def open_panels(
    feed: Feed, kinds: Collection[type[TapeEvent]], draw: Callable[[], Awaitable[Drawn]], each_s: float = EACH_S
) -> AsyncGenerator[View, None]:
    """Draw panels for as long as the block lasts."""
    yield Panels(feed, kinds, draw, each_s)
