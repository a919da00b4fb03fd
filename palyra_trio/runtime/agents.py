"""Which agents there are and which one answers: the defined ones, the built-in one, and what they are bound to."""

import attrs

from palyra_trio.core.agents import DEFAULT_AGENT, AgentSpec, Limits
from palyra_trio.core.bindings import Target, places
from palyra_trio.core.errors import NotFound
from palyra_trio.core.identity import RequestContext
from palyra_trio.journal.queries import Reader


@attrs.frozen
class KnownAgent:
    """An agent, and whether it answers where nothing else decides."""

    spec: AgentSpec
    is_default: bool


@attrs.frozen
class Answering:
    """The agent that answers a run, and what decided that: a binding's target, or None for the default."""

    agent: KnownAgent
    bound_to: Target | None


def known_agents(reader: Reader, limits: Limits) -> tuple[KnownAgent, ...]:
    """Return all agents in order of name: the defined ones, and the built-in one with `limits` unless it was redefined."""
    defined = reader.agents()
    chosen = next((spec.name for spec, is_default in defined if is_default), DEFAULT_AGENT.name)
    specs = {DEFAULT_AGENT.name: attrs.evolve(DEFAULT_AGENT, limits=limits)} | {spec.name: spec for spec, _ in defined}
    return tuple(KnownAgent(specs[name], name == chosen) for name in sorted(specs))


def find_agent(reader: Reader, limits: Limits, name: str) -> KnownAgent:
    """Return the agent of that name. Raises NotFound."""
    known = known_agents(reader, limits)
    for agent in known:
        if agent.spec.name == name:
            return agent
    names = ", ".join(agent.spec.name for agent in known)
    raise NotFound(f"there is no agent {name!r}", remedy=f"the agents are {names}")


def answering(reader: Reader, limits: Limits, context: RequestContext, session_id: str | None) -> Answering:
    """Return which agent answers a run of this caller's that names none; `session_id` None for a new session."""
    bound = reader.binding(places(context, session_id))
    if bound is not None:
        return Answering(find_agent(reader, limits, bound[1]), bound[0].target)
    return Answering(next(agent for agent in known_agents(reader, limits) if agent.is_default), None)
