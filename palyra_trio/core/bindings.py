"""Which agent answers a run that names none: what agents are bound to, and in which order that is looked at.

A binding is an event first. That the agent exists, and who may bind, is decided elsewhere.
"""

from enum import StrEnum
from typing import ClassVar

import attrs

from palyra_trio.core.errors import InvalidArgument
from palyra_trio.core.identity import RequestContext
from palyra_trio.core.tape import TapeEvent

NAME_CHARACTERS = 200


class Target(StrEnum):
    """What an agent can be bound to. The first of these that has an agent decides."""

    SESSION = "session"
    CHANNEL = "channel"
    PRINCIPAL = "principal"


@attrs.frozen
class AgentBound(TapeEvent):
    """The agent answers runs that name none, where `target` (`session`, `channel` or `principal`) is `name`."""

    kind: ClassVar[int] = 87
    target: str
    name: str
    agent: str
    by: str
    v: int = 1


@attrs.frozen
class AgentUnbound(TapeEvent):
    kind: ClassVar[int] = 91
    target: str
    name: str
    by: str
    v: int = 1


@attrs.frozen
class BindingPlace:
    """Where an agent is bound: a session's id, a channel's name, or a principal."""

    target: Target
    name: str


def places(context: RequestContext, session_id: str | None) -> tuple[BindingPlace, ...]:
    """Return where the agent for a run of this caller may be bound, the one that decides first first."""
    session = () if session_id is None else (BindingPlace(Target.SESSION, session_id),)
    return (
        *session,
        BindingPlace(Target.CHANNEL, context.channel),
        BindingPlace(Target.PRINCIPAL, context.principal),
    )


def check_place(place: BindingPlace) -> None:
    """Raise InvalidArgument when nothing can have that name."""
    if not 0 < len(place.name) <= NAME_CHARACTERS:
        raise InvalidArgument(f"a {place.target} to bind an agent to has 1 to {NAME_CHARACTERS} characters")
