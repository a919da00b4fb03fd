"""What an agent is: a model, instructions, tools and limits under a name."""

import re
from typing import Any

import attrs

from palyra_trio.core.errors import InvalidArgument

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")

DEFAULT_INSTRUCTIONS = (
    "You are an agent that works for one person inside one folder, the workspace. Use the tools to look before you"
    " answer and to act when you are asked to. Paths are relative to the workspace. A tool call may be refused by"
    " policy or by the person; read the reason, then find another way or say what you need. Answer briefly and only"
    " with what you found."
)


@attrs.frozen
class Limits:
    """What one run may use. The one that ends a run is named on its tape. In the definition of an agent, 0 is the configured one.

    `active_s` counts the time in which the run could progress: time spent waiting for a person does not count.
    """

    turns: int = 50
    tool_calls: int = 200
    active_s: int = 30 * 60
    tool_s: int = 10 * 60

    def narrowed(self, configured: "Limits") -> "Limits":
        """Return what a run may use of these, limit by limit: no more than is configured, and that where nothing is set."""
        return Limits(
            min(self.turns or configured.turns, configured.turns),
            min(self.tool_calls or configured.tool_calls, configured.tool_calls),
            min(self.active_s or configured.active_s, configured.active_s),
            min(self.tool_s or configured.tool_s, configured.tool_s),
        )


AS_CONFIGURED = Limits(0, 0, 0, 0)


def limit_source(limit: str) -> str:
    """Return in words what sets a limit of a run, one of the fields of Limits."""
    return f"set by the agent or by limits.{limit} of the configuration"


@attrs.frozen
class AgentSpec:
    """An agent as it is defined. An empty `model` means the configured one; `tools` None means all that exist.

    The default of `limits` is what a tape means that does not say them; who defines an agent says AS_CONFIGURED instead.
    `answer_schema` is a JSON Schema (draft 2020-12): the final answer must then be JSON that fits it.
    """

    name: str
    model: str = ""
    instructions: str = DEFAULT_INSTRUCTIONS
    tools: tuple[str, ...] | None = None
    limits: Limits = Limits()
    answer_schema: dict[str, Any] | None = None


DEFAULT_AGENT = AgentSpec("default", limits=AS_CONFIGURED)


def check_agent(spec: AgentSpec, tools: tuple[str, ...]) -> None:
    """Raise InvalidArgument for a name that cannot be typed, a tool that does not exist, or a limit below 0."""
    if not _NAME.fullmatch(spec.name):
        raise InvalidArgument(f"{spec.name!r} is no name for an agent", remedy="use letters, digits, `-`, `_` and `.`")
    if unknown := [name for name in spec.tools or () if name not in tools]:
        raise InvalidArgument(f"there is no tool {', '.join(unknown)}", remedy=f"the tools are {', '.join(tools)}")
    if low := [field.name for field in attrs.fields(Limits) if getattr(spec.limits, field.name) < 0]:
        raise InvalidArgument(
            f"a limit is no less than 0, and {', '.join(low)} is", remedy="give 1 or more, or 0 for the configured one"
        )
