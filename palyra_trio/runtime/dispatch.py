"""What a command does when it comes off the bus: sync, at once, and what it changes goes to the journal.

Whether the caller may was asked before, in `checks`, `intake` and `opening`; what two commands contradict in is the
journal's to refuse.
"""

from palyra_trio.core.approvals import Approval, Grant
from palyra_trio.core.bindings import AgentBound, AgentUnbound
from palyra_trio.core.codec import TapeRow
from palyra_trio.core.commands import (
    Applied,
    ArchiveSession,
    BindAgent,
    CancelRun,
    CreateToken,
    DecideApproval,
    DefineAgent,
    OpenSession,
    PauseAdmission,
    RemoveAgent,
    RenameSession,
    ResumeAdmission,
    RevokeGrant,
    RevokeToken,
    RotateToken,
    SetDefaultAgent,
    StartRun,
    StopJob,
    TakeUpRun,
    UnbindAgent,
)
from palyra_trio.core.errors import PalyraError
from palyra_trio.core.jobs import SessionJob
from palyra_trio.core.session_events import SessionArchived, SessionRenamed
from palyra_trio.core.system_events import (
    AdmissionPaused,
    AdmissionResumed,
    AgentDefined,
    AgentRemoved,
    DefaultAgentSet,
)
from palyra_trio.core.tape import SESSION_STREAM, SYSTEM_STREAM, TapeEvent
from palyra_trio.journal.guards import AgentIsNew, Guard, SessionIsIdle
from palyra_trio.journal.queries import RunSummary
from palyra_trio.journal.store import entry
from palyra_trio.journal.writer import Ticket
from palyra_trio.runtime.admission_control import AdmissionControl
from palyra_trio.runtime.approvals import Approvals, decision_of
from palyra_trio.runtime.bus import Submission
from palyra_trio.runtime.opening import Opening
from palyra_trio.runtime.recovery import Left
from palyra_trio.runtime.runs import Run, Settle
from palyra_trio.runtime.sessions import Admission, Sessions
from palyra_trio.runtime.state import RuntimeState
from palyra_trio.runtime.tokens import Tokens


class Dispatch:
    """Carries out what the bus hands it: `Bus.route(dispatch.route)`."""

    def __init__(
        self,
        state: RuntimeState,
        admission: AdmissionControl,
        sessions: Sessions,
        approvals: Approvals,
        tokens: Tokens,
    ) -> None:
        self._state = state
        self._admission = admission
        self._sessions = sessions
        self._approvals = approvals
        self._tokens = tokens

    def route(self, submission: Submission) -> None:
        """Set the command going; the submission is answered once it is durable. Raises PalyraError: the refusal."""
        command, by = submission.command, submission.context.principal
        settle = _settle(submission)
        match command:
            case StartRun():
                assert isinstance(submission.prepared, Admission)
                self._admission.check()
                self._sessions.admit(submission, submission.prepared)
            case CancelRun():
                assert isinstance(submission.prepared, Run | Left)
                self._sessions.cancel(submission.prepared, by, command.reason, settle)
            case DecideApproval():
                assert isinstance(submission.prepared, Approval)
                now_ms = int(self._state.now_s() * 1000)
                decision = decision_of(submission.prepared, command, by, now_ms)
                self._approvals.decide(submission.prepared, decision, settle)
            case RevokeGrant():
                assert isinstance(submission.prepared, Grant)
                self._approvals.revoke(submission.prepared, by, settle)
            case TakeUpRun():
                assert isinstance(submission.prepared, RunSummary)
                self._sessions.take_up(submission.prepared)
                settle(None)
            case StopJob():
                assert isinstance(submission.prepared, SessionJob)
                self._state.jobs.stop(submission.prepared.job_id, by, settle)
            case PauseAdmission(reason):
                self._admission.change(AdmissionPaused(by, reason), settle)
            case ResumeAdmission():
                self._admission.change(AdmissionResumed(by), settle)
            case OpenSession():
                assert isinstance(submission.prepared, Opening)
                self._open(submission, submission.prepared)
            case ArchiveSession(session_id):
                archived, idle = SessionArchived(session_id, by), SessionIsIdle(session_id)
                self._record(SESSION_STREAM + session_id, archived, self._jobs_over(session_id, settle), idle)
            case RenameSession(session_id, title):
                self._record(SESSION_STREAM + session_id, SessionRenamed(session_id, title, by), settle)
            case DefineAgent(spec, replace):
                guards = () if replace else (AgentIsNew(spec.name),)
                self._record(SYSTEM_STREAM, AgentDefined(spec, by), settle, *guards)
            case RemoveAgent(agent):
                self._record(SYSTEM_STREAM, AgentRemoved(agent, by), settle)
            case SetDefaultAgent(agent):
                self._record(SYSTEM_STREAM, DefaultAgentSet(agent, by), settle)
            case BindAgent(place, agent):
                self._record(SYSTEM_STREAM, AgentBound(place.target, place.name, agent, by), settle)
            case UnbindAgent(place):
                self._record(SYSTEM_STREAM, AgentUnbound(place.target, place.name, by), settle)
            case CreateToken() | RevokeToken() | RotateToken():
                self._tokens.carry_out(command, by, submission.answer)

    def _record(self, stream: str, event: TapeEvent, settle: Settle, *guards: Guard) -> None:
        ticket = Ticket((entry(stream, event),), guards, on_commit=lambda _rows: settle(None), on_refusal=settle)
        self._state.journal.submit(ticket)

    def _open(self, submission: Submission, opening: Opening) -> None:
        def opened(rows: tuple[TapeRow, ...]) -> None:
            def settle(_error: PalyraError | None) -> None:
                submission.answer(opening.result(rows))

            (self._jobs_over(opening.replaced, settle) if opening.replaced else settle)(None)

        ticket = Ticket(opening.entries, opening.guards, on_commit=opened, on_refusal=submission.answer)
        self._state.journal.submit(ticket)

    def _jobs_over(self, session_id: str, settle: Settle) -> Settle:
        """Return what settles once the jobs of a session are dead, when it has been archived."""

        def archived(error: PalyraError | None) -> None:
            if error is None:
                self._state.jobs.end_session(session_id, settle)
            else:
                settle(error)

        return archived


def _settle(submission: Submission) -> Settle:
    def settle(error: PalyraError | None) -> None:
        submission.answer(error if error is not None else Applied())

    return settle
