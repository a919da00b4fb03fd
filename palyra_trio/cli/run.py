"""`palyra-trio run`: one prompt, one run, one answer."""

import functools
import mimetypes
import os
import sys
from pathlib import Path

import attrs
import click
import trio

from palyra_trio.cli.display import Display, Lines, Summary, Terminal
from palyra_trio.cli.exit_codes import TERMINATED, of_run
from palyra_trio.cli.keyboard import LineReader, obey_signals
from palyra_trio.cli.open import is_held, open_local, principal, reading, request_context
from palyra_trio.cli.settings import Settings, load_settings
from palyra_trio.core.commands import Accepted, CancelRun, DecideApproval, NewAttachment, StartRun
from palyra_trio.core.errors import InvalidArgument, NotFound, PalyraError, StateLocked, WorkspaceRefused
from palyra_trio.core.identity import RequestContext, RunId
from palyra_trio.core.run import TERMINAL
from palyra_trio.core.session import SessionRef, WhenBusy
from palyra_trio.core.tape import ApprovalDecided, ApprovalRequested, RunFinished, run_stream
from palyra_trio.runtime.gateway import Gateway
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
@click.option("--when-busy", type=click.Choice([*WhenBusy]), help="If the session has a live run.")
@click.option("--no-input", is_flag=True, help="Nobody answers: a call that would ask ends the run (exit 4).")
@click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout when the run has ended.")
@click.option("--jsonl", "as_lines", is_flag=True, help="Every tape row on stdout as one JSON object a line.")
@click.option("--attach", metavar="RUN", help="Follow an existing run instead of starting one.")
@click.option("--after", default=0, metavar="N", help="With --attach: only the rows after seq N.")
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
    folder = workspace_of(workspace)
    settings = load_settings({"model.name": model}, os.environ, folder)
    for warning in settings.warnings:
        click.echo(f"warning: {warning}", err=True)
    terminal = terminal_here()
    display: Display = Lines(sys.stdout) if as_lines else Summary(sys.stdout, of_run) if as_json else terminal
    if attach is not None:
        sys.exit(_attach(settings, display, attach, after))
    refuse_folder(folder, settings.state_dir, named=workspace is not None)
    attended = not no_input and sys.stdin.isatty() and sys.stderr.isatty() and prompt != "-"
    command = StartRun(
        text=_prompt(prompt),
        run_id=RunId(run_id) if run_id else None,
        agent=agent,
        workspace=str(folder),
        attachments=tuple(_attachment(path) for path in files),
        attended=attended,
        allowed_tools=yes_to,
        when_busy=WhenBusy(when_busy) if when_busy else None,
    )
    sys.exit(trio.run(_run, settings, command, display, terminal, session, continue_))


async def _run(
    settings: Settings, command: StartRun, display: Display, terminal: Terminal, session: str | None, continue_: bool
) -> int:
    """Return the exit status of the run, once it has ended or this process was told to."""
    terminated = False
    async with open_local(settings) as gateway, trio.open_nursery() as nursery:
        context = request_context(settings.state_dir)

        def terminate() -> None:
            nonlocal terminated
            terminated = True
            nursery.cancel_scope.cancel()

        ref = await find_session(gateway, context, session, continue_)
        accepted = await gateway.submit(attrs.evolve(command, session=ref), context)
        assert isinstance(accepted, Accepted)
        nursery.start_soon(obey_signals, functools.partial(_cancel, gateway, context, accepted.run_id), terminate)
        ended = await follow(gateway, context, accepted.run_id, display, terminal if command.attended else None)
        nursery.cancel_scope.cancel()
    if terminated:
        return TERMINATED
    click.echo(f"tape: palyra-trio tape {accepted.run_id}", err=True)
    return of_run(ended.state, ended.reason)


async def find_session(gateway: Gateway, context: RequestContext, session: str | None, continue_: bool) -> SessionRef:
    """Return the session that the options name: the last run's, the one with this id or key, or a new one."""
    if session is not None and continue_:
        raise InvalidArgument("--session and --continue name two sessions", remedy="pass one of the two")
    if session is None and not continue_:
        return SessionRef()
    text = "last" if session is None else session
    try:
        found = await gateway.ask(lambda reader: reader.find_session(text, context.principal))
    except (NotFound, InvalidArgument):
        if continue_:
            raise
        return SessionRef(key=session)
    return SessionRef(session_id=found.session_id)


