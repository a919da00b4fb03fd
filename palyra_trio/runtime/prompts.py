"""What a person decides on: every line of the question that a call puts to them. Nothing is cut, and nothing hides."""

import json
import re
from collections.abc import Iterator
from typing import Any

from palyra_trio.core.messages import ToolCall
from palyra_trio.core.policy import (
    CallFacts,
    Decision,
    HostResource,
    PathResource,
    Pattern,
    Resource,
    SecretResource,
    ToolResource,
)
from palyra_trio.core.text import visible
from palyra_trio.tools.registry import Plan

IN_PROCESS = "in the daemon's own process"
LONG_CHARACTERS = 1000
BLANKS, BLANKS_IN_TEXT = re.compile(" {8,}"), re.compile(" {40,}")


def prompt_for(
    call: ToolCall, decision: Decision, facts: CallFacts, plan: Plan, pattern: Pattern | None, *, question: bool
) -> str:
    """Return the question: what would be done to what, with which arguments, where, how risky, and why it asks.

    A file's change is shown as a diff, and an argument that is long is then shown there alone. Characters that would
    hide or reorder text are spelled out, and no text can pass for a line of the question: each line of it is marked.
    """
    preview = plan.preview.rstrip("\n")
    preview = BLANKS_IN_TEXT.sub(_counted, preview)
    shown = preview if plan.changes or not preview else "\n".join(f"  | {line}" for line in preview.split("\n"))
    if question:
        return visible(f"the agent asks:\n{shown}")
    told = [*_facts(decision, facts)]
    if pattern is not None:
        told.append(("may stand", f"{pattern} (for the session, or a time)"))
    told += _arguments(call.arguments, shown=bool(shown))
    lines = [f"{call.tool} asks: {decision.reason}", *(f"  {name:<10} {value}" for name, value in told)]
    lines = [_on_one_line(line) for line in lines]
    return visible("\n".join((*lines, *([shown] if shown else []))))


def _on_one_line(line: str) -> str:
    """Return a line that cannot pass for several: neither by line breaks, nor by blanks that a terminal wraps."""
    indent = len(line) - len(line.lstrip(" "))
    head = indent + 11 if indent else 0  # the name of a fact, in its column
    return line[:head] + BLANKS.sub(_counted, line[head:].replace("\n", "\\n"))


def _counted(blanks: re.Match[str]) -> str:
    return f"[{len(blanks[0])} blanks]"


def _facts(decision: Decision, facts: CallFacts) -> Iterator[tuple[str, str]]:
    yield "workspace", facts.workspace
    for each in facts.resources:
        yield from _resource(each, facts)
    if facts.program is not None:
        yield "program", facts.program.path
    yield "risk", facts.risk
    yield "policy", ", ".join(decision.policies)
    yield "runs", f"in sandbox tier {facts.sandbox_tier}" if facts.sandbox_tier else IN_PROCESS


def _resource(resource: Resource, facts: CallFacts) -> Iterator[tuple[str, str]]:
    match resource:
        case PathResource(path, inside, exists, _):
            where = "" if inside else ", outside the workspace"
            yield "file", f"{path} ({'exists' if exists else 'new'}{where})"
        case HostResource(host, port, ip_class=ip_class) if facts.program is not None:
            yield "network", f"{host}:{port} ({ip_class} address), for whatever the program says there"
        case HostResource(host, port, scheme, method, ip_class):
            yield "host", f"{method} {scheme}://{host}:{port} ({ip_class} address)"
        case SecretResource(name, host, port) if facts.program is not None:
            reach = f"may send it to {host}:{port}" if host else "reaches no host"
            yield "secret", f"{name}, given to the program, which {reach}"
        case SecretResource(name, host, port):
            yield "secret", f"{name}, sent to {host}:{port}"
        case ToolResource():
            return


def _arguments(arguments: dict[str, Any], *, shown: bool) -> Iterator[tuple[str, str]]:
    for name, value in sorted(arguments.items()):
        text = json.dumps(value, ensure_ascii=False, sort_keys=True)
        if shown and len(text) > LONG_CHARACTERS:
            yield name, f"{len(text)} characters, which make the change below"
        else:
            yield name, text
