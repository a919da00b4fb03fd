"""From a StartRun command to an admission: everything that is checked before a run is accepted, in the caller's task."""

import attrs

from palyra_trio.core.agents import DEFAULT_AGENT, AgentSpec
from palyra_trio.core.chain import canonical_json, digest
from palyra_trio.core.commands import NewAttachment, StartRun
from palyra_trio.core.errors import DiskLow, InvalidArgument, NotFound
from palyra_trio.core.identity import RequestContext, RunId, SessionId, parse_ulid
from palyra_trio.core.messages import Attachment
from palyra_trio.core.session import Session, WhenBusy, resolve
from palyra_trio.core.tape import (
    SESSION_STREAM,
    Input,
    SessionOpened,
    run_stream,
)
from palyra_trio.core.text import clean
from palyra_trio.journal.projections import title_of
from palyra_trio.journal.queries import Reader
from palyra_trio.journal.store import Entry, entry
from palyra_trio.runtime.answers import answer_check
from palyra_trio.runtime.runs import RunOrder
from palyra_trio.runtime.sessions import Admission
from palyra_trio.runtime.state import RuntimeState


async def prepare(state: RuntimeState, command: StartRun, context: RequestContext) -> Admission:
    """Check a StartRun and return what its acceptance will write. A run id that is taken is the writer's to judge.

    Raises DiskLow, InvalidArgument, NotFound, NotOwner, SessionConflict, StateConflict, WorkspaceRefused, and what
    the choice of a model raises (ConfigInvalid, ProviderError). Nothing is written, and a cancel leaves nothing.
    """
    _check_disk(state)
    _check_attachments(state, command.attachments)
    if not command.text.strip() and not command.attachments:
        raise InvalidArgument("the prompt is empty", remedy="say what is to be done")
    ref = command.session
    spec, found = await state.readers.ask(
        lambda reader: (_agent(state, reader, command.agent), _session(reader, command, context))
    )
    choice = await state.choose(command.model or spec.model)
    problem_with = answer_check(spec.answer_schema)
    state.open_workspace(command.workspace).close()

    run_id = RunId(parse_ulid(command.run_id, "run id") if command.run_id else state.new_id())
    session_id = found.session_id if found is not None else SessionId(state.new_id())
    redact = state.redactor.text
    text = redact(clean(command.text))
    event = Input(
        session_id=session_id,
        principal=context.principal,
        device=clean(context.device),
        channel=clean(context.channel),
        text=text,
        payload_digest=_payload_digest(command, text),
        attachments=tuple(_attachment(each) for each in command.attachments),
        agent=spec,
        workspace=clean(command.workspace),
        attended=command.attended,
        allowed_tools=command.allowed_tools,
    )
    entries: list[Entry] = []
    if found is None:
        opened = SessionOpened(session_id, context.principal, ref.key, title_of(text))
        entries.append(entry(SESSION_STREAM + session_id, opened))
    entries.append(entry(run_stream(run_id), event))
    order = RunOrder(run_id, session_id, event, choice, problem_with, past_runs=found is not None)
    blobs = tuple(
        (attachment.digest, each.data) for attachment, each in zip(event.attachments, command.attachments, strict=True)
    )
    return Admission(order, tuple(entries), blobs, command.when_busy or WhenBusy(state.config.session.when_busy))


def _agent(state: RuntimeState, reader: Reader, name: str) -> AgentSpec:
    agents = reader.agents()
    for spec, is_default in agents:
        if spec.name == name or (is_default and not name):
            return spec
    if name and name != DEFAULT_AGENT.name:
        known = ", ".join([DEFAULT_AGENT.name, *(spec.name for spec, _ in agents)])
        raise NotFound(f"there is no agent {name!r}", remedy=f"the agents are {known}")
    return attrs.evolve(DEFAULT_AGENT, limits=state.config.limits)


def _session(reader: Reader, command: StartRun, context: RequestContext) -> Session | None:
    ref = command.session
    by_id = reader.session(ref.session_id) if ref.session_id else None
    by_key = reader.session_by_key(context.principal, ref.key) if ref.key else None
    return resolve(ref, by_id, by_key, context.principal)


def _check_disk(state: RuntimeState) -> None:
    free, least = state.free_bytes(), state.config.journal.min_free_bytes
    if free < least:
        raise DiskLow(
            f"only {free // 2**20} MiB are free where the journal lies, and {least // 2**20} MiB must be",
            remedy="free some space, or lower journal.min_free_bytes",
        )


def _check_attachments(state: RuntimeState, attachments: tuple[NewAttachment, ...]) -> None:
    limits = state.config.attachments
    if len(attachments) > limits.max_count:
        raise InvalidArgument(f"{len(attachments)} attachments, and at most {limits.max_count} are taken")
    for each in attachments:
        if len(each.data) > limits.max_bytes:
            raise InvalidArgument(
                f"attachment {each.name} has {len(each.data)} bytes, and at most {limits.max_bytes} are taken"
            )


def _attachment(each: NewAttachment) -> Attachment:
    return Attachment(clean(each.name), each.media_type, len(each.data), digest(each.data))


def _payload_digest(command: StartRun, text: str) -> str:
    """Return the digest of what was asked, so that a repeated request can be told from another one with the same id."""
    attachments = [attrs.asdict(_attachment(each)) for each in command.attachments]
    return digest(
        canonical_json(
            {
                "agent": clean(command.agent),
                "attachments": attachments,
                "key": clean(command.session.key or ""),
                "model": clean(command.model),
                "session": command.session.session_id,
                "text": text,
                "workspace": clean(command.workspace),
            }
        )
    )
