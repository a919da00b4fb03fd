"""A run's questions, put to the person at the terminal one after another.

A question is withdrawn from the screen when it is settled elsewhere: by another surface, a cancel or the clock. What was
typed before a question was shown does not answer it.
"""

import time
from typing import Protocol

import attrs
import trio

from palyra_trio.cli.display import Terminal
from palyra_trio.cli.door import Door
from palyra_trio.cli.spans import EXAMPLES, span_ms
from palyra_trio.core.approvals import ApprovalState
from palyra_trio.core.commands import DecideApproval, TakeUpRun
from palyra_trio.core.errors import InvalidArgument, PalyraError
from palyra_trio.core.identity import RequestContext, RunId
from palyra_trio.core.tape import ApprovalDecided, ApprovalRequested, TapeEvent

QUESTION = "allow this once? [y]es, [n]o, or a reason why not: "
ANSWER = "your answer (Ctrl-D declines): "


class LineSource(Protocol):
    """Where lines come from that a person types: None at the end; `discard` forgets what was not taken yet."""

    async def line(self) -> str | None: ...

    def discard(self) -> None: ...


@attrs.define
class _Question:
    """A question that is open; `scope` is the putting of it."""

    request: ApprovalRequested
    scope: trio.CancelScope = attrs.field(factory=trio.CancelScope)
    put: bool = False


class Asker:
    """Sees the events of a run and, while `ask` runs, brings the person's decisions through the door.

    `asking` while a question is put and its answer has not been typed.
    """

    def __init__(
        self, door: Door, context: RequestContext, run_id: RunId, terminal: Terminal, lines: LineSource
    ) -> None:
        self.asking = False
        self._door = door
        self._context = context
        self._run_id = run_id
        self._terminal = terminal
        self._lines = lines
        self._open: dict[str, _Question] = {}
        self._settled = 0  # of those that are open together
        self._deciding = ""
        self._more = trio.Event()

    def see(self, event: TapeEvent | None) -> None:
        """Take note of an event: a question is put in line, a decision withdraws it."""
        if isinstance(event, ApprovalRequested) and event.approval_id not in self._open:
            self._open[event.approval_id] = _Question(event)
            self._more.set()
        elif isinstance(event, ApprovalDecided) and event.approval_id in self._open.keys() - {self._deciding}:
            question = self._open[event.approval_id]
            if question.put:
                self._terminal.withdraw()
            if event.outcome in (ApprovalState.GRANTED, ApprovalState.DENIED):
                self._terminal.note(f"{question.request.tool}: {event.outcome} elsewhere, by {event.by}")
            self._close(event.approval_id)
            question.scope.cancel()

    async def ask(self) -> None:
        """Put the questions until cancelled. The end of the terminal's input is a no."""
        while True:
            while not self._open:
                self._more = trio.Event()
                await self._more.wait()
            question = next(iter(self._open.values()))
            with question.scope:
                question.put = True
                await self._put(question.request)

    async def _put(self, request: ApprovalRequested) -> None:
        together = self._settled + len(self._open)
        self._terminal.ask(request, f"question {self._settled + 1} of {together}" if together > 1 else "")
        self._lines.discard()
        while True:
            self._terminal.prompt(question_of(request))
            try:
                decision = decision_of(request, await self._typed(), time.time_ns() // 1_000_000)
                await self._decide(decision)
            except InvalidArgument as error:
                self._terminal.note(str(error))
                continue
            except PalyraError as error:
                self._terminal.note(f"error: {error}")
            break
        self._close(request.approval_id)

    async def _typed(self) -> str | None:
        self.asking = True
        try:
            line = await self._lines.line()
        finally:
            self.asking = False
        if line is None:
            self._terminal.withdraw()
        else:
            self._terminal.answered()
        return line

    async def _decide(self, decision: DecideApproval) -> None:
        self._deciding = decision.approval_id
        try:
            await self._door.submit(decision, self._context)
            await self._door.submit(TakeUpRun(self._run_id), self._context)  # who ran it may have left meanwhile
        finally:
            self._deciding = ""

    def _close(self, approval_id: str) -> None:
        self._open.pop(approval_id, None)
        self._settled = self._settled + 1 if self._open else 0


def question_of(request: ApprovalRequested) -> str:
    """Return the line that asks for the answer, after what the request itself says."""
    if request.question:
        return ANSWER
    if request.pattern is None:
        return QUESTION
    return f"or allow {request.pattern} for the [s]ession, or for a [t]ime such as t 2h\n{QUESTION}"


def decision_of(request: ApprovalRequested, line: str | None, now_ms: int) -> DecideApproval:
    """Return what a typed line decides; None is the end of the input. `now_ms` is Unix time.

    Raises InvalidArgument for a line that decides nothing: then the question is put again.
    """
    approval_id, text = request.approval_id, (line or "").strip()
    if line is None:
        return DecideApproval(approval_id, False, "the person declined to answer" if request.question else _SAID_NO)
    if not text:
        raise InvalidArgument("that is no answer")
    if request.question:
        return DecideApproval(approval_id, True, text)
    match text.lower().split():
        case ["y" | "yes"]:
            return DecideApproval(approval_id, True)
        case ["n" | "no"]:
            return DecideApproval(approval_id, False, _SAID_NO)
        case ["s" | "session" | "t" | "time"] | ["t" | "time", _] if request.pattern is None:
            raise InvalidArgument("this can be allowed once only")
        case ["s" | "session"]:
            return DecideApproval(approval_id, True, scope="session")
        case ["t" | "time", *span] if len(span) < 2:
            if (for_ms := span_ms("".join(span))) is None:
                raise InvalidArgument("for how long?", remedy=f"t and a length such as {EXAMPLES}")
            return DecideApproval(approval_id, True, scope="time", until_ms=now_ms + for_ms)
        case _:
            return DecideApproval(approval_id, False, text)


_SAID_NO = "the person said no"
