"""A run as a conversation: its tape folded into blocks, each of which is one piece of the page.

`RunStory.add` takes the rows in order; `take_changes` says which blocks look different since it was asked last, and where
text only grew. A page shows all blocks of the same fold, so what it shows after a reload is what the changes came to.
Pure: nothing is read or rendered here.
"""

import json
from collections.abc import Iterable, Iterator

import attrs

from palyra_trio.core.codec import TapeRow
from palyra_trio.core.file_events import FilesChanged
from palyra_trio.core.messages import ToolCall, Usage
from palyra_trio.core.outputs import OutputKept
from palyra_trio.core.policy import Pattern
from palyra_trio.core.run import CallState, RunState
from palyra_trio.core.tape import (
    ApprovalDecided,
    ApprovalRequested,
    CancelRequested,
    Correction,
    FileChange,
    Input,
    KillReceipt,
    LimitReached,
    ModelDelta,
    ModelTurn,
    PolicyDecision,
    ProviderAttempt,
    ProviderError,
    RunInterrupted,
    TapeEvent,
    ToolFinished,
    ToolOutput,
    ToolProposed,
    ToolStarted,
)
from palyra_trio.core.view import RunView, fold
from palyra_trio.core.words import arguments_in_words, duration, one_line
from palyra_trio.runtime.runs import INTERRUPTED

SHOWN_CHARACTERS = 4000  # of a prompt, a result or arguments; the rest is a click away
PREVIEW_CHARACTERS = 120


@attrs.define
class Asked:
    """What the person said."""

    id: str
    input: Input
    at_ms: int

    @property
    def shown(self) -> str:
        return self.input.text[:SHOWN_CHARACTERS]

    @property
    def size_bytes(self) -> int:
        """Return the size of what was said where a page does not show all of it, else 0."""
        return len(self.input.text.encode()) if len(self.input.text) > SHOWN_CHARACTERS else 0


@attrs.define
class Said:
    """What the model said in a turn, as far as it came."""

    id: str
    text: str = ""
    whole: bool = False


@attrs.define
class Note:
    """Something that a person should know of: `kind` is `info`, `warn` or `bad`."""

    id: str
    kind: str
    text: str
    remedy: str = ""


@attrs.frozen
class Question:
    """An approval that is asked for, with the fields by which it is shown."""

    approval_id: str
    tool: str
    question: bool
    pattern: Pattern | None
    requested_ms: int
    expires_ms: int
    prompt: str


@attrs.define
class Call:
    """A tool call so far. `output` is what its program has written while it runs; `kept` says that all of it can be had."""

    id: str
    call: ToolCall
    at_ms: int
    state: CallState = CallState.PROPOSED
    policy: PolicyDecision | None = None
    question: Question | None = None
    decided: ApprovalDecided | None = None
    started: ToolStarted | None = None
    finished: ToolFinished | None = None
    receipt: KillReceipt | None = None
    output: str = ""
    kept: bool = False
    changes: tuple[FileChange, ...] = ()

    @property
    def word(self) -> str:
        """Return how the call stands, as a class of the style sheet knows it."""
        if self.finished is not None:
            return "failed" if self.finished.error else "done"
        return {CallState.STARTED: "running", CallState.ASKED: "asked"}.get(self.state, self.state.value)

    @property
    def said(self) -> str:
        """Return how the call stands, in words."""
        if self.finished is not None:
            took = duration(self.finished.elapsed_ms)
            return f"failed ({self.finished.error}) after {took}" if self.finished.error else took
        if self.state is CallState.DENIED:
            return "refused" if self.decided is None else self.decided.outcome
        if self.question is not None:
            return "waits for you"
        return {CallState.STARTED: "running", CallState.ASKED: "allowed"}.get(self.state, self.state.value)

    @property
    def summary(self) -> str:
        return arguments_in_words(self.call)

    @property
    def arguments(self) -> str:
        """Return the arguments in full, as far as a page shows them."""
        text = self.call.malformed or json.dumps(self.call.arguments, ensure_ascii=False, indent=2)
        return text if len(text) <= SHOWN_CHARACTERS else f"{text[:SHOWN_CHARACTERS]}…"

    @property
    def preview(self) -> str:
        """Return the beginning of what came of it, on one line."""
        if self.finished is not None:
            return one_line(self.finished.text[: 2 * PREVIEW_CHARACTERS], PREVIEW_CHARACTERS)
        if self.state is CallState.DENIED:
            decided = self.decided or self.policy
            return one_line(decided.reason, PREVIEW_CHARACTERS) if decided is not None else ""
        return ""

    @property
    def result(self) -> str:
        return self.finished.text[:SHOWN_CHARACTERS] if self.finished is not None else ""

    @property
    def size_bytes(self) -> int:
        """Return the size of the result where a page does not show all of it, else 0."""
        if self.finished is None:
            return 0
        cut = self.kept or self.finished.output is not None or len(self.finished.text) > SHOWN_CHARACTERS
        return (self.finished.size_bytes or len(self.finished.text)) if cut else 0


