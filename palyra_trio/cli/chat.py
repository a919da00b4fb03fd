"""`palyra-trio chat`: a session at the terminal. Lines are messages; a line that begins with a slash is a command.

While a run is live, what you type is queued for the run after it; a question of the run takes the next line first.
"""

import os
import signal
import sys
from collections import deque
from pathlib import Path

import attrs
import click
import trio

from palyra_trio.cli.display import Terminal
from palyra_trio.cli.keyboard import LineReader
from palyra_trio.cli.open import open_local, request_context
from palyra_trio.cli.run import answer_of, find_session, follow, refuse_folder, terminal_here, workspace_of
from palyra_trio.cli.settings import Settings, load_settings
from palyra_trio.core.codec import TapeRow
from palyra_trio.core.commands import Accepted, CancelRun, DecideApproval, StartRun
from palyra_trio.core.errors import InvalidArgument, PalyraError
from palyra_trio.core.identity import RequestContext, RunId
from palyra_trio.core.session import SessionRef, WhenBusy
from palyra_trio.core.tape import ApprovalDecided, ApprovalRequested, TapeEvent
from palyra_trio.runtime.gateway import Gateway

HELP = "/interrupt TEXT  cancel the live run and say TEXT instead · /cancel  stop it · /quit  leave (also Ctrl-D)"


@click.command()
@click.option("--session", help="Continue the session with this id or key; a new key makes one.")
@click.option("--continue", "continue_", is_flag=True, help="Continue the session of your last run.")
@click.option("--agent", default="", help="The agent that answers; see `agents list`.")
@click.option("--model", help="provider/model, such as openai/gpt-4.1-mini or scripted/FILE.")
@click.option("--workspace", type=click.Path(path_type=Path), help="The folder to work in. Default: this one.")
def chat(session: str | None, continue_: bool, agent: str, model: str | None, workspace: Path | None) -> None:
    """Talk with an agent: send, interrupt, approve.

    Ctrl-C stops the live run; without one it leaves, as Ctrl-D does.
    """
    if not sys.stdin.isatty():
        raise InvalidArgument("chat needs a terminal", remedy="use `palyra-trio run` with a piped prompt")
    folder = workspace_of(workspace)
    settings = load_settings({"model.name": model}, os.environ, folder)
    for warning in settings.warnings:
        click.echo(f"warning: {warning}", err=True)
    refuse_folder(folder, settings.state_dir, named=workspace is not None)
    trio.run(_chat, settings, StartRun(text="", agent=agent, workspace=str(folder)), session, continue_)


async def _chat(settings: Settings, command: StartRun, session: str | None, continue_: bool) -> None:
    async with open_local(settings) as gateway:
        context = request_context(settings.state_dir)
        command = attrs.evolve(command, session=await find_session(gateway, context, session, continue_))
        await _Chat(gateway, context, terminal_here(), command).hold()


class _Chat:
    """One conversation: the runs that were sent and are shown one after another, and the questions that are open."""

    def __init__(self, gateway: Gateway, context: RequestContext, terminal: Terminal, command: StartRun) -> None:
        self._gateway = gateway
        self._context = context
        self._terminal = terminal
        self._command = command
        self._questions: deque[ApprovalRequested] = deque()
        self._live: RunId | None = None
        self._sent, self._to_show = trio.open_memory_channel[RunId](64)

    async def hold(self) -> None:
        """Talk until the person leaves. Runs that are live then are cancelled."""
        self._terminal.note(HELP)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._show_runs)
            nursery.start_soon(self._obey_ctrl_c, nursery.cancel_scope)
            keyboard = LineReader(0)
            self._terminal.prompt("› ")
            while (line := await keyboard.line()) is not None and line.strip() != "/quit":
                try:
                    await self._take(line.strip())
                except PalyraError as error:
                    self._terminal.note(f"error: {error}")
            await self._cancel()
            nursery.cancel_scope.cancel()

    async def _take(self, line: str) -> None:
        if self._questions:
            request = self._questions.popleft()
            granted, reason = answer_of(line)
            await self._gateway.submit(DecideApproval(request.approval_id, granted, reason), self._context)
        elif line == "/cancel":
            await self._cancel()
        elif line.startswith("/interrupt "):
            await self._send(line.removeprefix("/interrupt "), WhenBusy.INTERRUPT)
        elif line == "/help" or (line.startswith("/") and not line.startswith("/tool ")):
            self._terminal.note(HELP)
        elif line:
            await self._send(line, WhenBusy.FOLLOWUP)
        if self._live is None:
            self._terminal.prompt("› ")

    async def _send(self, text: str, when_busy: WhenBusy) -> None:
        accepted = await self._gateway.submit(
            attrs.evolve(self._command, text=text, when_busy=when_busy), self._context
        )
        assert isinstance(accepted, Accepted)
        self._command = attrs.evolve(self._command, session=SessionRef(session_id=accepted.session_id))
        self._live = self._live or accepted.run_id
        await self._sent.send(accepted.run_id)

    async def _show_runs(self) -> None:
        async for run_id in self._to_show:
            self._live = run_id
            await follow(self._gateway, self._context, run_id, self, None)
            self._live = None
            self._questions.clear()
            self._terminal.prompt("› ")

    def show(self, row: TapeRow, event: TapeEvent | None) -> None:
        self._terminal.show(row, event)
        if isinstance(event, ApprovalRequested):
            self._questions.append(event)
            self._terminal.ask(event)
        elif isinstance(event, ApprovalDecided):
            self._questions = deque(each for each in self._questions if each.approval_id != event.approval_id)

    async def _obey_ctrl_c(self, whole: trio.CancelScope) -> None:
        with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as received:
            async for number in received:
                if number == signal.SIGTERM or self._live is None:
                    whole.cancel()
                else:
                    await self._cancel()

    async def _cancel(self) -> None:
        if self._live is None:
            return
        try:
            await self._gateway.submit(CancelRun(self._live, "the person stopped it"), self._context)
        except PalyraError as error:
            self._terminal.note(str(error))
