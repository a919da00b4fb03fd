"""A run: a cancel scope, a view, and a way to record. Cancelling the run is cancelling the scope; nothing polls.

However a run ends, its last row says so: the ending is recorded after the scope has been left, inside a bounded
shield, when no task of the run is alive any more. What the run does in between is `agent`'s.
"""

import logging
import os
from collections.abc import Awaitable, Callable, Generator, Sequence
from contextlib import contextmanager

import attrs
import trio

from palyra_trio.core.agents import limit_source
from palyra_trio.core.codec import TapeRow
from palyra_trio.core.config import Config
from palyra_trio.core.errors import AlreadyDecided, JournalStopped, PalyraError, StateConflict, WorkspaceRefused
from palyra_trio.core.identity import Principal, RunId, SessionId
from palyra_trio.core.messages import Message
from palyra_trio.core.run import RunState
from palyra_trio.core.tape import (
    CancelRequested,
    Input,
    LimitReached,
    RunFinished,
    RunInterrupted,
    StatusChange,
    TapeEvent,
    run_stream,
)
from palyra_trio.core.text import text_to_name
from palyra_trio.core.turn import AnswerCheck
from palyra_trio.core.view import RunView, fold, loose_ends
from palyra_trio.journal.guards import Guard, RunIn
from palyra_trio.journal.store import entry
from palyra_trio.journal.writer import Ticket
from palyra_trio.providers.choose import Choice
from palyra_trio.runtime.expiry import Expiries
from palyra_trio.runtime.state import RuntimeState
from palyra_trio.tools.workspace import Workspace

_log = logging.getLogger(__name__)

Settle = Callable[[PalyraError | None], None]
"""Told once what became of a command: None when it took effect and is durable, else why not."""

CANCELLABLE = frozenset({RunState.QUEUED, RunState.RUNNING, RunState.WAITING})
INTERRUPTED = "interrupted"
FOR_APPROVAL = "approval"
FOR_INPUT = "input"
REVOKED = "revoked"
CLOSE_GRACE_S = 5.0  # an ending is one commit; past this the disk has stopped, and the journal with it


@attrs.frozen
class RunOrder:
    """A run that was accepted, and all that it takes to run it. `past_runs` is false for a session's first run.

    `config` is what held in the run's workspace when it was accepted. Its input says whether it is `confined`: then it
    may work only in the very folder that was checked then, which must not have become a link meanwhile.
    """

    run_id: RunId
    session_id: SessionId
    input: Input
    config: Config
    choice: Choice
    problem_with: AnswerCheck
    past_runs: bool


@attrs.frozen
class Past:
    """What a run that is taken up again has behind it: its view, the messages before its own, its active time so far."""

    view: RunView
    context: tuple[Message, ...] = ()
    active_s: float = 0.0


