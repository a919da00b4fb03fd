"""Tapes over the API: in pages, as a stream of events, and what happened lately in all of them."""

from collections.abc import Iterable
from typing import Annotated, Any

import attrs
import msgspec

from palyra_trio.core.codec import TapeRow
from palyra_trio.core.run import TERMINAL
from palyra_trio.core.tape import run_stream
from palyra_trio.journal.queries import PAGE_ROWS, Reader
from palyra_trio.runtime.follow import find_place
from palyra_trio.transports import run_events
from palyra_trio.transports.api.exchange import HEADERS, HttpResponse
from palyra_trio.transports.api.reading import Number, PageSize, Said
from palyra_trio.transports.api.route import API, Answered, Ask, get
from palyra_trio.transports.convert import RECENT_BODY_BYTES, kind_name
from palyra_trio.transports.paging import DEFAULT_PAGE
from palyra_trio.transports.run_events import open_run_events


class TapeQuery(Said, frozen=True):
    """`after_seq` is the row before the first one that is wanted."""

    after_seq: Number = 0
    max_rows: Annotated[int, msgspec.Meta(ge=1, le=PAGE_ROWS)] = PAGE_ROWS


class RecentQuery(Said, frozen=True):
    page_size: PageSize = DEFAULT_PAGE
    page_token: Annotated[str, msgspec.Meta(pattern="^[0-9]{0,16}$")] = ""


@attrs.frozen
class Row:
    """An event with its place. `body` is as it was recorded (docs/tape.md), null once it was erased; `hash` is hex."""

    g: int
    stream: str
    seq: int
    kind: str
    at_ms: int
    hash: str
    body: Any


@attrs.frozen
class Event:
    """A server-sent event: a row of the tape, or a `problem`, which is the last one and has no id."""

    event: str
    data: Annotated[str, msgspec.Meta(extra_json_schema={"contentMediaType": "application/json"})]
    id: str = ""


@attrs.frozen
class TapePage:
    """Rows in order. The next ones follow `after_seq`, the seq of the last; `last_seq` is the newest there is."""

    run_id: str
    last_seq: int
    ended: bool
    rows: tuple[Row, ...]


@attrs.frozen
class RecentPage:
    rows: tuple[Row, ...]
    next_page_token: str


@get(f"{API}/runs/{{run}}/tape", refuses=("offset_ahead", "offset_pruned"))
async def read_tape(ask: Ask, run: str, query: TapeQuery) -> TapePage:
    """A page of a run's tape: at most `max_rows` rows, and no more after about 2 MiB of bodies."""

    def read(reader: Reader) -> TapePage:
        place = find_place(reader, run, query.after_seq, ask.context.principal)
        rows = reader.page(run_stream(place.run.run_id), place.after_seq, query.max_rows)
        return TapePage(place.run.run_id, place.last_seq, place.run.state in TERMINAL, _rows(rows))

    return await ask.gateway.ask(read)


_STREAMED = (Answered(200, Event, run_events.CONTENT_TYPE), Answered(204))


@get(
    f"{API}/runs/{{run}}/events",
    answers=_STREAMED,
    refuses=("offset_ahead", "offset_pruned"),
    header=("Last-Event-ID", "The seq of the last row that arrived; those after it follow."),
)
async def follow_run(ask: Ask, run: str) -> HttpResponse:
    """A run's tape as server-sent events, as it grows, until the run has ended; 204 when nothing can follow any more."""
    events = await open_run_events(ask.gateway, ask.access, ask.caller, ask.headers, run)
    if events.ended:
        return HttpResponse(204)
    return HttpResponse(200, (("content-type", run_events.CONTENT_TYPE), *HEADERS), events=events)


@get(f"{API}/events")
async def recent_events(ask: Ask, query: RecentQuery) -> RecentPage:
    """What happened lately in your runs and sessions, newest first, without streamed pieces of text. A large body is left out."""
    before_g = int(query.page_token) if query.page_token else None
    page = await ask.gateway.ask(lambda reader: reader.recent(ask.context.principal, before_g, query.page_size))
    return RecentPage(_rows(page.rows, RECENT_BODY_BYTES), str(page.before_g) if page.before_g else "")


def _rows(rows: Iterable[TapeRow], most_bytes: int | None = None) -> tuple[Row, ...]:
    return tuple(_row(row, most_bytes) for row in rows)


def _row(row: TapeRow, most_bytes: int | None) -> Row:
    shown = row.body is not None and (most_bytes is None or len(row.body) <= most_bytes)
    body = msgspec.Raw(row.body) if row.body is not None and shown else None
    return Row(row.g, row.stream, row.seq, kind_name(row.kind), row.at_ms, row.hash.hex(), body)


ROUTES = (read_tape, follow_run, recent_events)
