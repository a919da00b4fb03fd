"""The events of a tape. Each kind has a number and a name for ever, and a body that says its version `v`.

A body is the canonical JSON of its class below (see core.codec, which lists all classes); the class's name is the
kind's name. Those of sessions, the system, tokens and bindings have modules of their own. docs/tape.md is the specification; numbers that
are missing are reserved there.
"""

from typing import Any, ClassVar

import attrs

from palyra_trio.core.agents import AgentSpec
from palyra_trio.core.messages import Attachment, FinishReason, ToolCall, Usage
from palyra_trio.core.policy import GrantScope, Pattern
from palyra_trio.core.run import RunState

RUN_STREAM = "run:"
SESSION_STREAM = "session:"
SYSTEM_STREAM = "system"


def run_stream(run_id: str) -> str:
    return RUN_STREAM + run_id


@attrs.frozen
class TapeEvent:
    """The base of every event. `kind` is its number in the format."""

    kind: ClassVar[int] = 0


@attrs.frozen
class FileChange:
    """A file that a call changes: the blobs of its bytes before and after; None where there is no file.

    What a program did is told with the modes of stat(2), kind and permissions: a symlink's content is its target, a
    folder's is empty. A mode of 0 is a regular file's whose permissions are not told. Contents that were not `kept` are no
    blobs, only digests, or "" where even that was not taken.
    """

    path: str
    before: str | None
    after: str | None
    before_mode: int = 0
    after_mode: int = 0
    kept: bool = True


# --- a run: what it was asked, and its life ---


@attrs.frozen
class Input(TapeEvent):
    """What a run was asked, by whom, from where. The first event of a run's tape.

    `payload_digest` is the digest of all that the caller sent, so that a repeated run id can be told from a reused one.
    `model` is the one that was asked for, or "". A question of an `attended` run expires unless the run is `detached`; one that
    is not attended ends at its first question. A `confined` run came from another machine or user.
    """

    kind: ClassVar[int] = 1
    session_id: str
    principal: str
    device: str
    channel: str
    text: str
    payload_digest: str
    attachments: tuple[Attachment, ...] = ()
    agent: AgentSpec = AgentSpec("default")
    workspace: str = ""
    attended: bool = True
    allowed_tools: tuple[str, ...] = ()
    model: str = ""
    detached: bool = False
    confined: bool = False
    v: int = 1


@attrs.frozen
class StatusChange(TapeEvent):
    """The run moved. `reason` says why it waits, such as `approval` or `interrupted`."""

    kind: ClassVar[int] = 2
    before: RunState
    after: RunState
    reason: str = ""
    boot_id: str = ""
    v: int = 1


@attrs.frozen
class RunFinished(TapeEvent):
    """The last event of a run's tape. `reason` is a stable word, `detail` says it to a person."""

    kind: ClassVar[int] = 3
    before: RunState
    state: RunState
    reason: str
    detail: str = ""
    v: int = 1


@attrs.frozen
class CancelRequested(TapeEvent):
    kind: ClassVar[int] = 4
    by: str
    reason: str = ""
    v: int = 1


@attrs.frozen
class RunInterrupted(TapeEvent):
    """The process that ran the run has gone: `boot_id` is the one that found it so, or that was draining."""

    kind: ClassVar[int] = 5
    boot_id: str
    reason: str = ""
    v: int = 1


@attrs.frozen
class LimitReached(TapeEvent):
    """A limit that ends the run: one of the fields of `Limits`, and its value."""

    kind: ClassVar[int] = 6
    limit: str
    value: int
    v: int = 1


@attrs.frozen
class FinalAnswer(TapeEvent):
    """The answer, after the final-answer contract held. `provider` says who gave it, a model or fixed rules."""

    kind: ClassVar[int] = 7
    text: str
    provider: str
    model: str
    finish: FinishReason = "stop"
    usage: Usage = Usage()
    v: int = 1


# --- a model turn ---


@attrs.frozen
class RoutingDecision(TapeEvent):
    """Which model answers this run, and why that one."""

    kind: ClassVar[int] = 16
    provider: str
    model: str
    why: str
    v: int = 1


@attrs.frozen
class ContextAssembled(TapeEvent):
    """What the model is shown before this run's own messages.

    `messages` are the digests of the canonical JSON of each, in order: first the system message, then history from
    the tapes `runs` of the same session, oldest first. `omitted_runs` older ones did not fit in `budget_bytes`.
    `tainted` when words of strangers are among them.
    """

    kind: ClassVar[int] = 17
    messages: tuple[str, ...]
    runs: tuple[str, ...]
    omitted_runs: int
    budget_bytes: int
    tainted: bool = False
    v: int = 1


@attrs.frozen
class ProviderRequest(TapeEvent):
    """A model call is about to be made.

    Its messages are the first `kept` of the previous request's (of ContextAssembled's, for the first), then those
    with the digests `added`. `tools` is the digest of the tool definitions that were offered.
    """

    kind: ClassVar[int] = 18
    turn: int
    kept: int
    added: tuple[str, ...]
    tools: str
    v: int = 1


@attrs.frozen
class ModelDelta(TapeEvent):
    """Text of the answer as it arrived, as much as came while the previous commit was under way."""

    kind: ClassVar[int] = 19
    turn: int
    text: str
    v: int = 1


