import pytest
import trio
from grpclib.const import Status
from grpclib.exceptions import GRPCError
from trio.testing import MockClock, wait_all_tasks_blocked

from palyra_trio.wire.call import ConnectionLost
from tests.wire.echo import Echo
from tests.wire.echo_grpc import EchoStub
from tests.wire.echo_pb2 import Order, Text
from tests.wire.transports import Transport, over_both


@over_both
async def test_a_drain_lets_calls_end_and_refuses_new_ones(over: Transport, autojump_clock: MockClock) -> None:
    echo = Echo()
    replies: list[Text] = []
    async with over.pair(echo) as (channel, server), trio.open_nursery() as nursery:

        async def call() -> None:
            replies.append(await EchoStub(channel).Wait(Text()))

        nursery.start_soon(call)
        await echo.began.wait()
        server.drain(trio.current_time() + 10)
        await wait_all_tasks_blocked()
        with pytest.raises(ConnectionLost):
            await EchoStub(channel).Say(Text())
        await trio.sleep(5)
        echo.go_on.set()
    assert len(replies) == 1


@over_both
async def test_a_drain_tells_the_rest_at_its_deadline_even_those_that_do_not_read(
    over: Transport, autojump_clock: MockClock
) -> None:
    echo = Echo()
    statuses: list[Status] = []
    async with over.pair(echo) as (channel, server), trio.open_nursery() as nursery:

        async def wait() -> None:
            with pytest.raises(GRPCError) as cut:
                await EchoStub(channel).Wait(Text())
            statuses.append(cut.value.status)

        async def not_read() -> None:
            async with EchoStub(channel).Count.open() as call:
                await call.send_message(Order(messages=10**6, bytes_each=1000), end=True)
                await trio.sleep(4)
                with pytest.raises(GRPCError) as cut:
                    await call.recv_trailing_metadata()
            statuses.append(cut.value.status)

        start = trio.current_time()
        for _ in range(20):
            nursery.start_soon(wait)
            nursery.start_soon(not_read)
        await wait_all_tasks_blocked()
        server.drain(start + 3)
    assert statuses == [Status.UNAVAILABLE] * 40
    assert trio.current_time() - start < 5
    assert echo.live == 0
