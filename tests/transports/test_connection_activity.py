"""A connection ends when nothing goes on over it, and not before; and it is known whose turn it is."""

from typing import Any, Literal

import trio
import trio.testing

from palyra_trio.transports.connection_activity import IDLE_S, LAST_S, STALLED_S, Activity
from palyra_trio.transports.http_connection_table import NOT_WAITING


async def ask(activity: Activity, *steps: tuple[Literal["works", "sends"], float]) -> None:
    """Make a request whose application works so many seconds, or sends a message that takes so many to be taken."""

    async def app(_scope: Any, _receive: Any, send: Any) -> None:
        for what, seconds in steps:
            if what == "sends":
                await send(part(seconds))
            else:
                await trio.sleep(seconds)

    await activity.counting(app)({}, None, taking)  # type: ignore[arg-type, typeddict-item]


def part(seconds: float) -> dict[str, Any]:
    return {"type": "http.response.body", "takes": seconds}


async def taking(message: Any) -> None:
    await trio.sleep(message.get("takes", 0))


async def ended_after(activity: Activity) -> float:
    began = trio.current_time()
    await activity.ends()
    return trio.current_time() - began


async def test_without_a_request_it_ends(autojump_clock: trio.testing.MockClock) -> None:
    assert await ended_after(Activity()) == IDLE_S


async def test_a_request_keeps_it_and_the_end_of_the_last_is_where_its_time_begins(
    autojump_clock: trio.testing.MockClock,
) -> None:
    activity = Activity()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(ask, activity, ("works", 10 * IDLE_S))
        nursery.start_soon(ask, activity, ("works", 20 * IDLE_S))
        assert await ended_after(activity) == 21 * IDLE_S


async def test_an_answer_that_is_taken_slowly_keeps_it_and_one_that_is_not_taken_does_not(
    autojump_clock: trio.testing.MockClock,
) -> None:
    activity = Activity()
    slowly = ("sends", STALLED_S - 1), ("works", 10 * STALLED_S), ("sends", STALLED_S - 1)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(ask, activity, *slowly, ("sends", 10 * STALLED_S))
        assert await ended_after(activity) == 13 * STALLED_S - 2
        nursery.cancel_scope.cancel()


async def test_it_ends_when_its_place_is_needed(autojump_clock: trio.testing.MockClock) -> None:
    activity = Activity()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(ask, activity, ("works", 10 * IDLE_S))
        await trio.testing.wait_all_tasks_blocked()
        activity.end()
        assert await ended_after(activity) == 0
        nursery.cancel_scope.cancel()


async def test_its_client_is_waited_for_until_a_request_has_come_and_while_an_answer_is_taken(
    autojump_clock: trio.testing.MockClock,
) -> None:
    activity = Activity()
    arriving, arrived = trio.open_memory_channel[dict[str, Any]](0)
    waits: dict[str, float] = {"at first": activity.waiting_since}

    async def app(_scope: Any, receive: Any, send: Any) -> None:
        for _ in range(2):
            await receive()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(receive)  # what is still to come is the end
            await trio.sleep(1)
            waits["served"] = activity.waiting_since
            await send(part(4))
            nursery.cancel_scope.cancel()
        waits["sent"] = activity.waiting_since

    async with trio.open_nursery() as nursery:
        nursery.start_soon(activity.counting(app), {}, arrived.receive, taking)  # type: ignore[arg-type]
        await trio.sleep(1)
        waits["asked"] = activity.waiting_since
        await arriving.send({"more_body": True})
        await trio.sleep(1)
        waits["half asked"] = activity.waiting_since
        await arriving.send({"more_body": False})
        await trio.sleep(3)
        waits["sending"] = activity.waiting_since
    assert waits == {
        "at first": 0,
        "asked": 0,
        "half asked": 0,
        "served": NOT_WAITING,
        "sending": 3,
        "sent": NOT_WAITING,
    }
    assert activity.waiting_since == trio.current_time() == 7


async def test_it_ends_soon_when_its_client_is_gone_whatever_is_under_way(
    autojump_clock: trio.testing.MockClock,
) -> None:
    activity = Activity()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(ask, activity, ("works", LAST_S / 2), ("sends", 10 * STALLED_S))
        await trio.testing.wait_all_tasks_blocked()
        activity.gone()
        activity.gone()
        assert await ended_after(activity) == LAST_S
        nursery.cancel_scope.cancel()


async def test_it_only_follows_while_all_that_is_under_way_are_streams_of_events(
    autojump_clock: trio.testing.MockClock,
) -> None:
    activity = Activity()

    async def follow(_scope: Any, _receive: Any, send: Any) -> None:
        headers = [(b"x", b"y"), (b"Content-Type", b"text/event-stream; charset=utf-8")]
        await send({"type": "http.response.start", "headers": headers})
        await trio.sleep_forever()

    assert activity.following_since == NOT_WAITING
    async with trio.open_nursery() as nursery:
        await trio.sleep(1)
        for _ in range(2):
            nursery.start_soon(activity.counting(follow), {}, None, taking)  # type: ignore[arg-type]
            await trio.sleep(1)
        assert (activity.following_since, activity.waiting_since) == (1, NOT_WAITING)
        nursery.start_soon(ask, activity, ("works", 5))
        await trio.sleep(1)
        assert activity.following_since == NOT_WAITING
        await trio.sleep(5)
        assert activity.following_since == 1
        nursery.cancel_scope.cancel()
    assert activity.following_since == NOT_WAITING
