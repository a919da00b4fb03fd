"""palyra-trio with all layers on: gateway, session, journal, redaction, policy, a real tool, and a follower of each tape.

Only the model is scripted. Intent is durable before the effect and the result before the next request, so a step is
two commits.
"""

import json
from pathlib import Path

import trio

from bench.contest import STEPS, Work, given_work
from palyra_trio.core.commands import Accepted, StartRun
from palyra_trio.core.config import Config
from palyra_trio.core.identity import Principal, RequestContext
from palyra_trio.core.run import RunState
from palyra_trio.core.tape import RunFinished
from palyra_trio.daemon import Setup, calm_collector, open_runtime
from palyra_trio.providers.choose import ModelSettings
from palyra_trio.runtime.gateway import Gateway

CONTEXT = RequestContext(Principal("user:bench"), local=True)


async def run_once(gateway: Gateway, workspace: Path, script: Path) -> None:
    """Start a run in a new session and follow it to its end."""
    started = await gateway.submit(StartRun("hello", workspace=str(workspace), model=f"scripted/{script}"), CONTEXT)
    assert isinstance(started, Accepted)
    follower = await gateway.follow(started.run_id, 0, CONTEXT)
    while rows := await follower.next_rows():
        newest = rows[-1]
    ending = newest.event()
    assert isinstance(ending, RunFinished)
    assert ending.state is RunState.DONE, ending


async def main(work: Work) -> None:
    workspace, script = work.folder / "workspace", work.folder / "script.json"
    workspace.mkdir()
    step = {"calls": [{"tool": "clock.now", "arguments": {}}]}
    script.write_text(json.dumps({"turns": [*[step] * STEPS, {"text": "done"}]}))
    async with open_runtime(Setup(Config(), ModelSettings(), work.folder / "state")) as gateway:
        calm_collector()

        async def worker() -> None:
            for _ in range(work.runs_each):
                await run_once(gateway, workspace, script)

        await run_once(gateway, workspace, script)
        with work.measured():
            async with trio.open_nursery() as nursery:
                for _ in range(work.workers):
                    nursery.start_soon(worker)


if __name__ == "__main__":
    trio.run(main, given_work())
