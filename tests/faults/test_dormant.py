"""A run that waits for a person is a row in the journal and a few hundred bytes: no task, no thread, no clock of its own."""

import gc
import os
import threading
import time
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from palyra_trio.core.commands import CancelRun, DecideApproval
from palyra_trio.core.identity import RunId
from palyra_trio.core.messages import ModelDelta, ModelReply, ModelRequest, ToolCall
from palyra_trio.core.run import RunState
from palyra_trio.core.tape import ToolStarted
from tests.fakes import ME, FakeProvider, Runtime, echo, fake_tool, open_fake_runtime, says

pytestmark = pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="measures memory in /proc")

AT_ONCE = 50
THREADS = AT_ONCE + 20  # Trio keeps the workers of a busy time for some seconds
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
RUN_BYTES = 8_000  # what a dormant run may cost; it is measured at half of that
WAKES_S = 0.5  # some milliseconds on a machine that has nothing else to do
ASKED, DONE = says("", ToolCall("w", "fake.write", {"value": "w"})), says("done")
WRITES = fake_tool("fake.write", echo, read_only=False)


def _rss() -> int:
    gc.collect()
    return int(Path("/proc/self/statm").read_text("ascii").split()[1]) * PAGE_BYTES


def _tasks() -> int:
    root = trio.lowlevel.current_root_task()
    assert root is not None
    count, pending = 0, [root]
    while pending:
        task = pending.pop()
        count += 1
        pending += [child for nursery in task.child_nurseries for child in nursery.child_tasks]
    return count


class Asks(FakeProvider):
    """Asks for a call where the run has none yet, and is done where it has its result. Keeps nothing."""

    def stream(self, request: ModelRequest) -> AbstractAsyncContextManager[AsyncIterator[ModelDelta | ModelReply]]:
        turn = ASKED if request.messages[-1].role == "user" else DONE
        return FakeProvider(turn).stream(request)


async def _wait_for_a_person(runtime: Runtime, runs: int) -> None:
    """Start so many runs, a few at a time, and return when all of them wait."""
    limit = trio.CapacityLimiter(AT_ONCE)

    async def one() -> None:
        async with limit:
            await runtime.start(detached=True)

    async with trio.open_nursery() as nursery:
        for _ in range(runs):
            nursery.start_soon(one)
    await runtime.gateway.sessions.idle()


async def _waiting(runtime: Runtime) -> list[tuple[RunId, str]]:
    listed = await runtime.gateway.ask(lambda reader: reader.approvals.listed(ME.principal, pending=True))
    return [(each.run_id, each.approval_id) for each in listed]


async def _wakes(runtime: Runtime, run_id: RunId, approval_id: str) -> float:
    """Answer, and return how long it took until the call was started, in seconds."""
    began = time.perf_counter()
    await runtime.do(DecideApproval(approval_id, granted=True))
    await runtime.until(run_id, ToolStarted)
    return time.perf_counter() - began


@pytest.mark.parametrize("runs", [300, pytest.param(10_000, marks=pytest.mark.slow)])
async def test_runs_that_wait_for_a_person_cost_no_task(tmp_path: Path, runs: int) -> None:
    left = {RunState.WAITING}
    async with open_fake_runtime(tmp_path, Asks(), tools=[WRITES], left=left) as runtime:
        await _wait_for_a_person(runtime, AT_ONCE)
        await wait_all_tasks_blocked(0.05)
        before, rss = _tasks(), _rss()
        began = time.perf_counter()
        await _wait_for_a_person(runtime, runs)
        started_s = time.perf_counter() - began
        await wait_all_tasks_blocked(0.05)
        assert _tasks() == before
        assert threading.active_count() < THREADS
        grown = (_rss() - rss) / runs
        waiting = await _waiting(runtime)
        assert len(waiting) == runs + AT_ONCE
        woken = [await _wakes(runtime, *each) for each in (waiting[0], waiting[runs // 2], waiting[-1])]
        for run_id, _ in (waiting[0], waiting[runs // 2], waiting[-1]):
            assert (await runtime.ended(run_id)).end == (RunState.DONE, "final_answer")
        await runtime.do(CancelRun(waiting[1][0]))
        assert (await runtime.ended(waiting[1][0])).end == (RunState.CANCELLED, "cancelled")
    began = time.perf_counter()
    async with open_fake_runtime(tmp_path, Asks(), tools=[WRITES], left=left, boot_id="boot-2") as runtime:
        booted_s = time.perf_counter() - began
        await wait_all_tasks_blocked(0.05)
        assert _tasks() == before
        assert len(await _waiting(runtime)) == runs + AT_ONCE - 4
        after_boot = await _wakes(runtime, *waiting[2])
    print(
        f"{runs} runs: started in {started_s:.1f} s, {grown:.0f} B each, woken in"
        f" {', '.join(f'{each * 1000:.1f}' for each in woken)} ms; booted in {booted_s:.3f} s, then woken in"
        f" {after_boot * 1000:.1f} ms"
    )
    assert grown < RUN_BYTES or runs < 1000, "what the first runs of a process cost is not theirs"
    assert max(*woken, after_boot) < WAKES_S
    assert booted_s < 1 + runs / 1000