@attrs.define
class End:
    """How the run stands, below all else."""

    id: str
    run_id: str
    state: RunState = RunState.QUEUED
    reason: str = ""
    detail: str = ""
    doing: str = ""
    stopping: bool = False
    model: str = ""
    turns: int = 0
    usage: Usage = Usage()
    changed: bool = False
    began_ms: int = 0
    ended_ms: int = 0

    @property
    def word(self) -> str:
        return INTERRUPTED if self.state is RunState.WAITING and self.reason == INTERRUPTED else self.state.value


Block = Asked | Said | Note | Call


@attrs.frozen
class Grown:
    """Text that came to the end of what the element `id` holds."""

    id: str
    text: str


class RunStory:
    """The blocks of one run."""

    def __init__(self, run_id: str) -> None:
        self.run_id = run_id
        self.seq = 0
        self.blocks: dict[str, Block] = {}
        self.end = End(f"end-{run_id}", run_id)
        self._view = RunView()
        self._calls: dict[str, Call] = {}
        self._changed: dict[str, None] = {}
        self._grown: dict[str, str] = {}
        self._end_taken: End | None = None

    @property
    def input(self) -> Input | None:
        """What the run was given, None where that was erased."""
        return self._view.input

    @property
    def unfinished_turn(self) -> bool:
        """Whether the newest model call left no whole turn: what it said is in its deltas only."""
        return self._view.turn > 0 and (self._view.newest is None or self._view.newest.turn < self._view.turn)

    def add_all(self, rows: Iterable[TapeRow]) -> "RunStory":
        for row in rows:
            self.add(row)
        return self

    def add(self, row: TapeRow) -> None:
        """Take the next row of the run's tape."""
        self.seq = row.seq
        event = row.event()
        if event is None:
            if row.body is None:
                self._note(row, "info", "A part of this was erased.")
            return
        fold(self._view, event)
        self._take(row, event)
        self._stand(row, event)

    def take_changes(self) -> Iterator[Block | Grown | End]:
        """Return what looks different now, once: whole blocks, text that grew in those that are otherwise the same, the end."""
        changed, grown, self._changed, self._grown = self._changed, self._grown, {}, {}
        for each in changed:
            yield self.blocks[each]
        for each, text in grown.items():
            if each.removesuffix("-text") not in changed:
                yield Grown(each, text)
        if self.end != self._end_taken:
            self._end_taken = attrs.evolve(self.end)
            yield self.end

    def _take(self, row: TapeRow, event: TapeEvent) -> None:
        match event:
            case Input():
                self._put(Asked(f"asked-{self.run_id}", event, row.at_ms))
                self.end.began_ms = row.at_ms
            case ModelDelta(turn, text):
                self._say(turn, text)
            case ModelTurn(turn, text) if text or self._said_id(turn) in self.blocks:
                self._put(Said(self._said_id(turn), text, whole=True))
            case ProviderAttempt(_, attempt, failure, message, wait_ms):
                again = f"again in {duration(wait_ms)}"
                self._note(row, "warn", f"Attempt {attempt} at the model failed ({failure}), {again}: {message}")
            case ProviderError(_, _, message, remedy):
                self._note(row, "bad", message, remedy)
            case Correction(text):
                self._note(row, "warn", f"Sent back to the model: {text}")
            case LimitReached(limit, value):
                self._note(row, "bad", f"Limit reached: {value} {limit}")
            case RunInterrupted(_, reason):
                self._note(row, "warn", f"Interrupted: {reason}")
            case CancelRequested(by, reason):
                self._note(row, "info", f"Stopped by {by}{f': {reason}' if reason else ''}")
            case ToolProposed(call):
                self._calls[call.call_id] = made = Call(f"call-{self.run_id}-{row.seq}", call, row.at_ms)
                self._put(made)
            case _:
                self._take_of_call(row, event)

    def _take_of_call(self, row: TapeRow, event: TapeEvent) -> None:
        """Take what belongs to a call, which all these events name alike."""
        call = self._calls.get(getattr(event, "call_id", ""))
        if call is None:
            return
        match event:
            case PolicyDecision():
                call.policy = event
            case ApprovalRequested(approval_id, _, prompt, expires_ms, tool, _, pattern, question):
                call.question = Question(approval_id, tool, question, pattern, row.at_ms, expires_ms, prompt)
                call.decided = None
            case ApprovalDecided():
                call.question, call.decided = None, event
            case ToolStarted():
                call.started, call.changes = event, event.changes
            case ToolOutput(_, _, text):
                call.output += text
                self._grow(f"{call.id}-text", text)
                return
            case OutputKept():
                call.kept = True
                return
            case FilesChanged(_, changes):
                call.changes += changes
            case KillReceipt():
                call.receipt = event
            case ToolFinished():
                call.finished = event
            case _:
                return
        call.state = self._view.calls[call.call.call_id].state
        self._put(call)

    def _stand(self, row: TapeRow, event: TapeEvent) -> None:
        view, end = self._view, self.end
        end.state, end.reason, end.turns, end.usage = view.state, view.reason, view.turn, view.usage
        end.doing, end.stopping = self._doing(), bool(view.cancelled_by) and not view.terminal
        end.changed = any(call.changes for call in self._calls.values())
        if view.routing is not None:
            end.model = f"{view.routing.provider}/{view.routing.model}"
        if view.finished is not None:
            told = {each.text for each in self.blocks.values() if isinstance(each, Note)}
            end.detail = "" if view.finished.detail in told else view.finished.detail
            end.ended_ms = row.at_ms

    def _doing(self) -> str:
        if self._view.state is not RunState.RUNNING:
            return ""
        running = [call.call.tool for call in self._calls.values() if call.state is CallState.STARTED]
        if running:
            return f"runs {', '.join(running)}"
        return "asks the model" if self._view.in_model_call else ""

    def _say(self, turn: int, text: str) -> None:
        said = self.blocks.get(self._said_id(turn))
        if isinstance(said, Said) and not said.whole:
            said.text += text
            self._grow(f"{said.id}-text", text)
        else:
            self._put(Said(self._said_id(turn), text))

    def _said_id(self, turn: int) -> str:
        return f"said-{self.run_id}-{turn}"

    def _note(self, row: TapeRow, kind: str, text: str, remedy: str = "") -> None:
        self._put(Note(f"note-{self.run_id}-{row.seq}", kind, text, remedy))

    def _put(self, block: Block) -> None:
        self.blocks[block.id] = block
        self._changed[block.id] = None

    def _grow(self, element: str, text: str) -> None:
        self._grown[element] = self._grown.get(element, "") + text
