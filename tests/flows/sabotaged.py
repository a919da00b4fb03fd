"""The daemon, with handlers that fail: `python -m tests.flows.sabotaged serve`. What is asked of a run named so fails.

Each failure has what it was asked in a local variable and in its message: `crash:` in a handler, `thread:` in a thread
and where nobody can catch it, `die:` in a task that the process does not survive.
"""

import threading

import trio

from palyra_trio.cli.main import main
from palyra_trio.core.identity import RequestContext
from palyra_trio.journal.queries import RunSummary
from palyra_trio.runtime.gateway import Gateway

_whole = Gateway.run


class _Unraisable:
    def __init__(self, secret: str) -> None:
        self.secret = secret

    def __del__(self) -> None:
        raise RuntimeError(f"cannot be caught: {self.secret}")


async def _run(self: Gateway, run_id: str, context: RequestContext) -> RunSummary:
    how, _, secret = run_id.partition(":")
    if how == "thread":
        thread = threading.Thread(target=_fail, args=(secret,))
        thread.start()
        thread.join()
        _Unraisable(secret)
    if how in ("crash", "thread"):
        raise RuntimeError(f"it failed with {secret}")
    if how == "die":
        self._nursery.start_soon(_fail_later, secret)
        await trio.sleep_forever()
    return await _whole(self, run_id, context)


def _fail(secret: str) -> None:
    raise RuntimeError(f"a thread failed with {secret}")


async def _fail_later(secret: str) -> None:
    await trio.lowlevel.checkpoint()
    raise RuntimeError(f"the end: {secret}")


Gateway.run = _run  # type: ignore[method-assign]

if __name__ == "__main__":
    main()
