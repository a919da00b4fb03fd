"""What must hold before a command goes on the bus, asked in the caller's own task: is it theirs, and does it make sense.

Starting a run and opening a session are prepared in `intake` and `opening`. What may change between the check and the
commit is checked again by the journal.
"""

import attrs

from palyra_trio.core.agents import check_agent
from palyra_trio.core.approvals import Approval, Grant
from palyra_trio.core.bindings import BindingPlace, Target, check_place
from palyra_trio.core.chain import canonical_json
from palyra_trio.core.commands import (
    ArchiveSession,
    BindAgent,
    CancelRun,
    Command,
    CreateToken,
    DecideApproval,
    DefineAgent,
    PauseAdmission,
    RenameSession,
    RevokeGrant,
    StopJob,
    TakeUpRun,
    UnbindAgent,
)
from palyra_trio.core.errors import InvalidArgument, NotFound, StateConflict
from palyra_trio.core.identity import RequestContext, SessionId
from palyra_trio.core.jobs import SessionJob
from palyra_trio.core.run import TERMINAL
from palyra_trio.core.text import clean
from palyra_trio.guard.redactor import Redactor
from palyra_trio.journal.projections import title_of
from palyra_trio.journal.queries import Reader, RunSummary
from palyra_trio.providers.choose import names_a_file
from palyra_trio.runtime.agents import recordable_agent
from palyra_trio.runtime.answers import answer_check
from palyra_trio.runtime.recovery import Left, left
from palyra_trio.runtime.runs import Run
from palyra_trio.runtime.sessions import Sessions
from palyra_trio.runtime.state import RuntimeState

Prepared = Left | Run | Approval | Grant | RunSummary | SessionJob | None


def recordable(command: Command, redactor: Redactor) -> Command:
    """Return the command as it may be recorded: what a person wrote in it redacted, all of it valid Unicode.

    Raises InvalidArgument, for a new name with a secret in it too: a name is looked up, and masked it would be another's.
    """
    match command:
        case CancelRun(reason=reason) | DecideApproval(reason=reason) | PauseAdmission(reason=reason):
            command = attrs.evolve(command, reason=redactor.recordable(reason))
        case RenameSession(title=title):
            command = attrs.evolve(command, title=title_of(redactor.recordable(title)))
        case CreateToken(name=name, principal=principal):
            check_no_secret(principal, "the principal", redactor)
            command = attrs.evolve(command, name=redactor.text(name))
        case DefineAgent(spec):
            check_no_secret(spec.name, "an agent's name", redactor)
            command = attrs.evolve(command, spec=recordable_agent(spec, redactor))
        case BindAgent(place):
            check_no_secret(place.name, f"the {place.target}", redactor)
    try:
        canonical_json(command)
    except (UnicodeEncodeError, TypeError) as error:
        raise InvalidArgument(f"the command cannot be recorded: {error}") from error
    return command


def check_no_secret(name: str, what: str, redactor: Redactor) -> None:
    """Raise InvalidArgument for a name that holds a secret, such as a key that was pasted into the wrong field."""
    if redactor.text(name) != name:
        raise InvalidArgument(f"{what} holds a secret, and would be recorded", remedy="choose another name")


async def check(state: RuntimeState, sessions: Sessions, command: Command, context: RequestContext) -> Prepared:
    """Return what the command needs to know of what it is about, or None.

    Raises Ambiguous, InvalidArgument, NotFound and StateConflict.
    """
    match command:
        case CancelRun(run_id):
            return await _cancellable(state, sessions, run_id, context)
        case DecideApproval(approval_id):
            return await state.readers.ask(lambda reader: reader.approvals.find(approval_id, context.principal))
        case RevokeGrant(grant_id):
            return await state.readers.ask(lambda reader: reader.approvals.grant(grant_id, context.principal))
        case TakeUpRun(run_id):
            return await state.readers.ask(lambda reader: reader.find_run(run_id, context.principal))
        case StopJob(job_id):
            return await state.readers.ask(lambda reader: reader.jobs.find(job_id, context.principal))
        case ArchiveSession(session_id):
            await state.readers.ask(lambda reader: check_owned(reader, session_id, context))
        case RenameSession(session_id, title):
            await state.readers.ask(lambda reader: check_owned(reader, session_id, context))
            if not title:
                raise InvalidArgument("a title has a word or more", remedy="write what the session is about")
        case DefineAgent(spec):
            check_agent(spec, state.tools.names())
            check_model(spec.model, context)
            answer_check(spec.answer_schema)
        case BindAgent(place) | UnbindAgent(place):
            await _check_bindable(state, place, context)
    return None


def check_owned(reader: Reader, session_id: SessionId, context: RequestContext) -> None:
    """Raise NotFound unless the session is the caller's: another's is not told from one that is unknown."""
    session = reader.session(session_id)
    if session is None or session.principal != context.principal:
        raise NotFound(f"there is no session {session_id}", remedy="`palyra-trio sessions list` shows them")


def check_model(model: str, context: RequestContext) -> None:
    """Raise InvalidArgument for the name of a file of this machine from anybody but its user."""
    if not context.local and names_a_file(model):
        raise InvalidArgument(f"{clean(model)!r} names a file of the daemon's machine", remedy="only its user may")


async def _cancellable(state: RuntimeState, sessions: Sessions, run_id: str, context: RequestContext) -> Left | Run:
    """Return the run: a live one at once, so that stopping it waits for no disk."""
    live = sessions.live(run_id)
    if live is not None and live.principal == context.principal:
        return live

    def read(reader: Reader) -> Left:
        run = reader.find_run(run_id, context.principal)
        if run.state in TERMINAL:
            raise StateConflict(f"run {run.run_id} is {run.state} already", remedy="there is nothing left to end")
        return left(reader, run, "cancelled")

    return await state.readers.ask(read)


async def _check_bindable(state: RuntimeState, place: BindingPlace, context: RequestContext) -> None:
    check_place(place)
    if place.target is Target.SESSION:
        await state.readers.ask(lambda reader: check_owned(reader, SessionId(place.name), context))
