"""Waiting for one of several kinds of rows."""

import trio

from palyra_trio.core.codec import TapeRow
from palyra_trio.core.tape import ApprovalDecided, Correction, StatusChange, TapeEvent
from palyra_trio.journal.feed import Feed
from palyra_trio.transports.console.watching import wait_for_any


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
