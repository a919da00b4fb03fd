"""`palyra-trio run`: one prompt, one run, one answer."""

import mimetypes
import os
import sys
from pathlib import Path

import attrs
import click
import trio

from palyra_trio.cli.asking import Asker
from palyra_trio.cli.attach import Displays, attach, follow
from palyra_trio.cli.display import Lines, Summary, Terminal
from palyra_trio.cli.door import Door, attempt, open_door, open_remote_door
from palyra_trio.cli.exit_codes import TERMINATED, of_run
from palyra_trio.cli.keyboard import LineReader, obey_signals
from palyra_trio.cli.open import read_settings, state_dir
from palyra_trio.cli.settings import Settings, current_folder
from palyra_trio.cli.tables import print_json
from palyra_trio.core.codec import TapeRow
from palyra_trio.core.commands import Accepted, CancelRun, NewAttachment, StartRun
from palyra_trio.core.errors import InvalidArgument, NoDaemon, NotFound, WorkspaceRefused
from palyra_trio.core.identity import RequestContext, RunId
from palyra_trio.core.session import SessionRef, WhenBusy
from palyra_trio.core.tape import RunFinished, TapeEvent
from palyra_trio.tools.workspace_rules import refuse_root


@click.command()
@click.argument("prompt", required=False)
@click.option("--session", help="Continue the session with this id or key; a new key makes one.")
@click.option("--continue", "continue_", is_flag=True, help="Continue the session of your last run.")
@click.option("--agent", default="", help="The agent that answers; see `agents list`.")
@click.option("--model", help="provider/model, such as openai/gpt-4.1-mini or scripted/FILE.")
@click.option("--workspace", type=click.Path(path_type=Path), help="The folder to work in. Default: this one.")
@click.option("--file", "files", multiple=True, type=click.Path(path_type=Path, dir_okay=False), help="Attach a file.")
@click.option("--yes-to", multiple=True, metavar="TOOL", help="Allow this tool for the run, without asking.")
@click.option(
    "--when-busy", type=click.Choice([mode.value for mode in WhenBusy]), help="If the session has a live run."
)
@click.option("--no-input", is_flag=True, help="Nobody answers: a call that would ask ends the run (exit 4).")
@click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout when the run has ended.")
@click.option("--jsonl", "as_lines", is_flag=True, help="Every tape row on stdout as one JSON object a line.")
@click.option("--attach", "attach_to", metavar="RUN", help="Follow an existing run; take it up if it waits.")
@click.option(
    "--after", type=click.IntRange(min=0), default=0, metavar="N", help="With --attach: only the rows after seq N."
)
@click.option("--detach", is_flag=True, help="Leave the run to the daemon; what it asks waits until you answer.")
@click.option("--run-id", help="The new run's id. The same id with the same prompt attaches to that run.")
def run(
    prompt: str | None,
    session: str | None,
    continue_: bool,
    agent: str,
    model: str | None,
    workspace: Path | None,
    files: tuple[Path, ...],
    yes_to: tuple[str, ...],
    when_busy: str | None,
    no_input: bool,
    as_json: bool,
    as_lines: bool,
    attach_to: str | None,
    after: int,
    detach: bool,
    run_id: str | None,
) -> None:
    """Give an agent a task: PROMPT, or `-` or nothing to read it from stdin.

    \b
    The model, in this order: --model, the configuration, OPENAI_BASE_URL, OPENAI_API_KEY, OLLAMA_HOST. With none
    of them fixed rules answer a few plain requests about this folder, such as
      palyra-trio run "list the files here"
      palyra-trio run "read README.md and show the first lines"

    Tools that only read run at once; the others ask first. The answer goes to stdout, all else to stderr.

    \b
    A run that you leave to the daemon, and come back to:
      palyra-trio run --detach "tidy up the notes"
      palyra-trio approvals list
      palyra-trio run --attach last
    """
    if as_json and as_lines:
        raise click.UsageError("--json and --jsonl are two forms: choose one")
    terminal = terminal_here(answers=not as_json and not as_lines)
    program = (Lines(sys.stdout),) if as_lines else (Summary(sys.stdout, of_run),) if as_json else ()
    displays: Displays = (*program, terminal)
    at_terminal = not no_input and sys.stdin.isatty() and sys.stderr.isatty()
    if attach_to is not None:
        if prompt is not None or detach:
            raise click.UsageError("--attach follows a run that there is; it takes no prompt, and no --detach")
        sys.exit(attach(displays, terminal, attach_to, after, attended=at_terminal))
    if detach and (no_input or as_lines):
        raise click.UsageError("--detach leaves the run at once: --no-input and --jsonl have no meaning with it")
    if after:
        raise click.UsageError("--after goes with --attach")
    folder, settings = enter_workspace(workspace)
    most_bytes = settings.config.attachments.max_bytes
    command = StartRun(
        text=_prompt(prompt),
        run_id=RunId(run_id) if run_id else None,
        agent=agent,
        model=model or "",
        workspace=str(folder),
        attachments=tuple(_attachment(path, most_bytes) for path in files),
        attended=detach or (at_terminal and prompt != "-"),
        detached=detach,
        allowed_tools=yes_to,
        when_busy=WhenBusy(when_busy) if when_busy else None,
    )
    if detach:
        _print_left(trio.run(_detach, command, session, continue_), as_json)
        return
    accepted, ended = trio.run(_run, settings, command, displays, terminal, session, continue_)
    if accepted.attached:
        sys.exit(attach(displays, terminal, accepted.run_id, 0, attended=at_terminal))
    click.echo(f"tape: palyra-trio tape {accepted.run_id}", err=True)
    sys.exit(TERMINATED if ended is None else of_run(ended.state, ended.reason))


