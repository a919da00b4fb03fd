"""todo.write: the run's list of what is to be done. It is kept nowhere but in the calls: the last one is the list."""

from typing import Annotated, Any, Literal

import attrs
import msgspec
import trio
from msgspec import Meta

from palyra_trio.core.errors import InvalidArgument
from palyra_trio.tools.registry import Plan, Tool, ToolContext, ToolResult, ToolSpec, argument_schema

MAX_ITEMS = 100
_MARKS = {"pending": "[ ]", "in_progress": "[>]", "done": "[x]"}


@attrs.frozen
class TodoItem:
    text: Annotated[str, Meta(description="What is to be done.", min_length=1)]
    status: Annotated[Literal["pending", "in_progress", "done"], Meta(description="How far it is.")] = "pending"


@attrs.frozen
class TodoArguments:
    # A class within a class would leave a $ref in the schema, which not every model provider follows.
    items: Annotated[
        tuple[Annotated[dict[str, Any], Meta(extra_json_schema=argument_schema(TodoItem))], ...],
        Meta(description="The whole list, in order; it replaces the one before.", max_length=MAX_ITEMS),
    ]


async def _plan(arguments: TodoArguments, context: ToolContext) -> Plan:
    await trio.lowlevel.checkpoint_if_cancelled()
    return Plan(preview=rendered(arguments))


async def _run(arguments: TodoArguments, context: ToolContext, plan: Plan) -> ToolResult:
    await trio.lowlevel.checkpoint_if_cancelled()
    return ToolResult(rendered(arguments))


def rendered(arguments: TodoArguments) -> str:
    """Return the list for reading: a line an item, and a count. Raises InvalidArgument naming the item that is wrong."""
    try:
        items = msgspec.convert(arguments.items, tuple[TodoItem, ...])
    except msgspec.ValidationError as error:
        raise InvalidArgument(f"the list does not fit its schema: {error}") from error
    lines = [f"{_MARKS[item.status]} {item.text}" for item in items]
    done = sum(item.status == "done" for item in items)
    return "\n".join((*lines, f"{done} of {len(items)} done"))


TODO_WRITE = Tool(
    ToolSpec(
        name="todo.write",
        description="Write down the list of what is to be done in this run, and how far each item is.",
        arguments=TodoArguments,
        capability="run.local",
        risk="low",
        read_only=True,
        idempotent=True,
    ),
    _plan,
    _run,
)
