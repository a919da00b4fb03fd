"""What a run's page says, folded from its rows one after the other: how it stands, what it waits for, when it did what, what
was refused or asked, what it used and changed.

Pure: nothing is read or rendered here. A tape of which a part was erased is told as far as it goes.
"""

from collections.abc import Iterable
from typing import Self

import attrs

from palyra_trio.core.codec import TapeRow
from palyra_trio.core.errors import PalyraError
from palyra_trio.core.file_events import FilesChanged
from palyra_trio.core.messages import ToolCall, Usage
from palyra_trio.core.run import TERMINAL, RunState
from palyra_trio.core.tape import (
    ApprovalDecided,
    ApprovalRequested,
    CancelRequested,
    Input,
    KillReceipt,
    LimitReached,
    ModelTurn,
    PolicyDecision,
    ProviderError,
    ProviderRequest,
    RoutingDecision,
    RunFinished,
    StatusChange,
    TapeEvent,
    ToolFinished,
    ToolProposed,
    ToolStarted,
)
from palyra_trio.core.why import Wait, Waiting
from palyra_trio.core.words import arguments_in_words
from palyra_trio.journal.projections import title_of
from palyra_trio.runtime.call_stories import in_words
from palyra_trio.runtime.runs import INTERRUPTED
from palyra_trio.runtime.undo import Changes, changes_told
from palyra_trio.transports.console.transcript import Question
from palyra_trio.transports.console.waterfall import Item


@attrs.define
class Verdict:
    """What was decided of a call that was not simply allowed, in words, the newest last."""

    seq: int
    call: ToolCall
    word: str
    said: list[str] = attrs.Factory(list)

    @property
    def arguments(self) -> str:
        return arguments_in_words(self.call)


class RunPicture:
    """A run as far as its rows were taken. `seq` is that of the last one."""

    def __init__(self, run_id: str) -> None:
        self.run_id = run_id
        self.seq = 0
        self.at_ms = 0
        self.began_ms = 0
        self.input: Input | None = None
        self.state = RunState.QUEUED
        self.reason = ""
        self.detail = ""
        self.model = ""
        self.turns = 0
        self.calls = 0
        self.allowed = 0
        self.usage = Usage()
        self.limit: LimitReached | None = None
        self.stopped_by = ""
        self.killed = 0
        self.survivors = 0
        self.items: list[Item] = []
        self.verdicts: dict[str, Verdict] = {}
        self._waiting: Waiting | None = Waiting()
        self._questions: dict[str, Question] = {}
        self._turn: Item | None = None
        self._call_items: dict[str, Item] = {}
        self._proposed: dict[str, ToolCall] = {}
        self._file_events: list[TapeEvent] = []

    def add(self, rows: Iterable[TapeRow]) -> Self:
        """Take the next rows, without the streamed pieces of text or with them."""
        for row in rows:
            self.seq, self.at_ms = row.seq, row.at_ms
            if (event := row.event()) is not None:
                self._take(row, event)
            self._wait(row, event)
        return self

    # --- what a page asks ---

    @property
    def ended(self) -> bool:
        return self.state in TERMINAL

    @property
    def word(self) -> str:
        return INTERRUPTED if self.state is RunState.WAITING and self.reason == INTERRUPTED else self.state.value

    @property
    def title(self) -> str:
        return title_of(self.input.text) if self.input is not None else ""

    def waits(self) -> tuple[Wait, ...]:
        """Return what it waits for, as far as that is known: nothing where part of its tape was erased."""
        return self._waiting.waits() if self._waiting is not None and self.word != INTERRUPTED else ()

    def questions(self) -> tuple[Question, ...]:
        """Return what a person is asked now."""
        return tuple(self._questions.values()) if not self.ended and self.word != INTERRUPTED else ()

    def changes(self) -> Changes:
        """Return the file changes so far."""
        return changes_told(self._file_events)

    # --- what the rows say ---

    def _wait(self, row: TapeRow, event: TapeEvent | None) -> None:
        if self._waiting is not None:
            try:
                self._waiting.take(row.at_ms, event)
            except PalyraError:  # what came before it was erased
                self._waiting = None

    def _take(self, row: TapeRow, event: TapeEvent) -> None:
        match event:
            case Input():
                self.input, self.began_ms = event, row.at_ms
            case StatusChange():
                self.state, self.reason = event.after, event.reason
                if event.reason == INTERRUPTED:
                    self._end_all(row.at_ms, INTERRUPTED)
            case RunFinished():
                self.state, self.reason, self.detail = event.state, event.reason, event.detail
                self._end_all(row.at_ms, "stopped")
            case RoutingDecision():
                self.model = f"{event.provider}/{event.model}"
            case ProviderRequest():
                self.turns = event.turn
                self._end_turn(row.at_ms, "asked again")
                self._turn = Item(row.seq, f"turn {event.turn}", row.at_ms)
                self._turn.begin("model", row.at_ms)
                self.items.append(self._turn)
            case ModelTurn():
                self.usage += event.usage
                self._end_turn(
                    row.at_ms, f"{event.usage.output_tokens} tokens out" if event.usage.output_tokens else ""
                )
            case ProviderError():
                self._end_turn(row.at_ms, event.failure, failed=True)
            case LimitReached():
                self.limit = event
            case CancelRequested():
                self.stopped_by = event.by
            case ToolProposed(call):
                self.calls += 1
                self._proposed[call.call_id] = call
                self._call_items[call.call_id] = item = Item(row.seq, call.tool, row.at_ms)
                self.items.append(item)
            case _:
                if (call_id := getattr(event, "call_id", "")) in self._call_items:
                    self._take_of_call(row, event, self._call_items[call_id], self._proposed[call_id])

    def _take_of_call(self, row: TapeRow, event: TapeEvent, item: Item, call: ToolCall) -> None:
        match event:
            case PolicyDecision():
                self._judged(row, event, item, call)
            case ApprovalRequested(approval_id, _, prompt, expires_ms, tool, _, pattern, question):
                item.begin("asked", row.at_ms)
                self._questions[call.call_id] = Question(
                    approval_id, tool, question, pattern, row.at_ms, expires_ms, prompt
                )
            case ApprovalDecided():
                self._questions.pop(call.call_id, None)
                item.end(row.at_ms, "" if event.outcome == "granted" else event.outcome)
                if (verdict := self.verdicts.get(call.call_id)) is not None:
                    verdict.word = "done" if event.outcome == "granted" else "denied"
                    verdict.said.append(in_words(event))
            case ToolStarted():
                item.begin("tool", row.at_ms)
                self._file_events.append(event)
            case FilesChanged():
                self._file_events.append(event)
            case KillReceipt():
                self.killed += event.pids_seen
                self.survivors += event.survivors
            case ToolFinished():
                item.end(row.at_ms, event.error, failed=bool(event.error))

    def _judged(self, row: TapeRow, event: PolicyDecision, item: Item, call: ToolCall) -> None:
        if event.outcome == "allow":
            self.allowed += 1
            return
        word = "denied" if event.outcome == "deny" else "asked"
        verdict = self.verdicts.setdefault(call.call_id, Verdict(row.seq, call, word))
        verdict.word = word
        verdict.said.append(in_words(event))
        if word == "denied":
            item.end(row.at_ms, "refused", failed=True)

    def _end_turn(self, at_ms: int, outcome: str, *, failed: bool = False) -> None:
        if self._turn is not None:
            self._turn.end(at_ms, outcome, failed=failed)
            self._turn = None

    def _end_all(self, at_ms: int, outcome: str) -> None:
        for each in self.items:
            if each.going_on:
                each.end(at_ms, outcome)
