"""Agents over the API: which there are, defining and removing them, and which one answers where nothing else decides."""

from typing import Any

import attrs

from palyra_trio.core.agents import DEFAULT_INSTRUCTIONS, AgentSpec, Limits
from palyra_trio.core.commands import DefineAgent, RemoveAgent, SetDefaultAgent
from palyra_trio.core.identity import Scope
from palyra_trio.runtime.agents import KnownAgent, recordable_agent
from palyra_trio.transports.api.approvals import Nothing
from palyra_trio.transports.api.exchange import HttpResponse
from palyra_trio.transports.api.reading import Number, Paged, Said
from palyra_trio.transports.api.route import API, Answered, Ask, delete, get, post


class NewLimits(Said, frozen=True):
    """What one run may use; 0 is what is configured, and no more than that holds."""

    turns: Number = 0
    tool_calls: Number = 0
    active_s: Number = 0
    tool_s: Number = 0


class NewAgent(Said, frozen=True):
    """An agent. An empty `model` means the configured one; `tools` null means all that exist.

    `answer_schema` is a JSON Schema (draft 2020-12) that the final answer must fit. Without `replace`, a name that is taken
    by another agent is refused.
    """

    name: str
    model: str = ""
    instructions: str = DEFAULT_INSTRUCTIONS
    tools: tuple[str, ...] | None = None
    limits: NewLimits = NewLimits()
    answer_schema: dict[str, Any] | None = None
    replace: bool = False


@attrs.frozen
class AgentPage:
    agents: tuple[KnownAgent, ...]
    next_page_token: str


@get(f"{API}/agents")
async def list_agents(ask: Ask, query: Paged) -> AgentPage:
    """All agents, in order of name."""
    found = [each for each in await ask.gateway.agents() if each.spec.name > query.page_token]
    page = tuple(found[: query.page_size])
    return AgentPage(page, page[-1].spec.name if len(found) > len(page) else "")


@get(f"{API}/agents/{{name}}")
async def get_agent(ask: Ask, name: str) -> KnownAgent:
    """An agent by its name."""
    return await ask.gateway.agent(name)


@post(f"{API}/agents", Scope.ADMIN, refuses=("state_conflict",))
async def define_agent(ask: Ask, body: NewAgent) -> KnownAgent:
    """Define an agent. The same one again is answered like the first time."""
    limits = Limits(body.limits.turns, body.limits.tool_calls, body.limits.active_s, body.limits.tool_s)
    spec = AgentSpec(body.name, body.model, body.instructions, body.tools, limits, body.answer_schema)
    return await ask.bring_about(
        DefineAgent(spec, body.replace),
        lambda: ask.gateway.agent(spec.name),
        lambda found: found.spec == recordable_agent(spec, ask.gateway.redactor),
    )


@delete(f"{API}/agents/{{name}}", Scope.ADMIN, answers=(Answered(204),), refuses=("state_conflict",))
async def delete_agent(ask: Ask, name: str) -> HttpResponse:
    """Remove an agent. What was bound to it is answered by the default one; one that came with the program stays."""
    await ask.gateway.agent(name)
    await ask.gateway.submit(RemoveAgent(name), ask.context)
    return HttpResponse(204)


@post(f"{API}/agents/{{name}}/set-default", Scope.ADMIN, refuses=("state_conflict",))
async def set_default_agent(ask: Ask, name: str, body: Nothing) -> KnownAgent:
    """Let an agent answer where nothing else decides."""
    await ask.gateway.agent(name)
    await ask.gateway.submit(SetDefaultAgent(name), ask.context)
    return await ask.gateway.agent(name)


ROUTES = (list_agents, get_agent, define_agent, delete_agent, set_default_agent)
