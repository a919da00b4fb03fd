"""What memory still tells, when it must say that it cannot, and that nobody who waits misses a row."""

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import wait_all_tasks_blocked

from palyra_trio.core.codec import TapeRow
from palyra_trio.journal.feed import Feed


def rows(stream: str, *seqs: int, size: int = 1) -> list[TapeRow]:
    return [TapeRow(seq, stream, seq, 19, 0, bytes(size), bytes(32)) for seq in seqs]


def told(feed: Feed, stream: str, after_seq: int, most: int = 100) -> list[int] | None:
    """Return the seqs that memory tells of, or None."""
    recent = feed.recent(stream, after_seq, most)
    return None if recent is None else [row.seq for row in recent]


def feed_of(*published: TapeRow, ring_rows: int = 100, ring_bytes: int = 1000) -> Feed:
    feed = Feed(ring_rows, ring_bytes)
    feed.publish(published)
    return feed


@pytest.mark.parametrize(
    ("after_seq", "most", "expected"),
    [
        (0, 100, None),
        (1, 100, None),
        (2, 100, [3, 4, 5]),
        (2, 2, [3, 4]),
        (2, 0, []),
        (3, 100, [4, 5]),
        (4, 100, [5]),
        (5, 100, []),
        (9, 100, []),
    ],
)
def test_memory_tells_what_it_holds_and_says_when_something_before_it_is_gone(
    after_seq: int, most: int, expected: list[int] | None
) -> None:
    assert told(feed_of(*rows("a", 3, 4, 5)), "a", after_seq, most) == expected


def test_memory_cannot_tell_of_a_stream_that_it_does_not_hold() -> None:
    assert told(feed_of(*rows("a", 1)), "b", 0) is None
    assert told(Feed(), "a", 0) is None


def test_the_ring_is_bounded_by_rows_over_all_streams() -> None:
    feed = feed_of(*rows("a", 1, 2), *rows("b", 1, 2), ring_rows=3)
    assert told(feed, "a", 0) is None
    assert told(feed, "a", 1) == [2]
    assert told(feed, "b", 0) == [1, 2]
    feed.publish(rows("b", 3))
    assert told(feed, "a", 1) is None
    assert told(feed, "b", 0) == [1, 2, 3]


def test_the_ring_is_bounded_by_bytes() -> None:
    feed = feed_of(*rows("a", 1, 2, size=40), ring_bytes=100)
    assert told(feed, "a", 0) == [1, 2]
    feed.publish(rows("a", 3, size=40))
    assert told(feed, "a", 0) is None
    assert told(feed, "a", 1) == [2, 3]
    feed.publish(rows("a", 4, size=20))
    assert told(feed, "a", 1) == [2, 3, 4]


def test_a_row_larger_than_the_ring_is_not_kept_and_later_ones_are() -> None:
    feed = feed_of(*rows("a", 1), *rows("a", 2, size=5000))
    assert told(feed, "a", 0) is None
    feed.publish(rows("a", 3))
    assert told(feed, "a", 1) is None
    assert told(feed, "a", 2) == [3]


def placed(stream: str, seq: int, g: int) -> TapeRow:
    return TapeRow(g, stream, seq, 19, 0, b"x", bytes(32))


async def returns(feed: Feed, stream: str, g: int) -> bool:
    """Return whether waiting past `g` ends by itself."""
    with trio.CancelScope() as scope:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_wait_and_cancel, feed, stream, g, scope)
            await wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
    return scope.cancel_called


async def _wait_and_cancel(feed: Feed, stream: str, g: int, scope: trio.CancelScope) -> None:
    await feed.wait_past(stream, g)
    scope.cancel()


def test_the_feed_knows_the_newest_place_that_was_published() -> None:
    feed = Feed()
    assert feed.g == 0
    feed.publish([placed("a", 1, 7), placed("b", 1, 8)])
    assert feed.g == 8


async def test_the_next_row_of_a_stream_wakes_all_who_wait_for_it_and_nobody_else() -> None:
    feed = Feed()
    woken: list[str] = []

    async def wait(name: str, stream: str) -> None:
        await feed.wait_past(stream, 0)
        woken.append(name)

    async with trio.open_nursery() as nursery:
        for name, stream in (("first", "a"), ("second", "a"), ("other", "b")):
            nursery.start_soon(wait, name, stream)
        await wait_all_tasks_blocked()
        feed.publish([placed("a", 1, 1)])
        await wait_all_tasks_blocked()
        assert sorted(woken) == ["first", "second"]
        feed.publish([placed("b", 1, 2)])
    assert woken[2:] == ["other"]


