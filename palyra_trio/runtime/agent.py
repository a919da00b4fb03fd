"""The agent loop: decide, perform, record, until nothing is left to ask.

What was performed is recorded together with the intent of the next step, so that a step costs two commits: one
makes the model's turn and the intent of its calls durable before any effect, one the results and the next request.
Between the two `decide` looks ahead: at the view as it will be once the held events are on the tape.
"""

from collections.abc import Iterator

import attrs
import trio

from palyra_trio.core.agents import AgentSpec
from palyra_trio.core.chain import canonical_json
from palyra_trio.core.context import Context, assemble, message_digest
from palyra_trio.core.messages import ModelReply, ToolCall, ToolDefinition
from palyra_trio.core.run import RunState
from palyra_trio.core.tape import (
    ContextAssembled,
    Correction,
    FinalAnswer,
    LimitReached,
    ModelTurn,
    ProviderRequest,
    RoutingDecision,
    RunFinished,
    StatusChange,
    TapeEvent,
    ToolProposed,
)
from palyra_trio.core.turn import CallModel, Correct, Fail, Finish, Settle, decide
from palyra_trio.core.view import RunView
from palyra_trio.journal.queries import Reader
from palyra_trio.runtime.model_call import call_model
from palyra_trio.runtime.resume import past_run
from palyra_trio.runtime.runs import Run
from palyra_trio.runtime.tool_flow import settle_calls
from palyra_trio.tools.registry import catalogue_digest
from palyra_trio.tools.workspace import Workspace


async def drive(run: Run, workspace: Workspace) -> None:
    """Take a run, queued or answered by a person, as far as it gets: to its RunFinished, or until it waits for a person.

    If cancelled, the tape is whole up to some step; whoever cancelled records the ending.
    """
    tools = run.state.tools.definitions(run.order.input.agent.tools)
    offered = catalogue_digest(tools)
    held: list[TapeEvent] = []
    if run.view.state is RunState.QUEUED:
        await _begin(run, (offered, canonical_json(tools)))
    while True:
        if run.view.state is RunState.WAITING and run.view.can_go_on:
            held.append(StatusChange(RunState.WAITING, RunState.RUNNING, boot_id=run.state.boot_id))
        ahead = run.view.ahead(held)
        match decide(ahead, run.order.problem_with):
            case CallModel(turn):
                await run.record(*held, _request(run, ahead, turn, offered))
                held = await _model_turn(run, turn, tools)
            case Settle(call_ids):
                held = await settle_calls(run, workspace, held, ahead, call_ids)
            case Correct(text):
                held.append(Correction(text))
            case Finish(turn):
                await run.record(*held, *_answer(run, ahead, turn))
                return
            case Fail(reason, detail, limit, value):
                reached = [LimitReached(limit, value)] if limit else []
                await run.record(*held, *reached, RunFinished(ahead.state, RunState.FAILED, reason, detail))
                return
            case None:
                return


async def _begin(run: Run, tools: tuple[str, bytes]) -> None:
    order, state = run.order, run.state
    spec = order.input.agent
    budget_bytes = order.config.context.budget_bytes
    if order.past_runs:
        context = await state.readers.ask(
            lambda reader: _past(reader, spec, str(order.session_id), order.run_id, budget_bytes)
        )
    else:
        context = assemble(spec.instructions, (), 0, budget_bytes)
    run.context = context.messages
    digests = tuple(message_digest(message) for message in context.messages)
    await run.record(
        StatusChange(RunState.QUEUED, RunState.RUNNING, boot_id=state.boot_id),
        RoutingDecision(order.choice.provider.name, order.choice.model, order.choice.why),
        ContextAssembled(digests, context.runs, context.omitted_runs, budget_bytes, context.tainted),
        blobs=[(digests[0], canonical_json(context.messages[0])), tools],
    )
    state.latencies.starting.begun(order.run_id, trio.current_time())


def _past(reader: Reader, spec: AgentSpec, session_id: str, run_id: str, budget_bytes: int) -> Context:
    earlier = reader.earlier_runs(session_id, run_id)
    newest_first = (past_run(reader, each) for each in earlier)
    return assemble(spec.instructions, newest_first, len(earlier), budget_bytes)


def _request(run: Run, view: RunView, turn: int, tools: str) -> ProviderRequest:
    kept = view.requested
    added = tuple(message_digest(message) for message in view.messages[kept - len(run.context) :])
    return ProviderRequest(turn, kept, added, tools)


async def _model_turn(run: Run, turn: int, tools: tuple[ToolDefinition, ...]) -> list[TapeEvent]:
    reply = await call_model(run, turn, tools)
    if not isinstance(reply, ModelReply):
        return [reply]
    calls = [ToolProposed(call) for call in _distinct(reply.calls, set(run.view.calls), turn)]
    return [ModelTurn(turn, reply.text, reply.finish, reply.usage, reply.model, len(calls)), *calls]


def _distinct(calls: tuple[ToolCall, ...], known: set[str], turn: int) -> Iterator[ToolCall]:
    """Yield the calls with ids that are unique in the run: some providers number each turn's calls from zero."""
    for index, call in enumerate(calls):
        call_id = call.call_id
        while not call_id or call_id in known:
            call_id = f"{call_id or 'call'}.{turn}.{index}"
        known.add(call_id)
        yield call if call_id == call.call_id else attrs.evolve(call, call_id=call_id)


def _answer(run: Run, view: RunView, turn: ModelTurn) -> tuple[TapeEvent, ...]:
    choice = run.order.choice
    answer = FinalAnswer(turn.text, choice.provider.name, turn.model or choice.model, turn.finish, view.usage)
    return answer, RunFinished(view.state, RunState.DONE, "final_answer")
