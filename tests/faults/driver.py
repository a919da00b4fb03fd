"""A process to be killed, watched or locked out: `python -m tests.faults.driver WHAT STATE_DIR WORKSPACE`.

`storm` keeps 100 runs under way and appends what it was told, run id and seq, to STATE_DIR/../acknowledged, each line
on the disk before it goes on. `idle` opens the runtime and does nothing. Both print `ready` once they are.
"""

import json
import os
import sys
from pathlib import Path

import attrs
import trio

from palyra_trio.core.agents import Limits
from palyra_trio.core.commands import Accepted, StartRun
from palyra_trio.core.config import Config
from palyra_trio.core.identity import Principal, RequestContext
from palyra_trio.daemon import Setup, open_runtime
from palyra_trio.providers.choose import ModelSettings
from palyra_trio.runtime.gateway import Gateway

RUNS = 100
CONTEXT = RequestContext(Principal("user:driver"), local=True)
CONFIG = attrs.evolve(Config(), limits=Limits(turns=10_000, tool_calls=100_000))
SCRIPT = {
    "loop": True,
    "turns": [
        {
            "text": "looking again",
            "calls": [
                {"tool": "clock.now"},
                {"tool": "files.read", "arguments": {"path": "a.txt"}},
                {"tool": "files.list"},
            ],
        }
    ],
}


async def _storm(gateway: Gateway, state_dir: Path, workspace: Path) -> None:
    (workspace / "a.txt").write_text("one\ntwo\n", "utf-8")
    script = state_dir.parent / "script.json"
    script.write_text(json.dumps(SCRIPT), "utf-8")
    file = os.open(state_dir.parent / "acknowledged", os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def acknowledged(run_id: str, seq: int) -> None:
        os.write(file, f"{run_id} {seq}\n".encode())
        os.fsync(file)

    async def run() -> None:
        accepted = await gateway.submit(
            StartRun("go on", model=f"scripted/{script}", workspace=str(workspace)), CONTEXT
        )
        assert isinstance(accepted, Accepted)
        acknowledged(accepted.run_id, 1)
        follower = await gateway.follow(accepted.run_id, 0, CONTEXT)
        while rows := await follower.next_rows():
            acknowledged(accepted.run_id, rows[-1].seq)

    async with trio.open_nursery() as nursery:
        for _ in range(RUNS):
            nursery.start_soon(run)
        print("ready", flush=True)


async def _main(what: str, state_dir: Path, workspace: Path) -> None:
    async with open_runtime(Setup(CONFIG, ModelSettings(), state_dir)) as gateway:
        if what == "storm":
            await _storm(gateway, state_dir, workspace)
        else:
            print("ready", flush=True)
            await trio.sleep_forever()


if __name__ == "__main__":
    trio.run(_main, sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]))