async def test_a_row_that_came_between_the_look_and_the_wait_ends_the_wait_at_once() -> None:
    feed = Feed()
    feed.publish([placed("a", 1, 1), placed("b", 1, 2)])
    assert await returns(feed, "a", 0)
    assert not await returns(feed, "a", 1)
    assert await returns(feed, "b", 1)
    assert not await returns(feed, "b", 2)


async def test_a_wait_ends_at_once_where_the_ring_cannot_tell_what_came() -> None:
    feed = Feed(ring_rows=2)
    feed.publish([placed("a", 1, 1), placed("b", 1, 2), placed("b", 2, 3)])
    assert await returns(feed, "a", 0)
    assert not await returns(feed, "a", 1)
    emptied = Feed(ring_bytes=0)
    emptied.publish([placed("a", 1, 1)])
    assert await returns(emptied, "b", 0)
    assert not await returns(emptied, "a", 1)


async def test_a_row_of_a_kind_wakes_who_waits_for_it_on_whichever_stream() -> None:
    feed = Feed()
    woken = False

    async def wait(g: int) -> None:
        nonlocal woken
        woken = False
        await feed.wait_for_kind(20, g)
        woken = True

    def row(kind: int, g: int) -> TapeRow:
        return TapeRow(g, f"run:{g}", 1, kind, 0, b"x", bytes(32))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait, 0)
        await wait_all_tasks_blocked()
        feed.publish([row(19, 1)])
        await wait_all_tasks_blocked()
        assert not woken
        feed.publish([row(20, 2), row(19, 3)])
    assert woken
    with trio.fail_after(1):
        await wait(1)  # it came before the wait
    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait, 2)
        await wait_all_tasks_blocked()
        assert not woken
        nursery.cancel_scope.cancel()


async def test_who_stops_waiting_leaves_nothing_behind() -> None:
    feed = Feed()
    for _ in range(3):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(feed.wait_past, "a", 0)
            nursery.start_soon(feed.wait_past, "a", 0)
            await wait_all_tasks_blocked()
            assert list(feed._waiting) == ["a"]
            nursery.cancel_scope.cancel()
        assert feed._waiting == {}


async def test_who_was_woken_leaves_nothing_behind() -> None:
    feed = Feed()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(feed.wait_past, "a", 0)
        await wait_all_tasks_blocked()
        feed.publish([placed("a", 1, 1)])
    assert feed._waiting == {}


def test_streams_that_fell_off_leave_nothing_behind() -> None:
    feed = Feed(ring_rows=5)
    for number in range(100):
        feed.publish(rows(f"run:{number}", 1))
    assert len(feed._streams) == len(feed._ring) == 5
    assert feed._bytes == 5


@given(
    steps=st.lists(st.sampled_from(["a", "b", "ab", "step", "settle"]), max_size=40),
    ring_rows=st.integers(0, 6),
    most=st.integers(1, 4),
)
async def test_a_follower_sees_every_row_once_and_in_order(steps: list[str], ring_rows: int, most: int) -> None:
    feed = Feed(ring_rows)
    journal: dict[str, list[TapeRow]] = {"a": [], "b": []}
    seen: list[int] = []

    async def follow() -> None:
        while True:
            g, after = feed.g, len(seen)
            await trio.lowlevel.checkpoint()
            found = feed.recent("a", after, most)
            if found is None:
                await trio.lowlevel.checkpoint()
                found = tuple(journal["a"][after : after + most])
            await trio.lowlevel.checkpoint()
            seen.extend(row.seq for row in found)
            if not found:
                await feed.wait_past("a", g)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(follow)
        g = 0
        for step in [*steps, "settle"]:
            if step == "step":
                await trio.lowlevel.checkpoint()
                continue
            if step == "settle":
                await wait_all_tasks_blocked()
                assert seen == [row.seq for row in journal["a"]]
                continue
            new = [placed(stream, len(journal[stream]) + 1, g + n) for n, stream in enumerate(step, start=1)]
            g += len(new)
            for row in new:
                journal[row.stream].append(row)
            feed.publish(new)
        nursery.cancel_scope.cancel()


def test_a_row_that_was_erased_is_told_without_its_body() -> None:
    feed = feed_of(*rows("a", 1, 2, 3, size=10), ring_bytes=40)
    feed.forget([2, 99])
    found = feed.recent("a", 0, 10)
    assert found is not None
    assert [row.body for row in found] == [bytes(10), None, bytes(10)]
    feed.publish(rows("a", 4, 5, size=10))
    assert told(feed, "a", 0) == [1, 2, 3, 4, 5]  # the body's room is free again
