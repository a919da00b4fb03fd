import pytest
import trio
from grpclib.const import Cardinality, Status
from grpclib.exceptions import GRPCError, ProtocolError
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import RequestReceived
from trio.testing import MockClock, memory_stream_pair, wait_all_tasks_blocked

from palyra_trio.wire.call import ConnectionLost
from palyra_trio.wire.h2_client import connect
from palyra_trio.wire.limits import Limits
from tests.wire.echo import Echo, pair, server_of
from tests.wire.echo_grpc import EchoStub
from tests.wire.echo_pb2 import Order, Text


async def test_a_message_larger_than_the_window_comes_back() -> None:
    async with pair(Echo()) as (channel, _):
        assert len((await EchoStub(channel).Say(Text(body=bytes(4_000_000)))).body) == 4_000_000


async def test_every_kind_of_call_is_made_with_generated_stubs() -> None:
    async with pair(Echo()) as (channel, _):
        stub = EchoStub(channel)
        assert (await stub.Say(Text(body=b"hi"))).body == b"hi"
        assert len(await stub.Count(Order(messages=3000, bytes_each=25))) == 3000
        assert len(await stub.Count(Order(messages=3000, bytes_each=25, together=100))) == 3000
        assert (await stub.Collect([Text(body=bytes(1000))] * 2000)).bytes == 2_000_000
        assert [each.body for each in await stub.Chat([Text(body=b"a"), Text(body=b"b")])] == [b"a", b"b", b"bye"]


async def test_a_conversation_goes_back_and_forth() -> None:
    async with pair(Echo()) as (channel, _), EchoStub(channel).Chat.open() as call:
        for word in (b"one", b"two", b"three"):
            await call.send_message(Text(body=word))
            reply = await call.recv_message()
            assert reply is not None
            assert reply.body == word
        await call.end()
        assert [each.body async for each in call] == [b"bye"]


async def test_metadata_travels_both_ways() -> None:
    async with pair(Echo()) as (channel, _):
        sent = {"x-text": "a b", "x-blob-bin": b"\0\xff", "t-blob-bin": b"\1"}
        async with EchoStub(channel).Say.open(metadata=sent) as call:
            await call.send_message(Text(), end=True)
            await call.recv_initial_metadata()
            assert dict(call.initial_metadata or {}) == {"x-text": "a b", "x-blob-bin": b"\0\xff"}
            await call.recv_trailing_metadata()
            assert dict(call.trailing_metadata or {}) == {"t-blob-bin": b"\1"}


async def test_metadata_of_the_channel_goes_with_every_call_and_a_call_overrides_it() -> None:
    near, far = memory_stream_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(server_of(Echo()).serve_connection, far)
        connecting = connect(near, metadata={"x-a": "1", "x-b": "1"})
        async with connecting as channel, EchoStub(channel).Say.open(metadata={"x-b": "2"}) as call:
            await call.send_message(Text(), end=True)
            await call.recv_initial_metadata()
            assert dict(call.initial_metadata or {}) == {"x-a": "1", "x-b": "2"}


async def test_leaving_a_call_ends_its_handler() -> None:
    echo = Echo()
    async with pair(echo) as (channel, _):
        async with EchoStub(channel).Count.open() as call:
            await call.send_message(Order(messages=10**6, bytes_each=1000), end=True)
            await call.recv_message()
        await wait_all_tasks_blocked()
        assert echo.live == 0
        assert (await EchoStub(channel).Say(Text(body=b"next"))).body == b"next"


async def test_cancelling_a_call_ends_its_handler() -> None:
    echo = Echo()
    async with pair(echo) as (channel, _):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(EchoStub(channel).Wait, Text())
            await echo.began.wait()
            nursery.cancel_scope.cancel()
        await wait_all_tasks_blocked()
        assert echo.live == 0


async def test_a_server_does_not_read_ahead_of_its_handler() -> None:
    echo = Echo()
    limits = Limits()
    async with pair(echo, limits) as (channel, _), EchoStub(channel).Wait.open() as call:
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
        assert 0 < sent <= limits.stream_window_bytes + limits.send_buffer_bytes + 2 * 10_000


