"""Following a run at a terminal: what its tape holds, what is still to come, and its questions to the person.

A run that an earlier process left in line or waiting is taken up. Leaving does not end the run.
"""

import sys
from collections.abc import Callable

import click
import trio

from palyra_trio.cli.asking import Asker
from palyra_trio.cli.display import Display, Terminal
from palyra_trio.cli.door import Door, open_door, open_remote_door
from palyra_trio.cli.exit_codes import INTERRUPTED as LEFT
from palyra_trio.cli.exit_codes import of_run
from palyra_trio.cli.keyboard import LineReader, obey_signals
from palyra_trio.cli.open import INTERRUPTED, is_held, principal, read_settings, reading, state_dir, state_word
from palyra_trio.cli.remote import nursery_of_our_own
from palyra_trio.cli.settings import Settings
from palyra_trio.cli.tape import rows_after
from palyra_trio.core.codec import TapeRow
from palyra_trio.core.commands import TakeUpRun
from palyra_trio.core.errors import NoDaemon
from palyra_trio.core.identity import RequestContext, RunId
from palyra_trio.core.run import TERMINAL, RunState
from palyra_trio.core.tape import ApprovalRequested, RunFinished, TapeEvent
from palyra_trio.core.view import RunView, fold_rows
from palyra_trio.journal.queries import RunSummary, whole_tape

Displays = tuple[Display, ...]
Show = Callable[[TapeRow, TapeEvent | None], None]


async def follow(door: Door, context: RequestContext, run_id: RunId, show: Show, after: int = 0) -> RunFinished:
    """Show a run, row by row, until it has ended.

    A run that waits outlives the process that ran it: once that has been gone for a while, another goes on with it, or
    this one. Raises NoDaemon where that may not be.
    """
    while True:
        try:
            async with door.following(run_id, after, context) as follower:
                while rows := await follower.next_rows():
                    for row in rows:
                        after, event = row.seq, row.event()
                        show(row, event)
                        if isinstance(event, RunFinished):
                            return event
                raise AssertionError("a tape ends with RunFinished")
        except NoDaemon:
            await door.submit(TakeUpRun(run_id), context)


def attach(displays: Displays, terminal: Terminal, run: str, after: int, *, attended: bool) -> int:
    """Show the tape of a run after row `after` until it has ended, and put its questions if `attended`.

    One that was interrupted is shown as far as it came. Returns the exit status.
    """
    with reading() as reader:
        summary = reader.find_run(run, principal())
        held = is_held(state_dir())
        word = state_word(summary, held)
        over = summary.state in TERMINAL or word == INTERRUPTED
        if over:
            for row in rows_after(reader, summary, after):
                for display in displays:
                    display.show(row, row.event())
        view = fold_rows(RunView(), () if over else whole_tape(reader, summary.run_id))
    if over:
        if word == INTERRUPTED:
            click.echo(f"run {summary.run_id} is {word}", err=True)
        return of_run(summary.state, summary.reason)
    going_over = _GoingOver(displays, terminal, summary, view, after, attended)
    ended = trio.run(going_over.there) if held else trio.run(going_over.here, read_settings())
    return LEFT if ended is None else of_run(ended.state, ended.reason)


class _GoingOver:
    """One run, from what its tape held at first (`view`) to its end."""

    def __init__(
        self, displays: Displays, terminal: Terminal, run: RunSummary, view: RunView, after: int, attended: bool
    ) -> None:
        self._displays = displays
        self._terminal = terminal
        self._run = run
        self._view = view
        self._after = after
        self._attended = attended

    async def there(self) -> RunFinished:
        """Follow the run in the process that holds the journal. Ctrl-C leaves."""
        async with open_remote_door(state_dir()) as (door, context):
            return await self._follow(door, context)

    async def here(self, settings: Settings) -> RunFinished | None:
        """Follow the run in a runtime of our own; None when the person left before its end."""
        ended: RunFinished | None = None
        leaving = trio.CancelScope()

        async def leave() -> None:
            self._terminal.answered()
            self._terminal.note("\nleaving; another signal ends this at once")
            leaving.cancel()
            await trio.lowlevel.checkpoint()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(obey_signals, leave, leaving.cancel)
            with leaving:
                async with open_door(settings) as (door, context):
                    ended = await self._follow(door, context)
            nursery.cancel_scope.cancel()
        return ended

    async def _follow(self, door: Door, context: RequestContext) -> RunFinished:
        if self._run.state in (RunState.WAITING, RunState.QUEUED):
            await door.submit(TakeUpRun(self._run.run_id), context)
        asker = Asker(door, context, self._run.run_id, self._terminal, LineReader(sys.stdin.fileno()))
        caught_up_at = self._view.seq

        def show(row: TapeRow, event: TapeEvent | None) -> None:
            for display in self._displays:
                display.show(row, event)
            if row.seq > caught_up_at:
                ask(event)
            elif row.seq == caught_up_at:
                begin()

        def begin() -> None:
            for call_id in self._view.waiting():
                ask(self._view.calls[call_id].asked)

        def ask(event: TapeEvent | None) -> None:
            if self._attended:
                asker.see(event)
            elif isinstance(event, ApprovalRequested):
                self._terminal.note(f"it waits for an answer: palyra-trio approvals show {event.approval_id}")

        async with nursery_of_our_own() as nursery:
            if self._attended:
                nursery.start_soon(asker.ask)
            if self._after >= caught_up_at:
                begin()
            return await follow(door, context, self._run.run_id, show, self._after)
