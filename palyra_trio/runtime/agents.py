"""Which agents there are and which one answers: the defined ones, the built-in one, and what they are bound to.

What a person wrote in an agent is masked before it is recorded, and again in each run, which knows more secrets by then.
"""

from collections.abc import Sequence

import attrs

from palyra_trio.core.agents import DEFAULT_AGENT, AgentSpec, Limits
from palyra_trio.core.bindings import Target, places
from palyra_trio.core.errors import NotFound
from palyra_trio.core.identity import RequestContext
from palyra_trio.guard.redactor import Redactor
from palyra_trio.journal.queries import Reader


@attrs.frozen
class KnownAgent:
    """An agent, what a run of it may use at present, and whether it answers where nothing else decides.

    `limits` are those of `spec`, within what is configured.
    """

    spec: AgentSpec
    limits: Limits
    is_default: bool


@attrs.frozen
class Answering:
    """The agent that answers a run, and what decided that: a binding's target, or None for the default."""

    agent: KnownAgent
    bound_to: Target | None


def known_agents(defined: Sequence[tuple[AgentSpec, bool]], configured: Limits) -> tuple[KnownAgent, ...]:
    """Return all agents in order of name: the built-in one too, unless it was redefined.

    `defined` are the others, each with whether it was chosen as the default.
    """
    chosen = next((spec.name for spec, is_default in defined if is_default), DEFAULT_AGENT.name)
    specs = {spec.name: spec for spec in (DEFAULT_AGENT, *(spec for spec, _ in defined))}
    return tuple(
        KnownAgent(spec, spec.limits.narrowed(configured), name == chosen) for name, spec in sorted(specs.items())
    )


def find_agent(known: Sequence[KnownAgent], name: str) -> KnownAgent:
    """Return the agent of that name. Raises NotFound."""
    for agent in known:
        if agent.spec.name == name:
            return agent
    names = ", ".join(agent.spec.name for agent in known)
    raise NotFound(f"there is no agent {name!r}", remedy=f"the agents are {names}")


def answering(reader: Reader, configured: Limits, context: RequestContext, session_id: str | None) -> Answering:
    """Return which agent answers a run of this caller's that names none; `session_id` None for a new session."""
    bound = reader.binding(places(context, session_id))
    known = known_agents(reader.agents(), configured)
    if bound is not None:
        return Answering(find_agent(known, bound[1]), bound[0].target)
    return Answering(next(agent for agent in known if agent.is_default), None)


def recordable_agent(spec: AgentSpec, redactor: Redactor) -> AgentSpec:
    """Return an agent as it may be recorded: without secrets in its instructions, the schema of its answers, or its model."""
    return attrs.evolve(
        spec,
        model=redactor.text(spec.model),
        instructions=redactor.text(spec.instructions),
        answer_schema=redactor.value(spec.answer_schema),
    )
