"""The zoo: programs that do not want to die, in each tier, as this user and as another, cancelled at any moment."""

import json
import os
import random
import select
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import suppress

import pytest
import trio

from palyra_trio.core.errors import DiskLow
from palyra_trio.tools import processes
from palyra_trio.tools.job import Bounds, KillReceipt
from palyra_trio.tools.process_tree import CHUNK_BYTES, DRAIN_S, carry_out
from tests.tools.zoo import ANIMALS, NOBODY, PIDS, Cage, Keeper, alive, as_user, is_ready, system_python

TIERS = (4, 3, 2)
DEAD_MS = 1000  # far above what is measured (bench hands), for a machine that is busy
every_tier = pytest.mark.parametrize("tier", TIERS)
every_animal = pytest.mark.parametrize("animal", ANIMALS)


@pytest.fixture
def keeper() -> Iterator[Keeper]:
    with Keeper() as keeper:
        yield keeper


@every_tier
@every_animal
async def test_a_cancelled_tree_is_dead_and_counted(keeper: Keeper, tier: int, animal: str) -> None:
    await cancelled(keeper.cage(tier), animal, times=2)


@pytest.mark.slow
@every_tier
@every_animal
async def test_a_tree_cancelled_at_any_moment_is_dead_and_counted(keeper: Keeper, tier: int, animal: str) -> None:
    await cancelled(keeper.cage(tier), animal, times=200)


@every_animal
async def test_without_a_fence_a_tree_is_killed_by_looking_for_it(keeper: Keeper, animal: str) -> None:
    if animal == "hopper":
        pytest.skip("it can outrun whoever looks for it: what the fence is for")
    await cancelled(keeper.cage(2, abi=0), animal, times=1)


async def cancelled(cage: Cage, animal: str, times: int) -> None:
    for number in range(times):
        seen = await cage.run(cage.job(animal), is_ready, delay_s=random.random() * 0.02 if number else 0)
        assert seen.alive == 0
        assert_true(seen.receipts)
        assert seen.receipts or seen.outcome or animal == "hopper"  # which may come to its end first


def assert_true(receipts: list[KillReceipt]) -> None:
    assert len(receipts) <= 1
    for each in receipts:
        assert each.survivors == 0
        assert 1 <= each.pids_seen <= 2 * PIDS  # without a cgroup the bound counts what else its user runs
        assert each.elapsed_ms < DEAD_MS


@every_tier
async def test_a_tree_cancelled_before_it_has_begun_is_dead(keeper: Keeper, tier: int) -> None:
    cage = keeper.cage(tier)
    for delay_s in (0, 0.001, 0.002, 0.004, 0.008, 0.016):
        job = cage.job("double fork")
        with trio.move_on_after(delay_s):
            await cage.run(job, None)
        assert not processes.marked(job.token)


@every_tier
async def test_what_a_program_leaves_behind_is_killed_with_it(keeper: Keeper, tier: int) -> None:
    cage = keeper.cage(tier)
    script = cage.job("double fork").argv[-1].rpartition("rest()")[0] + "sys.stdin.read(); os._exit(3)"
    seen = await cage.run(cage.script(script), None)
    assert seen.outcome is not None
    assert seen.outcome.code == 3
    assert seen.alive == 0


@every_tier
async def test_a_flood_is_stopped_at_its_bound(keeper: Keeper, tier: int) -> None:
    cage = keeper.cage(tier)
    seen = await cage.run(cage.job("flood", Bounds(output_bytes=2**20)), None)
    assert seen.outcome is not None
    assert seen.outcome.capped
    assert seen.outcome.receipt is not None
    assert seen.outcome.receipt.survivors == 0
    assert seen.alive == 0


@every_tier
async def test_a_program_whose_output_has_no_room_waits_and_is_killed_when_there_will_be_none(
    keeper: Keeper, tier: int
) -> None:
    cage, receipts, taken = keeper.cage(tier), list[KillReceipt](), list[int]()
    job = cage.job("flood by many")

    async def room() -> None:
        await trio.sleep(0.05)
        if sum(taken) > 2**18:
            raise DiskLow("no room")

    with trio.fail_after(10), pytest.raises(DiskLow, match="no room"):
        await carry_out(cage.launcher, job, lambda _, data: taken.append(len(data)), receipts.append, room=room)
    assert sum(taken) <= 2**18 + 4 * CHUNK_BYTES
    assert [each.survivors for each in receipts] == [0]
    assert not processes.marked(job.token)


