"""`palyra-trio tools`: which tools there are, and what is said of each: allowed, asked for or disabled, where and until when.

What is said becomes policies in `policies/posture.cedar`: in force at once where a process answers, else from its next
start.
"""

import os
import time
from collections.abc import Iterable
from datetime import datetime
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import attrs
import click
import trio

from palyra_trio.cli.door import ask_process
from palyra_trio.cli.open import principal, read_settings, reading
from palyra_trio.cli.policy_sets import current_workspace, in_force, known_tools
from palyra_trio.cli.spans import span_ms
from palyra_trio.cli.tables import json_option, print_json, print_table
from palyra_trio.core.policy import PolicyRules
from palyra_trio.core.text import name_to_text
from palyra_trio.core.words import one_line
from palyra_trio.guard.policy_folder import postures_of
from palyra_trio.guard.posture import Posture, PostureVerdict, Scope
from palyra_trio.guard.posture import in_force as still_in_force
from palyra_trio.pb import policy_pb2
from palyra_trio.pb.policy_grpc import PolicyServiceStub
from palyra_trio.runtime.policies import change_postures, removing, setting
from palyra_trio.transports.policy_service import posture_message, scope_number


class Moment(click.ParamType[int]):
    """A time to come, as Unix seconds: a span from now such as 2h, or a date with or without a time, in local time."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        now_s = int(time.time())
        if (lasting_ms := span_ms(value)) is not None:
            return now_s + lasting_ms // 1000
        try:
            moment_s = int(datetime.fromisoformat(value).astimezone().timestamp())
        except (ValueError, OverflowError):
            self.fail(f"{value!r} is no time such as 45min, 2h, 7d, 2027-01-31 or 2027-01-31T18:00", param, ctx)
        if moment_s <= now_s:
            self.fail(f"{value} has passed", param, ctx)
        return moment_s


@click.group()
def tools() -> None:
    """List the tools, and say of each whether it is allowed, asked for or disabled.

    TOOL is a name, or a pattern such as 'files.*'. `disable` beats `ask`, and `ask` beats `allow`, whatever their scopes;
    and what the policies ask for every time, or forbid, no `allow` permits.
    """


_scope = click.option(
    "--scope",
    type=click.Choice(["global", "workspace", "agent", "session"]),
    default="global",
    show_default=True,
    help="Where it holds.",
)
_name = click.option(
    "--name",
    metavar="NAME",
    help="Which folder (without: the current one), agent, or session (an id, a key or `last`).",
)


@tools.command("list")
@json_option
def list_tools(as_json: bool) -> None:
    """List the tools, and what is said of each."""
    current = in_force()
    postures = still_in_force(postures_of(current.files), time.time())
    registry = known_tools()
    specs = [registry.get(name).spec for name in registry.names()]
    said = {spec.name: [each for each in postures if fnmatchcase(spec.name, each.tool)] for spec in specs}
    if as_json:
        listed = [
            {
                "tool": spec.name,
                "capability": spec.capability,
                "risk": spec.risk,
                "read_only": spec.read_only,
                "idempotent": spec.idempotent,
                "postures": [attrs.asdict(each) for each in said[spec.name]],
                "configured": _configured(spec.name, current.rules),
            }
            for spec in specs
        ]
        print_json({"tools": listed})
        return
    rows = [
        (
            spec.name,
            spec.capability,
            spec.risk,
            _yes(spec.read_only),
            _yes(spec.idempotent),
            "; ".join([*map(_words, said[spec.name]), *_in_config(_configured(spec.name, current.rules))]) or "-",
        )
        for spec in specs
    ]
    print_table(("TOOL", "CAPABILITY", "RISK", "READ-ONLY", "IDEMPOTENT", "POSTURE"), rows)


def _configured(tool: str, rules: PolicyRules) -> list[str]:
    lists = (("allow", rules.allow), ("ask", rules.ask), ("deny", rules.deny))
    return [word for word, patterns in lists if any(fnmatchcase(tool, each) for each in patterns)]


def _in_config(words: Iterable[str]) -> list[str]:
    return [f"{word} by the configuration" for word in words]


def _yes(value: bool) -> str:
    return "yes" if value else "no"


def _words(each: Posture) -> str:
    where = f" for {each.scope} {each.name}" if each.name else ""
    until = f" until {_local(each.until_s)}" if each.until_s is not None else ""
    return f"{each.verdict}{where}{until}"


def _local(moment_s: int) -> str:
    return datetime.fromtimestamp(moment_s).astimezone().strftime("%Y-%m-%d %H:%M %z")


def _saying(verdict: PostureVerdict, summary: str) -> click.Command:
    @click.argument("tool")
    @_scope
    @_name
    @click.option(
        "--until",
        "until_s",
        type=Moment(),
        metavar="TIME",
        help="Until when: 2h, 7d, 2027-01-31T18:00. Without: for ever.",
    )
    @json_option
    def say(tool: str, scope: Scope, name: str | None, until_s: int | None, as_json: bool) -> None:
        posture = Posture(tool, verdict, scope, _named(scope, name), until_s)
        request = policy_pb2.SetPostureRequest(posture=posture_message(posture))
        live = ask_process(PolicyServiceStub, "SetPosture", request) is not None
        if not live:
            settings = read_settings()
            edit = setting(posture, known_tools().names())
            trio.run(change_postures, settings.policies_dir, settings.base.policy, edit, time.time())
        if as_json:
            print_json({**attrs.asdict(posture), "live": live})
        else:
            click.echo(f"{one_line(posture.tool)}: {one_line(_words(posture))}{_since(live)}")

    return tools.command(verdict, help=summary)(say)


_saying("allow", "Let TOOL run without asking, unless another policy forbids that.")
_saying("ask", "Ask a person before TOOL runs.")
_saying("disable", "Do not let TOOL run at all.")


@tools.command()
@click.argument("tool")
@_scope
@_name
@json_option
def reset(tool: str, scope: Scope, name: str | None, as_json: bool) -> None:
    """Take back what was said of TOOL, as it was written, for this scope."""
    name = _named(scope, name)
    request = policy_pb2.RemovePostureRequest(tool=tool, scope=scope_number(scope), name=name)
    live = ask_process(PolicyServiceStub, "RemovePosture", request) is not None
    if not live:
        settings = read_settings()
        edit = removing(tool, scope, name)
        trio.run(change_postures, settings.policies_dir, settings.base.policy, edit, time.time())
    if as_json:
        print_json({"tool": tool, "scope": scope, "name": name, "live": live})
    else:
        click.echo(f"{one_line(tool)}: nothing is said of it any more{_since(live)}")


def _since(live: bool) -> str:
    return "" if live else " (from the next start on)"


def _named(scope: Scope, name: str | None) -> str:
    """Return what the scope is called in policies."""
    match scope:
        case "global":
            if name is not None:
                raise click.UsageError("--name goes with --scope workspace, agent or session")
            return ""
        case "workspace":
            return name_to_text(os.fsencode(Path(name).resolve())) if name else current_workspace()
        case "session" if name:
            with reading() as reader:
                return reader.find_session(name, principal()).session_id
        case _ if not name:
            raise click.UsageError(f"--scope {scope} needs --name")
    return name