@attrs.frozen
class ModelTurn(TapeEvent):
    """The whole of a model's turn, after redaction. Its proposed calls follow as ToolProposed."""

    kind: ClassVar[int] = 20
    turn: int
    text: str
    finish: FinishReason
    usage: Usage
    model: str
    calls: int = 0
    v: int = 1


@attrs.frozen
class ProviderAttempt(TapeEvent):
    """A model call failed before its first delta and will be made again after `wait_ms`."""

    kind: ClassVar[int] = 21
    turn: int
    attempt: int
    failure: str
    message: str
    wait_ms: int
    v: int = 1


@attrs.frozen
class ProviderError(TapeEvent):
    """A model call failed, and the run with it."""

    kind: ClassVar[int] = 22
    turn: int
    failure: str
    message: str
    remedy: str = ""
    v: int = 1


@attrs.frozen
class Correction(TapeEvent):
    """The answer broke the final-answer contract; `text` is what the model is told, once."""

    kind: ClassVar[int] = 23
    text: str
    v: int = 1


# --- a tool call ---


@attrs.frozen
class ToolProposed(TapeEvent):
    """The model wants this call. Calls are numbered in the order in which it named them, by their place on the tape."""

    kind: ClassVar[int] = 32
    call: ToolCall
    v: int = 1


@attrs.frozen
class PolicyDecision(TapeEvent):
    """What the gate said of a call: `allow`, `deny` or `ask`, and why in words.

    `rule` names the policies that decided, separated by commas, or the check that failed before any was asked.
    `facts` are what they were asked about (core.policy.plain_facts), so that another set can be asked the same.
    """

    kind: ClassVar[int] = 33
    call_id: str
    outcome: str
    rule: str
    reason: str
    arguments_digest: str
    policy_hash: str = ""
    facts: dict[str, Any] | None = None
    tainted: bool = False
    v: int = 1


@attrs.frozen
class ApprovalRequested(TapeEvent):
    """A person is asked. `prompt` is exactly what the person is shown. `expires_at_ms` 0 means never.

    `binding` is the digest of all that the answer is bound to (core.policy.binding). With a `pattern` the person may allow
    more than this one call. A `question` is the tool's own: the person's words are its result.
    """

    kind: ClassVar[int] = 34
    approval_id: str
    call_id: str
    prompt: str
    expires_at_ms: int = 0
    tool: str = ""
    binding: str = ""
    pattern: Pattern | None = None
    question: bool = False
    v: int = 1


@attrs.frozen
class ApprovalDecided(TapeEvent):
    """`outcome` is `granted`, `denied`, `expired` or `withdrawn`; `reason` is told to the model, or answers the question.

    `scope` is `once`, or `session` or `time`: then a grant with the approval's id stands, a timed one until `until_ms`.
    """

    kind: ClassVar[int] = 35
    approval_id: str
    call_id: str
    outcome: str
    by: str
    reason: str = ""
    scope: GrantScope = "once"
    until_ms: int = 0
    v: int = 1


@attrs.frozen
class ToolStarted(TapeEvent):
    """The intent, durable before the effect. `changes` are the files that it will change.

    `grant` is the approval or standing grant that it was started under, or ""; `sandbox_tier` the least that it runs in, 0
    for the daemon's own process. `uncaptured` says why what its program changes will not be on the tape, "" where it will.
    """

    kind: ClassVar[int] = 36
    call_id: str
    idempotency_key: str
    changes: tuple[FileChange, ...] = ()
    grant: str = ""
    sandbox_tier: int = 0
    uncaptured: str = ""
    v: int = 1


@attrs.frozen
class ToolOutput(TapeEvent):
    """Output of a running call, of `stdout` or `stderr`, as much as came while the previous commit was under way.

    For watching only, and only so far: what counts is ToolFinished.
    """

    kind: ClassVar[int] = 37
    call_id: str
    stream: str
    text: str
    v: int = 1


@attrs.frozen
class ToolFinished(TapeEvent):
    """The result. `text` is what the model is told; where that is an excerpt, blob `output` holds all `size_bytes`, or
    the blobs of OutputKept (core.outputs) do.

    `error` is empty or a stable code. `untrusted` text may be the words of strangers. A denied call ends with PolicyDecision or ApprovalDecided, not with this.
    """

    kind: ClassVar[int] = 38
    call_id: str
    text: str
    elapsed_ms: int
    error: str = ""
    output: str | None = None
    size_bytes: int = 0
    untrusted: bool = False
    v: int = 1


@attrs.frozen
class KillReceipt(TapeEvent):
    """The processes of a call were killed: how many were seen, how many are still alive (there must be none), how fast."""

    kind: ClassVar[int] = 40
    call_id: str
    pids_seen: int
    survivors: int
    elapsed_ms: int
    v: int = 1


@attrs.frozen
class HostContacted(TapeEvent):
    """What the program of a call had to do with a host through the proxy, told when it has ended.

    `connections` are those that were made, or, where they were not `allowed`, asked for. The bytes went to the host and
    came back from it. Without a port `host` is what was asked for and is none; an empty one stands for all others.
    """

    kind: ClassVar[int] = 42
    call_id: str
    host: str
    port: int
    allowed: bool
    connections: int
    sent_bytes: int = 0
    received_bytes: int = 0
    v: int = 1
