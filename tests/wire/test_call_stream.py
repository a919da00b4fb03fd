import tracemalloc

import h2.events
from trio.testing import wait_all_tasks_blocked

from palyra_trio.wire.limits import Limits
from tests.wire.echo import Echo
from tests.wire.echo_grpc import EchoStub
from tests.wire.echo_pb2 import Order, Text
from tests.wire.raw import HEADERS, raw_client
from tests.wire.transports import Transport, over_both


@over_both
async def test_a_client_that_reads_nothing_of_200_mb_costs_what_fits_the_window(over: Transport) -> None:
    echo = Echo()
    limits = Limits()
    async with over.pair(echo) as (channel, _), EchoStub(channel).Count.open() as call:
        tracemalloc.start()
        await call.send_message(Order(messages=200_000, bytes_each=1000), end=True)
        await echo.began.wait()
        await wait_all_tasks_blocked()
        _, peak_bytes = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert echo.sent * 1000 <= over.ahead_bytes(limits) + 2000
        assert peak_bytes < 5_000_000
        assert await call.recv_message() is not None


async def test_padding_is_handed_back_too() -> None:
    limits = Limits(stream_window_bytes=65_535)
    collect = [(name, value.replace("Wait", "Collect")) for name, value in HEADERS]
    async with raw_client(Echo(), limits) as raw:
        raw.machine.send_headers(1, collect)
        message = Text(body=bytes(95)).SerializeToString()
        framed = b"\0" + len(message).to_bytes(4, "big") + message
        for _ in range(2000):
            while raw.machine.local_flow_control_window(1) < 400:
                await raw.flush()
                await raw.read()
            raw.machine.send_data(1, framed, pad_length=255)
        raw.machine.end_stream(1)
        await raw.flush()
        while not raw.find(h2.events.StreamEnded):
            await raw.read()


async def test_a_message_in_many_pieces_is_one() -> None:
    say = [(name, value.replace("Wait", "Say")) for name, value in HEADERS]
    async with raw_client(Echo()) as raw:
        raw.machine.send_headers(1, say)
        message = Text(body=bytes(40)).SerializeToString()
        for byte in b"\0" + len(message).to_bytes(4, "big") + message:
            raw.machine.send_data(1, bytes([byte]))
            await raw.flush()
            await wait_all_tasks_blocked()
        raw.machine.end_stream(1)
        await raw.flush()
        while not raw.find(h2.events.StreamEnded):
            await raw.read()
        (data,) = raw.find(h2.events.DataReceived)
        assert data.data[5:] == message  # type: ignore[attr-defined]
