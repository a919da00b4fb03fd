"""The only door into the runtime: submit a command, follow a tape, ask a question. Every transport uses it.

A caller never holds a run. What it submits is checked in the caller's own task, and who asks is checked for every
verb; what it follows is the tape, from any seq, for as long as it likes.
"""

import math
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TypeVar

import attrs
import trio

from palyra_trio.core.agents import check_agent
from palyra_trio.core.bindings import AgentBound, AgentUnbound, BindingPlace, Target, check_place
from palyra_trio.core.chain import canonical_json
from palyra_trio.core.codec import TapeRow
from palyra_trio.core.commands import (
    Applied,
    ArchiveSession,
    BindAgent,
    CancelRun,
    Command,
    CreateToken,
    DecideApproval,
    DefineAgent,
    OpenSession,
    RemoveAgent,
    Reply,
    RevokeToken,
    RotateToken,
    SessionResolved,
    SetDefaultAgent,
    StartRun,
    UnbindAgent,
    UndoRun,
)
from palyra_trio.core.config import Config
from palyra_trio.core.errors import InvalidArgument, NotOwner, PalyraError, SessionConflict, StateConflict
from palyra_trio.core.identity import RequestContext, RunId, SessionId
from palyra_trio.core.run import TERMINAL
from palyra_trio.core.tape import (
    SESSION_STREAM,
    SYSTEM_STREAM,
    AgentDefined,
    AgentRemoved,
    CancelRequested,
    DefaultAgentSet,
    SessionArchived,
    TapeEvent,
    run_stream,
)
from palyra_trio.core.text import clean
from palyra_trio.journal.queries import Reader, RunSummary
from palyra_trio.journal.store import entry
from palyra_trio.journal.writer import Journal, Ticket
from palyra_trio.runtime.agents import Answering, KnownAgent, answering, find_agent, known_agents
from palyra_trio.runtime.answers import answer_check
from palyra_trio.runtime.approvals import Approvals, Settle
from palyra_trio.runtime.bus import Bus, Submission
from palyra_trio.runtime.follow import Follower, find_place
from palyra_trio.runtime.intake import attach, prepare
from palyra_trio.runtime.opening import Opening, prepare_opening, session_is_busy
from palyra_trio.runtime.recovery import mark_interrupted
from palyra_trio.runtime.runs import Run
from palyra_trio.runtime.sessions import Admission, Sessions
from palyra_trio.runtime.state import RuntimeState
from palyra_trio.runtime.tokens import Tokens
from palyra_trio.runtime.undo import undo_run

T = TypeVar("T")

KEY_RACES = 3  # a session key that was taken meanwhile is looked up again; losing more often is no accident


@attrs.frozen
class Health:
    """How this process stands. `g` is the newest durable row that it wrote, 0 before its first."""

    boot_id: str
    now_ms: int
    g: int
    live_runs: int
    draining: bool


