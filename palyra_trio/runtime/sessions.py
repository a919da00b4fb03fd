"""One live run a session: each session with work has one task here, which runs its runs one after another.

That no two runs of a session are live at once is promised twice: by this task, and by a unique index in the journal
for the case that two processes should ever try.
"""

import logging
from collections import deque
from collections.abc import Sequence

import attrs
import trio

from palyra_trio.core.approvals import Approval, ApprovalState
from palyra_trio.core.codec import TapeRow
from palyra_trio.core.commands import Accepted
from palyra_trio.core.errors import Busy, Draining, JournalStopped, PalyraError, SessionBusy
from palyra_trio.core.identity import Principal, RunId, SessionId
from palyra_trio.core.run import RunState
from palyra_trio.core.session import WhenBusy
from palyra_trio.core.tape import ApprovalDecided, CancelRequested, RunFinished, TapeEvent, run_stream
from palyra_trio.journal.approvals import WaitingRun
from palyra_trio.journal.guards import AlreadyThere, RunIn, RunIsNew
from palyra_trio.journal.queries import RunSummary
from palyra_trio.journal.store import Entry, entry
from palyra_trio.journal.writer import Ticket
from palyra_trio.runtime.agent import drive
from palyra_trio.runtime.bus import Submission
from palyra_trio.runtime.expiry import Expiries
from palyra_trio.runtime.recovery import Left, end_interrupted, fail_left
from palyra_trio.runtime.resume import bring_back
from palyra_trio.runtime.runs import CANCELLABLE, Past, Run, RunOrder, Settle, cancel_ticket
from palyra_trio.runtime.state import RuntimeState
from palyra_trio.tools.workspace import Workspace

_log = logging.getLogger(__name__)


@attrs.frozen
class Admission:
    """A run that was prepared for acceptance: what its acceptance writes, and what happens if its session is busy."""

    order: RunOrder
    entries: tuple[Entry, ...]
    blobs: tuple[tuple[str, bytes], ...]
    when_busy: WhenBusy


@attrs.define(eq=False)
class _Dormant:
    """A run that waits for a person, `open` being the approvals that are not decided yet.

    `ready` when it can go on; `ours` when this process is to go on with it. `news` came while it was brought back.
    """

    run_id: RunId
    open: set[str]
    ready: bool
    ours: bool
    news: list[tuple[TapeEvent, int]] = attrs.Factory(list)


@attrs.define(eq=False)
class _Session:
    """A session with work: the runs that wait in line, how many more are being accepted, and the live or dormant one.

    An order in line that is only a run id was left there by an earlier process. `opening` is the scope in which one is
    brought back.
    """

    session_id: SessionId
    waiting: deque[RunOrder | RunId] = attrs.Factory(deque)
    arriving: int = 0
    live: Run | None = None
    dormant: _Dormant | None = None
    served: bool = False
    opening: trio.CancelScope = attrs.Factory(trio.CancelScope)

    @property
    def busy(self) -> bool:
        return self.live is not None or self.dormant is not None or bool(self.waiting) or self.arriving > 0

    def live_as(self, run_id: str) -> Run | None:
        """Return the live run if it is this one."""
        return self.live if self.live is not None and self.live.order.run_id == run_id else None

    def dormant_as(self, run_id: str) -> _Dormant | None:
        """Return the dormant run if it is this one."""
        return self.dormant if self.dormant is not None and self.dormant.run_id == run_id else None

    @property
    def can_work(self) -> bool:
        if self.dormant is not None:
            return self.dormant.ready and self.dormant.ours
        return bool(self.waiting)