async def test_calls_beyond_the_servers_limit_wait_for_their_turn(autojump_clock: MockClock) -> None:
    echo = Echo()
    async with pair(echo, Limits(streams=5)) as (channel, _):
        await EchoStub(channel).Say(Text())  # the server's settings are here
        async with trio.open_nursery() as nursery:
            for _ in range(12):
                nursery.start_soon(EchoStub(channel).Wait, Text())
            await wait_all_tasks_blocked()
            assert echo.live == 5
            echo.go_on.set()
        assert echo.live == 0


async def test_calls_that_are_made_before_the_server_has_said_its_limit_are_not_refused() -> None:
    async with pair(Echo()) as (channel, _), trio.open_nursery() as nursery:
        for _ in range(300):
            nursery.start_soon(EchoStub(channel).Say, Text())


async def test_a_deadline_also_ends_the_wait_for_a_turn(autojump_clock: MockClock) -> None:
    echo = Echo()
    async with pair(echo, Limits(streams=1)) as (channel, _), trio.open_nursery() as nursery:
        await EchoStub(channel).Say(Text())
        nursery.start_soon(EchoStub(channel).Wait, Text())
        await wait_all_tasks_blocked()
        with pytest.raises(GRPCError) as late:
            await EchoStub(channel).Say(Text(), timeout=2)
        assert late.value.status is Status.DEADLINE_EXCEEDED
        nursery.cancel_scope.cancel()


async def test_a_lost_connection_is_one_clear_error_for_calls_now_and_later() -> None:
    echo = Echo()
    near, far = memory_stream_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(server_of(echo).serve_connection, far)
        async with connect(near) as channel:

            async def cut() -> None:
                await echo.began.wait()
                await trio.aclose_forcefully(far)

            nursery.start_soon(cut)
            with pytest.raises(ConnectionLost):
                await EchoStub(channel).Wait(Text())
            with pytest.raises(ConnectionLost):
                await EchoStub(channel).Say(Text())


async def test_messages_that_arrived_before_the_loss_are_still_read() -> None:
    echo = Echo()
    near, far = memory_stream_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(server_of(echo).serve_connection, far)
        async with connect(near) as channel, EchoStub(channel).Chat.open() as call:
            await call.send_message(Text(body=b"first"))
            await wait_all_tasks_blocked()
            await trio.aclose_forcefully(far)
            await wait_all_tasks_blocked()
            reply = await call.recv_message()
            assert reply is not None
            assert reply.body == b"first"
            with pytest.raises(ConnectionLost):
                await call.recv_message()


async def test_what_the_block_raises_leaves_it_without_a_group() -> None:
    near, _ = memory_stream_pair()
    with pytest.raises(KeyError):
        async with connect(near):
            raise KeyError


async def test_a_method_that_the_server_does_not_know_is_unimplemented() -> None:
    async with pair(Echo()) as (channel, _):
        with pytest.raises(GRPCError) as failed:
            async with channel.request("/no/such", Cardinality.UNARY_UNARY, Text, Text) as call:
                await call.send_message(Text(), end=True)
        assert failed.value.status is Status.UNIMPLEMENTED


async def test_an_answer_that_is_not_grpc_is_told_by_its_http_status() -> None:
    near, far = memory_stream_pair()

    async def answer() -> None:
        machine = H2Connection(H2Configuration(client_side=False))
        machine.initiate_connection()
        while True:
            for event in machine.receive_data(bytes(await far.receive_some())):
                if isinstance(event, RequestReceived):
                    machine.send_headers(event.stream_id, [(":status", "503"), ("content-type", "text/plain")])
                    machine.send_data(event.stream_id, b"try later", end_stream=True)
            await far.send_all(machine.data_to_send())

    async with trio.open_nursery() as nursery:
        nursery.start_soon(answer)
        async with connect(near) as channel:
            with pytest.raises(GRPCError, match="HTTP status 503") as failed:
                await EchoStub(channel).Say(Text())
            assert failed.value.status is Status.UNAVAILABLE
        nursery.cancel_scope.cancel()


async def test_a_call_that_was_not_sent_has_nothing_to_receive() -> None:
    async with pair(Echo()) as (channel, _), EchoStub(channel).Say.open() as call:
        with pytest.raises(ProtocolError):
            await call.recv_message()
