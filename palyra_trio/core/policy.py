"""Whether a tool call may run: allow, deny or ask. A small rule for now, behind the one function that decides.

Deny beats all; what is sensitive asks, whatever was allowed; ask beats allow, but for what the person allowed with the
run itself. Without a rule a read-only tool runs, and everything else asks.
"""

from fnmatch import fnmatchcase
from typing import Literal

import attrs

Outcome = Literal["allow", "deny", "ask"]


@attrs.frozen
class PolicyRules:
    """Names of tools, or patterns such as `files.*`."""

    allow: tuple[str, ...] = ()
    ask: tuple[str, ...] = ()
    deny: tuple[str, ...] = ()


@attrs.frozen
class CallFacts:
    """What is known of a call. `sensitive` says why it must be asked for in any case (a key file, say)."""

    tool: str
    read_only: bool
    sensitive: str = ""


@attrs.frozen
class Decision:
    """`rule` names what decided, `reason` says it in words."""

    outcome: Outcome
    rule: str
    reason: str


def decide_tool_call(facts: CallFacts, rules: PolicyRules, allowed_for_run: tuple[str, ...] = ()) -> Decision:
    """Return what happens to a call. `allowed_for_run` are the tools that the person allowed with the run itself."""
    if rule := _match(facts.tool, rules.deny):
        return Decision("deny", f"policy.deny={rule}", f"{facts.tool} is disabled by the configuration")
    if facts.sensitive:
        return Decision("ask", "sensitive", facts.sensitive)
    if rule := _match(facts.tool, allowed_for_run):
        return Decision("allow", f"yes-to={rule}", f"{facts.tool} was allowed for this run")
    if rule := _match(facts.tool, rules.ask):
        return Decision("ask", f"policy.ask={rule}", f"{facts.tool} always asks, by the configuration")
    if rule := _match(facts.tool, rules.allow):
        return Decision("allow", f"policy.allow={rule}", f"{facts.tool} is allowed by the configuration")
    if facts.read_only:
        return Decision("allow", "read-only", "it only reads inside the workspace")
    return Decision("ask", "default", f"{facts.tool} changes something, so a person decides")


def _match(tool: str, patterns: tuple[str, ...]) -> str:
    return next((pattern for pattern in patterns if fnmatchcase(tool, pattern)), "")
