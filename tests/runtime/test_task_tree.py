"""The tree of tasks tells which tasks there are, below whom, and where in our own code each waits."""

from pathlib import Path

import trio

from palyra_trio.runtime.task_tree import task_tree
from tests.fakes import SECRET, FakeProvider, open_fake_runtime, says


async def test_a_run_is_seen_where_it_waits_and_what_it_works_on_is_not(tmp_path: Path) -> None:
    began, release = trio.Event(), trio.Event()

    async def hold() -> None:
        began.set()
        await release.wait()

    async with open_fake_runtime(tmp_path, FakeProvider([hold, *says("done")])) as runtime:
        await runtime.start(f"use {SECRET}")
        await began.wait()
        root = trio.lowlevel.current_root_task()
        assert root is not None
        lines = list(task_tree(root))
        release.set()
    (run,) = [line for line in lines if "Sessions._serve" in line]
    assert "in runtime.model_call." in run or "in runtime.agent." in run
    assert run.startswith("  ")
    assert SECRET not in "\n".join(lines)


async def test_children_stand_below_their_parent() -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.sleep_forever, name="child")
        here = trio.lowlevel.current_task()
        await trio.testing.wait_all_tasks_blocked()
        assert [line.partition("  in ")[0] for line in task_tree(here)][1:] == ["  child"]
        nursery.cancel_scope.cancel()
