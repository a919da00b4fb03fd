"""All that may be asked of the runtime, and what it answers. A refusal is a PalyraError."""

import attrs

from palyra_trio.core.agents import AgentSpec
from palyra_trio.core.identity import RunId, SessionId
from palyra_trio.core.session import SessionRef, WhenBusy


@attrs.frozen
class NewAttachment:
    """A file that comes with a message."""

    name: str
    media_type: str
    data: bytes = attrs.field(repr=False)


@attrs.frozen
class StartRun:
    """Start a run, or attach to it when `run_id` is known with the same payload.

    `attended` says that a person is there to answer; where nobody is, a call that would ask ends the run.
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
    allowed_tools: tuple[str, ...] = ()
    when_busy: WhenBusy | None = None


@attrs.frozen
class CancelRun:
    run_id: RunId
    reason: str = ""


@attrs.frozen
class DecideApproval:
    """A person's answer. `reason` is told to the model."""

    approval_id: str
    granted: bool
    reason: str = ""


@attrs.frozen
class ArchiveSession:
    session_id: SessionId


@attrs.frozen
class UndoRun:
    """Take back the file changes of a finished run."""

    run_id: RunId


@attrs.frozen
class DefineAgent:
    spec: AgentSpec


@attrs.frozen
class RemoveAgent:
    agent: str


@attrs.frozen
class SetDefaultAgent:
    agent: str


Command = StartRun | CancelRun | DecideApproval | ArchiveSession | UndoRun | DefineAgent | RemoveAgent | SetDefaultAgent


@attrs.frozen
class Accepted:
    """The run exists and is durable; its tape starts at `from_seq`. `attached` when it existed before."""

    run_id: RunId
    session_id: SessionId
    from_seq: int = 1
    attached: bool = False


@attrs.frozen
class Applied:
    """The command took effect and is durable."""


Reply = Accepted | Applied
