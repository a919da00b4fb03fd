import pytest
import trio
from grpclib.const import Cardinality, Status
from grpclib.exceptions import GRPCError, ProtocolError
from trio.testing import MockClock, wait_all_tasks_blocked

from palyra_trio.wire.limits import Limits
from tests.wire.echo import Echo
from tests.wire.echo_grpc import EchoStub
from tests.wire.echo_pb2 import Order, Text
from tests.wire.transports import Transport, over_both


@over_both
async def test_a_message_larger_than_the_window_comes_back(over: Transport) -> None:
    async with over.pair(Echo()) as (channel, _):
        assert len((await EchoStub(channel).Say(Text(body=bytes(4_000_000)))).body) == 4_000_000


@over_both
async def test_every_kind_of_call_is_made_with_generated_stubs(over: Transport) -> None:
    async with over.pair(Echo()) as (channel, _):
        stub = EchoStub(channel)
        assert (await stub.Say(Text(body=b"hi"))).body == b"hi"
        assert len(await stub.Count(Order(messages=3000, bytes_each=25))) == 3000
        assert len(await stub.Count(Order(messages=3000, bytes_each=25, together=100))) == 3000
        assert (await stub.Collect([Text(body=bytes(1000))] * 2000)).bytes == 2_000_000
        assert [each.body for each in await stub.Chat([Text(body=b"a"), Text(body=b"b")])] == [b"a", b"b", b"bye"]


@over_both
async def test_a_conversation_goes_back_and_forth(over: Transport) -> None:
    async with over.pair(Echo()) as (channel, _), EchoStub(channel).Chat.open() as call:
        for word in (b"one", b"two", b"three"):
            await call.send_message(Text(body=word))
            reply = await call.recv_message()
            assert reply is not None
            assert reply.body == word
        await call.end()
        assert [each.body async for each in call] == [b"bye"]


@over_both
async def test_metadata_travels_both_ways(over: Transport) -> None:
    async with over.pair(Echo()) as (channel, _):
        sent = {"x-text": "a b", "x-blob-bin": b"\0\xff", "t-blob-bin": b"\1"}
        async with EchoStub(channel).Say.open(metadata=sent) as call:
            await call.send_message(Text(), end=True)
            await call.recv_initial_metadata()
            assert dict(call.initial_metadata or {}) == {"x-text": "a b", "x-blob-bin": b"\0\xff"}
            await call.recv_trailing_metadata()
            assert dict(call.trailing_metadata or {}) == {"t-blob-bin": b"\1"}


@over_both
async def test_leaving_a_call_ends_its_handler(over: Transport) -> None:
    echo = Echo()
    async with over.pair(echo) as (channel, _):
        async with EchoStub(channel).Count.open() as call:
            await call.send_message(Order(messages=10**6, bytes_each=1000), end=True)
            await call.recv_message()
        await wait_all_tasks_blocked()
        assert echo.live == 0
        assert (await EchoStub(channel).Say(Text(body=b"next"))).body == b"next"


@over_both
async def test_cancelling_a_call_ends_its_handler(over: Transport) -> None:
    echo = Echo()
    async with over.pair(echo) as (channel, _):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(EchoStub(channel).Wait, Text())
            await echo.began.wait()
            nursery.cancel_scope.cancel()
        await wait_all_tasks_blocked()
        assert echo.live == 0


@over_both
async def test_a_server_does_not_read_ahead_of_its_handler(over: Transport) -> None:
    echo = Echo()
    limits = Limits()
    async with over.pair(echo, limits) as (channel, _), EchoStub(channel).Wait.open() as call:
        sent = 0
        await call.send_request()
        await echo.began.wait()
        with trio.CancelScope() as scope:

            async def send() -> None:
                nonlocal sent
                while True:
                    await call.send_message(Text(body=bytes(10_000)))
                    sent += 10_000

            async with trio.open_nursery() as nursery:
                nursery.start_soon(send)
                await wait_all_tasks_blocked()
                scope.cancel()
        assert 0 < sent <= over.ahead_bytes(limits) + 2 * 10_000


@over_both
async def test_calls_beyond_the_servers_limit_wait_for_their_turn(over: Transport, autojump_clock: MockClock) -> None:
    echo = Echo()
    async with over.pair(echo, Limits(streams=5)) as (channel, _):
        await EchoStub(channel).Say(Text())  # the server's settings are here
        async with trio.open_nursery() as nursery:
            for _ in range(12):
                nursery.start_soon(EchoStub(channel).Wait, Text())
            await trio.sleep(1)
            assert echo.live == 5
            echo.go_on.set()
        assert echo.live == 0


@over_both
async def test_calls_that_are_made_before_the_server_has_said_its_limit_are_not_refused(over: Transport) -> None:
    async with over.pair(Echo()) as (channel, _), trio.open_nursery() as nursery:
        for _ in range(300):
            nursery.start_soon(EchoStub(channel).Say, Text())


@over_both
async def test_a_deadline_also_ends_the_wait_for_a_turn(over: Transport, autojump_clock: MockClock) -> None:
    echo = Echo()
    async with over.pair(echo, Limits(streams=1)) as (channel, _), trio.open_nursery() as nursery:
        await EchoStub(channel).Say(Text())
        nursery.start_soon(EchoStub(channel).Wait, Text())
        await wait_all_tasks_blocked()
        with pytest.raises(GRPCError) as late:
            await EchoStub(channel).Say(Text(), timeout=2)
        assert late.value.status is Status.DEADLINE_EXCEEDED
        nursery.cancel_scope.cancel()


@over_both
async def test_a_method_that_the_server_does_not_know_is_unimplemented(over: Transport) -> None:
    async with over.pair(Echo()) as (channel, _):
        with pytest.raises(GRPCError) as failed:
            async with channel.request("/no/such", Cardinality.UNARY_UNARY, Text, Text) as call:
                await call.send_message(Text(), end=True)
        assert failed.value.status is Status.UNIMPLEMENTED


@over_both
async def test_a_call_that_was_not_sent_has_nothing_to_receive(over: Transport) -> None:
    async with over.pair(Echo()) as (channel, _), EchoStub(channel).Say.open() as call:
        with pytest.raises(ProtocolError):
            await call.recv_message()
