"""Runs over the API: which there are, why one waits, starting one, and stopping one or all."""

from typing import Literal

import attrs
import msgspec

from palyra_trio.core.commands import Accepted, CancelRun, NewAttachment, StartRun, UndoRun
from palyra_trio.core.identity import RunId, Scope, SessionId
from palyra_trio.core.run import RunState
from palyra_trio.core.session import SessionRef, WhenBusy
from palyra_trio.core.tape import FileChange
from palyra_trio.core.why import Wait, standing
from palyra_trio.journal.queries import Reader, RunSummary, whole_tape
from palyra_trio.runtime.runs import INTERRUPTED
from palyra_trio.runtime.undo import undone
from palyra_trio.transports.api.approvals import Nothing
from palyra_trio.transports.api.exchange import JSON, HttpResponse, answer
from palyra_trio.transports.api.reading import Paged, Reason, Said, run_id_of
from palyra_trio.transports.api.route import API, Answered, Ask, get, post
from palyra_trio.transports.door import require_for_start
from palyra_trio.transports.paging import next_page

STARTING = (
    "run_conflict", "session_conflict", "state_conflict", "session_busy", "not_found", "workspace_refused", "config_invalid",
    "provider_failed", "peer", "disk_low",
)  # fmt: skip


Word = Literal["queued", "running", "waiting", "interrupted", "done", "failed", "cancelled"]


class RunsQuery(Paged, frozen=True):
    state: tuple[Word, ...] = ()
    session: str = ""


class File(Said, frozen=True):
    """A file that comes with the prompt. In JSON its data is base64 (RFC 4648)."""

    name: str
    media_type: str
    data: bytes


class NewRun(Said, frozen=True):
    """What a run is asked, and where it works.

    `session` is the id of a session to go on with, `session_key` a name of your own for one, which is opened if there is none.
    `attended` says that somebody is there to answer its questions: else a call that would ask ends the run. The questions of
    a `detached` run never expire. `allowed_tools` need no approval in this run; to say so takes the scope approve.
    """

    text: str
    workspace: str
    session: str = ""
    session_key: str = ""
    agent: str = ""
    model: str = ""
    attachments: tuple[File, ...] = ()
    attended: bool = True
    detached: bool = False
    allowed_tools: tuple[str, ...] = ()
    when_busy: WhenBusy | None = None


@attrs.frozen
class RunPage:
    runs: tuple[RunSummary, ...]
    next_page_token: str


@attrs.frozen
class Standing:
    """How a run stands: how it ended, or what it waits for. Nobody goes on with one that is `interrupted`."""

    run_id: str
    state: RunState
    interrupted: bool
    ending: str
    waits: tuple[Wait, ...]


@attrs.frozen
class NotStopped:
    run_id: str
    reason: str


@attrs.frozen
class StoppedRuns:
    """The runs that are stopped, and those that could not be."""

    stopped: tuple[str, ...]
    failed: tuple[NotStopped, ...]


@attrs.frozen
class UndoneRun:
    """Who took back what a run did to files, and how: `before` is what there was when that began, `after` what it came to."""

    run_id: str
    by: str
    changes: tuple[FileChange, ...]


@get(f"{API}/runs", refuses=("not_found", "ambiguous"))
async def list_runs(ask: Ask, query: RunsQuery) -> RunPage:
    """Your runs, newest first: those in some states, or of one session, where that is said.

    Nobody goes on with those that are `interrupted`: their state is `waiting`, with that as its reason, and to ask for
    `waiting` leaves them out.
    """
    principal = ask.context.principal

    def read(reader: Reader) -> tuple[RunSummary, ...]:
        session_id = reader.find_session(query.session, principal).session_id if query.session else None
        return reader.runs(
            principal, session_id=session_id, words=query.state, before=query.page_token, most=query.page_size
        )

    found = await ask.gateway.ask(read)
    return RunPage(found, next_page(found, query.page_size, lambda each: each.run_id))


@get(f"{API}/runs/{{run}}")
async def get_run(ask: Ask, run: str) -> RunSummary:
    """A run of yours. It is named by its id, an unambiguous beginning of it, or `last`."""
    return await ask.gateway.run(run, ask.context)


@get(f"{API}/runs/{{run}}/why")
async def why(ask: Ask, run: str) -> Standing:
    """What a run waits for, since when and until when at most; or how it ended."""

    def read(reader: Reader) -> Standing:
        found = reader.find_run(run, ask.context.principal)
        rows = whole_tape(reader, found.run_id)
        interrupted = found.reason == INTERRUPTED
        stands = standing(rows, interrupted=interrupted)
        return Standing(found.run_id, found.state, interrupted, stands.ending, stands.waits)

    return await ask.gateway.ask(read)


_STARTED = tuple(Answered(status, Accepted, headers=(("Location", "The run."),)) for status in (201, 200))


@post(f"{API}/runs", Scope.RUN, answers=_STARTED, refuses=STARTING)
async def start_run(ask: Ask, body: NewRun) -> HttpResponse:
    """Start a run (201). With an Idempotency-Key that has started one with the same content, that one is answered (200)."""
    command = StartRun(
        text=body.text,
        run_id=run_id_of(ask.context.principal, ask.key) if ask.key else None,
        session=SessionRef(SessionId(body.session) if body.session else None, body.session_key or None),
        agent=body.agent,
        model=body.model,
        workspace=body.workspace,
        attachments=tuple(NewAttachment(each.name, each.media_type, each.data) for each in body.attachments),
        attended=body.attended,
        detached=body.detached,
        allowed_tools=body.allowed_tools,
        when_busy=body.when_busy,
    )
    require_for_start(ask.access, ask.caller, command)
    accepted = await ask.gateway.submit(command, ask.context)
    assert isinstance(accepted, Accepted)
    there = (("location", f"{API}/runs/{accepted.run_id}"),)
    return answer(200 if accepted.attached else 201, JSON, msgspec.json.encode(accepted), there)


@post(f"{API}/runs/{{run}}/cancel", Scope.RUN, refuses=("state_conflict",))
async def cancel_run(ask: Ask, run: str, body: Reason) -> RunSummary:
    """Stop a run, and answer once that is recorded; the tape has its end a moment later. It may be asked for again."""
    run_id = (await ask.gateway.run(run, ask.context)).run_id
    return await ask.bring_about(
        CancelRun(run_id, body.reason),
        lambda: ask.gateway.run(run_id, ask.context),
        lambda found: found.state is RunState.CANCELLED,
    )


@post(f"{API}/runs/stop-all", Scope.RUN)
async def stop_runs(ask: Ask, body: Reason) -> StoppedRuns:
    """Stop every run of yours that has not ended, and answer once that is recorded."""
    done = await ask.gateway.stop_all(body.reason, ask.context)
    return StoppedRuns(done.runs, tuple(NotStopped(RunId(run_id), why) for run_id, why in done.failed))


@post(f"{API}/runs/{{run}}/undo", Scope.RUN, refuses=("state_conflict", "workspace_refused"))
async def undo_run(ask: Ask, run: str, body: Nothing) -> UndoneRun:
    """Take back what a run that has ended did to files, all or nothing. It is done once, and again is answered the same."""
    found = await ask.gateway.run(run, ask.context)
    if (event := await ask.gateway.ask(lambda reader: undone(reader, found))) is None:
        await ask.gateway.submit(UndoRun(found.run_id), ask.context)
        event = await ask.gateway.ask(lambda reader: undone(reader, found))
    assert event is not None
    return UndoneRun(event.run_id, event.by, event.changes)


ROUTES = (list_runs, stop_runs, get_run, why, start_run, cancel_run, undo_run)