class Sessions:
    """The sessions that have work in this process. `route` methods are sync: the bus calls them."""

    def __init__(self, state: RuntimeState, expiries: Expiries, nursery: trio.Nursery) -> None:
        self._state = state
        self._expiries = expiries
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
        if not session.busy:
            self._state.latencies.starting.admitted(order.run_id, trio.current_time())
        self._sessions[order.session_id] = session
        session.arriving += 1

    def _accepted(self, session: _Session, admission: Admission, submission: Submission) -> None:
        order = admission.order
        session.arriving -= 1
        submission.answer(Accepted(order.run_id, order.session_id))
        self._moved()
        if self._draining:
            return  # it stays QUEUED, like those in line
        if admission.when_busy is WhenBusy.INTERRUPT:
            for each in session.waiting:
                self._state.latencies.starting.gone(_run_id(each))  # they wait for this one now
            session.waiting.appendleft(order)
            by = CancelRequested(order.input.principal, f"interrupted by run {order.run_id}")
            if session.live is not None:
                session.live.cancel(by, _ignore)
            elif session.dormant is not None:
                self._cancel_dormant(session, session.dormant, by, _ignore)
        else:
            session.waiting.append(order)
        if session.dormant is not None:
            session.dormant.ours = True
        self._go_on(session)

    def _go_on(self, session: _Session) -> None:
        if session.can_work and not session.served and not self._draining:
            session.served = True
            self._nursery.start_soon(self._serve, session)

    def _refused(self, session: _Session, order: RunOrder, submission: Submission, error: PalyraError) -> None:
        session.arriving -= 1
        self._state.latencies.starting.gone(order.run_id)
        self._forget(session)
        self._moved()
        if isinstance(error, AlreadyThere):
            submission.answer(Accepted(order.run_id, SessionId(error.session_id), attached=True))
        else:
            submission.answer(error)

    async def _serve(self, session: _Session) -> None:
        """Run what is in line, in order, until the line is empty, a run waits for a person, or this process drains.

        Shielded, since a run is stopped through its own scope only: whoever cancels the process drains it first.
        """
        try:
            with trio.CancelScope(shield=True):
                while session.can_work and not self._draining:
                    run = await self._next(session)
                    if run is None or self._draining:
                        continue  # what was brought back too late waits on, for the next process
                    session.live, session.dormant = run, None
                    await run.execute(_drive)
                    session.live = None
                    self._state.latencies.starting.gone(run.order.run_id)
                    if run.waits:
                        asked = [call.asked for call_id in run.view.waiting() if (call := run.view.calls[call_id])]
                        still_open = {each.approval_id for each in asked if each is not None}
                        session.dormant = _Dormant(run.order.run_id, still_open, run.view.can_go_on, ours=True)
        except JournalStopped:
            return  # the gateway watches the journal and says so once
        finally:
            session.live, session.served = None, False
            self._forget(session)
            self._moved()

    async def _next(self, session: _Session) -> Run | None:
        """Return the session's next run, brought back from its tape if need be; None when that could not be.

        A disk that does not answer holds that up until this process is to stop; the run then waits on.
        """
        dormant = session.dormant
        order = session.waiting.popleft() if dormant is None else dormant.run_id
        if isinstance(order, RunOrder):
            return Run(order, self._state, self._expiries)
        brought: tuple[RunOrder, Past] | None = None
        session.opening = trio.CancelScope()
        try:
            with session.opening:
                brought = await bring_back(self._state, order)
        except JournalStopped:
            raise
        except Exception as error:
            session.dormant = None
            _log.warning("run %s could not be brought back", order, exc_info=error)
            palyra = error if isinstance(error, PalyraError) else PalyraError(f"{type(error).__name__}: {error}")
            await fail_left(self._state, order, palyra)
        if brought is None:
            return None
        known, past = brought
        run = Run(known, self._state, self._expiries, past)
        for event, seq in dormant.news if dormant is not None else ():
            if seq > run.view.seq:
                run.take(event, seq)
        return run

    def _forget(self, session: _Session) -> None:
        if not session.busy and not session.served:
            self._sessions.pop(session.session_id, None)

    # --- stopping ---

    def cancel(self, found: Run | Left, by: Principal, reason: str, settle: Settle) -> None:
        """Cancel a run, live, waiting or in line here, or left behind by another process. Raises JournalStopped.

        Wherever it is now: one that was found live may wait for a person since, and the other way round.
        """
        run, request = found.order if isinstance(found, Run) else found.run, CancelRequested(by, reason)
        session = self._sessions.get(run.session_id)
        if session is not None:
            if live := session.live_as(run.run_id):
                live.cancel(request, settle)
                return
            if dormant := session.dormant_as(run.run_id):
                self._cancel_dormant(session, dormant, request, settle)
                return
        if isinstance(found, Run):
            found.cancel(request, settle)
            return
        if session is not None:
            session.waiting = deque(order for order in session.waiting if _run_id(order) != run.run_id)
            self._state.latencies.starting.gone(run.run_id)
        end = RunFinished(found.run.state, RunState.CANCELLED, "cancelled", f"by {by}")
        cancel_ticket(self._state, run.run_id, (request, *found.loose_ends, end), settle)

    def _cancel_dormant(self, session: _Session, dormant: _Dormant, request: CancelRequested, settle: Settle) -> None:
        """Record that a waiting run is to be cancelled, and bring it back for that: it says itself how it ended."""

        def committed(rows: tuple[TapeRow, ...]) -> None:
            dormant.ready = dormant.ours = True
            self._tell(session, dormant.run_id, request, rows[-1].seq)
            settle(None)

        stream = run_stream(dormant.run_id)
        guards = (RunIn(dormant.run_id, CANCELLABLE),)
        ticket = Ticket((entry(stream, request),), guards, on_commit=committed, on_refusal=settle)
        self._state.journal.submit(ticket)

    def _tell(self, session: _Session, run_id: RunId, event: TapeEvent, seq: int) -> None:
        """Let a run know of an event that is row `seq` of its tape, wherever the run is."""
        if live := session.live_as(run_id):
            live.take(event, seq)
        elif dormant := session.dormant_as(run_id):
            dormant.news.append((event, seq))
            self._go_on(session)

    # --- waiting for a person ---

    def adopt(self, run: WaitingRun, *, ours: bool) -> None:
        """Know of a run that waits for a person since an earlier process. With `ours` it goes on once it can."""
        session = self._sessions.setdefault(run.session_id, _Session(run.session_id))
        session.dormant = _Dormant(run.run_id, set(run.open), run.granted or not run.open, ours)
        self._go_on(session)

    def line_up(self, run_id: RunId, session_id: SessionId) -> None:
        """Put a run in line that an earlier process left QUEUED."""
        session = self._sessions.setdefault(session_id, _Session(session_id))
        if run_id not in map(_run_id, session.waiting) and not session.live_as(run_id):
            session.waiting.append(run_id)
        self._go_on(session)

    def take_up(self, run: RunSummary) -> None:
        """Go on in this process with a run that an earlier one left, as far as it can."""
        session = self._sessions.get(run.session_id)
        if session is not None and (dormant := session.dormant_as(run.run_id)):
            dormant.ours = True
            self._go_on(session)
        elif run.state is RunState.QUEUED:
            self.line_up(run.run_id, run.session_id)

    def decided(self, approval: Approval, decision: ApprovalDecided, seq: int) -> None:
        """Take note of a decision that is durable, as row `seq` of the run's tape: its run goes on if it can."""
        session = self._sessions.get(approval.session_id)
        if session is None:
            return  # the run was interrupted: nobody goes on with it
        if dormant := session.dormant_as(approval.run_id):
            dormant.open.discard(approval.approval_id)
            dormant.ready = dormant.ready or not dormant.open or decision.outcome == ApprovalState.GRANTED
        self._tell(session, approval.run_id, decision, seq)

    def revoked(self, grant_id: str) -> None:
        """Stop the calls that run under a grant which is no more."""
        for run in self._live():
            run.revoke(grant_id)

    def live(self, run_id: str) -> Run | None:
        """Return the run if it is live here."""
        return next((run for run in self._live() if run.order.run_id == run_id and not run.view.terminal), None)

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
        for session in self._sessions.values():
            session.opening.cancel()
        for run in self._live():
            run.interrupt(reason)

    async def idle(self) -> None:
        """Wait until no session has work here, under way or being accepted. A run that waits for a person is no work."""
        while any(session.served or session.arriving for session in self._sessions.values()):
            await self._idle.wait()

    def _moved(self) -> None:
        """Let those who wait for idleness look again."""
        self._idle.set()
        self._idle = trio.Event()

    def _live(self) -> Sequence[Run]:
        return [session.live for session in self._sessions.values() if session.live is not None]


async def find_waiting(state: RuntimeState, sessions: Sessions, *, ours: bool) -> None:
    """Let `sessions` know of what waits for a person or in line since an earlier process.

    With `ours` they go on with it; otherwise a run in line is left there until somebody takes it up.
    """
    waiting, queued = await state.readers.ask(lambda reader: (reader.approvals.waiting_runs(), reader.queued()))
    for run in waiting:
        sessions.adopt(run, ours=ours)
    for run_id, session_id in queued if ours else ():
        sessions.line_up(run_id, session_id)


def _run_id(order: RunOrder | RunId) -> RunId:
    return order.run_id if isinstance(order, RunOrder) else order


def _ignore(_error: PalyraError | None) -> None:
    """Nobody waits for the outcome."""


async def _drive(run: Run, workspace: Workspace) -> None:
    await end_interrupted(run.state, run.order)
    await drive(run, workspace)
