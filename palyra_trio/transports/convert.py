"""Between protobuf messages and the values of the core, both ways, and nothing else.

What a message may not say raises InvalidArgument here; what it means is the runtime's to judge. Errors become statuses
in `refusals`.
"""

from collections.abc import Iterable
from typing import Any, TypeVar

import attrs
import msgspec

from palyra_trio.core.agents import AgentSpec, Limits
from palyra_trio.core.bindings import BindingPlace, Target
from palyra_trio.core.codec import KIND_NAMES, TapeRow
from palyra_trio.core.commands import NewAttachment, StartRun
from palyra_trio.core.errors import InvalidArgument
from palyra_trio.core.identity import Principal, RunId, Scope, SessionId
from palyra_trio.core.run import RunState
from palyra_trio.core.session import Session, SessionRef, WhenBusy
from palyra_trio.core.tape import FileChange
from palyra_trio.core.tokens import Token
from palyra_trio.journal.queries import PAGE_BYTES, RunSummary
from palyra_trio.journal.usage import Used
from palyra_trio.pb import activity_pb2, agents_pb2, runs_pb2, sessions_pb2, tape_pb2, tokens_pb2
from palyra_trio.runtime.agents import Answering, KnownAgent

BATCH_BYTES = 1024 * 1024  # of bodies: well below the 4 MiB that a client takes, and soon sent
RECENT_BODY_BYTES = 64 * 1024

K = TypeVar("K")
T = TypeVar("T")

_WHEN_BUSY: dict[runs_pb2.WhenBusy, WhenBusy | None] = {
    runs_pb2.WHEN_BUSY_UNSPECIFIED: None,
    runs_pb2.WHEN_BUSY_FOLLOWUP: WhenBusy.FOLLOWUP,
    runs_pb2.WHEN_BUSY_INTERRUPT: WhenBusy.INTERRUPT,
    runs_pb2.WHEN_BUSY_REJECT: WhenBusy.REJECT,
}
_STATES: dict[runs_pb2.RunState, RunState] = {
    runs_pb2.RUN_STATE_QUEUED: RunState.QUEUED,
    runs_pb2.RUN_STATE_RUNNING: RunState.RUNNING,
    runs_pb2.RUN_STATE_WAITING: RunState.WAITING,
    runs_pb2.RUN_STATE_DONE: RunState.DONE,
    runs_pb2.RUN_STATE_FAILED: RunState.FAILED,
    runs_pb2.RUN_STATE_CANCELLED: RunState.CANCELLED,
}
_STATE_NUMBERS = {state: number for number, state in _STATES.items()}
_SCOPES: dict[tokens_pb2.Scope, Scope] = {
    tokens_pb2.SCOPE_RUN: Scope.RUN,
    tokens_pb2.SCOPE_APPROVE: Scope.APPROVE,
    tokens_pb2.SCOPE_READ: Scope.READ,
    tokens_pb2.SCOPE_ADMIN: Scope.ADMIN,
    tokens_pb2.SCOPE_WORKER: Scope.WORKER,
}
_SCOPE_NUMBERS = {scope: number for number, scope in _SCOPES.items()}
_RULES = {
    None: agents_pb2.AGENT_RULE_DEFAULT,
    Target.SESSION: agents_pb2.AGENT_RULE_SESSION,
    Target.CHANNEL: agents_pb2.AGENT_RULE_CHANNEL,
    Target.PRINCIPAL: agents_pb2.AGENT_RULE_PRINCIPAL,
}
_PLACES = {"session_id": Target.SESSION, "channel": Target.CHANNEL, "principal": Target.PRINCIPAL}


def known(table: dict[K, T], number: K, what: str) -> T:
    """Return what the number of an enumeration stands for. Raises InvalidArgument for one that it does not have."""
    try:
        return table[number]
    except KeyError:
        raise InvalidArgument(f"{number} is no {what}", remedy="see proto/palyra/gateway/v1") from None


def cut(text: str, most_bytes: int) -> tuple[str, bool]:
    """Return as many whole characters as `most_bytes` of UTF-8 hold, and whether that is not all."""
    encoded = text.encode()
    if len(encoded) <= most_bytes:
        return text, False
    return encoded[:most_bytes].decode(errors="ignore"), True


# --- runs ---


