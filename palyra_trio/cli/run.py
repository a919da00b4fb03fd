"""`palyra-trio run`: one prompt, one run, one answer."""

import mimetypes
import os
import sys
from collections.abc import Callable
from pathlib import Path

import attrs
import click
import trio

from palyra_trio.cli.asking import Asker
from palyra_trio.cli.display import Display, Lines, Summary, Terminal
from palyra_trio.cli.door import Door, attempt, open_door, open_remote_door
from palyra_trio.cli.exit_codes import TERMINATED, of_run
from palyra_trio.cli.keyboard import LineReader, obey_signals
from palyra_trio.cli.open import is_held, principal, reading, state_dir, state_word
from palyra_trio.cli.settings import Settings, current_folder, load_settings
from palyra_trio.cli.tape import rows_after
from palyra_trio.core.codec import TapeRow
from palyra_trio.core.commands import Accepted, CancelRun, NewAttachment, StartRun
from palyra_trio.core.errors import InvalidArgument, NotFound, WorkspaceRefused
from palyra_trio.core.identity import RequestContext, RunId
from palyra_trio.core.run import TERMINAL
from palyra_trio.core.session import SessionRef, WhenBusy
from palyra_trio.core.tape import RunFinished, TapeEvent
from palyra_trio.tools.workspace_rules import refuse_root

Displays = tuple[Display, ...]
Show = Callable[[TapeRow, TapeEvent | None], None]


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
@click.option("--attach", metavar="RUN", help="Follow an existing run instead of starting one.")
@click.option(
    "--after", type=click.IntRange(min=0), default=0, metavar="N", help="With --attach: only the rows after seq N."
)
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
    attach: str | None,
    after: int,
    run_id: str | None,
) -> None:
    """Give an agent a task: PROMPT, or `-` or nothing to read it from stdin.

    \b
    The model, in this order: --model, the configuration, OPENAI_BASE_URL, OPENAI_API_KEY, OLLAMA_HOST. With none
    of them fixed rules answer a few plain requests about this folder, such as
      palyra-trio run "list the files here"
      palyra-trio run "read README.md and show the first lines"

    Tools that only read run at once; the others ask first. The answer goes to stdout, all else to stderr.
    """
    if as_json and as_lines:
        raise click.UsageError("--json and --jsonl are two forms: choose one")
    terminal = terminal_here(answers=not as_json and not as_lines)
    program = (Lines(sys.stdout),) if as_lines else (Summary(sys.stdout, of_run),) if as_json else ()
    displays: Displays = (*program, terminal)
    if attach is not None:
        if prompt is not None:
            raise click.UsageError("--attach follows a run that there is; it takes no prompt")
        sys.exit(_attach(displays, attach, after))
    if after:
        raise click.UsageError("--after goes with --attach")
    folder = workspace_of(workspace)
    settings = load_settings({}, os.environ, folder)
    for warning in settings.warnings:
        click.echo(f"warning: {warning}", err=True)
    refuse_folder(folder, settings.state_dir, named=workspace is not None)
    attended = not no_input and sys.stdin.isatty() and sys.stderr.isatty() and prompt != "-"
    most_bytes = settings.config.attachments.max_bytes
    command = StartRun(
        text=_prompt(prompt),
        run_id=RunId(run_id) if run_id else None,
        agent=agent,
        model=model or "",
        workspace=str(folder),
        attachments=tuple(_attachment(path, most_bytes) for path in files),
        attended=attended,
        allowed_tools=yes_to,
        when_busy=WhenBusy(when_busy) if when_busy else None,
    )
    accepted, ended = trio.run(_run, settings, command, displays, terminal, session, continue_)
    if accepted.attached:
        sys.exit(_attach(displays, accepted.run_id, 0))
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
                    terminal.note("\ncancelling; Ctrl-C again to end at once")
                    await attempt(door, CancelRun(accepted.run_id, "Ctrl-C"), context, terminal.note)

                def terminate() -> None:
                    terminal.note("shutting down; another signal ends this at once")
                    here.cancel()

                asker = Asker(door, context, terminal, LineReader(0))

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


async def follow(door: Door, context: RequestContext, run_id: RunId, show: Show, after: int = 0) -> RunFinished:
    """Show a run, row by row, until it has ended."""
    async with door.following(run_id, after, context) as follower:
        while rows := await follower.next_rows():
            for row in rows:
                event = row.event()
                show(row, event)
                if isinstance(event, RunFinished):
                    return event
    raise AssertionError("a tape ends with RunFinished")


def _attach(displays: Displays, run: str, after: int) -> int:
    """Show the tape of a run: live from the process that runs it, or what the journal holds if nobody does."""

    def show(row: TapeRow, event: TapeEvent | None) -> None:
        for display in displays:
            display.show(row, event)

    with reading() as reader:
        summary = reader.find_run(run, principal())
        held = is_held(state_dir())
        if summary.state in TERMINAL or not held:
            for row in rows_after(reader, summary, after):
                show(row, row.event())
    if summary.state in TERMINAL:
        return of_run(summary.state, summary.reason)
    if held:
        ended = trio.run(_follow_there, summary.run_id, after, show)
        return of_run(ended.state, ended.reason)
    click.echo(f"run {summary.run_id} is {state_word(summary, held)}", err=True)
    return of_run(summary.state, summary.reason)


async def _follow_there(run_id: RunId, after: int, show: Show) -> RunFinished:
    async with open_remote_door(state_dir()) as (door, context):
        return await follow(door, context, run_id, show, after)


def terminal_here(*, answers: bool = True) -> Terminal:
    """Return the display for who calls the command. Without `answers` stdout is left to a program's form of them."""
    color = sys.stderr.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
    return Terminal(sys.stdout if answers else None, sys.stderr, stream=sys.stdout.isatty(), color=color)


def _prompt(prompt: str | None) -> str:
    if prompt is not None and prompt != "-":
        return prompt
    if prompt is None and sys.stdin.isatty():
        raise click.UsageError("there is no prompt: pass one, or pipe it in")
    return sys.stdin.buffer.read().decode("utf-8", "surrogateescape")


def workspace_of(named: Path | None) -> Path:
    folder = (named or current_folder()).resolve()
    if not folder.is_dir():
        raise WorkspaceRefused(f"{folder} is no folder", remedy="pass an existing folder as --workspace")
    return folder


def refuse_folder(folder: Path, state_dir: Path, *, named: bool) -> None:
    reason = refuse_root(folder, Path.home().resolve(), state_dir.resolve())
    if reason and not named:
        raise WorkspaceRefused(
            f"{folder} is no workspace: {reason}", remedy="go to a project's folder, or name it with --workspace"
        )


def _attachment(path: Path, most_bytes: int) -> NewAttachment:
    media_type = mimetypes.guess_type(path.name)[0] or "application/octet-stream"
    try:
        with open(path, "rb") as file:
            data = file.read(most_bytes + 1)  # one that is too large, or has no end, is refused by its length
    except OSError as error:
        raise InvalidArgument(f"{path} cannot be attached: {error.strerror}") from error
    return NewAttachment(path.name, media_type, data)
