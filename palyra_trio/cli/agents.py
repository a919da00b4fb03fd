"""`palyra-trio agents`: named combinations of model, instructions, tools and limits."""

import json
import re
from pathlib import Path
from typing import Any

import attrs
import click

from palyra_trio.cli.door import submit
from palyra_trio.cli.open import has_journal, read_settings, reading
from palyra_trio.cli.tables import json_option, print_json, print_table
from palyra_trio.core.agents import AS_CONFIGURED, AgentSpec
from palyra_trio.core.commands import Command, DefineAgent, RemoveAgent, SetDefaultAgent
from palyra_trio.core.text import visible
from palyra_trio.core.words import one_line
from palyra_trio.journal.queries import Reader
from palyra_trio.runtime.agents import KnownAgent, find_agent, known_agents

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
INSTRUCTIONS_CHARACTERS = 60
TOOLS_CHARACTERS = 40
_LIMIT = click.IntRange(min=0)


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
        print_json({"agents": [_plain(each) for each in found]})
        return
    rows = [
        (
            f"{each.spec.name} (default)" if each.is_default else each.spec.name,
            each.spec.model or "(configured)",
            one_line(_tools(each.spec), TOOLS_CHARACTERS),
            one_line(each.spec.instructions, INSTRUCTIONS_CHARACTERS),
        )
        for each in found
    ]
    print_table(("AGENT", "MODEL", "TOOLS", "INSTRUCTIONS"), rows)


@agents.command()
@click.argument("name")
@json_option
def show(name: str, as_json: bool) -> None:
    """Show an agent: its model, instructions, tools, and what a run of it may use in this folder."""
    found = find_agent(_known(), name)
    spec = found.spec
    if as_json:
        print_json(_plain(found))
        return
    click.echo(f"agent         {spec.name}{' (default)' if found.is_default else ''}")
    click.echo(f"model         {one_line(spec.model) or 'the configured one'}")
    click.echo(f"tools         {one_line(_tools(spec))}")
    for limit, value, own in _limits(found):
        whose = "" if value == own else f", as configured; the agent has {own}" if own else ", as configured"
        click.echo(f"{limit:12}  {value}{whose}")
    if spec.answer_schema is not None:
        click.echo(f"answer        {one_line(json.dumps(spec.answer_schema))}")
    click.echo(f"\n{visible(spec.instructions)}")


@agents.command("set")
@click.argument("name")
@click.option("--model", help="The model, as provider/model; empty for the configured one.")
@click.option("--instructions", metavar="TEXT|@FILE", help="What the agent is told before anything else.")
@click.option("--tool", "tools", metavar="NAME", multiple=True, help="A tool that it may use; repeat. Without: all.")
@click.option("--turns", type=_LIMIT, help="How many model calls a run may make; 0: as configured.")
@click.option("--tool-calls", type=_LIMIT, help="How many tool calls a run may make; 0: as configured.")
@click.option(
    "--active-s", type=_LIMIT, help="How many seconds a run may be active, without waiting for you; 0: as configured."
)
@click.option("--tool-s", type=_LIMIT, help="How many seconds one tool call may take; 0: as configured.")
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
    """Define the agent NAME, or change what the options name of one that exists.

    Where the configuration says less than a limit (`limits.turns` and so on), that holds.
    """
    if not _NAME.fullmatch(name):
        raise click.BadParameter("a name has 1 to 64 letters, digits, '.', '_' or '-'", param_hint="NAME")
    known = {each.spec.name: each.spec for each in _known()}
    changes: dict[str, Any] = {}
    if model is not None:
        changes["model"] = model
    if instructions is not None:
        changes["instructions"] = _instructions(instructions)
    if tools:
        changes["tools"] = _check_tools(tools)
    if answer_schema is not None:
        changes["answer_schema"] = _schema(answer_schema)
    spec = known.get(name, AgentSpec(name, limits=AS_CONFIGURED))
    given = {limit: value for limit, value in limits.items() if value is not None}
    spec = attrs.evolve(spec, limits=attrs.evolve(spec.limits, **given), **changes)
    _apply(DefineAgent(spec), name, "defined agent", as_json)
    for limit, value, own in _limits(find_agent(_known(), name)) if given else ():
        if own > value and limit in given:
            click.echo(f"{limit} is {value} and not {own}: limits.{limit} of the configuration says no more", err=True)


@agents.command()
@click.argument("name")
@json_option
def delete(name: str, as_json: bool) -> None:
    """Remove an agent. Runs that used it keep their record of it."""
    find_agent(_known(), name)
    _apply(RemoveAgent(name), name, "removed agent", as_json)


@agents.command()
@click.argument("name")
@json_option
def default(name: str, as_json: bool) -> None:
    """Make NAME the agent of runs that name none."""
    find_agent(_known(), name)
    _apply(SetDefaultAgent(name), name, "the default agent is now", as_json)


def _known() -> tuple[KnownAgent, ...]:
    """Return the agents, with what a run of each may use in this folder; elsewhere the daemon there says that."""
    configured = read_settings().config.limits
    if not has_journal():
        return known_agents((), configured)
    with reading() as reader:
        return known_agents(reader.agents(), configured) if isinstance(reader, Reader) else reader.known_agents()


def _limits(agent: KnownAgent) -> list[tuple[str, int, int]]:
    """Return each limit of a run: its name, what holds, and what the agent's definition says, 0 for nothing."""
    own = attrs.asdict(agent.spec.limits)
    return [(limit, value, own[limit]) for limit, value in attrs.asdict(agent.limits).items()]


def _apply(command: Command, name: str, done: str, as_json: bool) -> None:
    submit(command)
    if as_json:
        print_json({"agent": name, "applied": True})
    else:
        click.echo(f"{done} {name}")


def _plain(agent: KnownAgent) -> dict[str, Any]:
    """Return an agent's definition, in whose `limits` 0 is the configured one, and as `allowed` what a run may use."""
    return {**attrs.asdict(agent.spec), "allowed": attrs.asdict(agent.limits), "is_default": agent.is_default}


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
    except (OSError, ValueError, RecursionError) as error:
        raise click.BadParameter(f"{file} is not JSON: {error}", param_hint="--answer-schema") from error
    if not isinstance(schema, dict):
        raise click.BadParameter(f"{file} holds no JSON object", param_hint="--answer-schema")
    return schema
