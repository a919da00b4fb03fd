"""All that may be asked of the runtime, and what it answers. A refusal is a PalyraError."""

import attrs

from palyra_trio.core.agents import AgentSpec
from palyra_trio.core.bindings import BindingPlace
from palyra_trio.core.identity import RunId, SessionId
from palyra_trio.core.policy import GrantScope
from palyra_trio.core.session import Session, SessionRef, WhenBusy
from palyra_trio.core.tokens import Token


@attrs.frozen
class NewAttachment:
    """A file that comes with a message."""

    name: str
    media_type: str
    data: bytes = attrs.field(repr=False)


@attrs.frozen
class StartRun:
    """Start a run, or attach to it when `run_id` is known with the same payload.

    `attended` says that a person is there to answer; where nobody is, a call that would ask ends the run. The questions of a
    `detached` run wait for ever.
    `allowed_tools` are the tools that the person allowed for this run (`--yes-to`). An empty `agent` is the default one.
    """

    text: str
    run_id: RunId | None = None
    session: SessionRef = SessionRef()
    agent: str = ""
    model: str = ""
    workspace: str = ""
    attachments: tuple[NewAttachment, ...] = ()
    attended: bool = True
    detached: bool = False
    allowed_tools: tuple[str, ...] = ()
    when_busy: WhenBusy | None = None


@attrs.frozen
class CancelRun:
    run_id: RunId
    reason: str = ""


@attrs.frozen
class DecideApproval:
    """A person's answer. `reason` is told to the model, and is what a question is answered with.

    `scope` says for how long: this call, the session, or until `until_ms` (Unix time) in this workspace.
    """

    approval_id: str
    granted: bool
    reason: str = ""
    scope: GrantScope = "once"
    until_ms: int = 0


@attrs.frozen
class RevokeGrant:
    """End what a person allowed; a call that was allowed by it and has not started will not."""

    grant_id: str


@attrs.frozen
class TakeUpRun:
    """Go on with a run that was left in line, or that somebody has answered, in this process if it is nowhere else."""

    run_id: RunId


@attrs.frozen
class StopJob:
    """Kill a long job of a session, and all that it started."""

    job_id: str


@attrs.frozen
class PauseAdmission:
    """Take no new runs until ResumeAdmission. Those that were accepted go on."""

    reason: str = ""


@attrs.frozen
class ResumeAdmission:
    pass


@attrs.frozen
class ArchiveSession:
    session_id: SessionId


@attrs.frozen
class RenameSession:
    """Give a session another title: the first line of `title`."""

    session_id: SessionId
    title: str


@attrs.frozen
class UndoRun:
    """Take back the file changes of a finished run."""

    run_id: RunId


@attrs.frozen
class OpenSession:
    """Find the session, or open it. With `reset`, one that is there is archived, and a new one gets its key."""

    ref: SessionRef
    title: str = ""
    reset: bool = False


@attrs.frozen
class DefineAgent:
    """Define an agent. Without `replace`, a name that is taken is refused."""

    spec: AgentSpec
    replace: bool = True


@attrs.frozen
class RemoveAgent:
    agent: str


@attrs.frozen
class SetDefaultAgent:
    agent: str


@attrs.frozen
class BindAgent:
    """Let an agent answer runs that name none and belong there, in the place of one that was bound there before."""

    place: BindingPlace
    agent: str


@attrs.frozen
class UnbindAgent:
    place: BindingPlace


@attrs.frozen
class CreateToken:
    """Make a bearer token. `expires_ms` is Unix time in milliseconds, 0 for never.

    With a `token_id` (a ULID), one that was made with the same is not made again: that is refused.
    """

    name: str
    principal: str
    scopes: tuple[str, ...]
    expires_ms: int = 0
    token_id: str = ""


@attrs.frozen
class RevokeToken:
    token_id: str


@attrs.frozen
class RotateToken:
    """Make a token that opens what this one does, until when it does, and revoke this one: both or neither."""

    token_id: str


TokenCommand = CreateToken | RevokeToken | RotateToken
Command = (
    StartRun
    | CancelRun
    | DecideApproval
    | RevokeGrant
    | TakeUpRun
    | StopJob
    | PauseAdmission
    | ResumeAdmission
    | OpenSession
    | ArchiveSession
    | RenameSession
    | UndoRun
    | DefineAgent
    | RemoveAgent
    | SetDefaultAgent
    | BindAgent
    | UnbindAgent
    | TokenCommand
)


@attrs.frozen
class Accepted:
    """The run exists and is durable; `attached` when it existed before."""

    run_id: RunId
    session_id: SessionId
    attached: bool = False


@attrs.frozen
class Applied:
    """The command took effect and is durable."""


@attrs.frozen
class SessionResolved:
    """The session as it stands; `created` when it was opened just now."""

    session: Session
    created: bool


@attrs.frozen
class TokenIssued:
    """The token exists. Its `secret` is told this once."""

    token: Token
    secret: str = attrs.field(repr=False)


Reply = Accepted | Applied | SessionResolved | TokenIssued