def start_run(message: runs_pb2.StartRun) -> StartRun:
    ref = message.session
    return StartRun(
        text=message.text,
        run_id=RunId(message.run_id) if message.run_id else None,
        session=session_ref(ref.session_id, ref.key, ref.require_existing),
        agent=message.agent,
        model=message.model,
        workspace=message.workspace,
        attachments=tuple(NewAttachment(each.name, each.media_type, each.data) for each in message.attachments),
        attended=message.attended,
        detached=message.detached,
        allowed_tools=tuple(message.allowed_tools),
        when_busy=known(_WHEN_BUSY, message.when_busy, "WhenBusy"),
    )


def start_run_message(command: StartRun) -> runs_pb2.StartRun:
    ref = command.session
    return runs_pb2.StartRun(
        text=command.text,
        run_id=command.run_id or "",
        session=runs_pb2.SessionRef(
            session_id=ref.session_id or "", key=ref.key or "", require_existing=ref.require_existing
        ),
        agent=command.agent,
        model=command.model,
        workspace=command.workspace,
        attachments=[
            runs_pb2.Attachment(name=each.name, media_type=each.media_type, data=each.data)
            for each in command.attachments
        ],
        attended=command.attended,
        detached=command.detached,
        allowed_tools=command.allowed_tools,
        when_busy=next(number for number, mode in _WHEN_BUSY.items() if mode == command.when_busy),
    )


def session_ref(session_id: str, key: str, require_existing: bool) -> SessionRef:
    return SessionRef(SessionId(session_id) if session_id else None, key or None, require_existing)


def run_states(numbers: Iterable[runs_pb2.RunState]) -> tuple[RunState, ...]:
    return tuple(known(_STATES, number, "RunState") for number in numbers)


def state_number(state: RunState) -> runs_pb2.RunState:
    return _STATE_NUMBERS[state]


def run_message(run: RunSummary) -> runs_pb2.Run:
    return runs_pb2.Run(**attrs.asdict(run) | {"state": _STATE_NUMBERS[run.state]})


def run_of_message(message: runs_pb2.Run) -> RunSummary:
    return RunSummary(
        RunId(message.run_id),
        SessionId(message.session_id),
        Principal(message.principal),
        message.agent,
        message.workspace,
        message.title,
        known(_STATES, message.state, "RunState"),
        message.reason,
        message.boot_id,
        message.created_ms,
        message.updated_ms,
    )


def change_message(change: FileChange) -> runs_pb2.FileChange:
    fields = attrs.asdict(change)
    return runs_pb2.FileChange(not_kept=not fields.pop("kept"), **fields)


# --- tapes ---


def put_row(item: tape_pb2.TapeItem, run_id: str, row: TapeRow, begin: int = 0, most_bytes: int = BATCH_BYTES) -> int:
    """Fill a new item with the row, or with the part of it whose body begins at byte `begin`. Returns the body's bytes.

    An item is filled where it lies: made apart and copied it costs four times as much. Raises InvalidArgument beyond
    the body.
    """
    body = row.body
    if begin and begin >= len(body or b""):
        raise InvalidArgument(f"the body of row {row.seq} does not reach byte {begin}")
    item.run_id = run_id
    item.seq = row.seq
    item.kind = kind_name(row.kind)
    item.kind_number = row.kind
    item.at_ms = row.at_ms
    item.hash = row.hash
    item.g = row.g
    if body is None:
        return 0
    if begin or len(body) > most_bytes:
        item.more = begin + most_bytes < len(body)
        body = body[begin : begin + most_bytes]
    item.body = body
    return len(body)


def kind_name(kind: int) -> str:
    return KIND_NAMES.get(kind) or str(kind)


def fill_page(page: tape_pb2.ReadTapeResponse, rows: Iterable[TapeRow], body_offset: int) -> None:
    """Put into a page of `page.run_id` what of `rows` it holds: 2 MiB of bodies, the first from byte `body_offset` on.

    A row that does not fit with those before it is left to the next page. Raises InvalidArgument beyond the first body.
    """
    left = PAGE_BYTES
    for row in rows:
        if page.items and (page.items[-1].more or len(row.body or b"") > left):
            return
        begin = 0 if page.items else body_offset
        left -= put_row(page.items.add(), page.run_id, row, begin, PAGE_BYTES)


def journal_row(row: TapeRow) -> activity_pb2.JournalRow:
    return activity_pb2.JournalRow(
        stream=row.stream,
        seq=row.seq,
        g=row.g,
        kind=kind_name(row.kind),
        kind_number=row.kind,
        at_ms=row.at_ms,
        hash=row.hash,
        body=row.body if row.body is not None and len(row.body) <= RECENT_BODY_BYTES else None,
    )


