import h2.events
import pytest
import trio
from h2.errors import ErrorCodes
from h2.settings import SettingCodes
from hyperframe.frame import GoAwayFrame
from trio.testing import MockClock, wait_all_tasks_blocked

from palyra_trio.wire.h2_connection import TABLE_BYTES
from palyra_trio.wire.limits import Limits
from tests.wire.echo import Echo, pair
from tests.wire.echo_grpc import EchoStub
from tests.wire.echo_pb2 import Order, Text
from tests.wire.raw import HEADERS, raw_client

COUNT = [(name, value.replace("Wait", "Count")) for name, value in HEADERS]


async def test_a_silent_peer_is_asked_and_then_dropped(autojump_clock: MockClock) -> None:
    limits = Limits(keepalive_idle_s=30, keepalive_timeout_s=5)
    echo = Echo()
    async with raw_client(echo, limits) as raw:
        raw.machine.send_headers(1, HEADERS)
        await raw.flush()
        start = trio.current_time()
        while not raw.find(h2.events.PingReceived):
            await raw.read()
        assert trio.current_time() - start == pytest.approx(30, abs=0.1)
        raw.machine.clear_outbound_data_buffer()  # and it says nothing
        await raw.read_to_end()
        assert trio.current_time() - start == pytest.approx(35, abs=0.1)
        await wait_all_tasks_blocked()
        assert echo.live == 0


async def test_a_silent_peer_that_answers_is_kept(autojump_clock: MockClock) -> None:
    limits = Limits(keepalive_idle_s=30, keepalive_timeout_s=5)
    async with pair(Echo(), limits) as (channel, _):
        await EchoStub(channel).Say(Text())
        await trio.sleep(3600)
        assert (await EchoStub(channel).Say(Text(body=b"still"))).body == b"still"


async def test_queued_messages_share_frames() -> None:
    async with raw_client(Echo()) as raw:
        raw.machine.send_headers(1, COUNT)
        body = Order(messages=1000, bytes_each=25).SerializeToString()
        raw.machine.send_data(1, b"\0" + len(body).to_bytes(4, "big") + body, end_stream=True)
        await raw.flush()
        while not raw.find(h2.events.StreamEnded):
            await raw.read()
        frames = [event.data for event in raw.find(h2.events.DataReceived)]  # type: ignore[attr-defined]
        size = len(Text(body=bytes(25)).SerializeToString()) + 5
        assert len(b"".join(frames)) == 1000 * size
        assert len(frames) <= 4


async def test_streams_take_turns() -> None:
    echo = Echo()
    async with pair(echo) as (channel, _), EchoStub(channel).Count.open() as large:
        await large.send_message(Order(messages=10**6, bytes_each=60_000), end=True)
        await large.recv_message()
        assert (await EchoStub(channel).Say(Text(body=bytes(50_000)))).body == bytes(50_000)


async def test_calls_that_nobody_reads_do_not_hold_up_another() -> None:
    async with pair(Echo()) as (channel, _), trio.open_nursery() as nursery:

        async def unread() -> None:
            async with EchoStub(channel).Count.open() as call:
                await call.send_message(Order(messages=10**6, bytes_each=1000), end=True)
                await trio.sleep_forever()

        for _ in range(10):
            nursery.start_soon(unread)
        await wait_all_tasks_blocked()
        assert len(await EchoStub(channel).Count(Order(messages=2000, bytes_each=1000))) == 2000
        nursery.cancel_scope.cancel()


async def test_a_peer_that_goes_away_may_still_end_its_calls() -> None:
    echo = Echo()
    async with raw_client(echo) as raw:
        raw.machine.send_headers(1, HEADERS, end_stream=True)
        await raw.flush()
        await echo.began.wait()
        await raw.stream.send_all(GoAwayFrame(0, 0, ErrorCodes.NO_ERROR).serialize())
        await wait_all_tasks_blocked()
        echo.go_on.set()
        while not raw.find(h2.events.StreamEnded):
            await raw.read()


async def test_what_a_call_leaves_unread_goes_back_to_the_connections_window() -> None:
    limits = Limits(connection_window_bytes=300_000)
    async with pair(Echo(), limits) as (channel, _):
        for _ in range(20):
            async with EchoStub(channel).Count.open() as call:
                await call.send_message(Order(messages=10**6, bytes_each=1000), end=True)
                await call.recv_message()
                await wait_all_tasks_blocked()
        assert (await EchoStub(channel).Say(Text(body=bytes(500_000)))).body == bytes(500_000)


async def test_a_ping_for_each_frame_of_data_is_no_flood() -> None:
    async with raw_client(Echo(), Limits(control_frames=5, control_frames_per_s=0)) as raw:
        raw.machine.send_headers(1, COUNT)
        body = Order(messages=10**6, bytes_each=1000).SerializeToString()
        raw.machine.send_data(1, b"\0" + len(body).to_bytes(4, "big") + body, end_stream=True)
        for number in range(200):
            while len(raw.find(h2.events.DataReceived)) <= number:
                await raw.flush()
                assert await raw.read()
            raw.machine.ping(b"how long")
            for event in raw.find(h2.events.DataReceived)[number:]:
                raw.machine.acknowledge_received_data(event.flow_controlled_length, 1)  # type: ignore[attr-defined]
            raw.events = raw.find(h2.events.DataReceived)[: number + 1]


async def test_a_peer_cannot_have_us_remember_more_headers_than_we_like() -> None:
    echo = Echo()
    async with raw_client(echo) as raw:
        raw.machine.update_settings({SettingCodes.HEADER_TABLE_SIZE: 2**32 - 1})
        raw.machine.send_headers(1, HEADERS, end_stream=True)
        await raw.flush()
        await echo.began.wait()
        (connection,) = raw.server._connections
        assert connection._h2.encoder.header_table_size == TABLE_BYTES
        echo.go_on.set()
        while not raw.find(h2.events.StreamEnded):
            await raw.read()
