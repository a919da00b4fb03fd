"""ask_user: a question to the person. It waits where a call waits for approval; their answer is its result."""

from typing import Annotated

import attrs
import trio
from msgspec import Meta

from palyra_trio.tools.registry import Plan, Tool, ToolContext, ToolResult, ToolSpec

MAX_CHOICES = 20


@attrs.frozen
class AskArguments:
    question: Annotated[str, Meta(description="What to ask the person.", min_length=1)]
    choices: Annotated[
        tuple[str, ...],
        Meta(description="Answers to choose from; the person may still answer otherwise.", max_length=MAX_CHOICES),
    ] = ()


async def _plan(arguments: AskArguments, context: ToolContext) -> Plan:
    await trio.lowlevel.checkpoint_if_cancelled()
    one_line = (choice.replace("\n", "\\n") for choice in arguments.choices)  # or it could hold a number of its own
    numbered = (f"{number}. {choice}" for number, choice in enumerate(one_line, 1))
    return Plan(preview="\n".join((arguments.question, *numbered)))


async def _run(arguments: AskArguments, context: ToolContext, plan: Plan) -> ToolResult:
    await trio.lowlevel.checkpoint_if_cancelled()
    return ToolResult(chosen(context.answer.strip(), arguments.choices) or "the person answered nothing")


def chosen(answer: str, choices: tuple[str, ...]) -> str:
    """Return the choice whose number the answer is, or the answer itself."""
    numbers = {str(number): choice for number, choice in enumerate(choices, 1)}
    return answer if answer in choices else numbers.get(answer, answer)


ASK_USER = Tool(
    ToolSpec(
        name="ask_user",
        description="Ask the person a question, and wait for the answer. Ask only what you cannot find out yourself.",
        arguments=AskArguments,
        capability="run.local",
        risk="low",
        read_only=True,
        idempotent=True,
        asks=True,
    ),
    _plan,
    _run,
)
