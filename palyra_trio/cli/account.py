"""The account of one run: what it was asked, what came of it, what it did and what it cost, for a person or a program.

Everything is read off the run's tape; nothing is decided here.
"""

from collections.abc import Iterator
from typing import Any

import attrs

from palyra_trio.core.chain import canonical_json
from palyra_trio.core.run import CallState, RunState
from palyra_trio.core.tape import ApprovalRequested, FileChange, ToolFinished
from palyra_trio.core.text import visible
from palyra_trio.core.view import CallView, RunView, fold_rows
from palyra_trio.core.words import age, one_line
from palyra_trio.journal.queries import RunSummary, Tapes, whole_tape
from palyra_trio.runtime.undo import changes_of
from palyra_trio.tools.undo import net_changes

ARGUMENTS_CHARACTERS = 100
NAMED_CHANGES = 100  # a program may change thousands


@attrs.frozen
class Account:
    """A run as its tape tells it. `state` is how it stands now; `results` are the results of its calls, by call id."""

    run: RunSummary
    state: str
    view: RunView
    results: dict[str, ToolFinished]
    changes: tuple[FileChange, ...]

    def plain(self) -> dict[str, Any]:
        """Return the account as plain values."""
        view = self.view
        return {
            "run": {**attrs.asdict(self.run), "state": self.state},
            "asked": view.input and attrs.asdict(view.input, filter=lambda field, _: field.name != "agent"),
            "model": view.routing and {key: getattr(view.routing, key) for key in ("provider", "model", "why")},
            "calls": [self._plain_call(call) for call in view.calls.values()],
            "turns": view.turn,
            "usage": attrs.asdict(view.usage),
            "answer": view.answer and view.answer.text,
            "changes": [attrs.asdict(change) for change in self.changes],
            "finished": view.finished and {key: getattr(view.finished, key) for key in ("reason", "detail")},
            "waits_for": [{"approval_id": each.approval_id, "tool": each.tool} for each in self.open_requests()],
            "last_seq": view.seq,
        }

    def _plain_call(self, call: CallView) -> dict[str, Any]:
        result = self.results.get(call.call.call_id)
        return {
            **attrs.asdict(call.call),
            "state": call.state.value,
            "error": result and result.error,
            "elapsed_ms": result and result.elapsed_ms,
        }

    def open_requests(self) -> tuple[ApprovalRequested, ...]:
        """Return what a person has yet to decide."""
        asked = (self.view.calls[call_id].asked for call_id in self.view.waiting())
        return tuple(each for each in asked if each is not None)

    def lines(self, now_ms: int) -> Iterator[str]:
        """Yield the account as lines for a person, the answer last."""
        run, view = self.run, self.view
        yield f"run      {run.run_id}"
        yield f"session  {run.session_id}, agent {one_line(run.agent)}"
        if view.input is not None:
            asked, *rest = visible(view.input.text).strip().split("\n")
            yield f"asked    {asked}"
            yield from (f"         {line}" for line in rest)
            for each in view.input.attachments:
                yield f"with     {one_line(each.name)}, {each.size_bytes} bytes"
            yield f"by       {view.input.principal} over {view.input.channel}, {age(run.created_ms, now_ms)} ago"
            yield f"in       {one_line(view.input.workspace)}"
        yield f"state    {self._state_in_words()}"
        if view.routing is not None:
            yield f"model    {one_line(f'{view.routing.provider}/{view.routing.model}: {view.routing.why}')}"
        for call in view.calls.values():
            yield f"call     {self._call_in_words(call)}"
        for request in self.open_requests():
            yield f"waits    {one_line(request.tool)}, approval {request.approval_id}"
        if view.turn:
            usage = view.usage
            cached = f" ({usage.cached_input_tokens:,} cached)" if usage.cached_input_tokens else ""
            turns = "1 turn" if view.turn == 1 else f"{view.turn} turns"
            yield f"usage    {turns}, {usage.input_tokens:,} tokens in{cached}, {usage.output_tokens:,} out"
        for change in self.changes[:NAMED_CHANGES]:
            yield f"file     {one_line(change.path)} {change_in_words(change)}"
        if len(self.changes) > NAMED_CHANGES:
            yield f"         and {len(self.changes) - NAMED_CHANGES} more"
        if view.answer is not None:
            yield f"\n{visible(view.answer.text)}"

    def _state_in_words(self) -> str:
        finished = self.view.finished
        if finished is None:
            return f"waiting, for {self.run.reason}" if self.state == RunState.WAITING else self.state
        said = f": {one_line(finished.detail)}" if finished.detail else ""
        return (
            self.state if finished.reason in (self.state, "final_answer") else f"{self.state}, {finished.reason}{said}"
        )

    def _call_in_words(self, call: CallView) -> str:
        arguments = call.call.malformed or canonical_json(call.call.arguments).decode()
        named = f"{one_line(call.call.tool)} {one_line(arguments, ARGUMENTS_CHARACTERS)}"
        result = self.results.get(call.call.call_id)
        if result is not None:
            return f"{named} {f'failed, {result.error},' if result.error else 'finished'} after {result.elapsed_ms} ms"
        if call.state is CallState.DENIED:
            return f"{named} {one_line(call.answer, ARGUMENTS_CHARACTERS)}"
        return f"{named} {call.state.value.replace('_', ' ')}"


def account_of(reader: Tapes, run: RunSummary, state: str) -> Account:
    """Read the account of `run`, which now is in `state`, off its tape."""
    rows = whole_tape(reader, run.run_id)
    finished = [event for row in rows if isinstance(event := row.event(), ToolFinished)]
    return Account(
        run,
        state,
        fold_rows(RunView(), rows),
        {event.call_id: event for event in finished},
        net_changes(changes_of(reader, run.run_id).told),
    )


def change_in_words(change: FileChange) -> str:
    if change.before is None:
        return "was created"
    if change.after is None:
        return "was removed"
    return "has other permissions" if change.before == change.after else "was changed"
