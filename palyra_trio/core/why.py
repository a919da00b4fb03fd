"""Why a run does not go on right now: what it waits for, since when, and until when at most, as its tape tells it."""

from collections.abc import Iterable, Sequence

import attrs

from palyra_trio.core.codec import TapeRow
from palyra_trio.core.run import CallState, RunState
from palyra_trio.core.tape import ApprovalRequested, Input, ProviderRequest, RunFinished, TapeEvent, ToolStarted
from palyra_trio.core.view import RunView, fold


@attrs.frozen
class Wait:
    """Something that a run waits for. `since_ms` and `until_ms` are Unix times in milliseconds, `until_ms` 0 for no end.

    `approval_id` names what a person can answer; it is empty where nobody can.
    """

    what: str
    since_ms: int
    until_ms: int = 0
    approval_id: str = ""


class Waiting:
    """What a run waits for, told by its rows one after the other. `view` is the run as they tell it."""

    def __init__(self) -> None:
        self.view = RunView()
        self._accepted_ms = self._requested_ms = self._at_ms = 0
        self._asked_ms: dict[str, int] = {}
        self._started_ms: dict[str, int] = {}

    def take(self, at_ms: int, event: TapeEvent | None) -> None:
        """Take the next row: its time, and its event unless that was erased. Raises StateConflict where it cannot follow."""
        self._at_ms = at_ms
        match event:
            case None:
                self.view.gaps = True
                return
            case Input():
                self._accepted_ms = at_ms
            case ProviderRequest():
                self._requested_ms = at_ms
            case ApprovalRequested():
                self._asked_ms[event.call_id] = at_ms
            case ToolStarted():
                self._started_ms[event.call_id] = at_ms
        fold(self.view, event)

    def waits(self) -> tuple[Wait, ...]:
        """Return what it waits for: nothing once it has ended, and the model while it thinks."""
        view = self.view
        if view.terminal:
            return ()
        if view.state is RunState.QUEUED:
            what = "its turn: its session has another run, or no process has taken it up"
            return (Wait(what, self._accepted_ms),)
        waits = [*_people(view, self._asked_ms), *_tools(view, self._started_ms)]
        if view.in_model_call:
            model = f"{view.routing.provider}/{view.routing.model}" if view.routing is not None else "the model"
            waits.append(Wait(f"the answer of {model}", self._requested_ms))
        return tuple(waits) or (Wait("nothing: it is at work", self._at_ms),)


def waits_of(rows: Iterable[TapeRow]) -> tuple[Wait, ...]:
    """Return what the run of this whole tape waits for (see `Waiting`). Raises StateConflict."""
    waiting = Waiting()
    for row in rows:
        waiting.take(row.at_ms, row.event())
    return waiting.waits()


@attrs.frozen
class Standing:
    """How a run stands: for which `reason` it ended, and the `detail` of that, or else what it waits for."""

    reason: str
    detail: str
    waits: tuple[Wait, ...]

    @property
    def ending(self) -> str:
        """The reason and its detail; nothing while the run has not ended."""
        return ": ".join(filter(None, (self.reason, self.detail)))


def standing(rows: Sequence[TapeRow], *, interrupted: bool) -> Standing:
    """Return how the run of this whole tape stands. One that is interrupted waits for nothing: nobody goes on with it."""
    end = rows[-1].event() if rows else None
    because = (end.reason, end.detail) if isinstance(end, RunFinished) else ("", "")
    return Standing(*because, () if interrupted else waits_of(rows))


def _people(view: RunView, asked_ms: dict[str, int]) -> Iterable[Wait]:
    for call_id in view.waiting():
        asked = view.calls[call_id].asked
        if asked is not None:
            what = "your answer to its question" if asked.question else f"your approval of {asked.tool}"
            yield Wait(what, asked_ms[call_id], asked.expires_at_ms, asked.approval_id)


def _tools(view: RunView, started_ms: dict[str, int]) -> Iterable[Wait]:
    limit_ms = int(view.input.agent.limits.tool_s * 1000) if view.input is not None else 0
    for call_id in view.unsettled():
        call = view.calls[call_id]
        if call.state is CallState.STARTED:
            yield Wait(f"the tool {call.call.tool}", started_ms[call_id], started_ms[call_id] + limit_ms)
