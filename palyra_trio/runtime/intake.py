"""From a StartRun command to an admission: everything that is checked before a run is accepted, in the caller's task."""

import os
from fnmatch import filter as fnmatching

import attrs

from palyra_trio.core.agents import Limits
from palyra_trio.core.chain import canonical_json, digest
from palyra_trio.core.commands import Accepted, NewAttachment, StartRun
from palyra_trio.core.config import Config
from palyra_trio.core.errors import DiskLow, InvalidArgument, NotFound, RunConflict
from palyra_trio.core.identity import RequestContext, RunId, SessionId, parse_ulid
from palyra_trio.core.messages import Attachment
from palyra_trio.core.session import Session
from palyra_trio.core.session_events import SessionOpened
from palyra_trio.core.tape import RUN_STREAM, SESSION_STREAM, Input, run_stream
from palyra_trio.core.text import clean, name_to_text
from palyra_trio.core.workspaces import check_workspace
from palyra_trio.journal.projections import title_of
from palyra_trio.journal.queries import Reader
from palyra_trio.journal.store import Entry, entry
from palyra_trio.runtime.agents import KnownAgent, answering, find_agent, known_agents, recordable_agent
from palyra_trio.runtime.answers import answer_check
from palyra_trio.runtime.checks import check_model, check_no_secret
from palyra_trio.runtime.opening import find_session
from palyra_trio.runtime.runs import RunOrder
from palyra_trio.runtime.sessions import Admission
from palyra_trio.runtime.state import RuntimeState

WHOLE_PATH = "give the whole path of a folder that exists, such as /home/me/project"


async def attach(state: RuntimeState, command: StartRun, context: RequestContext) -> Accepted | None:
    """Return the run that has the command's id, so that repeating a request does not depend on what has changed since.

    Raises RunConflict when that run is another principal's, was asked something else, or its Input was erased. A run id
    that is taken only now is the writer's to judge.
    """
    if command.run_id is None:
        return None
    stream = run_stream(parse_ulid(command.run_id, "run id"))
    command = _recordable(state, command)
    rows = await state.readers.ask(lambda reader: reader.page(stream, 0, most=1))
    if not rows:
        return None
    known = rows[0].event()
    if not isinstance(known, Input):
        raise RunConflict(
            f"what run {command.run_id} was asked was erased, so that nobody can tell if this is the same",
            remedy="ask under another id or key",
        )
    asked = (context.principal, _payload_digest(command))
    if (known.principal, known.payload_digest) != asked:
        raise RunConflict(f"run {command.run_id} exists with another payload", remedy="ask under another id or key")
    return Accepted(RunId(stream.removeprefix(RUN_STREAM)), SessionId(known.session_id), attached=True)


async def prepare(state: RuntimeState, command: StartRun, context: RequestContext) -> Admission:
    """Check a StartRun and return what its acceptance will write.

    Raises DiskLow, InvalidArgument, NotFound, SessionConflict, StateConflict, WorkspaceRefused, and what
    the choice of a model raises (ConfigInvalid, ProviderError). Nothing is written, and a cancel leaves nothing.
    """
    command = _recordable(state, command)
    if not command.text.strip() and not command.attachments:
        raise InvalidArgument("the prompt is empty", remedy="say what is to be done")
    if not command.workspace:
        raise InvalidArgument("no workspace is named", remedy="name the folder that the run is to work in")
    workspace, config = await state.look(lambda: _on_disk(state, command.workspace, context))
    _check_attachments(config, command.attachments)
    _check_allowed(state.tools.names(), command.allowed_tools)
    ref = command.session
    agent, found = await state.readers.ask(lambda reader: _agent_and_session(config.limits, reader, command, context))
    spec = attrs.evolve(recordable_agent(agent.spec, state.redactor), limits=agent.limits)
    check_model(command.model, context)
    choice = await state.choose(command.model or spec.model or config.model.name, config.model.base_url)
    problem_with = answer_check(spec.answer_schema)

    run_id = RunId(parse_ulid(command.run_id, "run id") if command.run_id else state.new_id())
    session_id = found.session_id if found is not None else SessionId(state.new_id())
    event = Input(
        session_id=session_id,
        principal=context.principal,
        device=clean(context.device),
        channel=clean(context.channel),
        text=command.text,
        payload_digest=_payload_digest(command),
        attachments=tuple(_attachment(each) for each in command.attachments),
        agent=spec,
        workspace=workspace,
        attended=command.attended,
        allowed_tools=command.allowed_tools,
        model=command.model,
        detached=command.detached,
        confined=not context.local,
    )
    entries: list[Entry] = []
    if found is None:
        check_no_secret(ref.key or "", "the session key", state.redactor)
        opened = SessionOpened(session_id, context.principal, ref.key, title_of(command.text))
        entries.append(entry(SESSION_STREAM + session_id, opened))
    entries.append(entry(run_stream(run_id), event))
    order = RunOrder(run_id, session_id, event, config, choice, problem_with, past_runs=found is not None)
    blobs = tuple(
        (attachment.digest, each.data) for attachment, each in zip(event.attachments, command.attachments, strict=True)
    )
    return Admission(order, tuple(entries), blobs, command.when_busy or config.session.when_busy)


