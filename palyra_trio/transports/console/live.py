"""Live views as server-sent events: pieces of the page, rendered as the page itself renders them, with where they end.

An update is HTML whose elements have ids: the browser puts each in the place of the one that has its id, or at the end of
what its `data-into` names. `place` is what a browser comes back with; a view opened there goes on exactly after it. Nothing is
queued for a slow browser, and of one, and of one principal, only so many pages are live, the newest. Where nothing changes
there is a `beat`, by which a page knows that its stream has not stalled: a comment would not reach its script. What is shown
of what, the views decide.
"""

from collections.abc import AsyncGenerator, Callable, Coroutine, Generator
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager, contextmanager
from types import TracebackType
from typing import Any, Protocol

import attrs
import trio
from quart import Response
from quart.wrappers.response import ResponseBody

from palyra_trio.core.errors import PalyraError
from palyra_trio.transports.run_events import CONTENT_TYPE

BEAT_S = 5.0  # of silence: a page that hears nothing for two and a half of them says that it is not live
PAGES = 5  # live at a time of one sign-in: over HTTP/1.1 a browser has six connections, and needs one to load a page
PAGES_OF_ONE = 40  # live at a time of one principal, in all its browsers
DISPLACED = f"not live: {PAGES} newer pages are, and this one is again when you come back to it"
DISPLACED_ELSEWHERE = f"not live: {PAGES_OF_ONE} pages of yours are, and this one is again when you come back to it"


@attrs.frozen
class Update:
    """What changed, and the place on the tape behind it."""

    place: str
    html: str


class View(Protocol):
    """Where updates come from."""

    @property
    def settled(self) -> bool:
        """Whether nothing is under way that a person would wait for: such a view may be closed when the daemon ends."""
        ...

    async def next(self) -> Update | None:
        """Return the next update, None at the end. If cancelled, the next call returns it."""
        ...


Open = AbstractAsyncContextManager[View]


@attrs.define(eq=False)
class Seat:
    """What a live page holds, until it is lost to a newer one."""

    lost: str = ""  # to whom
    waiting: trio.CancelScope = attrs.Factory(trio.CancelScope)

    def lose(self, to: str) -> None:
        self.lost = to
        self.waiting.cancel()


class Streams:
    """The open streams of one process, and how they end: each with a word, `bye`."""

    def __init__(self) -> None:
        self.open = 0
        self._draining = False
        self._idle: set[trio.CancelScope] = set()
        self._seats: dict[str, dict[str, list[Seat]]] = {}  # by principal and sign-in

    def drain(self) -> None:
        """End every stream as soon as nothing is under way in it."""
        self._draining = True
        for scope in self._idle:
            scope.cancel()

    def response(self, opening: Open, check: Callable[[], None], principal: str, sign_in: str) -> Response:
        """Return the stream of a view, for a sign-in of a principal. `check` raises a PalyraError once it may not be read on."""
        response = Response(
            _Body(self._reading(opening, check, principal, sign_in)),
            content_type=CONTENT_TYPE,
            headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
        )
        response.timeout = None
        return response

    @asynccontextmanager
    async def _reading(
        self, opening: Open, check: Callable[[], None], principal: str, sign_in: str
    ) -> AsyncGenerator[AsyncGenerator[bytes, None], None]:
        with self._seat(principal, sign_in) as seat:
            async with opening as view, aclosing(self.events(view, check, seat)) as events:
                yield events

    @contextmanager
    def _seat(self, principal: str, sign_in: str) -> Generator[Seat, None, None]:
        """Take a seat for the length of the block. Where there are no more, the one that its sign-in has had for longest is lost.

        Where the principal has no more, it is the oldest of the sign-in that has the most.
        """
        of_one = self._seats.setdefault(principal, {})
        seat, seats = Seat(), of_one.setdefault(sign_in, [])
        seats.append(seat)
        for each in seats[:-PAGES]:
            each.lose(DISPLACED)
        held = [[each for each in its if not each.lost] for its in of_one.values()]
        if sum(map(len, held)) > PAGES_OF_ONE:
            max(held, key=len)[0].lose(DISPLACED_ELSEWHERE)
        self.open += 1
        try:
            yield seat
        finally:
            self.open -= 1
            seats.remove(seat)
            if not seats:
                del of_one[sign_in]
            if not of_one:
                del self._seats[principal]

    async def events(self, view: View, check: Callable[[], None], seat: Seat) -> AsyncGenerator[bytes, None]:
        """Yield the updates of a view as events, for as long as it has its seat."""
        yield b"retry: 1000\n\n"
        while not (self._draining and view.settled):
            if seat.lost:
                yield event("displaced", seat.lost)
                return
            scope = seat.waiting = trio.CancelScope(deadline=trio.current_time() + BEAT_S)
            if view.settled:
                self._idle.add(scope)
            try:
                with scope:
                    update = await view.next()
                check()
            except PalyraError as error:
                yield event("problem", error.message)
                return
            finally:
                self._idle.discard(scope)
            if scope.cancelled_caught:
                yield event("beat", "")  # also where the seat was lost
            elif update is None:
                break
            else:
                yield event("update", update.html, update.place)
        yield event("bye", "")


class _Body(ResponseBody):
    """What is open for as long as its response is sent."""

    def __init__(self, opening: AbstractAsyncContextManager[AsyncGenerator[bytes, None]]) -> None:
        self._opening = opening

    def __aenter__(self) -> Coroutine[Any, Any, AsyncGenerator[bytes, None]]:
        return self._opening.__aenter__()

    def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> Coroutine[Any, Any, None]:
        return self._opening.__aexit__(kind, error, traceback)  # type: ignore[return-value]


def event(name: str, data: str, place: str = "") -> bytes:
    """Return one event (WHATWG HTML, section 9.2). No line of `data` is lost: a carriage return is one's end as well."""
    lines = data.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    said = "".join(f"data: {line}\n" for line in lines)
    named = f"id: {place}\n" if place else ""
    return f"{named}event: {name}\n{said}\n".encode()
