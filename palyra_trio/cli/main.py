"""The command `palyra-trio`: which commands there are, and how an error leaves the process.

A command's module is loaded when that command is called, so `--help` costs no more than click. What an error means to
a shell is in `exit_codes`; here it is printed, on stderr, in words or (with `--json`) as one object.
"""

import json
import os
import sys
import traceback
from collections.abc import Iterator
from contextlib import suppress
from importlib import import_module
from io import TextIOWrapper
from itertools import takewhile
from typing import Any

import click
from click.shell_completion import CompletionItem

from palyra_trio import __version__
from palyra_trio.cli import exit_codes
from palyra_trio.core.errors import PalyraError

COMMANDS = {
    "run": ("palyra_trio.cli.run:run", "Give an agent something to do, and follow it to its answer"),
    "chat": ("palyra_trio.cli.chat:chat", "Talk with an agent: send, interrupt, approve"),
    "runs": ("palyra_trio.cli.runs:runs", "List, show, cancel, resume, compare and undo runs"),
    "approvals": ("palyra_trio.cli.approvals:approvals", "Answer what runs ask, and take back what you allowed"),
    "sessions": ("palyra_trio.cli.sessions:sessions", "List, show, search, rename and archive sessions"),
    "jobs": ("palyra_trio.cli.jobs:jobs", "List, show, follow and stop long jobs of your sessions"),
    "tape": ("palyra_trio.cli.tape:tape", "Read what happened in a run, event by event"),
    "serve": ("palyra_trio.cli.serve:serve", "Run the daemon in the foreground"),
    "service": ("palyra_trio.cli.service:service", "Run the daemon under systemd"),
    "connect": ("palyra_trio.cli.connect:connect", "Get to know a daemon elsewhere, for --daemon"),
    "pause": ("palyra_trio.cli.operations:pause", "Take no new runs for now"),
    "resume": ("palyra_trio.cli.operations:resume", "Take new runs again"),
    "stop": ("palyra_trio.cli.operations:stop", "Cancel runs, or all of them"),
    "debug": ("palyra_trio.cli.operations:debug", "Look inside a running daemon"),
    "console": ("palyra_trio.cli.console:console", "Open the console in a browser"),
    "status": ("palyra_trio.cli.status:status", "Say how the daemon stands"),
    "doctor": ("palyra_trio.cli.doctor:doctor", "Find out what is wrong here, and mend what can be"),
    "demo": ("palyra_trio.cli.demo:demo", "See what this program claims shown, without a key"),
    "journal": ("palyra_trio.cli.journal:journal", "Verify a journal file, and erase what leaked into it"),
    "agents": ("palyra_trio.cli.agents:agents", "List, define and remove agents"),
    "policy": ("palyra_trio.cli.policy:policy", "Check, test, explain and reload what decides on tool calls"),
    "tools": ("palyra_trio.cli.tools:tools", "List the tools; allow, ask for or disable one"),
    "secrets": ("palyra_trio.cli.secrets:secrets", "Keep secrets for tools and providers; never show one"),
    "token": ("palyra_trio.cli.token:token", "Make, list, rotate and revoke access tokens"),
    "config": ("palyra_trio.cli.config:config", "Check and show the configuration"),
    "trust": ("palyra_trio.cli.trust:trust", "Accept the configuration file of a folder"),
    "completion": ("palyra_trio.cli.completion:completion", "Print the completion script for a shell"),
}

_JSON_OPTIONS = {"--json", "--jsonl"}
_AS_JSON = "palyra_trio.as_json"


