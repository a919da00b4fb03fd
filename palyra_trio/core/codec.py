"""Tape rows, and the way between events and the bytes that are stored.

A reader decodes by kind, ignores fields that it does not know and gives the default to those that are missing, so an
old tape stays readable.
"""

import json
from typing import Any, NamedTuple

import msgspec

from palyra_trio.core.bindings import AgentBound, AgentUnbound
from palyra_trio.core.chain import canonical_json
from palyra_trio.core.errors import JournalInvalid
from palyra_trio.core.file_events import FilesChanged
from palyra_trio.core.outputs import OutputKept
from palyra_trio.core.session_events import (
    JobEnded,
    JobOutput,
    JobStarted,
    RunUndone,
    SessionArchived,
    SessionOpened,
    SessionRenamed,
)
from palyra_trio.core.system_events import (
    AdmissionPaused,
    AdmissionResumed,
    AgentDefined,
    AgentRemoved,
    BodiesErased,
    BootStarted,
    DefaultAgentSet,
    GrantRevoked,
    LatencyBreach,
    PolicyLoaded,
)
from palyra_trio.core.tape import (
    ApprovalDecided,
    ApprovalRequested,
    CancelRequested,
    ContextAssembled,
    Correction,
    FinalAnswer,
    HostContacted,
    Input,
    KillReceipt,
    LimitReached,
    ModelDelta,
    ModelTurn,
    PolicyDecision,
    ProviderAttempt,
    ProviderError,
    ProviderRequest,
    RoutingDecision,
    RunFinished,
    RunInterrupted,
    StatusChange,
    TapeEvent,
    ToolFinished,
    ToolOutput,
    ToolProposed,
    ToolStarted,
)
from palyra_trio.core.tokens import ActedAs, TokenCreated, TokenRevoked

EVENT_CLASSES: tuple[type[TapeEvent], ...] = (
    Input, StatusChange, RunFinished, CancelRequested, RunInterrupted, LimitReached, FinalAnswer,
    RoutingDecision, ContextAssembled, ProviderRequest, ModelDelta, ModelTurn, ProviderAttempt, ProviderError, Correction,
    ToolProposed, PolicyDecision, ApprovalRequested, ApprovalDecided, ToolStarted, ToolOutput, ToolFinished, KillReceipt,
    FilesChanged, HostContacted, OutputKept,
    SessionOpened, SessionArchived, RunUndone, JobStarted, JobOutput, JobEnded, SessionRenamed,
    BootStarted, AgentDefined, AgentRemoved, DefaultAgentSet, AgentBound, AgentUnbound,
    PolicyLoaded, GrantRevoked, BodiesErased, AdmissionPaused, AdmissionResumed, LatencyBreach,
    TokenCreated, TokenRevoked, ActedAs,
)  # fmt: skip
KIND_NAMES: dict[int, str] = {cls.kind: cls.__name__ for cls in EVENT_CLASSES}
_DECODERS = {cls.kind: msgspec.json.Decoder(cls) for cls in EVENT_CLASSES}


class TapeRow(NamedTuple):
    """An event with its place: `seq` is dense within `stream` from 1, `g` within the journal.

    `body` is the stored bytes, None once erased; `event()` decodes them. A tuple, because one is made of every row that
    is read, and nothing is made faster.
    """

    g: int
    stream: str
    seq: int
    kind: int
    at_ms: int
    body: bytes | None
    hash: bytes

    def event(self) -> TapeEvent | None:
        """Return the decoded event, or None when its body was erased or its kind is newer than this code."""
        return decode(self.kind, self.body) if self.body is not None else None


def encode(event: TapeEvent) -> bytes:
    """Return the body of `event`: canonical JSON. Raises UnicodeEncodeError for lone surrogates (see core.text)."""
    return canonical_json(event)


def decode(kind: int, body: bytes) -> TapeEvent | None:
    """Return the event, or None for a kind that this code does not know. Raises JournalInvalid for a wrong body."""
    decoder = _DECODERS.get(kind)
    if decoder is None:
        return None
    try:
        return decoder.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise JournalInvalid(f"a {KIND_NAMES[kind]} body does not fit its class: {error}") from error


def plain(row: TapeRow) -> dict[str, Any]:
    """Return a row as plain values, for `--jsonl` and other readers outside this program."""
    body = msgspec.json.decode(row.body) if row.body is not None else None
    return {
        "g": row.g,
        "stream": row.stream,
        "seq": row.seq,
        "kind": KIND_NAMES.get(row.kind, str(row.kind)),
        "at_ms": row.at_ms,
        "hash": row.hash.hex(),
        "body": body,
    }


def json_line(row: TapeRow, *, ascii_only: bool = False) -> str:
    """Return a row as one JSON object, without the line's end. In ASCII it hides nothing from who reads it at a terminal."""
    return json.dumps(plain(row), ensure_ascii=ascii_only, separators=(",", ":"))
