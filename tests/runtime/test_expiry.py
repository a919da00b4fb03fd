"""One clock for all open questions: each expires at its moment, whenever it was added, and once."""

from collections.abc import Callable

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import MockClock, wait_all_tasks_blocked

from palyra_trio.runtime.expiry import Expiries

BEGAN_S = 1_760_000_000.0


def unix_s() -> float:
    return BEGAN_S + trio.current_time()


class Watched:
    """The expiries of a test, at seconds after its beginning, and when each was called."""

    def __init__(self) -> None:
        self.expiries = Expiries(unix_s)
        self.called: list[tuple[float, str]] = []
        self.meanwhile: Callable[[str], None] = lambda _name: None

    def add(self, at_s: float, name: str) -> None:
        self.expiries.add(int((BEGAN_S + at_s) * 1000), name)

    async def expire(self, approval_id: str) -> None:
        self.called.append((trio.current_time(), approval_id))
        self.meanwhile(approval_id)
        await trio.lowlevel.checkpoint()

    async def until(self, seconds: float) -> None:
        with trio.move_on_after(seconds):
            await self.expiries.watch(self.expire)


async def test_each_expires_at_its_moment_the_soonest_first(autojump_clock: MockClock) -> None:
    watched = Watched()
    for at_s, name in ((30, "c"), (10, "a"), (20, "b"), (20, "B")):
        watched.add(at_s, name)
    await watched.until(29)
    assert watched.called == [(10, "a"), (20, "B"), (20, "b")]


async def test_one_without_a_moment_never_does(autojump_clock: MockClock) -> None:
    watched = Watched()
    watched.expiries.add(0, "never")
    await watched.until(10**9)
    assert watched.called == []


async def test_one_whose_moment_has_passed_does_at_once(autojump_clock: MockClock) -> None:
    watched = Watched()
    watched.add(-100, "old")
    await watched.until(1)
    assert watched.called == [(0, "old")]


@pytest.mark.parametrize("first_s", [None, 50])
async def test_one_that_is_added_later_wakes_the_clock_if_it_is_sooner(
    autojump_clock: MockClock, first_s: float | None
) -> None:
    watched = Watched()
    if first_s is not None:
        watched.add(first_s, "first")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(watched.until, 60)
        await trio.sleep(5)
        watched.add(7, "sooner")
        watched.add(9, "later")
    assert watched.called[:2] == [(7, "sooner"), (9, "later")]
    assert len(watched.called) == (2 if first_s is None else 3)


async def test_one_that_is_added_while_another_expires_is_not_forgotten(autojump_clock: MockClock) -> None:
    watched = Watched()
    watched.meanwhile = lambda name: watched.add(3, "next") if name == "a" else None
    watched.add(1, "a")
    await watched.until(10)
    assert watched.called == [(1, "a"), (3, "next")]


async def test_the_unix_time_decides_and_not_the_time_since_it_was_added(mock_clock: MockClock) -> None:
    now_s, called = 100.0, list[str]()

    async def expire(approval_id: str) -> None:
        await trio.lowlevel.checkpoint()
        called.append(approval_id)

    expiries = Expiries(lambda: now_s)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(expiries.watch, expire)
        now_s = 109.0
        expiries.add(110_000, "a")
        await wait_all_tasks_blocked()
        mock_clock.jump(0.9)
        await wait_all_tasks_blocked()
        assert called == []
        mock_clock.jump(0.2)
        await wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    assert called == ["a"]


MOMENTS = st.lists(st.tuples(st.integers(0, 20), st.integers(0, 20)), max_size=8)


@settings(deadline=None, max_examples=50)
@given(MOMENTS)
def test_whatever_is_added_when_each_expires_once_at_its_moment_or_when_it_is_added(
    moments: list[tuple[int, int]],
) -> None:
    watched = Watched()

    async def add(number: int, added_s: int, expires_s: int) -> None:
        await trio.sleep(added_s)
        watched.add(expires_s, str(number))

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(watched.until, 30)
            for number, (added_s, expires_s) in enumerate(moments):
                nursery.start_soon(add, number, added_s, expires_s)

    trio.run(main, clock=MockClock(autojump_threshold=0))
    due = {str(number): max(moment) for number, moment in enumerate(moments)}
    assert {name: at_s for at_s, name in watched.called} == due
    assert len(watched.called) == len(moments)
