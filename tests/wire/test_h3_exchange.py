import logging
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import pytest
import trio
from grpclib.const import Status
from grpclib.exceptions import GRPCError
from trio.testing import MockClock

from palyra_trio.wire.h3_client import H3Channel, connect
from palyra_trio.wire.h3_exchange import Exchange, Handle
from palyra_trio.wire.h3_server import H3Server
from palyra_trio.wire.limits import Limits
from tests.wire.echo import Echo
from tests.wire.echo_grpc import EchoStub
from tests.wire.echo_pb2 import Text
from tests.wire.quic import certified, listener_of, listening, server_of, until

LIMITS = Limits()


@asynccontextmanager
async def asking(handle: Handle | None) -> AsyncGenerator[tuple[H3Channel, H3Server], None]:
    server = server_of(Echo(), exchange=handle)
    async with listening(server) as port, connect("127.0.0.1", port, trust=certified().pin) as channel:
        yield channel, server


async def mirror(exchange: Exchange) -> None:
    """Answer with what was asked for."""
    body = b"".join([part async for part in parts_of(exchange)])
    seen = f"{exchange.method} {exchange.path} {exchange.query} {exchange.headers.get('x-a')} {body.decode()}"
    await exchange.answer(200, seen.encode())


async def parts_of(exchange: Exchange) -> AsyncGenerator[bytes, None]:
    while (part := await exchange.receive()) is not None:
        yield part


async def test_a_request_is_seen_as_it_was_made() -> None:
    async with asking(mirror) as (channel, _):
        async with channel.fetch("POST", "/a%20b?c=d%20e", [("x-a", "b")], b"body") as response:
            assert await response.read() == b"POST /a b c=d%20e b body"
            assert response.headers["content-length"] == "24"
            assert response.headers["content-type"] == "text/plain; charset=utf-8"


async def test_calls_are_answered_beside() -> None:
    async with asking(mirror) as (channel, _):
        async with channel.fetch("GET", "/"):
            assert (await EchoStub(channel).Say(Text(body=b"x"))).body == b"x"


async def test_head_has_no_body() -> None:
    async with asking(mirror) as (channel, _), channel.fetch("HEAD", "/") as response:
        assert (response.status, await response.read()) == (200, b"")
        assert int(response.headers["content-length"]) > 0


async def test_a_response_is_streamed_as_it_is_made() -> None:
    send, receive = trio.open_memory_channel[bytes](0)

    async def events(exchange: Exchange) -> None:
        exchange.begin(200, [("content-type", "text/event-stream")])
        async for event in receive:
            await exchange.send(event)

    async with asking(events) as (channel, _), channel.fetch("GET", "/events") as response:
        parts = aiter(response)
        for number in range(20):
            await send.send(f"data: {number}\n\n".encode())
            assert await anext(parts) == f"data: {number}\n\n".encode()
        await send.aclose()
        assert await response.read() == b""


async def test_large_bodies_travel_both_ways_in_little_memory() -> None:
    size = 3_000_000

    async def echo(exchange: Exchange) -> None:
        exchange.begin(200)
        async for part in parts_of(exchange):
            await exchange.send(part)

    async with asking(echo) as (channel, _):
        got = 0
        async with trio.open_nursery() as nursery:
            async with channel.fetch("POST", "/", body=bytes(size)) as response:
                async for part in response:
                    got += len(part)
            nursery.cancel_scope.cancel()
        assert got == size


async def test_a_client_that_does_not_read_holds_the_handler_up() -> None:
    sent = 0

    async def flood(exchange: Exchange) -> None:
        nonlocal sent
        exchange.begin(200)
        while True:
            await exchange.send(bytes(10_000))
            sent += 10_000

    async with asking(flood) as (channel, _), channel.fetch("GET", "/"):
        before = -1
        while sent != before:
            before = sent
            await trio.sleep(0.2)
        assert sent <= 2 * LIMITS.stream_window_bytes + LIMITS.send_buffer_bytes + 10_000


async def test_a_handler_ends_when_its_client_goes() -> None:
    ended = trio.Event()

    async def wait(exchange: Exchange) -> None:
        exchange.begin(200)
        try:
            await trio.sleep_forever()
        finally:
            ended.set()

    async with asking(wait) as (channel, _):
        async with channel.fetch("GET", "/"):
            pass
        with trio.fail_after(5):
            await ended.wait()


