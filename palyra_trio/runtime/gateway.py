"""The only door into the runtime: submit a command, follow a tape, ask a question. Every transport uses it.

A caller never holds a run. What it submits is checked in the caller's own task, and who asks is checked for every
verb; what it follows is the tape, from any seq, for as long as it likes.
"""

from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import TypeVar

import trio

from palyra_trio.core.agents import check_agent
from palyra_trio.core.commands import (
    Applied,
    ArchiveSession,
    CancelRun,
    Command,
    DecideApproval,
    DefineAgent,
    RemoveAgent,
    Reply,
    SetDefaultAgent,
    StartRun,
    UndoRun,
)
from palyra_trio.core.errors import NotOwner, OffsetAhead, PalyraError, SessionConflict, StateConflict
from palyra_trio.core.identity import RequestContext, RunId
from palyra_trio.core.run import TERMINAL
from palyra_trio.core.tape import (
    SESSION_STREAM,
    SYSTEM_STREAM,
    AgentDefined,
    AgentRemoved,
    DefaultAgentSet,
    SessionArchived,
    TapeEvent,
    run_stream,
)
from palyra_trio.journal.queries import Reader, RunSummary
from palyra_trio.journal.store import entry
from palyra_trio.journal.writer import Ticket
from palyra_trio.runtime.answers import answer_check
from palyra_trio.runtime.approvals import Approvals, Settle
from palyra_trio.runtime.bus import Bus, Submission
from palyra_trio.runtime.follow import Follower
from palyra_trio.runtime.intake import prepare
from palyra_trio.runtime.recovery import mark_interrupted
from palyra_trio.runtime.sessions import Admission, Sessions
from palyra_trio.runtime.state import RuntimeState
from palyra_trio.runtime.undo import undo_run

T = TypeVar("T")

KEY_RACES = 3  # a session key that was taken meanwhile is looked up again; losing more often is no accident


class Gateway:
    """The runtime as a transport sees it. Made by `open_gateway`."""

    def __init__(self, state: RuntimeState, nursery: trio.Nursery) -> None:
        self._state = state
        self._bus = Bus()
        self._approvals = Approvals()
        self._nursery = nursery
        self.sessions = Sessions(state, self._approvals, nursery)

    async def submit(self, command: Command, context: RequestContext) -> Reply:
        """Carry out a command and return its reply once it is durable.

        Raises PalyraError: the refusal. If cancelled, the command may still be carried out; a run that was started
        goes on, and a repeated StartRun with the same run id attaches to it.
        """
        if isinstance(command, StartRun):
            return await self._start(command, context)
        prepared: object = None
        if isinstance(command, CancelRun):
            prepared = await self._cancellable(command.run_id, context)
        elif isinstance(command, UndoRun):
            return await undo_run(self._state, await self.run(command.run_id, context), context)
        elif isinstance(command, ArchiveSession):
            await self._archivable(command.session_id, context)
        elif isinstance(command, DefineAgent):
            check_agent(command.spec, self._state.tools.names())
            answer_check(command.spec.answer_schema)
        return await self._put(Submission(command, context, prepared))

    async def _start(self, command: StartRun, context: RequestContext) -> Reply:
        for race in range(KEY_RACES):
            admission = await prepare(self._state, command, context)
            try:
                return await self._put(Submission(command, context, admission))
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

        Raises NotFound, NotOwner, and OffsetAhead when the tape has no row `after_seq` yet.
        """
        await self.run(run_id, context)
        if after_seq:
            last = await self.ask(lambda reader: reader.last_seq(run_stream(run_id)))
            if after_seq > last:
                raise OffsetAhead(
                    f"run {run_id} has {last} rows, not {after_seq}", remedy="follow from the last row you have"
                )
        return Follower(self._state.journal.feed, self._state.readers, run_stream(run_id), after_seq)

    async def run(self, run_id: str, context: RequestContext) -> RunSummary:
        """Return a run of the caller's. `run_id` may be `last` or the beginning of an id. Raises NotFound, Ambiguous."""
        return await self.ask(lambda reader: reader.find_run(run_id, context.principal))

    async def ask(self, question: Callable[[Reader], T]) -> T:
        """Ask the journal's read side. The question itself must restrict what it returns to the caller's own."""
        return await self._state.readers.ask(question)

    # --- routing: sync, called by the bus ---

    def route(self, submission: Submission) -> None:
        command, by = submission.command, submission.context.principal
        settle = _settle(submission)
        match command:
            case StartRun():
                assert isinstance(submission.prepared, Admission)
                self.sessions.admit(submission, submission.prepared)
            case CancelRun():
                assert isinstance(submission.prepared, RunSummary)
                self.sessions.cancel(submission.prepared, by, command.reason, settle)
            case DecideApproval():
                self._approvals.decide(command.approval_id, command.granted, by, command.reason, settle)
            case ArchiveSession(session_id):
                self._record(SESSION_STREAM + session_id, SessionArchived(session_id, by), settle)
            case DefineAgent(spec):
                self._record(SYSTEM_STREAM, AgentDefined(spec, by), settle)
            case RemoveAgent(agent):
                self._record(SYSTEM_STREAM, AgentRemoved(agent, by), settle)
            case SetDefaultAgent(agent):
                self._record(SYSTEM_STREAM, DefaultAgentSet(agent, by), settle)

    def _record(self, stream: str, event: TapeEvent, settle: Settle) -> None:
        ticket = Ticket((entry(stream, event),), on_commit=lambda _rows: settle(None), on_refusal=settle)
        self._state.journal.submit(ticket)

    async def _cancellable(self, run_id: str, context: RequestContext) -> RunSummary:
        run = await self.run(run_id, context)
        if run.state in TERMINAL:
            raise StateConflict(f"run {run.run_id} is {run.state} already")
        return run

    async def _archivable(self, session_id: str, context: RequestContext) -> None:
        session = await self.ask(lambda reader: reader.session(session_id))
        if session is None or session.principal != context.principal:
            raise NotOwner(
                f"there is no session {session_id} of yours", remedy="`palyra-trio sessions list` shows them"
            )
        live = await self.ask(lambda reader: reader.live_run(session_id))
        if live is not None:
            raise StateConflict(f"session {session_id} has the live run {live.run_id}", remedy="cancel it first")

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
    async with trio.open_nursery() as nursery:
        gateway = Gateway(state, nursery)
        nursery.start_soon(gateway.serve)
        nursery.start_soon(_watch, state)
        try:
            yield gateway
        finally:
            gateway.close()
            with trio.CancelScope(shield=True):
                await gateway.sessions.drain(state.config.daemon.drain_s)
            nursery.cancel_scope.cancel()


async def _watch(state: RuntimeState) -> None:
    await state.journal.failed.wait()
    state.journal.check()
