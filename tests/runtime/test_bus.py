"""The channel: what waits when it is full, what gets in all the same, and what a closed one answers."""

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from palyra_trio.core.commands import Applied, CancelRun, Command, DecideApproval, StartRun
from palyra_trio.core.errors import Draining, NotFound, PalyraError
from palyra_trio.core.identity import RunId
from palyra_trio.runtime.bus import RESERVED_SLOTS, SLOTS, Bus, Submission
from tests.fakes import ME


def _submission(command: Command) -> Submission:
    return Submission(command, ME)


async def test_commands_are_routed_in_the_order_in_which_they_came() -> None:
    bus, seen = Bus(), list[Command]()
    commands = [StartRun(str(number)) for number in range(5)]
    for command in commands:
        await bus.put(_submission(command))
    bus.close()
    await bus.route(lambda submission: seen.append(submission.command))
    assert seen == commands


async def test_a_start_waits_for_a_slot_while_stops_and_decisions_get_in() -> None:
    bus, seen = Bus(), list[Command]()
    async with trio.open_nursery() as nursery:
        for number in range(SLOTS + 1):
            nursery.start_soon(bus.put, _submission(StartRun(str(number))))
        await wait_all_tasks_blocked()
        urgent: list[Command] = [CancelRun(RunId("x")), DecideApproval("y", granted=True)]
        for command in urgent:
            with trio.fail_after(1):
                await bus.put(_submission(command))
        nursery.start_soon(bus.route, lambda submission: seen.append(submission.command))
        await wait_all_tasks_blocked()
        bus.close()
    assert len(seen) == SLOTS + 1 + len(urgent)
    assert seen[SLOTS : SLOTS + 2] == urgent


async def test_a_command_that_was_cancelled_while_it_waited_was_not_put() -> None:
    bus, seen = Bus(), list[Command]()
    for number in range(SLOTS):
        await bus.put(_submission(StartRun(str(number))))
    with trio.move_on_after(0):
        await bus.put(_submission(StartRun("gave up")))
    for _ in range(RESERVED_SLOTS):
        await bus.put(_submission(CancelRun(RunId("x"))))
    with trio.move_on_after(0):
        await bus.put(_submission(CancelRun(RunId("gave up"))))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(bus.route, lambda submission: seen.append(submission.command))
        await wait_all_tasks_blocked()
        for number in range(SLOTS):
            await bus.put(_submission(StartRun(str(number))))
        await wait_all_tasks_blocked()
        bus.close()
    assert len(seen) == 2 * SLOTS + RESERVED_SLOTS
    assert StartRun("gave up") not in seen


async def test_a_closed_bus_says_that_the_process_drains() -> None:
    bus = Bus()
    bus.close()
    with pytest.raises(Draining):
        await bus.put(_submission(StartRun("late")))


async def test_a_bus_that_closes_lets_those_who_wait_know() -> None:
    bus, refused = Bus(), list[str]()

    async def put(command: Command) -> None:
        with pytest.raises(Draining):
            await bus.put(_submission(command))
        refused.append("refused")

    for number in range(SLOTS):
        await bus.put(_submission(StartRun(str(number))))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(put, StartRun("late"))
        await wait_all_tasks_blocked()
        bus.close()
        await bus.route(lambda submission: submission.answer(Applied()))
    assert refused == ["refused"]


async def test_a_refusal_is_the_answer_and_the_loop_goes_on() -> None:
    bus = Bus()
    bad, good = _submission(StartRun("bad")), _submission(StartRun("good"))

    def handle(submission: Submission) -> None:
        if submission is bad:
            raise NotFound("no such thing")
        submission.answer(Applied())

    await bus.put(bad)
    await bus.put(good)
    bus.close()
    await bus.route(handle)
    with pytest.raises(NotFound):
        await bad.reply()
    assert await good.reply() == Applied()


async def test_a_fault_of_ours_is_logged_and_ends_one_command_and_not_the_loop(
    caplog: pytest.LogCaptureFixture,
) -> None:
    bus = Bus()
    bad, good = _submission(StartRun("bad")), _submission(StartRun("good"))

    def handle(submission: Submission) -> None:
        if submission is bad:
            raise KeyError("nobody thought of this")
        submission.answer(Applied())

    await bus.put(bad)
    await bus.put(good)
    bus.close()
    await bus.route(handle)
    with pytest.raises(PalyraError, match="StartRun failed: KeyError") as failed:
        await bad.reply()
    assert failed.value.code == "internal"
    assert "nobody thought of this" in caplog.text
    assert await good.reply() == Applied()


async def test_the_first_answer_stands() -> None:
    submission = _submission(StartRun("a"))
    submission.answer(Applied())
    submission.answer(NotFound("too late"))
    assert await submission.reply() == Applied()
