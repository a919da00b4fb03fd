"""What a person or a program sees of a run while it runs: the answer on stdout, everything else on stderr.

A display is told every row, in order, once. It waits for nothing and decides nothing.
"""

import json
from collections.abc import Callable
from typing import Protocol, TextIO

import msgspec

from palyra_trio.cli.live_output import LiveOutput
from palyra_trio.core.codec import TapeRow, json_line
from palyra_trio.core.messages import ToolCall
from palyra_trio.core.run import RunState
from palyra_trio.core.tape import (
    RUN_STREAM,
    ApprovalDecided,
    ApprovalRequested,
    Correction,
    FinalAnswer,
    LimitReached,
    ModelDelta,
    ModelTurn,
    PolicyDecision,
    ProviderAttempt,
    ProviderError,
    RoutingDecision,
    RunFinished,
    RunInterrupted,
    TapeEvent,
    ToolFinished,
    ToolOutput,
    ToolProposed,
)
from palyra_trio.core.text import visible
from palyra_trio.core.words import arguments_in_words, duration, one_line, shortened, size

DIM, RED, GREEN, YELLOW, PLAIN = "\x1b[2m", "\x1b[31m", "\x1b[32m", "\x1b[33m", "\x1b[0m"


class Display(Protocol):
    def show(self, row: TapeRow, event: TapeEvent | None) -> None: ...


class Lines:
    """Every row as one JSON object a line, as stored (`--jsonl`)."""

    def __init__(self, out: TextIO) -> None:
        self._out = out

    def show(self, row: TapeRow, event: TapeEvent | None) -> None:
        self._out.write(json_line(row, ascii_only=self._out.isatty()) + "\n")
        self._out.flush()


class Summary:
    """Nothing while the run runs, one JSON object when it has ended (`--json`)."""

    def __init__(self, out: TextIO, exit_status: Callable[[RunState, str], int]) -> None:
        self._out = out
        self._exit_status = exit_status
        self._answer: FinalAnswer | None = None

    def show(self, row: TapeRow, event: TapeEvent | None) -> None:
        if isinstance(event, FinalAnswer):
            self._answer = event
        elif isinstance(event, RunFinished):
            self._out.write(json.dumps(self._object(row, event), ensure_ascii=self._out.isatty()) + "\n")
            self._out.flush()

    def _object(self, row: TapeRow, event: RunFinished) -> dict[str, object]:
        answer = self._answer
        return {
            "run_id": row.stream.partition(":")[2],
            "state": event.state,
            "reason": event.reason,
            "detail": event.detail,
            "answer": answer.text if answer else None,
            "provider": answer.provider if answer else None,
            "model": answer.model if answer else None,
            "usage": msgspec.to_builtins(answer.usage) if answer else None,
            "last_seq": row.seq,
            "exit_status": self._exit_status(event.state, event.reason),
        }


class Terminal:
    """For a person: the answer on `out`, streamed if that is a terminal; the model, the calls and the end on `err`.

    Without `out` the answer is somebody else's to give. With `live` the output of programs is shown as it comes.
    """

    def __init__(self, out: TextIO | None, err: TextIO, *, stream: bool, color: bool, live: bool = False) -> None:
        self._out = out
        self._err = err
        self._stream = stream
        self._color = color
        self._calls: dict[str, ToolCall] = {}
        self._turn_streamed = False
        self._line_open = False
        self._prompt = ""
        self._failure_shown = False
        self._routing: RoutingDecision | None = None
        self._live = LiveOutput() if live else None

    def show(self, row: TapeRow, event: TapeEvent | None) -> None:
        match event:
            case RoutingDecision() if event != self._routing:
                self._routed(event)
            case ModelDelta(_, text) if self._stream:
                self._say(visible(text))
                self._turn_streamed = True
            case ModelTurn(_, text):
                if self._stream and not self._turn_streamed:
                    self._say(visible(text))
                self._turn_streamed = False
                self._end_line()
            case ToolProposed(call):
                self._calls[call.call_id] = call
            case PolicyDecision(call_id, "deny", _, reason):
                self._call(call_id, "refused", reason, RED)
            case ApprovalDecided(_, call_id, outcome, _, reason) if outcome != "granted":
                self._call(call_id, outcome, reason, RED)
            case ToolOutput(call_id, stream, text) if self._live is not None:
                for line in self._live.feed(call_id, stream, text):
                    self.note(line, DIM)
            case ToolFinished():
                self._returned(event, row.stream.removeprefix(RUN_STREAM))
            case ProviderAttempt(_, attempt, failure, message, wait_ms):
                self.note(f"attempt {attempt} failed ({failure}: {message}); again in {duration(wait_ms)}", YELLOW)
            case Correction(text):
                self.note(f"sent back: {text}", YELLOW)
            case ProviderError(_, _, message, remedy):
                self._failure_shown = True
                self.note(f"error: {message}", RED)
                if remedy:
                    self.note(remedy)
            case LimitReached(limit, value):
                self.note(f"limit reached: {value} {limit}", RED)
            case RunInterrupted(_, reason):
                self.note(f"interrupted: {reason}", YELLOW)
            case FinalAnswer(text) if not self._stream:
                self._say(text)
                self._end_line()
            case RunFinished():
                self._finished(event)

    def _returned(self, event: ToolFinished, run_id: str) -> None:
        if self._live is not None:
            for line in self._live.end(event.call_id, f"palyra-trio runs output {run_id} {event.call_id}"):
                self.note(line, DIM)
        took = duration(event.elapsed_ms)
        if event.error:
            self._call(event.call_id, event.error, f"{took}: {shortened(event.text)}", RED)
        else:
            self._call(event.call_id, "ok", f"{took}, {size(event.size_bytes or len(event.text))}", GREEN)

    def _routed(self, event: RoutingDecision) -> None:
        self._routing = event
        self.note(f"model {event.provider}/{event.model}: {event.why}", DIM)
        if event.provider == "offline":
            help_ = "`palyra-trio run --help` says how to connect one"
            self.note(f"There is no language model: fixed rules answer. {help_}.", YELLOW)

    def ask(self, request: ApprovalRequested, heading: str = "") -> None:
        """Show what a person is to decide on."""
        self._end_line()
        self.note("")
        if heading:
            self.note(heading)
        self.note(request.prompt, YELLOW)

    def prompt(self, text: str) -> None:
        """Ask for a line. Whatever is told before it was typed comes above the last line of `text`."""
        self._err.write(visible(text))
        self._err.flush()
        self._prompt = visible(text).rpartition("\n")[2]

    def answered(self) -> None:
        """Know that the person has typed the line, and its end with it."""
        self._prompt = ""

    def withdraw(self) -> None:
        """Ask for no line any more."""
        if self._prompt:
            self._prompt = ""
            self._err.write("\n")

    def note(self, text: str, color: str = "") -> None:
        """Write a line to stderr, with nothing in it that a terminal would act on."""
        line = visible(text)
        self._tell(f"{color}{line}{PLAIN}" if color and self._color else line)

    def _call(self, call_id: str, state: str, detail: str, color: str) -> None:
        call = self._calls.get(call_id) or ToolCall(call_id, call_id)
        mark = f"{color}{state}{PLAIN}" if self._color else state
        told = visible(detail).replace("\n", "\n  | ")  # a line of it must not look like one of a question
        self._tell(f"  {one_line(call.tool)} {visible(arguments_in_words(call))}  {mark}  {told}")

    def _tell(self, line: str) -> None:
        self._end_line()
        self._err.write(f"\n{line}\n{self._prompt}" if self._prompt else f"{line}\n")
        self._err.flush()

    def _finished(self, event: RunFinished) -> None:
        if event.state is not RunState.DONE:
            self.note(f"{event.state}: {event.reason if self._failure_shown else event.detail or event.reason}", RED)

    def _say(self, text: str) -> None:
        if self._out is not None and text:
            self._out.write(text)
            self._out.flush()
            self._line_open = not text.endswith("\n")

    def _end_line(self) -> None:
        if self._line_open:
            self._say("\n")
