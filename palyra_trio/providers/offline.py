"""The built-in provider for when no model is configured: fixed rules that drive the real agent loop and its tools.

`offline_rules` turns the last user message into a plan. Each turn issues the plan's next step, and the last one
tells what the tools returned, word for word. It is no language model and never poses as one: a prompt that the rules
do not cover is refused, with what they do cover and how to connect a model.
"""

import re
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, aclosing

import attrs
import trio

from palyra_trio.core.messages import Message, ModelDelta, ModelReply, ModelRequest, ToolCall
from palyra_trio.core.text import clean
from palyra_trio.providers.base import ModelStream, ProviderError
from palyra_trio.providers.offline_rules import EXAMPLES, NotUnderstood, Step, plan

NAME, MODEL = "offline", "rules"
OPENING = "(Answered by fixed rules, without a language model.)"
CONNECT = "to connect a model set OPENAI_API_KEY, OPENAI_BASE_URL or OLLAMA_HOST, or name the model, as provider/model"
# How a run tells a model that a call was refused or failed; see core.view and runtime.tool_flow.
_FAILED = re.compile(r"(?:Refused|Error)(?: by policy| \([\w ]+\))?: ")


@attrs.frozen
class OfflineProvider:
    """Keeps nothing: what has been done is read off the request's messages."""

    name: str = NAME

    def stream(self, request: ModelRequest) -> AbstractAsyncContextManager[ModelStream]:
        """Issue the next step, or answer. Raises ProviderError(not_understood) before the first delta."""
        return aclosing(self._stream(request))

    async def _stream(self, request: ModelRequest) -> AsyncGenerator[ModelDelta | ModelReply]:
        await trio.lowlevel.checkpoint()
        reply = respond(request)
        for line in reply.text.splitlines(keepends=True):
            yield ModelDelta(line)
        yield reply


def respond(request: ModelRequest) -> ModelReply:
    """Return the turn that follows: a pure function of the request. Raises ProviderError(not_understood)."""
    user = max((place for place, each in enumerate(request.messages) if each.role == "user"), default=-1)
    if user < 0:
        raise _not_understood("")
    asked, since = request.messages[user], request.messages[user + 1 :]
    steps = _plan(asked.text, {tool.name for tool in request.tools})
    results = [message.text for message in since if message.role == "tool"]
    failed = next((place for place, text in enumerate(results) if _FAILED.match(text)), None)
    if failed is None and len(results) < len(steps):
        step = steps[len(results)]
        turn = sum(message.role == "assistant" for message in request.messages)
        call = ToolCall(f"call_{turn}_0", step.tool, step.arguments)
        return ModelReply("", (call,), "tool_calls", model=MODEL)
    return ModelReply("\n".join(_answer(asked, steps, results, failed)), model=MODEL)


def _plan(prompt: str, offered: set[str]) -> tuple[Step, ...]:
    try:
        steps = plan(prompt)
    except NotUnderstood as error:
        raise _not_understood(f"the offline rules do not understand {str(error)!r}") from None
    if missing := [step.tool for step in steps if step.tool not in offered]:
        raise _not_understood(f"the offline rules would need {', '.join(missing)}, which this run is not offered")
    return steps


def _not_understood(why: str) -> ProviderError:
    return ProviderError("not_understood", clean(f"{why}; they understand: {' · '.join(EXAMPLES)}"), remedy=CONNECT)


def _answer(asked: Message, steps: Sequence[Step], results: Sequence[str], failed: int | None) -> Iterator[str]:
    yield OPENING
    for attachment in asked.attachments:
        yield f"I did not look at the attached {attachment.name}: the rules cannot."
    for place, (step, result) in enumerate(zip(steps, results, strict=False)):
        yield ""
        if place == failed:
            yield f"I could not {step.doing}. {result}"
        else:
            yield f"{step.title}\n{result}"
    if left := [] if failed is None else steps[failed + 1 :]:
        yield f"\nSo I did not {', nor '.join(step.doing for step in left)}."
