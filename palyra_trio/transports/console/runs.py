"""Runs: the list, and one of them: how it stands and why, when it did what, its tape, what was decided, and what it changed."""

import json
from collections.abc import AsyncGenerator
from functools import partial
from urllib.parse import urlencode

import attrs
from quart import Response

from palyra_trio.core.codec import KIND_NAMES, TapeRow, json_line, plain
from palyra_trio.core.commands import UndoRun
from palyra_trio.core.errors import InvalidArgument, NotFound
from palyra_trio.core.identity import RunId, Scope
from palyra_trio.core.run import RunState
from palyra_trio.core.tape import run_stream
from palyra_trio.journal.queries import Reader, RunSummary
from palyra_trio.runtime.gateway import Gateway
from palyra_trio.transports.console.live import Open
from palyra_trio.transports.console.overview import ACTIVE_WORDS, run_line
from palyra_trio.transports.console.results import SHOWN_BYTES
from palyra_trio.transports.console.run_view import look_beside, open_run, read_page
from palyra_trio.transports.console.site import Answer, Site, Visit, redirect
from palyra_trio.transports.console.timeline import Filter, Timeline, page_with

LISTED = 50
DRAWN = 250  # turns and calls in a picture
WORDS = (*ACTIVE_WORDS, RunState.DONE, RunState.FAILED, RunState.CANCELLED)
KINDS = tuple(KIND_NAMES[kind] for kind in sorted(KIND_NAMES) if kind < 64)  # those of a run


def add(site: Site) -> None:
    site.navigation.append(("Runs", "/runs"))

    @site.page("/runs")
    async def listed(visit: Visit) -> Answer:
        state, before = visit.query.get("state", ""), visit.query.get("before", "")
        if state not in ("", *WORDS):
            raise InvalidArgument(f"no run is {state!r}", remedy=f"choose one of {', '.join(WORDS)}")
        words = (state,) if state else ()
        found = await site.gateway.ask(
            lambda reader: reader.runs(visit.context.principal, words=words, before=before, most=LISTED)
        )
        older = urlencode({"state": state, "before": found[-1].run_id}) if len(found) == LISTED else ""
        lines = [run_line(run) for run in found]
        return site.render("runs.html", visit, runs=lines, state=state, words=WORDS, older=older, before=before)

    @site.page("/runs/<run_id>")
    async def show(visit: Visit, run_id: str) -> Answer:
        timeline = _timeline(visit)
        run = await site.gateway.run(run_id, visit.context)
        if seq := visit.query.get("seq", "").strip():
            return redirect(await site.gateway.ask(lambda reader: _jump(reader, run, timeline.filter, seq)))
        page = await site.gateway.ask(lambda reader: read_page(reader, run, timeline))
        visit = _at(visit, run)
        panels = page.panels(site, visit, await look_beside(site, visit, run))
        return site.render("run.html", visit, page=page, panels=panels, live=_live_query(visit), kinds=KINDS)

    @site.live("/runs/<run_id>/live")
    async def live(visit: Visit, run_id: str) -> Open:
        run = await site.gateway.run(run_id, visit.context)
        after = _number(visit.query.get("after", "") or "0")
        page = await site.gateway.ask(lambda reader: read_page(reader, run, _timeline(visit), after))
        return open_run(site, _at(visit, run), page)

    @site.page("/runs/<run_id>/waterfall")
    async def waterfall(visit: Visit, run_id: str) -> Answer:
        run = await site.gateway.run(run_id, visit.context)
        page = await site.gateway.ask(lambda reader: read_page(reader, run, Timeline(Filter())))
        upto = _number(visit.query.get("upto", "") or str(len(page.picture.items)))
        return site.render("run_waterfall.html", visit, page=page, chart=page.chart(DRAWN, upto), upto=upto, most=DRAWN)

    @site.page("/runs/<run_id>/rows/<number>")
    async def row(visit: Visit, run_id: str, number: str) -> Answer:
        seq = _number(number)
        run = await site.gateway.run(run_id, visit.context)
        rows = await site.gateway.ask(lambda reader: reader.page(run_stream(run.run_id), seq - 1, 1))
        if not rows or rows[0].seq != seq:
            raise NotFound(f"run {run.run_id} has no row {seq}")
        text = json.dumps(plain(rows[0]), ensure_ascii=False, indent=2)
        notes = (
            ("This is only the beginning; the tape that can be downloaded has all.",) if len(text) > SHOWN_BYTES else ()
        )
        template = "text_part.html" if visit.fragment else "run_row.html"
        shown = text[:SHOWN_BYTES]
        return site.render(template, visit, run=run, seq=seq, text=shown, notes=notes, coloured=visit.fragment)

    @site.page("/runs/<run_id>/tape.jsonl")
    async def export(visit: Visit, run_id: str) -> Answer:
        run = await site.gateway.run(run_id, visit.context)

        headers = {"Content-Disposition": f'attachment; filename="{run.run_id}.jsonl"'}
        response = Response(
            _lines(site.gateway, run_stream(run.run_id)), 200, headers, content_type="application/x-ndjson"
        )
        response.timeout = None
        return response

    @site.write("/runs/<run_id>/undo", Scope.RUN)
    async def undo(visit: Visit, run_id: str) -> Answer:
        await site.gateway.submit(UndoRun(RunId(run_id)), visit.context)
        return site.done(visit, f"/runs/{run_id}")


async def _lines(gateway: Gateway, stream: str) -> AsyncGenerator[bytes, None]:
    """Yield a tape as `palyra-trio tape --jsonl` writes it."""
    after = 0
    while rows := await gateway.ask(partial(_page, stream, after)):
        yield "".join(f"{json_line(row)}\n" for row in rows).encode()
        after = rows[-1].seq


def _page(stream: str, after: int, reader: Reader) -> tuple[TapeRow, ...]:
    return reader.page(stream, after)


def _at(visit: Visit, run: RunSummary) -> Visit:
    """Return the visit as one of the run's page, so that a form leads back there wherever it was rendered."""
    return attrs.evolve(visit, here=f"/runs/{run.run_id}")


def _timeline(visit: Visit) -> Timeline:
    return Timeline(Filter.named(visit.query.get("kind", "")), _number(visit.query.get("page", "") or "0"))


def _live_query(visit: Visit) -> str:
    """Return what the live view must be told to show the same page of the tape."""
    query = {name: visit.query[name] for name in ("kind", "page") if visit.query.get(name)}
    return f"?{urlencode(query)}" if query else ""


def _number(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 16):
        raise InvalidArgument(f"{text!r} is no number of an event or page", remedy="pass digits")
    return int(text)


def _jump(reader: Reader, run: RunSummary, shows: Filter, seq: str) -> str:
    rows = reader.tape(run_stream(run.run_id), deltas=shows.deltas)
    page, found = page_with(shows, rows, _number(seq))
    return f"/runs/{run.run_id}?{urlencode({'kind': shows.kind, 'page': page})}#seq-{found}"
