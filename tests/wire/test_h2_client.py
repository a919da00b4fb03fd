import pytest
import trio
from grpclib.const import Status
from grpclib.exceptions import GRPCError
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import RequestReceived
from trio.testing import memory_stream_pair, wait_all_tasks_blocked

from palyra_trio.wire.call import ConnectionLost
from palyra_trio.wire.h2_client import connect
from tests.wire.echo import Echo, server_of
from tests.wire.echo_grpc import EchoStub
from tests.wire.echo_pb2 import Text


async def test_metadata_of_the_channel_goes_with_every_call_and_a_call_overrides_it() -> None:
    near, far = memory_stream_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(server_of(Echo()).serve_connection, far)
        connecting = connect(near, metadata={"x-a": "1", "x-b": "1"})
        async with connecting as channel, EchoStub(channel).Say.open(metadata={"x-b": "2"}) as call:
            await call.send_message(Text(), end=True)
            await call.recv_initial_metadata()
            assert dict(call.initial_metadata or {}) == {"x-a": "1", "x-b": "2"}


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
