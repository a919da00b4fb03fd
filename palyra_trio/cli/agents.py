"""`palyra-trio agents`: named combinations of model, instructions, tools and limits."""

import json
import re
from pathlib import Path
from typing import Any

import attrs
import click

from palyra_trio.cli.door import submit
from palyra_trio.cli.open import has_journal, reading
from palyra_trio.cli.tables import json_option, print_json, print_table
from palyra_trio.core.agents import DEFAULT_AGENT, AgentSpec
from palyra_trio.core.commands import Command, DefineAgent, RemoveAgent, SetDefaultAgent
from palyra_trio.core.errors import NotFound
from palyra_trio.core.text import visible
from palyra_trio.core.words import one_line

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
INSTRUCTIONS_CHARACTERS = 60
TOOLS_CHARACTERS = 40
_LIMIT = click.IntRange(min=1)


@click.group()
def agents() -> None:
    """List, define and remove agents.

    A run uses the default agent unless `--agent` names another. Until you define one, that is the built-in agent
    called `default`.
    """


@agents.command("list")
@json_option
def list_agents(as_json: bool) -> None:
    """List the agents. The default one is marked."""
    found = _known()
    if as_json:
        print_json({"agents": [_plain(spec, is_default) for spec, is_default in found]})
        return
    rows = [
        (
            f"{spec.name} (default)" if is_default else spec.name,
            spec.model or "(configured)",
            one_line(_tools(spec), TOOLS_CHARACTERS),
            one_line(spec.instructions, INSTRUCTIONS_CHARACTERS),
        )
        for spec, is_default in found
    ]
    print_table(("AGENT", "MODEL", "TOOLS", "INSTRUCTIONS"), rows)


@agents.command()
@click.argument("name")
@json_option
def show(name: str, as_json: bool) -> None:
    """Show an agent: its model, instructions, tools and limits."""
    spec, is_default = _find(name)
    if as_json:
        print_json(_plain(spec, is_default))
        return
    click.echo(f"agent         {spec.name}{' (default)' if is_default else ''}")
    click.echo(f"model         {one_line(spec.model) or 'the configured one'}")
    click.echo(f"tools         {one_line(_tools(spec))}")
    for limit, value in attrs.asdict(spec.limits).items():
        click.echo(f"{limit:12}  {value}")
    if spec.answer_schema is not None:
        click.echo(f"answer        {one_line(json.dumps(spec.answer_schema))}")
    click.echo(f"\n{visible(spec.instructions)}")


@agents.command("set")
@click.argument("name")
@click.option("--model", help="The model, as provider/model; empty for the configured one.")
@click.option("--instructions", metavar="TEXT|@FILE", help="What the agent is told before anything else.")
@click.option("--tool", "tools", metavar="NAME", multiple=True, help="A tool that it may use; repeat. Without: all.")
@click.option("--turns", type=_LIMIT, help="How many model calls a run may make.")
@click.option("--tool-calls", type=_LIMIT, help="How many tool calls a run may make.")
@click.option("--active-s", type=_LIMIT, help="How many seconds a run may be active; waiting for you does not count.")
@click.option("--tool-s", type=_LIMIT, help="How many seconds one tool call may take.")
@click.option(
    "--answer-schema",
    metavar="FILE",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="A JSON Schema that the answer must fit.",
)
@json_option
def set_agent(
    name: str,
    model: str | None,
    instructions: str | None,
    tools: tuple[str, ...],
    answer_schema: Path | None,
    as_json: bool,
    **limits: int | None,
) -> None:
    """Define the agent NAME, or change what the options name of one that exists."""
    if not _NAME.fullmatch(name):
        raise click.BadParameter("a name has 1 to 64 letters, digits, '.', '_' or '-'", param_hint="NAME")
    known = {spec.name: spec for spec, _ in _known()}
    changes: dict[str, Any] = {}
    if model is not None:
        changes["model"] = model
    if instructions is not None:
        changes["instructions"] = _instructions(instructions)
    if tools:
        changes["tools"] = _check_tools(tools)
    if answer_schema is not None:
        changes["answer_schema"] = _schema(answer_schema)
    spec = known.get(name, AgentSpec(name))
    given = {limit: value for limit, value in limits.items() if value is not None}
    spec = attrs.evolve(spec, limits=attrs.evolve(spec.limits, **given), **changes)
    _apply(DefineAgent(spec), name, "defined agent", as_json)


@agents.command()
@click.argument("name")
@json_option
def delete(name: str, as_json: bool) -> None:
    """Remove an agent. Runs that used it keep their record of it."""
    _find(name)
    _apply(RemoveAgent(name), name, "removed agent", as_json)


@agents.command()
@click.argument("name")
@json_option
def default(name: str, as_json: bool) -> None:
    """Make NAME the agent of runs that name none."""
    _find(name)
    _apply(SetDefaultAgent(name), name, "the default agent is now", as_json)


def _known() -> list[tuple[AgentSpec, bool]]:
    """Return the agents, each with whether it is the default; the built-in one is among them unless it was redefined."""
    defined: tuple[tuple[AgentSpec, bool], ...] = ()
    if has_journal():
        with reading() as reader:
            defined = reader.agents()
    if any(spec.name == DEFAULT_AGENT.name for spec, _ in defined):
        chosen = any(is_default for _, is_default in defined)
        return [(spec, is_default or (not chosen and spec.name == DEFAULT_AGENT.name)) for spec, is_default in defined]
    return [(DEFAULT_AGENT, not any(is_default for _, is_default in defined)), *defined]


def _find(name: str) -> tuple[AgentSpec, bool]:
    known = _known()
    for spec, is_default in known:
        if spec.name == name:
            return spec, is_default
    raise NotFound(f"there is no agent {name!r}", remedy=f"the agents are {', '.join(spec.name for spec, _ in known)}")


def _apply(command: Command, name: str, done: str, as_json: bool) -> None:
    submit(command)
    if as_json:
        print_json({"agent": name, "applied": True})
    else:
        click.echo(f"{done} {name}")


def _plain(spec: AgentSpec, is_default: bool) -> dict[str, Any]:
    return {**attrs.asdict(spec), "is_default": is_default}


def _tools(spec: AgentSpec) -> str:
    return "all" if spec.tools is None else ", ".join(spec.tools)


def _check_tools(names: tuple[str, ...]) -> tuple[str, ...]:
    from palyra_trio.tools.builtin import builtin_tools

    existing = [tool.spec.name for tool in builtin_tools()]
    if unknown := [name for name in names if name not in existing]:
        hint = f"there is no tool {', '.join(unknown)}; the tools are {', '.join(existing)}"
        raise click.BadParameter(hint, param_hint="--tool")
    return tuple(dict.fromkeys(names))


def _instructions(given: str) -> str:
    if not given.startswith("@"):
        return given
    try:
        return Path(given[1:]).read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise click.BadParameter(str(error), param_hint="--instructions") from error


def _schema(file: Path) -> dict[str, Any]:
    try:
        schema = json.loads(file.read_bytes())
    except (OSError, ValueError) as error:
        raise click.BadParameter(f"{file} is not JSON: {error}", param_hint="--answer-schema") from error
    if not isinstance(schema, dict):
        raise click.BadParameter(f"{file} holds no JSON object", param_hint="--answer-schema")
    return schema
