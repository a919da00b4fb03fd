"""The agent loop's judgement: what to do next, from the view alone.

`decide` never waits and never acts. The loop performs the step, records what happened, and asks again; recovery and
replay ask the same function of a tape that is already partly written.
"""

from collections.abc import Callable

import attrs

from palyra_trio.core.agents import limit_source
from palyra_trio.core.run import RunState
from palyra_trio.core.tape import ModelTurn
from palyra_trio.core.view import RunView

FINAL_ANSWER_CONTRACT = "final_answer_contract"

AnswerCheck = Callable[[str], str]
"""Returns what is wrong with an answer, or an empty string: the agent's answer schema, compiled."""


@attrs.frozen
class CallModel:
    """Make model call number `turn`, counted from 1."""

    turn: int


@attrs.frozen
class Settle:
    """Bring these calls of the newest turn to an outcome: gate them, run what may run."""

    call_ids: tuple[str, ...]


@attrs.frozen
class Correct:
    """Tell the model what its answer lacks."""

    text: str


@attrs.frozen
class Finish:
    """The answer stands."""

    turn: ModelTurn


@attrs.frozen
class Fail:
    """End the run as FAILED. `limit` and `value` are set where a limit ends it."""

    reason: str
    detail: str
    limit: str = ""
    value: int = 0


Step = CallModel | Settle | Correct | Finish | Fail


def decide(view: RunView, problem_with: AnswerCheck) -> Step | None:
    """Return the next step of a run, or None when there is nothing left to do (it ended, or it waits).

    A run may end only when every proposed call is settled, no approval is open, the answer is not empty, and
    `problem_with(answer)` finds nothing. One answer that falls short is sent back to the model; the second fails.
    """
    if view.state is not RunState.RUNNING:
        return None
    if view.failure is not None:
        return Fail(f"provider_{view.failure.failure}", view.failure.message)
    if view.limit is not None:
        return _over(view.limit.limit, view.limit.value)
    if view.newest is None or view.in_model_call:
        return CallModel(max(view.turn, 1))
    limits = view.input.agent.limits if view.input is not None else None
    if limits is not None and view.tool_calls > limits.tool_calls:
        return _over("tool_calls", limits.tool_calls)
    if unsettled := view.unsettled():
        return Settle(unsettled)
    if not view.newest.calls and view.messages[-1].role == "assistant":
        answer = view.newest.text
        problem = problem_with(answer) if answer.strip() else "the answer is empty"
        if not problem:
            return Finish(view.newest)
        if view.corrections:
            return Fail(FINAL_ANSWER_CONTRACT, problem)
        return Correct(f"Your answer cannot be accepted: {problem}. Answer again, in full.")
    if limits is not None and view.turn >= limits.turns:
        return _over("turns", limits.turns)
    return CallModel(view.turn + 1)


def _over(limit: str, value: int) -> Fail:
    detail = f"the run reached its limit of {value} {limit.replace('_', ' ')}, {limit_source(limit)}"
    return Fail(f"limit_{limit}", detail, limit, value)
