"""One live run a session: each session with work has one task here, which runs its runs one after another.

That no two runs of a session are live at once is promised twice: by this task, and by a unique index in the journal
for the case that two processes should ever try.
"""

from collections import deque
from collections.abc import Sequence

import attrs
import trio

from palyra_trio.core.commands import Accepted
from palyra_trio.core.errors import Busy, Draining, JournalStopped, PalyraError, SessionBusy
from palyra_trio.core.identity import Principal, SessionId
from palyra_trio.core.run import RunState
from palyra_trio.core.session import WhenBusy
from palyra_trio.core.tape import CancelRequested, RunFinished
from palyra_trio.journal.queries import RunSummary
from palyra_trio.journal.store import AlreadyThere, Entry, RunIsNew
from palyra_trio.journal.writer import Ticket
from palyra_trio.runtime.agent import drive
from palyra_trio.runtime.approvals import Approvals, Settle
from palyra_trio.runtime.bus import Submission
from palyra_trio.runtime.recovery import end_interrupted
from palyra_trio.runtime.runs import Run, RunOrder, cancel_ticket
from palyra_trio.runtime.state import RuntimeState
from palyra_trio.tools.workspace import Workspace


@attrs.frozen
class Admission:
    """A run that was prepared for acceptance: what its acceptance writes, and what happens if its session is busy."""

    order: RunOrder
    entries: tuple[Entry, ...]
    blobs: tuple[tuple[str, bytes], ...]
    when_busy: WhenBusy


@attrs.define(eq=False)
class _Session:
    """A session with work: the runs that wait in line, how many more are being accepted, and the live one."""

    session_id: SessionId
    waiting: deque[RunOrder] = attrs.Factory(deque)
    arriving: int = 0
    live: Run | None = None
    served: bool = False

    @property
    def busy(self) -> bool:
        return self.live is not None or bool(self.waiting) or self.arriving > 0


class Sessions:
    """The sessions that have work in this process. `route` methods are sync: the bus calls them."""

    def __init__(self, state: RuntimeState, approvals: Approvals, nursery: trio.Nursery) -> None:
        self._state = state
        self._approvals = approvals
        self._nursery = nursery
        self._sessions: dict[SessionId, _Session] = {}
        self._idle = trio.Event()
        self._draining = False

    # --- starting ---

    def admit(self, submission: Submission, admission: Admission) -> None:
        """Accept a run: once it is durable, answer, and put it in line. Raises Busy, Draining, SessionBusy."""
        if self._draining:
            raise Draining("this process is shutting down", remedy="start the run again when it is back")
        order = admission.order
        session = self._sessions.get(order.session_id) or _Session(order.session_id)
        if session.busy and admission.when_busy is WhenBusy.REJECT:
            raise SessionBusy(f"session {order.session_id} has a live run", remedy="wait for it, or interrupt it")
        if len(session.waiting) + session.arriving >= self._state.config.session.mailbox:
            raise Busy(
                f"session {order.session_id} has {len(session.waiting)} runs in line", remedy="wait for some to end"
            )
        ticket = Ticket(
            admission.entries,
            (RunIsNew(order.run_id, order.input.payload_digest, order.input.principal),),
            admission.blobs,
            on_commit=lambda _rows: self._accepted(session, admission, submission),
            on_refusal=lambda error: self._refused(session, order, submission, error),
        )
        if self._state.journal.full(ticket):
            raise Busy("the journal's queue is full", remedy="try again when the disk has caught up")
        self._state.journal.submit(ticket)
        self._sessions[order.session_id] = session
        session.arriving += 1

    def _accepted(self, session: _Session, admission: Admission, submission: Submission) -> None:
        order = admission.order
        session.arriving -= 1
        submission.answer(Accepted(order.run_id, order.session_id))
        if self._draining:
            return  # it stays QUEUED, like those in line
        if admission.when_busy is WhenBusy.INTERRUPT:
            session.waiting.appendleft(order)
            if session.live is not None:
                by = CancelRequested(order.input.principal, f"interrupted by run {order.run_id}")
                session.live.cancel(by, lambda _error: None)
        else:
            session.waiting.append(order)
        if not session.served:
            session.served = True
            self._nursery.start_soon(self._serve, session)

    def _refused(self, session: _Session, order: RunOrder, submission: Submission, error: PalyraError) -> None:
        session.arriving -= 1
        self._forget(session)
        if isinstance(error, AlreadyThere):
            submission.answer(Accepted(order.run_id, SessionId(error.session_id), attached=True))
        else:
            submission.answer(error)

    async def _serve(self, session: _Session) -> None:
        """Run what is in line, in order, until the line is empty or this process drains.

        Shielded, since a run is stopped through its own scope only: whoever cancels the process drains it first.
        """
        try:
            with trio.CancelScope(shield=True):
                while session.waiting and not self._draining:
                    session.live = Run(session.waiting.popleft(), self._state, self._approvals)
                    await session.live.execute(_drive)
        except JournalStopped:
            return  # the gateway watches the journal and says so once
        finally:
            session.live, session.served = None, False
            self._forget(session)
            self._idle.set()

    def _forget(self, session: _Session) -> None:
        if not session.busy and not session.served:
            self._sessions.pop(session.session_id, None)

    # --- stopping ---

    def cancel(self, run: RunSummary, by: Principal, reason: str, settle: Settle) -> None:
        """Cancel a run, live or in line here or left behind by another process. Raises JournalStopped."""
        request = CancelRequested(by, reason)
        session = self._sessions.get(run.session_id)
        if session is not None and session.live is not None and session.live.order.run_id == run.run_id:
            session.live.cancel(request, settle)
            return
        if session is not None:
            session.waiting = deque(order for order in session.waiting if order.run_id != run.run_id)
        end = RunFinished(run.state, RunState.CANCELLED, "cancelled", f"by {by}")
        cancel_ticket(self._state, run.run_id, (request, end), settle)

    def live(self, run_id: str) -> Run | None:
        """Return the run if it is live here."""
        return next((run for run in self._live() if run.order.run_id == run_id and not run.view.terminal), None)

    def busy(self, session_id: SessionId) -> bool:
        """Return whether the session has a run here, live, in line or arriving."""
        session = self._sessions.get(session_id)
        return session is not None and session.busy

    @property
    def live_runs(self) -> int:
        return len(self._live())

    @property
    def draining(self) -> bool:
        return self._draining

    def close(self) -> None:
        """Take no more work. Runs in line stay QUEUED in the journal."""
        self._draining = True

    async def drain(self, deadline: float) -> None:
        """Take no more work, let the live runs go on until `deadline` (Trio's clock), then leave the rest interrupted."""
        self.close()
        with trio.move_on_at(deadline):
            await self.idle()
        self.stop("the process was shut down")
        await self.idle()

    def stop(self, reason: str) -> None:
        """Take no more work, and interrupt the live runs at once."""
        self._draining = True
        for run in self._live():
            run.interrupt(reason)

    async def idle(self) -> None:
        """Wait until no session has work here."""
        while any(session.served for session in self._sessions.values()):
            self._idle = trio.Event()
            await self._idle.wait()

    def _live(self) -> Sequence[Run]:
        return [session.live for session in self._sessions.values() if session.live is not None]


async def _drive(run: Run, workspace: Workspace) -> None:
    await end_interrupted(run.state, run.order)
    await drive(run, workspace)
