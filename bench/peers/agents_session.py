"""openai-agents with SQLiteSession (WAL, FULL): its own Runner, a fake Model, a function tool, tracing off."""

import asyncio
import time
from typing import Any

from agents import Agent, Runner, SQLiteSession, function_tool, set_tracing_disabled
from agents.items import ModelResponse
from agents.models.interface import Model
from agents.usage import Usage
from openai.types.responses import ResponseFunctionToolCall, ResponseOutputMessage, ResponseOutputText

from bench.contest import STEPS, Work, given_work


class Scripted(Model):
    async def get_response(self, system_instructions: Any, input: Any, *others: Any, **more: Any) -> ModelResponse:
        turn = sum(item.get("type") == "function_call_output" for item in input)
        return ModelResponse(output=[_answer() if turn == STEPS else _call(turn)], usage=Usage(), response_id=None)

    def stream_response(self, *others: Any, **more: Any) -> Any:
        raise NotImplementedError


def _call(turn: int) -> ResponseFunctionToolCall:
    return ResponseFunctionToolCall(
        type="function_call", name="clock", arguments="{}", call_id=f"call_{turn}", id=f"item_{turn}"
    )


def _answer() -> ResponseOutputMessage:
    text = ResponseOutputText(type="output_text", text="done", annotations=[])
    return ResponseOutputMessage(id="answer", type="message", role="assistant", status="completed", content=[text])


@function_tool
def clock() -> str:
    """Tell the time."""
    return time.ctime()


async def main(work: Work) -> None:
    set_tracing_disabled(True)
    agent = Agent(name="bench", model=Scripted(), tools=[clock])

    async def run_once(session_id: str) -> None:
        session = SQLiteSession(session_id, work.folder / "sessions.sqlite3")
        ended = await Runner.run(agent, "hello", session=session, max_turns=2 * STEPS)
        session.close()
        assert ended.final_output == "done"
        assert len(ended.new_items) == 2 * STEPS + 1

    async def worker(number: int) -> None:
        for each in range(work.runs_each):
            await run_once(f"{number}.{each}")

    await run_once("warm-up")
    with work.measured():
        await asyncio.gather(*(worker(number) for number in range(work.workers)))


if __name__ == "__main__":
    asyncio.run(main(given_work()))
