"""Waiting for one of several kinds of rows."""

import pytest
import trio
from markupsafe import Markup

from palyra_trio.core.codec import TapeRow
from palyra_trio.core.tape import ApprovalDecided, Correction, StatusChange, TapeEvent
from palyra_trio.journal.feed import Feed
from palyra_trio.transports.console.live import Update
from palyra_trio.transports.console.watching import Drawn, open_panels, wait_for_any, wait_past_any


def row(g: int, kind: type[TapeEvent]) -> TapeRow:
    return TapeRow(g, f"run:{g}", 1, kind.kind, 0, b"{}", b"")


async def test_one_of_the_kinds_on_any_stream_ends_the_wait_and_others_do_not() -> None:
    feed, woken = Feed(), trio.Event()

    async def wait() -> None:
        await wait_for_any(feed, (StatusChange, ApprovalDecided), 0)
        woken.set()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait)
        await trio.testing.wait_all_tasks_blocked()
        feed.publish([row(1, Correction)])
        await trio.testing.wait_all_tasks_blocked()
        assert not woken.is_set()
        feed.publish([row(2, ApprovalDecided)])
        with trio.fail_after(1):
            await woken.wait()


async def test_what_came_before_the_wait_is_not_missed() -> None:
    feed = Feed()
    feed.publish([row(1, StatusChange)])
    with trio.fail_after(1):
        await wait_for_any(feed, (StatusChange, ApprovalDecided), 0)


async def test_one_of_the_streams_ends_the_wait() -> None:
    feed, woken = Feed(), trio.Event()

    async def wait() -> None:
        await wait_past_any(feed, ("run:1", "run:2"), 0)
        woken.set()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait)
        await trio.testing.wait_all_tasks_blocked()
        feed.publish([row(3, Correction)])
        await trio.testing.wait_all_tasks_blocked()
        assert not woken.is_set()
        feed.publish([row(2, Correction)])
        with trio.fail_after(1):
            await woken.wait()


async def test_panels_that_change_by_themselves_are_drawn_again_in_time(autojump_clock: trio.testing.MockClock) -> None:
    drawn = iter([Drawn(1, {"a": Markup("1"), "b": Markup("x")}, 7.0), Drawn(1, {"a": Markup("2"), "b": Markup("x")})])

    async def draw() -> Drawn:
        return next(drawn)

    async with open_panels(Feed(), (Correction,), draw) as view:
        assert await view.next() == Update("1", "1x")
        began = trio.current_time()
        assert await view.next() == Update("1", "2")
        assert trio.current_time() - began == pytest.approx(7.0)


async def test_panels_whose_subject_says_that_it_has_changed_are_drawn_again_without_a_row() -> None:
    changed = trio.Event()
    drawn = iter([Drawn(1, {"a": Markup("1")}, changed=changed.wait), Drawn(1, {"a": Markup("2")})])

    async def draw() -> Drawn:
        return next(drawn)

    async with open_panels(Feed(), (Correction,), draw, 0.0) as view:
        assert await view.next() == Update("1", "1")
        changed.set()
        with trio.fail_after(1):
            assert await view.next() == Update("1", "2")
