"""Cancelling at every possible moment: the run ends, its tape says so, and nothing of it is left in the process."""

import gc
import os
import random
from contextlib import suppress
from pathlib import Path

import attrs
import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from palyra_trio.core.codec import TapeRow
from palyra_trio.core.commands import CancelRun, DecideApproval
from palyra_trio.core.errors import PalyraError
from palyra_trio.core.identity import RunId
from palyra_trio.core.messages import ToolCall
from palyra_trio.core.run import RunState
from palyra_trio.core.tape import ApprovalRequested, CancelRequested, ModelDelta, ToolStarted
from palyra_trio.journal.feed import Feed
from palyra_trio.providers.base import ProviderError
from tests.fakes import (
    CONFIG,
    ME,
    FakeArguments,
    FakeProvider,
    Runtime,
    Tape,
    allowing,
    assert_whole,
    echo,
    fake_tool,
    open_fake_runtime,
    says,
)

MOST_STEPS = 40  # a whole run of the kind below takes about as many


async def _blocks(arguments: FakeArguments) -> str:
    await trio.sleep_forever()
    return arguments.value


async def test_a_run_that_is_blocked_in_its_model_reaches_its_end_on_the_tape(tmp_path: Path) -> None:
    provider = FakeProvider(["thinking about it", trio.sleep_forever])
    async with open_fake_runtime(tmp_path, provider) as runtime:
        accepted = await runtime.start()
        await runtime.until(accepted.run_id, ModelDelta)
        with trio.fail_after(5):
            await runtime.do(CancelRun(accepted.run_id))
            tape = await runtime.ended(accepted.run_id)
    assert tape.end == (RunState.CANCELLED, "cancelled")


async def test_a_run_that_is_blocked_in_a_tool_reaches_its_end_on_the_tape(tmp_path: Path) -> None:
    provider = FakeProvider(says("", ToolCall("", "fake.block"), ToolCall("", "fake.block")))
    async with open_fake_runtime(tmp_path, provider, tools=[fake_tool("fake.block", _blocks)]) as runtime:
        accepted = await runtime.start()
        await runtime.until(accepted.run_id, ToolStarted)
        with trio.fail_after(5):
            await runtime.do(CancelRun(accepted.run_id))
            tape = await runtime.ended(accepted.run_id)
    assert tape.end == (RunState.CANCELLED, "cancelled")


# --- at random moments ---


class _CancelAtStep(trio.abc.Instrument):
    """Cancels the live run when its tasks have been scheduled `left` times."""

    def __init__(self, runtime: Runtime) -> None:
        self._sessions = runtime.gateway.sessions
        self.left = 0

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        if self.left and task.name.startswith(("palyra_trio.runtime.sessions", "palyra_trio.runtime.tool_flow")):
            self.left -= 1
            if not self.left:
                for run in self._sessions._live():
                    run.cancel(CancelRequested(ME.principal, "at random"), lambda _error: None)


def _provider() -> FakeProvider:
    calls = [ToolCall("", "fake.read", {"value": "r"}), ToolCall("", "files.list"), ToolCall("", "no.such")]
    writes = [ToolCall("", "files.write", {"path": "a.txt", "text": "x"}), ToolCall("", "fake.ask", {"value": "a"})]
    return FakeProvider(
        says("some words", *calls),
        [ProviderError("overloaded", "no room", retryable=True)],
        says("more words", *writes),
        says(""),
        says("all done"),
    )


async def _one(runtime: Runtime, run_id: RunId) -> Tape:
    """Follow a run to its end, and grant whatever it asks."""
    follower = await runtime.gateway.follow(run_id, 0, ME)
    rows: list[TapeRow] = []
    async with trio.open_nursery() as nursery:
        while page := await follower.next_rows():
            rows += page
            for row in page:
                if isinstance(event := row.event(), ApprovalRequested):
                    nursery.start_soon(_grant, runtime, event.approval_id)
    return assert_whole(rows)


async def _grant(runtime: Runtime, approval_id: str) -> None:
    with suppress(PalyraError):
        await runtime.do(DecideApproval(approval_id, granted=True))


def _tasks() -> int:
    root = trio.lowlevel.current_root_task()
    assert root is not None
    count, pending = 0, [root]
    while pending:
        task = pending.pop()
        count += 1
        pending += [child for nursery in task.child_nurseries for child in nursery.child_tasks]
    return count


@attrs.frozen
class _Held:
    """What a process holds: all of it must be the same after any number of runs."""

    tasks: int
    descriptors: int
    sessions: int
    approvals: int
    waiters: int
    pending: int
    slots: int

    @classmethod
    async def now(cls, runtime: Runtime, feed: Feed) -> "_Held":
        await wait_all_tasks_blocked(0.05)
        gc.collect()
        gateway = runtime.gateway
        return cls(
            _tasks(),
            len(os.listdir("/proc/self/fd")),
            len(gateway.sessions._sessions),
            len(await gateway.ask(lambda reader: reader.approvals.expiring())),
            len(feed._waiting),
            len(runtime.state.journal._pending),
            gateway._bus._slots.value,
        )


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="counts descriptors in /proc")
@pytest.mark.parametrize("runs", [100, pytest.param(1000, marks=pytest.mark.slow)])
async def test_runs_that_are_cancelled_at_random_moments_leave_nothing_behind(tmp_path: Path, runs: int) -> None:
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    feed = Feed()
    config = attrs.evolve(allowing("files.*"), model=attrs.evolve(CONFIG.model, attempts=2))
    tools = [fake_tool("fake.read", echo), fake_tool("fake.ask", echo, read_only=False)]
    ends: dict[tuple[RunState, str], int] = {}
    async with open_fake_runtime(tmp_path, tools=tools, config=config, feed=feed) as runtime:
        for _ in range(3):
            await runtime.run()
        before = await _Held.now(runtime, feed)
        injector = _CancelAtStep(runtime)
        trio.lowlevel.add_instrument(injector)
        for _ in range(runs):
            runtime.models.clear()
            provider = _provider()
            injector.left = chance.randint(1, MOST_STEPS)
            accepted = await runtime.start(provider=provider)
            with trio.fail_after(10):
                tape = await _one(runtime, accepted.run_id)
            ends[tape.end] = ends.get(tape.end, 0) + 1
            assert provider.open_streams == 0
        injector.left = 0
        trio.lowlevel.remove_instrument(injector)
        assert await _Held.now(runtime, feed) == before
    assert set(ends) <= {(RunState.CANCELLED, "cancelled"), (RunState.DONE, "final_answer")}
    assert ends[RunState.CANCELLED, "cancelled"] > runs // 2