def usage_message(principal: str, used: Used) -> activity_pb2.UsageSummaryResponse:
    return activity_pb2.UsageSummaryResponse(
        principal=principal,
        runs=used.runs,
        runs_done=used.ended.get(RunState.DONE, 0),
        runs_failed=used.ended.get(RunState.FAILED, 0),
        runs_cancelled=used.ended.get(RunState.CANCELLED, 0),
        model_turns=used.model_turns,
        tool_calls=[activity_pb2.ToolCallUsage(**attrs.asdict(tool)) for tool in used.tools],
        **attrs.asdict(used.usage),
    )


# --- sessions, agents, tokens ---


def session_message(session: Session) -> sessions_pb2.Session:
    return sessions_pb2.Session(**attrs.asdict(session))


def session_of_message(message: sessions_pb2.Session) -> Session:
    return Session(
        SessionId(message.session_id),
        Principal(message.principal),
        message.key or None,
        message.title,
        message.created_ms,
        message.archived_ms if message.HasField("archived_ms") else None,
    )


def agent_spec(message: agents_pb2.AgentSpec) -> AgentSpec:
    spec = AgentSpec(
        message.name,
        model=message.model,
        tools=tuple(dict.fromkeys(message.tools.names)) if message.HasField("tools") else None,
        limits=_limits(message.limits),
        answer_schema=_schema(message.answer_schema_json) if message.answer_schema_json else None,
    )
    return attrs.evolve(spec, instructions=message.instructions) if message.instructions else spec


def _limits(message: agents_pb2.Limits) -> Limits:
    return Limits(message.turns, message.tool_calls, message.active_s, message.tool_s)


def _schema(text: str) -> dict[str, Any]:
    try:
        return msgspec.json.decode(text, type=dict[str, Any])
    except (ValueError, RecursionError) as error:
        raise InvalidArgument(f"answer_schema_json holds no JSON object: {error}") from error


def agent_message(agent: KnownAgent) -> agents_pb2.Agent:
    return agents_pb2.Agent(
        spec=agent_spec_message(agent.spec),
        is_default=agent.is_default,
        limits=agents_pb2.Limits(**attrs.asdict(agent.limits)),
    )


def agent_of_message(message: agents_pb2.Agent) -> KnownAgent:
    return KnownAgent(agent_spec(message.spec), _limits(message.limits), message.is_default)


def agent_spec_message(spec: AgentSpec) -> agents_pb2.AgentSpec:
    schema = spec.answer_schema
    return agents_pb2.AgentSpec(
        name=spec.name,
        model=spec.model,
        instructions=spec.instructions,
        tools=agents_pb2.ToolNames(names=spec.tools) if spec.tools is not None else None,
        limits=agents_pb2.Limits(**attrs.asdict(spec.limits)),
        answer_schema_json="" if schema is None else msgspec.json.encode(schema).decode(),
    )


def answering_message(answering: Answering) -> agents_pb2.ResolveAgentResponse:
    return agents_pb2.ResolveAgentResponse(agent=agent_message(answering.agent), rule=_RULES[answering.bound_to])


def binding_place(message: agents_pb2.BindingTarget) -> BindingPlace:
    which = message.WhichOneof("target")
    if which is None:
        raise InvalidArgument("the target is missing", remedy="name a session_id, a channel or a principal")
    return BindingPlace(_PLACES[which], getattr(message, which))


def scopes(numbers: Iterable[tokens_pb2.Scope]) -> tuple[Scope, ...]:
    return tuple(known(_SCOPES, number, "Scope") for number in numbers)


def token_message(token: Token) -> tokens_pb2.Token:
    return tokens_pb2.Token(
        token_id=token.token_id,
        name=token.name,
        principal=token.principal,
        scopes=[_SCOPE_NUMBERS[scope] for scope in token.scopes],
        created_ms=token.created_ms,
        created_by=token.created_by,
        expires_ms=token.expires_ms,
        revoked_ms=token.revoked_ms,
    )


def scope_numbers(scopes: Iterable[str]) -> list[tokens_pb2.Scope]:
    return [_SCOPE_NUMBERS[Scope(scope)] for scope in scopes]


def token_of_message(message: tokens_pb2.Token) -> Token:
    """Return a token as another process tells of it: without the hash of its secret."""
    return Token(
        message.token_id,
        message.name,
        Principal(message.principal),
        scopes(message.scopes),
        "",
        message.expires_ms,
        message.created_ms,
        message.created_by,
        message.revoked_ms if message.HasField("revoked_ms") else None,
    )
