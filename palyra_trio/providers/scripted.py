"""The scripted provider: plays turns from a file, for tests, demonstrations and bug reports. It understands nothing.

`palyra_trio.providers.script` documents the file. Which turn plays is read off the request: it is the number of
assistant messages after the last user message. So one provider serves any number of runs at once, and a run that is
resumed goes on at the right turn. Only the count of errors that were raised belongs to the provider object.
"""

from collections import Counter
from collections.abc import AsyncGenerator
from contextlib import AbstractAsyncContextManager, aclosing

import attrs
import trio

from palyra_trio.core.messages import ModelDelta, ModelReply, ModelRequest, ToolCall
from palyra_trio.providers.base import ModelStream, ProviderError
from palyra_trio.providers.script import Script, Turn

_CHECKPOINT_DELTAS = 64  # a stream of a million deltas must not hold the loop


@attrs.frozen
class ScriptedProvider:
    """Plays `script`; `place` names it in errors, such as the file it came from."""

    script: Script = attrs.field(repr=False)
    place: str = "the script"
    name: str = "scripted"
    _failures: Counter[int] = attrs.field(factory=Counter, init=False, repr=False)

    def stream(self, request: ModelRequest) -> AbstractAsyncContextManager[ModelStream]:
        """Play the turn that the request has come to. Raises ProviderError(bad_request) past the last one."""
        return aclosing(self._play(request))

    async def _play(self, request: ModelRequest) -> AsyncGenerator[ModelDelta | ModelReply]:
        number, turn = self._turn(request)
        if turn.pause_s:
            await trio.sleep(turn.pause_s)
        await trio.lowlevel.checkpoint_if_cancelled()
        error = turn.error
        if error is not None:
            error = error if self._failures[number] < error.times else None
            self._failures[number] += 1
        for place, piece in enumerate(turn.pieces()):
            if error is not None and place == error.after_deltas:
                raise error.exception()
            if place and turn.delta_pause_s:
                await trio.sleep(turn.delta_pause_s)
            elif place % _CHECKPOINT_DELTAS == _CHECKPOINT_DELTAS - 1:
                await trio.lowlevel.checkpoint()
            yield ModelDelta(piece)
        if error is not None:
            raise error.exception()
        if turn.hang:
            await trio.sleep_forever()
        yield _reply(turn, request)

    def _turn(self, request: ModelRequest) -> tuple[int, Turn]:
        number = 0
        for message in reversed(request.messages):
            if message.role == "user":
                break
            number += message.role == "assistant"
        turns = self.script.turns
        if number >= len(turns) and not self.script.loop:
            raise ProviderError(
                "bad_request",
                f"{self.place} has {len(turns)} turns, and the run asks for turn {number + 1}",
                remedy='add a turn, or set "loop": true',
            )
        return number % len(turns), turns[number % len(turns)]


def _reply(turn: Turn, request: ModelRequest) -> ModelReply:
    calls: tuple[ToolCall, ...] = ()
    if turn.calls:
        # All earlier turns count, those before the last user message too, so that ids stay unique within a run.
        number = sum(message.role == "assistant" for message in request.messages)
        calls = tuple(
            ToolCall(call.call_id or f"call_{number}_{place}", call.tool, call.arguments)
            for place, call in enumerate(turn.calls)
        )
    return ModelReply(
        turn.whole(), calls, turn.finish or ("tool_calls" if calls else "stop"), turn.usage, request.model
    )