class LazyGroup(click.Group):
    """A group that knows its commands by name and one line of help, and loads one when it is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module, _, attribute = COMMANDS[cmd_name][0].partition(":")
        command: click.Command = getattr(import_module(module), attribute)
        for each in command.commands.values() if isinstance(command, click.Group) else ():
            each.short_help = each.get_short_help_str(sys.maxsize)  # a whole sentence, where click would cut it
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        fitting = [
            CompletionItem(name, help=text) for name, (_, text) in COMMANDS.items() if name.startswith(incomplete)
        ]
        return fitting + click.Command.shell_complete(self, ctx, incomplete)

    def main(self, *args: Any, **kwargs: Any) -> Any:
        _settle_streams()
        return super().main(*args, **kwargs)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        ctx.meta[_AS_JSON] = not _JSON_OPTIONS.isdisjoint(takewhile(lambda each: each != "--", args))
        return super().parse_args(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except (Exception, KeyboardInterrupt, BaseExceptionGroup) as raised:
            error = innermost(raised)
            if ctx.params["debug"] and not isinstance(error, (click.ClickException, click.exceptions.Exit)):
                traceback.print_exception(raised, file=sys.stderr)
            raise _ending(error, ctx.meta[_AS_JSON]) from None


def innermost(error: BaseException) -> BaseException:
    """Return what a group of exceptions comes down to: the one error in it, a Ctrl-C before all others.

    Several tasks that fail for reasons of one class (the journal stopped, say) failed for one reason. A group that
    says more than one thing is returned as it is.
    """
    leaves = list(_leaves(error))
    for leaf in leaves:
        if isinstance(leaf, KeyboardInterrupt):
            return leaf
    return leaves[0] if len({type(leaf) for leaf in leaves}) == 1 else error


def _leaves(error: BaseException) -> Iterator[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        for each in error.exceptions:
            yield from _leaves(each)
    else:
        yield error


def _ending(error: BaseException, as_json: bool) -> BaseException:
    """Say on stderr what went wrong, and return what click is to end with. A broken pipe it ends quietly by itself."""
    match error:
        case KeyboardInterrupt() | click.Abort():
            return click.exceptions.Exit(exit_codes.INTERRUPTED)
        case PalyraError():
            status = exit_codes.OF_ERROR.get(error.code, exit_codes.FAILED)
            return _told(error.code, error.message, error.remedy, status, as_json)
        case click.UsageError() if as_json:
            return _told("usage", error.format_message(), "", error.exit_code, as_json)
        case click.ClickException() | click.exceptions.Exit() | SystemExit() | BrokenPipeError():
            return error
        case OSError():
            _discard_output()
            return _told("internal", str(error), "PALYRA_DEBUG=1 shows where", exit_codes.FAILED, as_json)
        case _:
            remedy = "this is a fault of palyra-trio; PALYRA_DEBUG=1 shows where it happened"
            return _told("internal", f"{type(error).__name__}: {error}", remedy, exit_codes.FAILED, as_json)


def _discard_output() -> None:
    """Let nobody fail again, at the end of the process, to write what could not be written."""
    with suppress(OSError), open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), sys.stdout.fileno())


def _told(code: str, message: str, remedy: str, status: int, as_json: bool) -> click.exceptions.Exit:
    from palyra_trio.core.text import visible

    if as_json:
        error = {"code": code, "message": message, "remedy": remedy, "exit_status": status}
        click.echo(json.dumps({"error": error}), err=True)
    else:
        click.echo(visible(f"error: {message}"), err=True)
        if remedy:
            click.echo(visible(f"  {remedy}"), err=True)
    return click.exceptions.Exit(status)


def _settle_streams() -> None:
    """Make the standard streams ones that can be written to.

    The null device stands in for one that the caller closed, so that no file of ours takes its number. What the
    terminal's encoding lacks is spelled out.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode))  # ruff: ignore[open-file-with-context-handler] - open for as long as the process lives
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


@click.group(cls=LazyGroup, name="palyra-trio", context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--debug", is_flag=True, envvar="PALYRA_DEBUG", help="Show where an error happened (PALYRA_DEBUG=1).")
@click.option("--daemon", metavar="NAME", help="Use the daemon that `connect` saved under this name.")
@click.option(
    "--transport",
    type=click.Choice(["auto", "quic", "h2"]),
    help="How to reach a daemon. auto: HTTP/3 if it answers, else HTTP/2. Default on this machine: its Unix socket.",
)
@click.option("-v", "--verbose", is_flag=True, help="Say on stderr how a daemon is reached.")
@click.version_option(__version__, prog_name="palyra-trio", message="%(prog)s %(version)s")
def main(debug: bool, daemon: str | None, transport: str | None, verbose: bool) -> None:
    """Run AI agents that you can trust, stop, resume and audit.

    What a run does is recorded before it is shown, in a journal on this machine: in the folder that PALYRA_STATE_DIR
    names, or else in palyra-trio below XDG_STATE_HOME.

    Exit status: 0 ok, 1 failed, 2 usage, 3 denied, 4 needs approval, 5 limit, 6 provider, 7 in doubt, 69 no daemon, 75 busy,
    77 not yours, 78 configuration, 124 out of time, 130 cancelled, 143 terminated.
    """