@every_tier
async def test_the_last_words_are_taken_however_long_that_takes(keeper: Keeper, tier: int) -> None:
    cage, heard = keeper.cage(tier), bytearray()

    async def room() -> None:
        await trio.sleep(DRAIN_S * 1.5)

    source = "import os\nfor each in (b'a', b'b'): os.write(1, each * 40_000)"
    with trio.fail_after(20):
        await carry_out(cage.launcher, cage.script(source), lambda _, data: heard.extend(data), receipts_of, room=room)
    assert (heard.count(b"a"), heard.count(b"b")) == (40_000, 40_000)


def receipts_of(receipt: KillReceipt) -> None:
    assert receipt.survivors == 0


@every_tier
async def test_a_program_gets_no_input_and_ends_by_itself(keeper: Keeper, tier: int) -> None:
    cage = keeper.cage(tier)
    seen = await cage.run(cage.script("import sys; print(repr(sys.stdin.read())); sys.exit(7)"), None)
    assert seen.output == b"''\n"
    assert seen.outcome is not None
    assert (seen.outcome.code, seen.outcome.receipt, seen.receipts) == (7, None, [])


@every_tier
async def test_a_program_ended_by_a_signal_tells_which(keeper: Keeper, tier: int) -> None:
    cage = keeper.cage(tier)
    seen = await cage.run(cage.script("import os; os.kill(os.getpid(), 6)"), None)
    assert seen.outcome is not None
    assert seen.outcome.code == 128 + signal.SIGABRT


@every_tier
async def test_a_job_cannot_have_more_processes_than_its_bound(keeper: Keeper, tier: int) -> None:
    cage = keeper.cage(tier)
    count = """
import os, select
made = 0
try:
    for made in range(200):
        if os.fork() == 0: select.select([], [], [], 60); os._exit(0)
except BlockingIOError: pass
print(made)
"""
    seen = await cage.run(cage.script(count), None)
    assert PIDS - 8 <= int(seen.output) <= PIDS


@pytest.mark.parametrize("tier", [4, 3, 2, 1])
async def test_a_program_holds_nothing_open_but_its_output(keeper: Keeper, tier: int) -> None:
    look = """
import os
for fd in range(200):
    try: os.fstat(fd)
    except OSError: continue
    print(fd, end=" ")
"""
    cage = keeper.cage(tier)
    assert (await cage.run(cage.script(look), None)).output == b"0 1 2 "


# --- as another user, and after the daemon was killed ---


def as_another_user(tier: int, animal: str, times: int) -> None:
    with as_user(system_python(), str(tier), animal, str(times), user=NOBODY) as running:
        out, _ = running.communicate(timeout=300)
    assert running.returncode == 0
    runs = json.loads(out)
    assert len(runs) == times
    for each in runs:
        assert each["alive"] == 0
        assert_true([KillReceipt(**receipt) for receipt in each["receipts"]])


@every_tier
@pytest.mark.parametrize("animal", ["double fork", "fork storm"])
def test_a_user_who_is_not_root_has_the_same(tier: int, animal: str) -> None:
    as_another_user(tier, animal, times=3)


@pytest.mark.slow
@every_tier
@every_animal
def test_a_user_who_is_not_root_has_the_same_at_any_moment(tier: int, animal: str) -> None:
    as_another_user(tier, animal, times=200)


@every_tier
@pytest.mark.parametrize("animal", ["double fork", "ignores signals", "fork storm"])
def test_nothing_outlives_a_daemon_that_was_killed(tier: int, animal: str) -> None:
    killed_daemon(tier, animal)


@pytest.mark.slow
@every_tier
@every_animal
def test_nothing_outlives_a_daemon_that_was_killed_whatever_it_ran(tier: int, animal: str) -> None:
    for _ in range(20):
        killed_daemon(tier, animal)


def killed_daemon(tier: int, animal: str) -> None:
    with as_user(sys.executable, str(tier), animal, "hold", user=None) as daemon:
        assert daemon.stdout is not None
        job = daemon.stdout.readline().split()
        begun = time.monotonic()
        while animal != "hopper" and not alive(*job):  # whose first process ends, so that the rest is killed at once
            assert time.monotonic() < begun + 5
        daemon.kill()
        end = time.monotonic() + 5
        while live := alive(*job):  # a storm may make more of them while it dies
            assert time.monotonic() < end
            for pid in live:
                wait_for(pid)


def wait_for(pid: int) -> None:
    with suppress(ProcessLookupError):
        fd = os.pidfd_open(pid)
        select.select([fd], [], [], 5)
        os.close(fd)
