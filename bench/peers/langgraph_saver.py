"""LangGraph in its leanest form: two async nodes over plain dicts, AsyncSqliteSaver (WAL, FULL), durability="sync"."""

import asyncio
import operator
import time
from typing import Annotated, Any, TypedDict

from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver
from langgraph.graph import END, START, StateGraph

from bench.contest import STEPS, Work, given_work


class State(TypedDict):
    messages: Annotated[list[dict[str, Any]], operator.add]


async def model(state: State) -> dict[str, Any]:
    turn = len(state["messages"]) // 2
    if turn == STEPS:
        return {"messages": [{"role": "assistant", "content": "done"}]}
    call = {"id": f"call_{turn}", "name": "clock", "arguments": {}}
    return {"messages": [{"role": "assistant", "content": "", "tool_calls": [call]}]}


async def tool(state: State) -> dict[str, Any]:
    call = state["messages"][-1]["tool_calls"][0]
    return {"messages": [{"role": "tool", "tool_call_id": call["id"], "content": time.ctime()}]}


def after_model(state: State) -> str:
    return "tool" if "tool_calls" in state["messages"][-1] else END


async def main(work: Work) -> None:
    builder = StateGraph(State)
    builder.add_node("model", model)
    builder.add_node("tool", tool)
    builder.add_edge(START, "model")
    builder.add_conditional_edges("model", after_model)
    builder.add_edge("tool", "model")
    async with AsyncSqliteSaver.from_conn_string(str(work.folder / "checkpoints.sqlite3")) as saver:
        graph = builder.compile(checkpointer=saver)

        async def run_once(thread: str) -> None:
            ended = await graph.ainvoke(
                {"messages": [{"role": "user", "content": "hello"}]},
                {"configurable": {"thread_id": thread}, "recursion_limit": 4 * STEPS},
                durability="sync",
            )
            assert len(ended["messages"]) == 2 * STEPS + 2

        async def worker(number: int) -> None:
            for each in range(work.runs_each):
                await run_once(f"{number}.{each}")

        await run_once("warm-up")
        with work.measured():
            await asyncio.gather(*(worker(number) for number in range(work.workers)))


if __name__ == "__main__":
    asyncio.run(main(given_work()))
