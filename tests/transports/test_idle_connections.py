"""A connection ends when nothing goes on over it, and not before."""

from typing import Any, Literal

import trio
import trio.testing

from palyra_trio.transports.idle_connections import IDLE_S, STALLED_S, Use


async def ask(use: Use, *steps: tuple[Literal["works", "sends"], float]) -> None:
    """Make a request whose application works so many seconds, or sends a message that takes so many to be taken."""

    async def app(_scope: Any, _receive: Any, send: Any) -> None:
        for what, seconds in steps:
            await (send if what == "sends" else trio.sleep)(seconds)

    await use.counting(app)({}, None, trio.sleep)  # type: ignore[arg-type, typeddict-item]


async def ended_after(use: Use) -> float:
    began = trio.current_time()
    await use.ends()
    return trio.current_time() - began


async def test_without_a_request_it_ends(autojump_clock: trio.testing.MockClock) -> None:
    assert await ended_after(Use()) == IDLE_S


async def test_a_request_keeps_it_and_the_end_of_the_last_is_where_its_time_begins(
    autojump_clock: trio.testing.MockClock,
) -> None:
    use = Use()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(ask, use, ("works", 10 * IDLE_S))
        nursery.start_soon(ask, use, ("works", 20 * IDLE_S))
        assert await ended_after(use) == 21 * IDLE_S


async def test_an_answer_that_is_taken_slowly_keeps_it_and_one_that_is_not_taken_does_not(
    autojump_clock: trio.testing.MockClock,
) -> None:
    use = Use()
    slowly = ("sends", STALLED_S - 1), ("works", 10 * STALLED_S), ("sends", STALLED_S - 1)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(ask, use, *slowly, ("sends", 10 * STALLED_S))
        assert await ended_after(use) == 13 * STALLED_S - 2
        nursery.cancel_scope.cancel()
