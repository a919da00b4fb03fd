"""`palyra-trio chat`: a session at the terminal. Lines are messages; a line that begins with a slash is a command.

While a run is live, what you type is queued for the run after it; a question of the run takes the next line first,
unless that is /cancel.
"""

import math
import os
import signal
import sys
from pathlib import Path

import attrs
import click
import trio

from palyra_trio.cli.asking import Asker
from palyra_trio.cli.attach import follow
from palyra_trio.cli.display import Terminal
from palyra_trio.cli.door import Door, attempt, open_door
from palyra_trio.cli.exit_codes import OK, TERMINATED
from palyra_trio.cli.keyboard import LineReader
from palyra_trio.cli.remote import nursery_of_our_own
from palyra_trio.cli.run import enter_workspace, find_session, terminal_here
from palyra_trio.cli.settings import Settings
from palyra_trio.core.codec import TapeRow
from palyra_trio.core.commands import Accepted, CancelRun, StartRun
from palyra_trio.core.errors import InvalidArgument
from palyra_trio.core.identity import RequestContext, RunId
from palyra_trio.core.session import SessionRef, WhenBusy
from palyra_trio.core.tape import StatusChange, TapeEvent

HELP = "/interrupt TEXT  cancel the live run and say TEXT instead · /cancel  stop it · /quit  leave (also Ctrl-D)"
PROMPT = "› "


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
    folder, settings = enter_workspace(workspace)
    start = StartRun(text="", agent=agent, model=model or "", workspace=str(folder))
    sys.exit(trio.run(_chat, settings, start, session, continue_))


async def _chat(settings: Settings, start: StartRun, session: str | None, continue_: bool) -> int:
    """Return the exit status: 0 when the person left, or that of SIGTERM."""
    leaving = trio.CancelScope()  # cancelling it drains, if the runtime is this process's
    async with trio.open_nursery() as nursery:
        with leaving:
            async with open_door(settings) as (door, context):
                start = attrs.evolve(start, session=await find_session(door, context, session, continue_))
                async with trio.open_nursery() as talking:
                    chat = _Chat(door, context, terminal_here(), start, talking)
                    nursery.start_soon(chat.obey_signals, leaving)
                    await chat.hold()
                    talking.cancel_scope.cancel()
        nursery.cancel_scope.cancel()
    return TERMINATED if chat.terminated else OK


class _Typed:
    """The lines that answer questions."""

    def __init__(self) -> None:
        self._send, self._receive = trio.open_memory_channel[str](
            math.inf
        )  # a line a question, and one is put at a time

    def take(self, line: str) -> None:
        self._send.send_nowait(line)

    async def line(self) -> str:
        return await self._receive.receive()

    def discard(self) -> None:
        """Nothing is here that was typed before the question: it was taken as a message."""


class _Chat:
    """One conversation: its runs that have not ended, the one of them that runs, and who puts that one's questions."""

    def __init__(
        self,
        door: Door,
        context: RequestContext,
        terminal: Terminal,
        start: StartRun,
        nursery: trio.Nursery,
    ) -> None:
        self.terminated = False
        self._door = door
        self._context = context
        self._terminal = terminal
        self._start = start
        self._nursery = nursery
        self._typed = _Typed()
        self._asker: Asker | None = None
        self._unfinished: set[RunId] = set()
        self._live: RunId | None = None

    async def hold(self) -> None:
        """Talk until the person leaves. What has not ended then is cancelled, what is in line first."""
        self._terminal.note(HELP)
        self._terminal.prompt(PROMPT)
        keyboard = LineReader(0)
        while (line := await keyboard.line()) is not None and line.strip() != "/quit":
            self._terminal.answered()
            if self._asker is not None and self._asker.asking and line.strip() != "/cancel":
                self._typed.take(line)
                continue
            command = self._command(line.strip())
            if command is not None:
                await self._submit(command)
            if not self._unfinished:
                self._terminal.prompt(PROMPT)
        for run_id in sorted(self._unfinished, key=lambda run_id: run_id == self._live):
            await self._submit(_cancel(run_id))
        self._live = None

    def _command(self, line: str) -> StartRun | CancelRun | None:
        """Return what a line asks for, or None when it was answered here."""
        if line == "/cancel" and self._live is not None:
            return _cancel(self._live)
        if line.startswith("/interrupt "):
            return self._message(line.removeprefix("/interrupt "), WhenBusy.INTERRUPT)
        if line.startswith("/") and not line.startswith("/tool "):
            self._terminal.note(HELP)
            return None
        return self._message(line, WhenBusy.FOLLOWUP) if line else None

    def _message(self, text: str, when_busy: WhenBusy) -> StartRun:
        return attrs.evolve(self._start, text=text, when_busy=when_busy)

    async def _submit(self, command: StartRun | CancelRun) -> None:
        reply = await attempt(self._door, command, self._context, self._terminal.note)
        if isinstance(reply, Accepted):
            self._start = attrs.evolve(self._start, session=SessionRef(session_id=reply.session_id))
            self._unfinished.add(reply.run_id)
            self._nursery.start_soon(self._follow, reply.run_id)

    async def _follow(self, run_id: RunId) -> None:
        asker = Asker(self._door, self._context, run_id, self._terminal, self._typed)

        def show(row: TapeRow, event: TapeEvent | None) -> None:
            if isinstance(event, StatusChange):
                self._live, self._asker = run_id, asker
            self._terminal.show(row, event)
            asker.see(event)

        async with nursery_of_our_own() as nursery:
            nursery.start_soon(asker.ask)
            await follow(self._door, self._context, run_id, show)
        self._unfinished.discard(run_id)
        if self._live == run_id:
            self._live = None
        if not self._unfinished:
            self._terminal.prompt(PROMPT)

    async def obey_signals(self, leaving: trio.CancelScope) -> None:
        """Cancel the live run on Ctrl-C; leave when there is none, and on SIGTERM; end the process when leaving already.

        Runs until cancelled.
        """
        with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as received:
            async for number in received:
                if leaving.cancel_called:
                    os._exit(128 + number)
                if number == signal.SIGINT and self._live is not None:
                    self._nursery.start_soon(self._submit, _cancel(self._live))
                else:
                    self.terminated = number == signal.SIGTERM
                    self._terminal.note("leaving; another signal ends this at once")
                    leaving.cancel()


def _cancel(run_id: RunId) -> CancelRun:
    return CancelRun(run_id, "the person stopped it")
