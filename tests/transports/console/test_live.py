"""Streams: how an update is sent, what is sent when there is none, and how every stream ends with a word."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from palyra_trio.core.errors import PalyraError, Unauthenticated
from palyra_trio.transports.console.live import (
    BEAT_S,
    DISPLACED,
    DISPLACED_ELSEWHERE,
    PAGES,
    PAGES_OF_ONE,
    Seat,
    Streams,
    Update,
    View,
    event,
)
from palyra_trio.transports.console.rendering import read_static


class Given:
    """A view with updates that a test hands in; None is its end."""

    def __init__(self) -> None:
        self.settled = True
        self.updates, self._taken = trio.open_memory_channel[Update | PalyraError | None](10)

    async def next(self) -> Update | None:
        found = await self._taken.receive()
        if isinstance(found, PalyraError):
            raise found
        return found


def fine() -> None:
    pass


def data_of(sent: bytes) -> str:
    """Return the data of an event as an EventSource reads it."""
    lines = sent.decode().removesuffix("\n\n").split("\n")
    return "\n".join(line.removeprefix("data: ") for line in lines if line.startswith("data: "))


@given(st.text(alphabet="a \n\r:<dt"))
def test_an_event_carries_its_data_line_by_line(data: str) -> None:
    sent = event("update", data, "12")
    assert data_of(sent) == data.replace("\r\n", "\n").replace("\r", "\n")
    assert sent.startswith(b"id: 12\nevent: update\n")
    assert sent.count(b"\n\n") == 1 or b"\n\n" not in sent[:-2]


async def test_updates_are_sent_in_order_and_the_end_is_said() -> None:
    view, streams = Given(), Streams()
    for each in (Update("1", "<p>"), Update("2", "</p>"), None):
        view.updates.send_nowait(each)
    sent = [each async for each in streams.events(view, fine, Seat())]
    assert sent == [b"retry: 1000\n\n", event("update", "<p>", "1"), event("update", "</p>", "2"), event("bye", "")]


async def test_silence_is_broken_by_a_beat_which_has_no_place(autojump_clock: trio.testing.MockClock) -> None:
    events = Streams().events(Given(), fine, Seat())
    await anext(events)
    began = trio.current_time()
    assert await anext(events) == b"event: beat\ndata: \n\n"
    assert trio.current_time() - began == BEAT_S
    await events.aclose()


def test_a_page_waits_for_two_and_a_half_beats() -> None:
    assert f"const SILENCE_MS = {BEAT_S * 2500:.0f};" in read_static()["console.js"].body.decode()


async def test_a_view_that_is_settled_ends_at_once_when_the_daemon_goes() -> None:
    view, streams, sent = Given(), Streams(), list[bytes]()

    async def read() -> None:
        sent.extend([each async for each in streams.events(view, fine, Seat())])

    async with trio.open_nursery() as nursery:
        nursery.start_soon(read)
        await trio.testing.wait_all_tasks_blocked()
        streams.drain()
    assert sent[-1] == event("bye", "")
    assert [each async for each in streams.events(view, fine, Seat())][1:] == [event("bye", "")]


async def test_a_view_that_shows_work_goes_on_until_that_is_done() -> None:
    view, streams, sent = Given(), Streams(), list[bytes]()
    view.settled = False

    async def read() -> None:
        async for each in streams.events(view, fine, Seat()):
            sent.append(each)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(read)
        await trio.testing.wait_all_tasks_blocked()
        streams.drain()
        await trio.testing.wait_all_tasks_blocked()
        assert sent == [b"retry: 1000\n\n"]
        view.settled = True
        view.updates.send_nowait(Update("1", "x"))
    assert sent[1:] == [event("update", "x", "1"), event("bye", "")]


async def test_who_has_signed_out_is_told_before_anything_more() -> None:
    def refuse() -> None:
        raise Unauthenticated("you have signed out")

    view = Given()
    view.updates.send_nowait(Update("1", "a secret"))
    sent = [each async for each in Streams().events(view, refuse, Seat())]
    assert sent[1:] == [event("problem", "you have signed out")]


async def test_a_view_is_open_for_as_long_as_it_is_sent() -> None:
    view, streams, left = Given(), Streams(), []

    @asynccontextmanager
    async def opening() -> AsyncGenerator[View, None]:
        yield view
        left.append(True)

    body = streams.response(opening(), fine, "me", "here").response
    async with body as sent:
        assert streams.open == 1
        assert await anext(aiter(sent)) == b"retry: 1000\n\n"
    assert (streams.open, left) == (0, [True])


@pytest.mark.parametrize("error", [Unauthenticated("no"), PalyraError("gone")])
async def test_a_refusal_on_the_way_is_a_problem_without_a_place(error: PalyraError) -> None:
    view = Given()
    view.updates.send_nowait(error)
    sent = [each async for each in Streams().events(view, fine, Seat())]
    assert sent[1:] == [event("problem", error.message)]
    assert b"id:" not in sent[1]


async def test_the_page_that_has_been_live_for_longest_gives_way_to_newer_ones_and_is_told() -> None:
    streams, sent = Streams(), dict[str, list[bytes]]()

    @asynccontextmanager
    async def opening() -> AsyncGenerator[View, None]:
        yield Given()

    async def follow(name: str, sign_in: str) -> None:
        sent[name] = []
        async with streams.response(opening(), fine, "me", sign_in).response as body:
            sent[name] += [each async for each in body]

    async with trio.open_nursery() as nursery:
        nursery.start_soon(follow, "elsewhere", "there")
        for number in range(PAGES):
            nursery.start_soon(follow, f"mine {number}", "here")
            await trio.testing.wait_all_tasks_blocked()
        assert streams.open == PAGES + 1
        nursery.start_soon(follow, "newest", "here")
        await trio.testing.wait_all_tasks_blocked()
        assert streams.open == PAGES + 1
        told = {name for name, each in sent.items() if each}
        assert told == {"mine 0"}
        assert sent["mine 0"][-1] == event("displaced", DISPLACED)
        nursery.cancel_scope.cancel()
    assert streams.open == 0


async def test_a_principal_has_so_many_live_pages_and_the_sign_in_that_has_the_most_gives_way() -> None:
    streams, sent = Streams(), dict[tuple[str, int, int], list[bytes]]()

    @asynccontextmanager
    async def opening() -> AsyncGenerator[View, None]:
        yield Given()

    async def follow(principal: str, sign_in: int, page: int) -> None:
        told = sent[principal, sign_in, page] = []
        async with streams.response(opening(), fine, principal, str(sign_in)).response as body:
            told += [each async for each in body]

    async with trio.open_nursery() as nursery:
        nursery.start_soon(follow, "you", 0, 0)
        pages = [(0, 0), *((1 + number // PAGES, number % PAGES) for number in range(PAGES_OF_ONE - 1))]
        for each in (*pages, (99, 0)):
            nursery.start_soon(follow, "me", *each)
            await trio.testing.wait_all_tasks_blocked()
        assert {each: said[-1] for each, said in sent.items() if said} == {
            ("me", 1, 0): event("displaced", DISPLACED_ELSEWHERE)
        }
        assert streams.open == PAGES_OF_ONE + 1
        nursery.cancel_scope.cancel()
    assert streams.open == 0