async def test_a_handler_that_fails_is_told_and_logged(caplog: pytest.LogCaptureFixture) -> None:
    async def fail(exchange: Exchange) -> None:
        if exchange.path == "/late":
            exchange.begin(200)
            await exchange.send(b"x")
        if exchange.path != "/nothing":
            raise KeyError(exchange.path)

    async with asking(fail) as (channel, _):
        for path in ("/early", "/nothing"):
            async with channel.fetch("GET", path) as response:
                assert response.status == 500
        with pytest.raises(GRPCError, match="reset") as late:
            async with channel.fetch("GET", "/late") as response:
                await response.read()
        assert late.value.status is Status.CANCELLED
    assert [record.message for record in caplog.records] == [
        "GET /early failed",
        "GET /nothing failed",
        "GET /late failed",
    ]


async def test_what_a_client_asks_for_is_logged_on_one_line_that_nobody_obeys(caplog: pytest.LogCaptureFixture) -> None:
    async def nothing(exchange: Exchange) -> None:
        pass

    async with asking(nothing) as (channel, _):
        async with channel.fetch("GET", "/%0aERROR%20all%20is%20lost%1b%5b2J" + "x" * 1000) as response:
            assert response.status == 500
    (record,) = caplog.records
    assert record.message.startswith("GET / ⏎ ERROR all is lost\\u001b[2Jxxx")
    assert len(record.message) == 200 + len(" failed")
    assert "lost" not in str(record.exc_info)


async def test_a_body_that_nobody_reads_is_stopped_and_the_answer_arrives() -> None:
    async def refuse(exchange: Exchange) -> None:
        await exchange.answer(413, b"too much")

    async with asking(refuse) as (channel, _):
        for size in (1000, 1_000_000, 1_000_000, 1_000_000):
            async with channel.fetch("POST", "/", body=bytes(size)) as response:
                assert (response.status, await response.read()) == (413, b"too much")


async def test_a_handler_that_fails_as_it_is_cancelled_ends_nothing_else(caplog: pytest.LogCaptureFixture) -> None:
    began = trio.Event()

    async def fail(exchange: Exchange) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(fail_late)
            began.set()
            await trio.sleep_forever()

    async def fail_late() -> None:
        try:
            await trio.sleep_forever()
        finally:
            raise KeyError("late")

    server = server_of(Echo(), exchange=fail)
    async with listening(server) as port:
        async with connect("127.0.0.1", port, trust=certified().pin) as channel, trio.open_nursery() as nursery:
            nursery.start_soon(forgetting, channel)
            await began.wait()
            nursery.cancel_scope.cancel()
        await until(lambda: not listener_of(server).connections)
        async with connect("127.0.0.1", port, trust=certified().pin) as channel:
            assert (await EchoStub(channel).Say(Text(body=b"x"))).body == b"x"
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


async def forgetting(channel: H3Channel) -> None:
    async with channel.fetch("GET", "/"):
        pass


async def test_without_a_handler_what_is_not_grpc_is_answered_in_words() -> None:
    async with asking(None) as (channel, _), channel.fetch("GET", "/") as response:
        assert response.status == 405
        assert b"gRPC" in await response.read()


async def test_a_drain_ends_exchanges_at_its_deadline(autojump_clock: MockClock) -> None:
    live = 0

    async def wait(exchange: Exchange) -> None:
        nonlocal live
        live += 1
        exchange.begin(200)
        try:
            await trio.sleep_forever()
        finally:
            live -= 1

    async with asking(wait) as (channel, server), channel.fetch("GET", "/") as response:
        assert live == 1
        server.drain(trio.current_time() + 3)
        with pytest.raises(GRPCError):
            await response.read()
        assert live == 0
        await channel.ended.wait()
        await trio.sleep(2)
        assert not listener_of(server).connections


async def test_nothing_is_logged_when_a_client_goes(caplog: pytest.LogCaptureFixture) -> None:
    began = trio.Event()

    async def send(exchange: Exchange) -> None:
        exchange.begin(200)
        began.set()
        while True:
            await exchange.send(bytes(1000))
            await trio.lowlevel.checkpoint()

    async with asking(send) as (channel, _):
        async with channel.fetch("GET", "/"):
            await began.wait()
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []
