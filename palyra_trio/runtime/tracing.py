"""A run's tape as the spans of a trace: the run, its model calls, its tool calls. A pure fold, which knows no exporter.

Times are the tape's, and so are the ids: a trace's id is its run's ULID, 128 bits; a span's is a digest of the run's id and
the seq of the row that began it. Whoever folds the same tape gets the same spans. Names and attributes are those of
OpenTelemetry's semantic conventions for generative AI, in the version of SCHEMA_URL; what is `palyra.…` is our own.
"""

from collections.abc import Iterator, Mapping
from hashlib import sha256

import attrs

from palyra_trio.core.chain import canonical_json
from palyra_trio.core.codec import TapeRow
from palyra_trio.core.identity import ulid_number
from palyra_trio.core.messages import ToolCall, Usage
from palyra_trio.core.run import RunState
from palyra_trio.core.tape import (
    ApprovalDecided,
    ApprovalRequested,
    FinalAnswer,
    Input,
    ModelTurn,
    PolicyDecision,
    ProviderAttempt,
    ProviderError,
    ProviderRequest,
    RoutingDecision,
    RunFinished,
    RunInterrupted,
    StatusChange,
    TapeEvent,
    ToolFinished,
    ToolProposed,
    ToolStarted,
)

SCHEMA_URL = "https://opentelemetry.io/schemas/1.41.1"  # the last released one that defines gen_ai.*
TEXT_CHARACTERS = 8192  # of a content that is told; a batch of spans has to fit in a request that collectors take
NAME_CHARACTERS = 128  # of what a model or a provider names
ERROR = "error.type"

KINDS = frozenset(
    cls.kind
    for cls in (
        Input, StatusChange, RunFinished, RunInterrupted, FinalAnswer, RoutingDecision, ProviderRequest, ModelTurn,
        ProviderAttempt, ProviderError, ToolProposed, PolicyDecision, ApprovalRequested, ApprovalDecided, ToolStarted,
        ToolFinished,
    )
)  # fmt: skip

Value = str | int | tuple[str, ...]


@attrs.frozen
class Moment:
    """Something that happened within a span. `at_ms` is Unix time."""

    name: str
    at_ms: int
    attributes: Mapping[str, Value]


@attrs.frozen
class Span:
    """A span that has ended. The one of the run has no `parent_id`; one that `calls_out` is of a request to somebody else.

    It failed if its attributes have ERROR; `why` then says more, where contents are told.
    """

    trace_id: bytes
    span_id: bytes
    parent_id: bytes
    name: str
    calls_out: bool
    start_ms: int
    end_ms: int
    attributes: Mapping[str, Value]
    moments: tuple[Moment, ...]
    why: str = ""


def trace_id(run_id: str) -> bytes:
    """Return the 16 bytes of a run's trace id: those of its ULID."""
    return ulid_number(run_id).to_bytes(16, "big")


def span_id(run_id: str, seq: int) -> bytes:
    """Return the 8 bytes of the id of the span that row `seq` of a run's tape began."""
    return sha256(f"{run_id}/{seq}".encode()).digest()[:8]


@attrs.define
class _Begun:
    """A span that has not ended."""

    seq: int
    at_ms: int
    name: str
    attributes: dict[str, Value]
    calls_out: bool = False
    moments: list[Moment] = attrs.Factory(list)


class RunTrace:
    """The spans of one run so far. With `content` they hold what was asked, said and done, as redacted as the tape is."""

    def __init__(self, run_id: str, *, content: bool) -> None:
        self.idle = False
        self._run_id = run_id
        self._content = content
        self._run: _Begun | None = None
        self._model_call: _Begun | None = None
        self._calls: dict[str, _Begun] = {}
        self._of_all: dict[str, Value] = {}
        self._model = ""
        self._usage = Usage()

    def take(self, row: TapeRow) -> tuple[Span, ...]:
        """Fold the next row of the run, one of KINDS, and return the spans that it ends, the outermost last.

        `idle` says afterwards that the run waits or has ended. Raises JournalInvalid for a wrong body; an erased one tells
        nothing.
        """
        if self._run is None:
            self._run = _Begun(row.seq, row.at_ms, "invoke_agent", {"palyra.run.id": self._run_id})
        event = row.event()
        return tuple(self._take(self._run, row, event)) if event is not None else ()

    def _take(self, run: _Begun, row: TapeRow, event: TapeEvent) -> Iterator[Span]:
        match event:
            case Input():
                self._asked(run, event)
            case StatusChange(after=after):
                self.idle = after is RunState.WAITING
            case RoutingDecision(provider=provider, model=model):
                self._model = model
                self._of_all["gen_ai.provider.name"] = provider
                run.attributes |= {"gen_ai.provider.name": provider, "gen_ai.request.model": model}
            case ProviderRequest():
                self._model_call = self._begin(row, "chat", self._model, {"gen_ai.request.model": self._model})
                self._model_call.calls_out = True
            case ProviderAttempt() if self._model_call is not None:
                failed: dict[str, Value] = {ERROR: event.failure, "palyra.wait_ms": event.wait_ms}
                self._model_call.moments.append(Moment("palyra.provider.retry", row.at_ms, failed))
            case ModelTurn() if self._model_call is not None:
                self._usage += event.usage
                yield self._end_model_call(self._model_call, row, self._said(event))
            case ProviderError() if self._model_call is not None:
                yield self._end_model_call(self._model_call, row, {ERROR: event.failure}, event.message)
            case RunInterrupted(reason=reason) if self._model_call is not None:
                yield self._end_model_call(self._model_call, row, {ERROR: "interrupted"}, reason)
            case ToolProposed(call=call):
                self._calls[call.call_id] = self._begin(
                    row, "execute_tool", call.tool[:NAME_CHARACTERS], self._wanted(call)
                )
            case PolicyDecision() | ApprovalRequested() | ApprovalDecided() | ToolStarted() | ToolFinished():
                if (begun := self._calls.get(event.call_id)) is not None:
                    yield from self._call(begun, row, event)
            case FinalAnswer(text=text, finish=finish):
                run.attributes |= self._messages("gen_ai.output.messages", "assistant", [_text(text)], finish)
            case RunFinished():
                yield from self._finish(run, row, event)

    # --- the run ---

    def _asked(self, run: _Begun, event: Input) -> None:
        self._of_all = {"gen_ai.conversation.id": event.session_id}
        run.name = f"invoke_agent {event.agent.name}"
        run.attributes |= self._of_all | {
            "gen_ai.operation.name": "invoke_agent",
            "gen_ai.agent.name": event.agent.name,
        }
        run.attributes |= self._messages("gen_ai.input.messages", "user", [_text(event.text)])

    def _finish(self, run: _Begun, row: TapeRow, event: RunFinished) -> Iterator[Span]:
        failed: dict[str, Value] = {} if event.state is RunState.DONE else {ERROR: event.reason}
        if self._model_call is not None:
            yield self._end_model_call(self._model_call, row, failed)
        for call in self._calls.values():
            yield self._end(call, row, failed)
        ended: dict[str, Value] = {"palyra.run.state": str(event.state), "palyra.run.reason": event.reason}
        yield self._end(run, row, {**_tokens(self._usage), **ended, **failed}, event.detail)
        self.idle = True

    # --- a model call ---

    def _said(self, event: ModelTurn) -> dict[str, Value]:
        about: dict[str, Value] = {"gen_ai.response.finish_reasons": (event.finish,), **_tokens(event.usage)}
        if event.model:
            about["gen_ai.response.model"] = event.model[:NAME_CHARACTERS]
        return about | self._messages("gen_ai.output.messages", "assistant", [_text(event.text)], event.finish)

    def _end_model_call(self, begun: _Begun, row: TapeRow, more: Mapping[str, Value], why: str = "") -> Span:
        self._model_call = None
        return self._end(begun, row, more, why)

    # --- a tool call ---

    def _wanted(self, call: ToolCall) -> dict[str, Value]:
        arguments = (call.malformed or canonical_json(call.arguments).decode()) if self._content else ""
        return {
            "gen_ai.tool.name": call.tool[:NAME_CHARACTERS],
            "gen_ai.tool.type": "function",
            "gen_ai.tool.call.id": call.call_id[:NAME_CHARACTERS],
            **self._told("gen_ai.tool.call.arguments", arguments),
        }

    def _call(
        self,
        begun: _Begun,
        row: TapeRow,
        event: PolicyDecision | ApprovalRequested | ApprovalDecided | ToolStarted | ToolFinished,
    ) -> Iterator[Span]:
        def happened(name: str, **about: Value) -> None:
            begun.moments.append(Moment(f"palyra.{name}", row.at_ms, {f"palyra.{key}": about[key] for key in about}))

        ended: dict[str, Value] | None = None
        why = ""
        match event:
            case PolicyDecision(outcome=outcome, rule=rule, reason=why):
                happened("policy", outcome=outcome, rule=rule)
                ended = {ERROR: "denied"} if outcome == "deny" else None
            case ApprovalRequested():
                happened("approval.requested")
            case ApprovalDecided(outcome=outcome, reason=why):
                happened("approval.decided", outcome=outcome)
                ended = {ERROR: outcome} if outcome != "granted" else None
            case ToolStarted(sandbox_tier=tier):
                happened("tool.started", sandbox_tier=tier)
            case ToolFinished(text=text, error=error):
                ended = self._told("gen_ai.tool.call.result", text) | ({ERROR: error} if error else {})
        if ended is not None:
            del self._calls[event.call_id]
            yield self._end(begun, row, ended, why)

    # --- spans ---

    def _begin(self, row: TapeRow, operation: str, what: str, about: Mapping[str, Value]) -> _Begun:
        attributes = {"gen_ai.operation.name": operation, **self._of_all, **about}
        return _Begun(row.seq, row.at_ms, f"{operation} {what}".rstrip(), attributes)

    def _end(self, begun: _Begun, row: TapeRow, more: Mapping[str, Value], why: str = "") -> Span:
        return Span(
            trace_id=trace_id(self._run_id),
            span_id=span_id(self._run_id, begun.seq),
            parent_id=b"" if begun is self._run else span_id(self._run_id, 1),
            name=begun.name,
            calls_out=begun.calls_out,
            start_ms=begun.at_ms,
            end_ms=max(begun.at_ms, row.at_ms),
            attributes={**begun.attributes, **more},
            moments=tuple(begun.moments),
            why=why[:TEXT_CHARACTERS] if self._content and ERROR in more else "",
        )

    def _told(self, name: str, text: str) -> dict[str, Value]:
        return {name: text[:TEXT_CHARACTERS]} if self._content else {}

    def _messages(self, name: str, role: str, parts: list[dict[str, str]], finish: str = "") -> dict[str, Value]:
        """Return one message as the conventions' schema has it, in JSON."""
        if not self._content:
            return {}
        message = {"role": role, "parts": parts, **({"finish_reason": finish} if finish else {})}
        return {name: canonical_json([message]).decode()}


def _text(text: str) -> dict[str, str]:
    return {"type": "text", "content": text[:TEXT_CHARACTERS]}


def _tokens(usage: Usage) -> dict[str, Value]:
    """Return what a provider counted, where it did."""
    counted = {
        "gen_ai.usage.input_tokens": usage.input_tokens,
        "gen_ai.usage.cache_read.input_tokens": usage.cached_input_tokens,
        "gen_ai.usage.output_tokens": usage.output_tokens,
    }
    return {name: count for name, count in counted.items() if count}