class Gateway:
    """The runtime as a transport sees it. Made by `open_gateway`."""

    def __init__(self, state: RuntimeState, tokens: Tokens, nursery: trio.Nursery) -> None:
        self._state = state
        self._bus = Bus()
        self._approvals = Approvals()
        self._nursery = nursery
        self.tokens = tokens
        self.sessions = Sessions(state, self._approvals, nursery)
        self._drain_deadline: float = math.inf

    async def submit(self, command: Command, context: RequestContext) -> Reply:
        """Carry out a command and return its reply once it is durable.

        Raises PalyraError: the refusal. If cancelled, the command may still be carried out; a run that was started
        goes on, and a repeated StartRun with the same run id attaches to it.
        """
        context = attrs.evolve(context, device=clean(context.device), channel=clean(context.channel))
        if isinstance(command, StartRun):
            return await self._start(command, context)
        command = self._ingress(command)
        prepared: object = None
        if isinstance(command, OpenSession):
            return await self._open(command, context)
        if isinstance(command, CancelRun):
            prepared = await self._cancellable(command.run_id, context)
        elif isinstance(command, UndoRun):
            return await undo_run(self._state, await self.run(command.run_id, context), context)
        elif isinstance(command, ArchiveSession):
            await self._archivable(command.session_id, context)
        elif isinstance(command, DefineAgent):
            check_agent(command.spec, self._state.tools.names())
            answer_check(command.spec.answer_schema)
            await self._definable(command)
        elif isinstance(command, BindAgent | UnbindAgent):
            await self._bindable(command.place, context)
        return await self._put(Submission(command, context, prepared))

    def _ingress(self, command: Command) -> Command:
        """Return the command as it may be recorded: what a person wrote in it redacted, all of it valid Unicode."""
        if isinstance(command, CancelRun | DecideApproval):
            command = attrs.evolve(command, reason=self._state.redactor.text(clean(command.reason)))
        try:
            canonical_json(command)
        except (UnicodeEncodeError, TypeError) as error:
            raise InvalidArgument(f"the command cannot be recorded: {error}") from error
        return command

    async def _start(self, command: StartRun, context: RequestContext) -> Reply:
        if (existing := await attach(self._state, command, context)) is not None:
            return existing
        return await self._put_racing(lambda: prepare(self._state, command, context), command, context)

    async def _open(self, command: OpenSession, context: RequestContext) -> Reply:
        return await self._put_racing(lambda: prepare_opening(self._state, command, context), command, context)

    async def _put_racing(
        self, prepare: Callable[[], Awaitable[object]], command: Command, context: RequestContext
    ) -> Reply:
        """Prepare a command and put it; again when its session's key was taken in between."""
        for race in range(KEY_RACES):
            prepared = await prepare()
            if isinstance(prepared, SessionResolved):
                return prepared
            try:
                return await self._put(Submission(command, context, prepared))
            except SessionConflict:
                if race == KEY_RACES - 1:
                    raise
        raise AssertionError("the last race returns or raises")

    async def _put(self, submission: Submission) -> Reply:
        await self._bus.put(submission)
        return await submission.reply()

    # --- reading ---

    async def follow(self, run_id: RunId, after_seq: int, context: RequestContext) -> Follower:
        """Return a follower of a run's tape, whose first rows are those after `after_seq` (0 for all).

        Raises NotFound, Ambiguous, OffsetAhead when the tape has no row `after_seq` yet, and OffsetPruned when the
        row after it was erased.
        """
        place = await self.ask(lambda reader: find_place(reader, run_id, after_seq, context.principal))
        return Follower(self._state.journal.feed, self._state.readers, place)

    async def run(self, run_id: str, context: RequestContext) -> RunSummary:
        """Return a run of the caller's. `run_id` may be `last` or the beginning of an id. Raises NotFound, Ambiguous."""
        return await self.ask(lambda reader: reader.find_run(run_id, context.principal))

    async def last_row(self, run_id: RunId, context: RequestContext) -> tuple[RunSummary, TapeRow]:
        """Return a run of the caller's as it stands, and the newest row of its tape. Raises NotFound."""

        def read(reader: Reader) -> tuple[RunSummary, TapeRow]:
            run = reader.find_run(run_id, context.principal)
            stream = run_stream(run.run_id)
            return run, reader.page(stream, reader.last_seq(stream) - 1, 1)[0]

        return await self.ask(read)

    async def ask(self, question: Callable[[Reader], T]) -> T:
        """Ask the journal's read side. The question itself must restrict what it returns to the caller's own."""
        return await self._state.readers.ask(question)

    async def agents(self) -> tuple[KnownAgent, ...]:
        """Return all agents in order of name, the built-in one among them."""
        return await self.ask(lambda reader: known_agents(reader, self._state.config.limits))

    async def agent(self, name: str) -> KnownAgent:
        """Return the agent of that name. Raises NotFound."""
        return await self.ask(lambda reader: find_agent(reader, self._state.config.limits, name))

    async def answering(self, session_id: SessionId | None, context: RequestContext) -> Answering:
        """Return which agent answers the caller's next run that names none. Raises NotOwner."""
        if session_id is not None:
            await self._owned(session_id, context)
        return await self.ask(lambda reader: answering(reader, self._state.config.limits, context, session_id))

    def health(self) -> Health:
        return Health(
            self._state.boot_id,
            int(self._state.now_s() * 1000),
            self._state.journal.feed.g,
            self.sessions.live_runs,
            self.sessions.draining,
        )

    # --- routing: sync, called by the bus ---

    def route(self, submission: Submission) -> None:
        command, by = submission.command, submission.context.principal
        settle = _settle(submission)
        match command:
            case StartRun():
                assert isinstance(submission.prepared, Admission)
                self.sessions.admit(submission, submission.prepared)
            case CancelRun():
                if isinstance(submission.prepared, Run):
                    submission.prepared.cancel(CancelRequested(by, command.reason), settle)
                else:
                    assert isinstance(submission.prepared, RunSummary)
                    self.sessions.cancel(submission.prepared, by, command.reason, settle)
            case DecideApproval():
                self._approvals.decide(command.approval_id, command.granted, by, command.reason, settle)
            case OpenSession():
                assert isinstance(submission.prepared, Opening)
                self._open_now(submission, submission.prepared)
            case ArchiveSession(session_id):
                if self.sessions.busy(session_id):
                    raise session_is_busy(session_id)
                self._record(SESSION_STREAM + session_id, SessionArchived(session_id, by), settle)
            case DefineAgent(spec):
                self._record(SYSTEM_STREAM, AgentDefined(spec, by), settle)
            case RemoveAgent(agent):
                self._record(SYSTEM_STREAM, AgentRemoved(agent, by), settle)
            case SetDefaultAgent(agent):
                self._record(SYSTEM_STREAM, DefaultAgentSet(agent, by), settle)
            case BindAgent(place, agent):
                self._record(SYSTEM_STREAM, AgentBound(place.target, place.name, agent, by), settle)
            case UnbindAgent(place):
                self._record(SYSTEM_STREAM, AgentUnbound(place.target, place.name, by), settle)
            case CreateToken() | RevokeToken() | RotateToken():
                self.tokens.carry_out(command, by, submission.answer)

    def _record(self, stream: str, event: TapeEvent, settle: Settle) -> None:
        ticket = Ticket((entry(stream, event),), on_commit=lambda _rows: settle(None), on_refusal=settle)
        self._state.journal.submit(ticket)

    def _open_now(self, submission: Submission, opening: Opening) -> None:
        if opening.replaced is not None and self.sessions.busy(opening.replaced):
            raise session_is_busy(opening.replaced)
        self._state.journal.submit(
            Ticket(
                opening.entries,
                on_commit=lambda rows: submission.answer(opening.result(rows)),
                on_refusal=submission.answer,
            )
        )

    async def _definable(self, command: DefineAgent) -> None:
        name = command.spec.name
        if not command.replace and await self.ask(lambda reader: any(spec.name == name for spec, _ in reader.agents())):
            raise StateConflict(f"there is an agent {name!r} already", remedy="replace it, or take another name")

    async def _bindable(self, place: BindingPlace, context: RequestContext) -> None:
        check_place(place)
        if place.target is Target.SESSION:
            await self._owned(SessionId(place.name), context)

    async def _owned(self, session_id: SessionId, context: RequestContext) -> None:
        session = await self.ask(lambda reader: reader.session(session_id))
        if session is None or session.principal != context.principal:
            raise NotOwner(
                f"there is no session {session_id} of yours", remedy="`palyra-trio sessions list` shows them"
            )

    async def _cancellable(self, run_id: str, context: RequestContext) -> RunSummary | Run:
        """Return the run: a live one at once, so that stopping it waits for no disk."""
        live = self.sessions.live(run_id)
        if live is not None and live.principal == context.principal:
            return live
        run = await self.run(run_id, context)
        if run.state in TERMINAL:
            raise StateConflict(f"run {run.run_id} is {run.state} already")
        return run

    async def _archivable(self, session_id: SessionId, context: RequestContext) -> None:
        await self._owned(session_id, context)
        if await self.ask(lambda reader: reader.live_run(session_id)) is not None:
            raise session_is_busy(session_id)

    @property
    def journal(self) -> Journal:
        return self._state.journal

    def drain_by(self, deadline: float) -> float:
        """Take no more runs. The live ones may go on until `deadline` (Trio's clock); the first one that was set holds."""
        self.sessions.close()
        self._drain_deadline = min(deadline, self._drain_deadline)
        return self._drain_deadline

    def reload(self, config: Config, config_in: Callable[[str], Config]) -> None:
        """Act by another configuration from now on. Runs that were accepted keep theirs."""
        self._state.config, self._state.config_in = config, config_in

    async def serve(self) -> None:
        await self._bus.route(self.route)

    def close(self) -> None:
        self._bus.close()


def _settle(submission: Submission) -> Settle:
    def settle(error: PalyraError | None) -> None:
        submission.answer(error if error is not None else Applied())

    return settle


@asynccontextmanager
async def open_gateway(state: RuntimeState) -> AsyncGenerator[Gateway, None]:
    """Run the runtime for the length of the block. Leaving it drains: live runs get `daemon.drain_s` to end.

    If the journal stops, the block is cancelled and JournalStopped is raised: a process that cannot record must not act.
    """
    await mark_interrupted(state)
    tokens = Tokens(state, await state.readers.ask(lambda reader: reader.tokens(revoked=False, most=-1)))
    async with trio.open_nursery() as nursery:
        gateway = Gateway(state, tokens, nursery)
        nursery.start_soon(gateway.serve)
        nursery.start_soon(_watch, state, gateway.sessions)
        try:
            yield gateway
        finally:
            gateway.close()
            with trio.CancelScope(shield=True):
                await gateway.sessions.drain(gateway.drain_by(trio.current_time() + state.config.daemon.drain_s))
            nursery.cancel_scope.cancel()


async def _watch(state: RuntimeState, sessions: Sessions) -> None:
    await state.journal.failed.wait()
    sessions.stop("the journal stopped")
    state.journal.check()