def _check_allowed(tools: tuple[str, ...], allowed: tuple[str, ...]) -> None:
    for each in allowed:
        if not fnmatching(tools, each):
            raise InvalidArgument(
                f"there is no tool {each!r} to allow with the run", remedy=f"the tools are {', '.join(tools)}"
            )


def _recordable(state: RuntimeState, command: StartRun) -> StartRun:
    """Return the command as it may be recorded, but for its paths and what is in its files, which have rules of their own."""
    ref, recordable = command.session, state.redactor.recordable
    return attrs.evolve(
        command,
        text=recordable(command.text),
        model=recordable(command.model),
        agent=clean(command.agent),
        session=attrs.evolve(
            ref,
            session_id=SessionId(clean(ref.session_id)) if ref.session_id is not None else None,
            key=clean(ref.key) if ref.key is not None else None,
        ),
        attachments=tuple(
            attrs.evolve(each, name=recordable(each.name), media_type=recordable(each.media_type))
            for each in command.attachments
        ),
        allowed_tools=tuple(map(clean, command.allowed_tools)),
    )


def _on_disk(state: RuntimeState, folder: str, context: RequestContext) -> tuple[str, Config]:
    """Return the workspace, and what is configured for a run in it. In a thread; raises what `prepare` does."""
    _check_disk(state)
    workspace = _workspace(state, folder, context)
    return workspace, state.config_in(workspace) if context.local else state.config


def _workspace(state: RuntimeState, folder: str, context: RequestContext) -> str:
    """Return `folder` as a tape spells it, once it was opened. Raises InvalidArgument and WorkspaceRefused."""
    check_no_secret(clean(folder), "the workspace's path", state.redactor)
    try:
        found = permitted(state, folder, context)
        if not os.path.isabs(found):
            raise InvalidArgument(
                f"the run's folder {clean(folder)!r} is not named by its whole path", remedy=WHOLE_PATH
            )
        spelled = name_to_text(os.fsencode(found))
        state.open_workspace(spelled).close()
    except NotFound as error:
        raise InvalidArgument(
            f"there is no folder {clean(folder)!r} for the run to work in", remedy=WHOLE_PATH
        ) from error
    except ValueError as error:
        raise InvalidArgument(f"the workspace {clean(folder)!r} is no path: {error}") from error
    return spelled


def permitted(state: RuntimeState, folder: str, context: RequestContext) -> str:
    """Return the folder that a run of this caller works in: `folder` itself, for others than the local user resolved.

    Raises WorkspaceRefused for a folder that is not one of the principal's, whether it exists or not.
    """
    if context.local:
        return folder
    resolved = os.path.realpath(folder) if os.path.isabs(folder) else folder
    roots = [os.path.realpath(root) for root in state.config.workspaces.roots.get(context.principal, ())]
    check_workspace(resolved, roots, os.path.realpath(state.state_dir), context)
    return resolved


def _agent_and_session(
    limits: Limits, reader: Reader, command: StartRun, context: RequestContext
) -> tuple[KnownAgent, Session | None]:
    found = find_session(reader, command.session, context)
    if command.agent:
        return find_agent(known_agents(reader.agents(), limits), command.agent), found
    session_id = found.session_id if found is not None else None
    return answering(reader, limits, context, session_id).agent, found


def _check_disk(state: RuntimeState) -> None:
    free, least = state.free_bytes(), state.config.journal.min_free_bytes
    if free < least:
        raise DiskLow(
            f"only {free // 2**20} MiB are free where the journal lies, and {least // 2**20} MiB must be",
            remedy="free some space, or lower journal.min_free_bytes",
        )


def _check_attachments(config: Config, attachments: tuple[NewAttachment, ...]) -> None:
    limits = config.attachments
    if len(attachments) > limits.max_count:
        raise InvalidArgument(f"{len(attachments)} attachments, and at most {limits.max_count} are taken")
    for each in attachments:
        if len(each.data) > limits.max_bytes:
            raise InvalidArgument(
                f"attachment {each.name} has {len(each.data)} bytes, and at most {limits.max_bytes} are taken"
            )


def _attachment(each: NewAttachment) -> Attachment:
    return Attachment(each.name, each.media_type, len(each.data), digest(each.data))


def _payload_digest(command: StartRun) -> str:
    """Return the digest of what was asked, so that a repeated request can be told from another one with the same id."""
    attachments = [attrs.asdict(_attachment(each)) for each in command.attachments]
    return digest(
        canonical_json(
            {
                "agent": command.agent,
                "attachments": attachments,
                "key": command.session.key or "",
                "model": command.model,
                "session": command.session.session_id,
                "text": command.text,
                "workspace": clean(command.workspace),
            }
        )
    )
