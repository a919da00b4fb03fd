"""A run's questions, put to the person at the terminal one at a time.

A question is withdrawn from the screen when it is settled elsewhere: by a cancel, or by the clock. What was typed before
a question was shown does not answer it.
"""

import math

import trio

from palyra_trio.cli.display import Terminal
from palyra_trio.cli.door import Door, attempt
from palyra_trio.cli.keyboard import LineReader
from palyra_trio.core.commands import DecideApproval
from palyra_trio.core.identity import RequestContext
from palyra_trio.core.tape import ApprovalDecided, ApprovalRequested, TapeEvent

QUESTION = "allow this once? [y]es, [n]o, or a reason why not: "


class Asker:
    """Sees the events of a run and, while `ask` runs, brings the person's decisions through the door."""

    def __init__(self, door: Door, context: RequestContext, terminal: Terminal, keyboard: LineReader) -> None:
        self._door = door
        self._context = context
        self._terminal = terminal
        self._keyboard = keyboard
        self._open: dict[str, trio.CancelScope] = {}
        self._send, self._requests = trio.open_memory_channel[ApprovalRequested](
            math.inf
        )  # as many as a turn has calls

    def see(self, event: TapeEvent | None) -> None:
        """Take note of an event: a question is put in line, a decision withdraws it."""
        if isinstance(event, ApprovalRequested):
            self._open[event.approval_id] = trio.CancelScope()
            self._send.send_nowait(event)
        elif isinstance(event, ApprovalDecided) and event.approval_id in self._open:
            self._open.pop(event.approval_id).cancel()

    async def ask(self) -> None:
        """Put the questions until cancelled. The end of the terminal's input is a no."""
        async for request in self._requests:
            if request.approval_id in self._open:
                with self._open[request.approval_id]:
                    await self._put(request)

    async def _put(self, request: ApprovalRequested) -> None:
        self._terminal.ask(request)
        self._keyboard.discard()
        answer = ""
        while not answer:
            self._terminal.prompt(QUESTION)
            line = await self._keyboard.line()
            answer = "n" if line is None else line.strip()
        granted, reason = answer_of(answer)
        decision = DecideApproval(request.approval_id, granted, reason)
        await attempt(self._door, decision, self._context, self._terminal.note)


def answer_of(line: str) -> tuple[bool, str]:
    """Return whether the person said yes, and otherwise what the model is told."""
    match line.strip().lower():
        case "y" | "yes":
            return True, ""
        case "" | "n" | "no":
            return False, "the person said no"
        case _:
            return False, line.strip()
