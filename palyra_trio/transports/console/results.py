"""What a run came to, on demand: a call and its result, its whole output, and what it, or the run, did to files."""

import attrs
from quart import Response

from palyra_trio.core.errors import NotFound
from palyra_trio.core.file_events import FilesChanged
from palyra_trio.core.identity import RunId
from palyra_trio.core.outputs import OutputKept
from palyra_trio.core.tape import FileChange, Input, TapeEvent, ToolFinished, ToolProposed, ToolStarted, run_stream
from palyra_trio.journal.queries import Reader, RunSummary, whole_tape
from palyra_trio.runtime.undo import changes_of
from palyra_trio.tools.undo import diff
from palyra_trio.transports.console.session_view import read_story
from palyra_trio.transports.console.site import Answer, Site, Visit
from palyra_trio.transports.console.transcript import Call

SHOWN_BYTES = 256 * 1024  # in a page; a download has all


@attrs.frozen
class Text:
    """A text, where it belongs, and what it does not tell."""

    title: str
    session_id: str
    run_id: str
    body: bytes
    notes: tuple[str, ...] = ()


def add(site: Site) -> None:
    @site.page("/runs/<run_id>/calls/<path:call_id>")
    async def call(visit: Visit, run_id: str, call_id: str) -> Answer:
        run, found = await site.gateway.ask(lambda reader: _call(reader, visit, run_id, call_id))
        if visit.fragment:
            return str(site.part("transcript.html", "inside", run.run_id, found))
        return site.render("call.html", visit, session_id=run.session_id, run_id=run.run_id, call=found)

    @site.page("/runs/<run_id>/prompt")
    async def prompt(visit: Visit, run_id: str) -> Answer:
        found = await site.gateway.ask(lambda reader: _prompt(reader, visit, run_id))
        return show(visit, found, coloured=False)

    @site.page("/runs/<run_id>/output/<path:call_id>")
    async def output(visit: Visit, run_id: str, call_id: str) -> Answer:
        found = await site.gateway.ask(lambda reader: _output(reader, visit, run_id, call_id))
        return show(visit, found, coloured=False)

    @site.page("/runs/<run_id>/diff/<path:call_id>")
    async def diff_of_call(visit: Visit, run_id: str, call_id: str) -> Answer:
        found = await site.gateway.ask(lambda reader: _diff_of_call(reader, visit, run_id, call_id))
        return show(visit, found, coloured=True)

    @site.page("/runs/<run_id>/diff")
    async def diff_of_run(visit: Visit, run_id: str) -> Answer:
        found = await site.gateway.ask(lambda reader: _diff_of_run(reader, visit, run_id))
        return show(visit, found, coloured=True)

    def show(visit: Visit, found: Text, *, coloured: bool) -> Answer:
        if visit.query.get("raw"):
            headers = {"Content-Disposition": f'attachment; filename="{found.run_id}.txt"'}
            return Response(found.body, 200, headers, content_type="text/plain; charset=utf-8")
        text = found.body[:SHOWN_BYTES].decode("utf-8", "replace")
        notes = found.notes
        if len(found.body) > SHOWN_BYTES:
            notes += (f"These are the first {SHOWN_BYTES // 1024} KiB of {len(found.body)} bytes.",)
            text += "" if coloured else "\n…"
        template = "text_part.html" if visit.fragment else "text.html"
        return site.render(
            template,
            visit,
            title=found.title,
            text=text or "(nothing)",
            notes=notes,
            coloured=coloured,
            back=f"/sessions/{found.session_id}#run-{found.run_id}",
            run_id=found.run_id,
            raw=f"{visit.here}?raw=yes" if found.body else "",
        )


def _prompt(reader: Reader, visit: Visit, run_id: str) -> Text:
    """Return what a run of the visitor's was asked. Raises NotFound."""
    run = reader.find_run(run_id, visit.context.principal)
    asked = next((row.event() for row in reader.page(run_stream(run.run_id), 0, 1)), None)
    if not isinstance(asked, Input):
        raise NotFound(f"what run {run.run_id} was asked has been erased")
    return Text("What was asked", run.session_id, run.run_id, asked.text.encode())


def _call(reader: Reader, visit: Visit, run_id: str, call_id: str) -> tuple[RunSummary, Call]:
    """Return a call of the visitor's as its run's story tells it. Raises NotFound."""
    run = reader.find_run(run_id, visit.context.principal)
    for each in read_story(reader, run).blocks.values():
        if isinstance(each, Call) and each.call.call_id == call_id:
            return run, each
    raise NotFound(f"run {run.run_id} has no call {call_id!r}")


def _of_call(reader: Reader, visit: Visit, run_id: str, call_id: str) -> tuple[Text, list[TapeEvent]]:
    """Return what a call of the visitor's is called, and its events. Raises NotFound."""
    run = reader.find_run(run_id, visit.context.principal)
    events = [event for row in whole_tape(reader, run.run_id) if (event := row.event()) is not None]
    own = [event for event in events if getattr(event, "call_id", None) == call_id]
    tool = next(
        (each.call.tool for each in events if isinstance(each, ToolProposed) and each.call.call_id == call_id), ""
    )
    if not own or not tool:
        raise NotFound(f"run {run.run_id} has no call {call_id!r}")
    return Text(tool, run.session_id, run.run_id, b""), own


def _output(reader: Reader, visit: Visit, run_id: str, call_id: str) -> Text:
    named, events = _of_call(reader, visit, run_id, call_id)
    kept = [reader.blob(event.output) for event in events if isinstance(event, OutputKept)]
    finished = next((event for event in events if isinstance(event, ToolFinished)), None)
    if not kept and finished is not None:
        kept = [reader.blob(finished.output) if finished.output is not None else finished.text.encode()]
    return attrs.evolve(named, title=f"Output of {named.title}", body=b"".join(kept))


def _diff_of_call(reader: Reader, visit: Visit, run_id: str, call_id: str) -> Text:
    named, events = _of_call(reader, visit, run_id, call_id)
    changes = tuple[FileChange, ...]()
    for event in events:
        if isinstance(event, (ToolStarted, FilesChanged)):
            changes += event.changes
    return attrs.evolve(named, title=f"What {named.title} changed", body=diff(changes, reader.blob).encode())


def _diff_of_run(reader: Reader, visit: Visit, run_id: str) -> Text:
    run = reader.find_run(run_id, visit.context.principal)
    changes = changes_of(reader, RunId(run.run_id))
    body = diff(changes.told, reader.blob).encode()
    return Text("What the run changed", run.session_id, run.run_id, body, changes.notes())
