"""`palyra-trio serve` as it is, except for one more model: `stamped/RATE-COUNT` says when it spoke, in each delta.

A delta is `DUE:SAID ` in nanoseconds of the machine's monotonic clock, which all processes share: when it was due by the
rate, and when the provider yielded it.
"""

import random
import time
from collections.abc import AsyncGenerator
from contextlib import AbstractAsyncContextManager, aclosing

import attrs
import trio

import palyra_trio.daemon
from palyra_trio.cli.main import main
from palyra_trio.core.messages import ModelDelta, ModelReply, ModelRequest
from palyra_trio.providers.base import ModelStream
from palyra_trio.providers.choose import Choice, Models


@attrs.frozen
class StampingProvider:
    rate: int
    count: int
    name: str = "stamped"

    def stream(self, request: ModelRequest) -> AbstractAsyncContextManager[ModelStream]:
        return aclosing(self._stream(request))

    async def _stream(self, request: ModelRequest) -> AsyncGenerator[ModelDelta | ModelReply]:
        await trio.sleep(random.random() / self.rate)  # runs that began together do not speak in chorus
        began, began_ns = trio.current_time(), time.monotonic_ns()
        for number in range(1, self.count + 1):
            after_s = number / self.rate
            await trio.sleep_until(began + after_s)
            yield ModelDelta(f"{began_ns + int(after_s * 1e9)}:{time.monotonic_ns()} ")
        yield ModelReply("", model=request.model)


class StampingModels(Models):
    async def choose(self, model: str = "", base_url: str = "") -> Choice:
        rate, _, count = model.removeprefix("stamped/").partition("-")
        return Choice(StampingProvider(int(rate), int(count)), model, "it was asked for by name")


if __name__ == "__main__":
    palyra_trio.daemon.Models = StampingModels  # type: ignore[attr-defined]
    main()