async def follow(
    gateway: Gateway, context: RequestContext, run_id: RunId, display: Display, asker: Terminal | None
) -> RunFinished:
    """Show a run until it has ended, and put its questions to the person at `asker`, if there is one."""
    follower = await gateway.follow(run_id, 0, context)
    questions: dict[str, trio.CancelScope] = {}
    keyboard = LineReader(0)
    async with trio.open_nursery() as nursery:
        while rows := await follower.next_rows():
            for row in rows:
                event = row.event()
                display.show(row, event)
                if isinstance(event, ApprovalRequested) and asker is not None:
                    questions[event.approval_id] = scope = trio.CancelScope()
                    nursery.start_soon(_ask, gateway, context, asker, keyboard, event, scope)
                elif isinstance(event, ApprovalDecided) and event.approval_id in questions:
                    questions[event.approval_id].cancel()
                elif isinstance(event, RunFinished):
                    nursery.cancel_scope.cancel()
                    return event
    raise AssertionError("a tape ends with RunFinished")


async def _ask(
    gateway: Gateway,
    context: RequestContext,
    asker: Terminal,
    keyboard: LineReader,
    request: ApprovalRequested,
    scope: trio.CancelScope,
) -> None:
    """Ask a person, until there is an answer or the question is settled otherwise."""
    with scope:
        asker.ask(request)
        answer = ""
        while not answer:
            asker.prompt("allow this once? [y]es, [n]o, or a reason why not: ")
            line = await keyboard.line()
            answer = "n" if line is None else line.strip()
        granted, reason = answer_of(answer)
        await gateway.submit(DecideApproval(request.approval_id, granted, reason), context)


def answer_of(line: str) -> tuple[bool, str]:
    """Return whether the person said yes, and otherwise what the model is told."""
    match line.strip().lower():
        case "y" | "yes":
            return True, ""
        case "" | "n" | "no":
            return False, "the person said no"
        case _:
            return False, line.strip()


async def _cancel(gateway: Gateway, context: RequestContext, run_id: RunId) -> None:
    click.echo("\ncancelling; Ctrl-C again to end at once", err=True)
    try:
        await gateway.submit(CancelRun(run_id, "Ctrl-C"), context)
    except PalyraError as error:
        click.echo(f"{error}", err=True)


def _attach(settings: Settings, display: Display, text: str, after: int) -> int:
    """Show the tape of a run from the journal. Raises StateLocked when it is still live in another process."""
    with reading() as reader:
        summary = reader.find_run(text, principal())
        for row in reader.tape(run_stream(summary.run_id)):
            if row.seq > after:
                display.show(row, row.event())
    if summary.state not in TERMINAL and is_held(settings.state_dir):
        raise StateLocked(f"run {summary.run_id} is {summary.state} in another process", remedy="attach again later")
    return of_run(summary.state, summary.reason)


def terminal_here() -> Terminal:
    color = sys.stderr.isatty() and "NO_COLOR" not in os.environ
    return Terminal(sys.stdout, sys.stderr, stream=sys.stdout.isatty(), color=color)


def _prompt(prompt: str | None) -> str:
    if prompt is not None and prompt != "-":
        return prompt
    if prompt is None and sys.stdin.isatty():
        raise click.UsageError("there is no prompt: pass one, or pipe it in")
    return sys.stdin.buffer.read().decode("utf-8", "surrogateescape")


def workspace_of(named: Path | None) -> Path:
    folder = (named or Path.cwd()).resolve()
    if not folder.is_dir():
        raise WorkspaceRefused(f"{folder} is no folder", remedy="pass an existing folder as --workspace")
    return folder


def refuse_folder(folder: Path, state_dir: Path, *, named: bool) -> None:
    reason = refuse_root(folder, Path.home(), state_dir)
    if reason and not named:
        raise WorkspaceRefused(
            f"{folder} is no workspace: {reason}", remedy="go to a project's folder, or name it with --workspace"
        )


def _attachment(path: Path) -> NewAttachment:
    media_type = mimetypes.guess_type(path.name)[0] or "application/octet-stream"
    try:
        return NewAttachment(path.name, media_type, path.read_bytes())
    except OSError as error:
        raise InvalidArgument(f"{path} cannot be attached: {error.strerror}") from error