class Run:
    """A run in this process. One task, its session's, drives it; its tool calls are child tasks of that one.

    `changed` is set when the view moved by what others recorded, or a call of the run ended. `marks` are those of the
    processes of its calls that run a program now, by call id.
    """

    def __init__(self, order: RunOrder, state: RuntimeState, expiries: Expiries, past: Past | None = None) -> None:
        past = past or Past(fold(RunView(seq=1), order.input))
        self.order = order
        self.state = state
        self.expiries = expiries
        self.view = past.view
        self.context = past.context
        self.scope = trio.CancelScope()
        self.changed = trio.Event()
        self.marks: dict[str, str] = {}
        self._under: dict[str, list[trio.CancelScope]] = {}
        self._revoked: set[str] = set()
        self._clock = trio.CancelScope()
        self._left_s = order.input.agent.limits.active_s - past.active_s
        self._interrupted = ""
        if self.view.cancelled_by:
            self.scope.cancel(reason="cancelled")

    @property
    def principal(self) -> Principal:
        return Principal(self.order.input.principal)

    @property
    def waits(self) -> bool:
        """Whether the run has left its work to wait for a person: nothing of it is left to stop."""
        waits = self.view.state is RunState.WAITING and self.view.reason in {FOR_APPROVAL, FOR_INPUT}
        return waits and not self.view.cancelled_by

    # --- recording ---

    async def record(
        self, *events: TapeEvent, blobs: Sequence[tuple[str, bytes]] = (), guards: tuple[Guard, ...] = ()
    ) -> None:
        """Commit `events` as a whole; when this returns they are durable and folded into the view.

        Events land in the order of the calls. If cancelled they may still commit, and then are folded all the same.
        Raises what a guard raises that does not hold; nothing is recorded then.
        """
        ticket = self._ticket(events, blobs, None, guards)
        journal = self.state.journal
        if journal.full(ticket):
            await journal.room_for(ticket)
        journal.submit(ticket)
        await ticket.wait()

    def submit(
        self, *events: TapeEvent, blobs: Sequence[tuple[str, bytes]] = (), then: Callable[[], None] | None = None
    ) -> None:
        """Commit `events` without waiting; `then` runs once they are durable and folded."""
        self.state.journal.submit(self._ticket(events, blobs, then))

    def _ticket(
        self,
        events: Sequence[TapeEvent],
        blobs: Sequence[tuple[str, bytes]],
        then: Callable[[], None] | None,
        guards: tuple[Guard, ...] = (),
    ) -> Ticket:
        def folded(rows: tuple[TapeRow, ...]) -> None:
            for event in events:
                fold(self.view, event)
            self.view.seq = rows[-1].seq
            if then is not None:
                then()

        stream = run_stream(self.order.run_id)
        return Ticket(tuple([entry(stream, event) for event in events]), guards, tuple(blobs), on_commit=folded)

    # --- from the outside ---

    def take(self, event: TapeEvent, seq: int) -> None:
        """Fold an event that somebody else put on the run's tape, as row `seq`: a decision, or that it is to stop."""
        fold(self.view, event)
        self.view.seq = seq
        if isinstance(event, CancelRequested):
            self.scope.cancel(reason="cancelled")
        self.changed.set()

    def cancel(self, request: CancelRequested, settle: Settle) -> None:
        """Stop the run, then record who asked. `settle` is told when that is durable, or why it cannot be.

        Stopping does not depend on the disk. Raises JournalStopped when nothing can be recorded; the run stops.
        """
        self.scope.cancel(reason="cancelled")
        cancel_ticket(self.state, self.order.run_id, (request,), settle, lambda: fold(self.view, request))

    @contextmanager
    def under(self, grant: str, scope: trio.CancelScope) -> Generator[None, None, None]:
        """Let `scope` be cancelled, while the block runs, should `grant` be revoked."""
        if not grant:
            yield
            return
        scopes = self._under.setdefault(grant, [])
        scopes.append(scope)
        if grant in self._revoked:
            scope.cancel(reason=REVOKED)
        try:
            yield
        finally:
            scopes.remove(scope)

    def revoke(self, grant: str) -> None:
        """Stop the calls that run under a grant, or that have been recorded as started and are about to."""
        self._revoked.add(grant)
        for scope in self._under.get(grant, ()):
            scope.cancel(reason=REVOKED)

    def interrupt(self, reason: str) -> None:
        """Stop the run so that it waits, interrupted, for another process to take it up."""
        self._interrupted = reason
        self.scope.cancel(reason="interrupted")

    # --- the whole life ---

    async def execute(self, drive: Callable[["Run", Workspace], Awaitable[None]]) -> None:
        """Run `drive` within the scopes, then record how it ended unless `drive` recorded that itself.

        Raises JournalStopped when the ending cannot be recorded; nothing else. Not to be cancelled from outside
        other than through the run's scope.
        """
        ending: RunFinished | None = None
        try:
            with self.scope:
                with await self.state.enter(self.order.input.workspace) as workspace, self._clock:
                    if self.order.input.confined:
                        check_place(workspace, self.order.input.workspace)
                    self._clock.deadline = trio.current_time() + self._left_s
                    await drive(self, workspace)
                if self._clock.cancelled_caught:
                    limit = self.order.input.agent.limits.active_s
                    await self.record(LimitReached("active_s", limit))
                    detail = f"the run was active for {limit} s, the limit {limit_source('active_s')}"
                    ending = self._ending(RunState.FAILED, "limit_active_s", detail)
        except Exception as raised:
            error = _cause(raised)
            if isinstance(error, JournalStopped):
                raise error from raised
            if isinstance(error, PalyraError):
                ending = self._ending(RunState.FAILED, error.code, str(error))
            else:
                _log.exception("run %s failed", self.order.run_id)
                ending = self._ending(RunState.FAILED, "internal", f"{type(error).__name__}: {error}")
        if self.scope.cancel_called and not self._interrupted:
            with trio.CancelScope(shield=True):
                await self.state.jobs.end_run(self.order.run_id)
        with trio.move_on_after(CLOSE_GRACE_S, shield=True) as grace:
            await self._close(ending)
        if grace.cancelled_caught:
            _log.error("run %s ended, but the disk did not take its ending in %s s", self.order.run_id, CLOSE_GRACE_S)

    def _ending(self, state: RunState, reason: str, detail: str) -> RunFinished:
        return RunFinished(self.view.state, state, reason, self.state.redactor.recordable(detail))

    async def _close(self, ending: RunFinished | None) -> None:
        """Settle what is open, and record the ending, once all that the run's tasks submitted is on the tape."""
        settled = self.state.journal.settled
        await settled()
        if self.scope.cancel_called and not self.view.cancelled_by:
            await settled()  # somebody may have asked for it only meanwhile
        stays = ending is None and not self.view.cancelled_by
        in_line = self._interrupted and self.view.state is RunState.QUEUED
        if self.view.terminal or (stays and (self.waits or in_line)):
            return
        if stays and self._interrupted:
            interrupted = RunInterrupted(self.state.boot_id, self._interrupted)
            await self.record(
                interrupted, StatusChange(self.view.state, RunState.WAITING, INTERRUPTED, self.state.boot_id)
            )
            await settled()
            if not self.view.cancelled_by:
                return
        if ending is None:
            ending = RunFinished(self.view.state, RunState.CANCELLED, "cancelled", f"by {self.view.cancelled_by}")
        await self._end(ending)

    async def _end(self, ending: RunFinished) -> None:
        while True:
            open_calls = loose_ends(self.view, ending.reason)
            try:
                await self.record(*open_calls, attrs.evolve(ending, before=self.view.state))
            except AlreadyDecided:
                continue  # a decision was committed first, and is in the view by now
            except StateConflict:
                _log.info("run %s was ended before it began", self.order.run_id)
            return


def _cause(error: Exception) -> Exception:
    """Return the first error of those that a nursery gathered, or the error itself."""
    while isinstance(error, ExceptionGroup):
        error = error.exceptions[0]
    return error


def check_place(workspace: Workspace, folder: str) -> None:
    """Raise WorkspaceRefused unless the opened folder is the one that a resolved path was checked for."""
    if not workspace.lies_at(os.fsdecode(text_to_name(folder))):
        raise WorkspaceRefused("the workspace is another folder now than when it was checked", remedy="start again")


def cancel_ticket(
    state: RuntimeState,
    run_id: str,
    events: Sequence[TapeEvent],
    settle: Settle,
    then: Callable[[], object] = lambda: None,
) -> None:
    """Record that a run is to be cancelled, and `settle`; refused when the run has ended. `then` runs once it is durable."""

    def committed(_rows: tuple[TapeRow, ...]) -> None:
        then()
        settle(None)

    entries = tuple(entry(run_stream(run_id), event) for event in events)
    state.journal.submit(Ticket(entries, (RunIn(run_id, CANCELLABLE),), on_commit=committed, on_refusal=settle))