async def _run(
    settings: Settings,
    command: StartRun,
    displays: Displays,
    terminal: Terminal,
    session: str | None,
    continue_: bool,
) -> tuple[Accepted, RunFinished | None]:
    """Start a run and show it. Returns how it ended, or None when this process was told to end before it.

    A run that there is already is not shown: no other process is left that could go on with it.
    """
    ended: RunFinished | None = None
    here = trio.CancelScope()  # cancelling it drains, if the runtime is this process's
    async with trio.open_nursery() as nursery:
        with here:
            async with open_door(settings) as (door, context):
                ref = await find_session(door, context, session, continue_)
                reply = await door.submit(attrs.evolve(command, session=ref), context)
                assert isinstance(reply, Accepted)
                accepted = reply

                async def cancel() -> None:
                    terminal.answered()
                    terminal.note("\ncancelling; Ctrl-C again to end at once")
                    await attempt(door, CancelRun(accepted.run_id, "Ctrl-C"), context, terminal.note)

                def terminate() -> None:
                    terminal.note("shutting down; another signal ends this at once")
                    here.cancel()

                asker = Asker(door, context, accepted.run_id, terminal, LineReader(0))

                def show(row: TapeRow, event: TapeEvent | None) -> None:
                    for display in displays:
                        display.show(row, event)
                    asker.see(event)

                nursery.start_soon(obey_signals, cancel, terminate)
                if command.attended:
                    nursery.start_soon(asker.ask)
                if not accepted.attached:
                    ended = await follow(door, context, accepted.run_id, show)
        nursery.cancel_scope.cancel()
    return accepted, ended


async def _detach(command: StartRun, session: str | None, continue_: bool) -> Accepted:
    """Start a run in the process that holds the journal, and leave it there. Raises NoDaemon."""
    try:
        async with open_remote_door(state_dir()) as (door, context):
            ref = await find_session(door, context, session, continue_)
            reply = await door.submit(attrs.evolve(command, session=ref), context)
    except NoDaemon as error:
        raise NoDaemon(error.message, remedy="a run is left to a daemon: start one with `palyra-trio serve`") from error
    assert isinstance(reply, Accepted)
    return reply


def _print_left(accepted: Accepted, as_json: bool) -> None:
    if as_json:
        print_json({"run_id": accepted.run_id, "session_id": accepted.session_id})
    else:
        click.echo(accepted.run_id)
    click.echo(f"next: palyra-trio run --attach {accepted.run_id}", err=True)


async def find_session(door: Door, context: RequestContext, session: str | None, continue_: bool) -> SessionRef:
    """Return the session that the options name: the last run's, the one with this id or key, or a new one."""
    if session is not None and continue_:
        raise InvalidArgument("--session and --continue name two sessions", remedy="pass one of the two")
    await trio.lowlevel.checkpoint()
    if continue_:
        return SessionRef(session_id=await door.session_named("last", context))
    if session is None:
        return SessionRef()
    try:
        return SessionRef(session_id=await door.session_named(session, context))
    except NotFound:
        return SessionRef(key=session)


def terminal_here(*, answers: bool = True) -> Terminal:
    """Return the display for who calls the command. Without `answers` stdout is left to a program's form of them."""
    color = sys.stderr.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
    return Terminal(
        sys.stdout if answers else None, sys.stderr, stream=sys.stdout.isatty(), color=color, live=sys.stderr.isatty()
    )


def _prompt(prompt: str | None) -> str:
    if prompt is not None and prompt != "-":
        return prompt
    if prompt is None and sys.stdin.isatty():
        raise click.UsageError("there is no prompt: pass one, or pipe it in")
    return sys.stdin.buffer.read().decode("utf-8", "surrogateescape")


def enter_workspace(named: Path | None) -> tuple[Path, Settings]:
    """Return the folder to work in, the current one if none is named, and what is configured for it.

    Prints the warnings of the configuration. Raises WorkspaceRefused, and ConfigInvalid.
    """
    folder = (named or current_folder()).resolve()
    if not folder.is_dir():
        raise WorkspaceRefused(f"{folder} is no folder", remedy="pass an existing folder as --workspace")
    settings = read_settings(folder=folder)
    reason = refuse_root(folder, Path.home().resolve(), settings.state_dir.resolve())
    if reason and named is None:
        raise WorkspaceRefused(
            f"{folder} is no workspace: {reason}", remedy="go to a project's folder, or name it with --workspace"
        )
    return folder, settings


def _attachment(path: Path, most_bytes: int) -> NewAttachment:
    media_type = mimetypes.guess_type(path.name)[0] or "application/octet-stream"
    try:
        with open(path, "rb") as file:
            data = file.read(most_bytes + 1)  # one that is too large, or has no end, is refused by its length
    except OSError as error:
        raise InvalidArgument(f"{path} cannot be attached: {error.strerror}") from error
    return NewAttachment(path.name, media_type, data)
