"""Ten ways to break the rules. None of them ends more than its own connection, and none is logged as a failure of ours."""

import logging
from collections.abc import Generator

import h2.events
import pytest
import trio
from grpclib.const import Status
from h2.errors import ErrorCodes
from hyperframe.frame import (
    ContinuationFrame,
    DataFrame,
    Frame,
    GoAwayFrame,
    HeadersFrame,
    PingFrame,
    PriorityFrame,
    SettingsFrame,
    WindowUpdateFrame,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import MockClock, wait_all_tasks_blocked

from palyra_trio.wire.framing import encode_messages
from palyra_trio.wire.limits import Limits
from palyra_trio.wire.metadata import status_of
from tests.wire.echo import Echo
from tests.wire.raw import HEADERS, Raw, raw_client

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
SETTINGS = SettingsFrame(0).serialize()
SAY = [(name, value.replace("Wait", "Say")) for name, value in HEADERS]


@pytest.fixture(autouse=True)
def nothing_is_logged(caplog: pytest.LogCaptureFixture) -> Generator[None, None, None]:
    yield
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


async def hang_up_after(sent: bytes) -> None:
    """Send bytes to a server and close. The server must have ended the connection and all that it started."""
    echo = Echo()
    async with raw_client(echo, greeted=False) as raw:
        await raw.stream.send_all(sent)
        await wait_all_tasks_blocked()
        await raw.stream.aclose()
        await wait_all_tasks_blocked()
        assert echo.live == 0


def run(sent: bytes) -> None:
    trio.run(hang_up_after, sent, clock=MockClock(autojump_threshold=0))


async def told(raw: Raw) -> ErrorCodes | int | None:
    """Read to the end of the connection, and return the code of its GOAWAY."""
    await raw.read_to_end()
    (away,) = raw.find(h2.events.ConnectionTerminated)
    return away.error_code  # type: ignore[attr-defined, no-any-return]


@given(st.binary(max_size=200))
def test_random_bytes(data: bytes) -> None:
    run(data)


@given(st.binary(max_size=200))
def test_random_bytes_after_a_good_start(data: bytes) -> None:
    run(PREFACE + SETTINGS + data)


@given(
    st.lists(st.tuples(st.integers(0, 12), st.integers(0, 255), st.integers(0, 9), st.binary(max_size=40)), max_size=9)
)
def test_random_frames(frames: list[tuple[int, int, int, bytes]]) -> None:
    data = PREFACE + SETTINGS
    for kind, flags, stream_id, body in frames:
        data += len(body).to_bytes(3, "big") + bytes([kind, flags]) + stream_id.to_bytes(4, "big") + body
    run(data)


@given(st.sampled_from([b"GET", b"POST", b"PRI"]), st.sampled_from([b"/", b"*"]), st.binary(max_size=20))
def test_http_1(method: bytes, path: bytes, body: bytes) -> None:
    run(method + b" " + path + b" HTTP/1.1\r\nhost: x\r\n\r\n" + body)


@given(st.integers(0, len(PREFACE) - 1), st.integers(1, 255))
def test_a_wrong_preface(at: int, by: int) -> None:
    wrong = bytearray(PREFACE)
    wrong[at] ^= by
    run(bytes(wrong) + SETTINGS)


@given(st.binary(max_size=50), st.integers(min_value=0, max_value=4))
@settings(max_examples=25)
def test_a_truncated_message(body: bytes, missing: int) -> None:
    async def talk() -> None:
        async with raw_client(Echo()) as raw:
            raw.machine.send_headers(1, SAY)
            encoded = encode_messages([body])
            raw.machine.send_data(1, encoded[: len(encoded) - 1 - missing], end_stream=True)
            await raw.flush()
            while not raw.find(h2.events.StreamEnded):
                await raw.read()
            (ended,) = raw.find(h2.events.TrailersReceived)
            assert status_of(ended.headers).status is Status.INTERNAL  # type: ignore[attr-defined]

    trio.run(talk)


@pytest.mark.parametrize(("prefix", "status"), [(b"\1\0\0\0\1", 12), (b"\7\0\0\0\1", 13), (b"\0\xff\0\0\0", 8)])
async def test_a_compressed_a_flagged_and_a_giant_message(prefix: bytes, status: int) -> None:
    async with raw_client(Echo()) as raw:
        raw.machine.send_headers(1, SAY)
        raw.machine.send_data(1, prefix + b"x")
        await raw.flush()
        while not raw.find(h2.events.StreamEnded):
            await raw.read()
        (ended,) = raw.find(h2.events.TrailersReceived)
        assert status_of(ended.headers).status.value == status  # type: ignore[attr-defined]


async def test_a_storm_of_a_thousand_resets() -> None:
    echo = Echo()
    async with raw_client(echo) as raw:
        for stream_id in range(1, 2001, 2):
            raw.machine.send_headers(stream_id, HEADERS)
            raw.machine.reset_stream(stream_id)
        await raw.flush()
        assert await told(raw) == ErrorCodes.ENHANCE_YOUR_CALM
        await wait_all_tasks_blocked()
        assert echo.live == 0


async def test_a_storm_of_calls_beyond_the_limit() -> None:
    async with raw_client(Echo()) as raw:
        for stream_id in range(1, 1201, 2):
            raw.machine.send_headers(stream_id, HEADERS)
        await raw.flush()
        assert await told(raw) == ErrorCodes.ENHANCE_YOUR_CALM


async def test_two_hundred_cancels_at_once_are_no_storm() -> None:
    echo = Echo()
    async with raw_client(echo) as raw:
        for start in (1, 201):
            for stream_id in range(start, start + 200, 2):
                raw.machine.send_headers(stream_id, HEADERS)
            await raw.flush()
            await wait_all_tasks_blocked()
            assert echo.live == 100
            for stream_id in range(start, start + 200, 2):
                raw.machine.reset_stream(stream_id)
            await raw.flush()
            await wait_all_tasks_blocked()
            assert echo.live == 0


@pytest.mark.parametrize("stream_id", [0, 1])
async def test_a_window_that_overflows(stream_id: int) -> None:
    async with raw_client(Echo()) as raw:
        raw.machine.send_headers(1, HEADERS)
        await raw.flush()
        update = WindowUpdateFrame(stream_id, 2**31 - 1)
        await raw.stream.send_all(update.serialize())
        if stream_id == 0:
            assert await told(raw) == ErrorCodes.FLOW_CONTROL_ERROR
        else:
            while not raw.find(h2.events.StreamReset):
                await raw.read()


async def test_an_overlong_frame_is_refused_by_its_header() -> None:
    async with raw_client(Echo()) as raw:
        await raw.stream.send_all(b"\xff\xff\xff\0\0\0\0\0\1")
        assert await told(raw) == ErrorCodes.FRAME_SIZE_ERROR


async def test_data_beyond_the_window() -> None:
    limits = Limits(stream_window_bytes=70_000)
    async with raw_client(Echo(), limits) as raw:
        raw.machine.send_headers(1, HEADERS)
        await raw.flush()
        for _ in range(5):
            await raw.stream.send_all(DataFrame(1, bytes(16_384)).serialize())
        assert await told(raw) == ErrorCodes.FLOW_CONTROL_ERROR


async def test_giant_headers() -> None:
    async with raw_client(Echo()) as raw:
        raw.machine.send_headers(1, [*HEADERS, *((f"x-{n}", "y" * 1000) for n in range(60))])
        await raw.flush()
        assert await told(raw) == ErrorCodes.ENHANCE_YOUR_CALM


async def test_a_flood_of_continuations() -> None:
    async with raw_client(Echo()) as raw:
        flood = HeadersFrame(1, b"\x82").serialize() + ContinuationFrame(1, b"\x84").serialize() * 10_000
        await raw.stream.send_all(flood)
        assert await told(raw) == ErrorCodes.PROTOCOL_ERROR


@pytest.mark.parametrize(
    "frame",
    [PingFrame(0, b"12345678"), SettingsFrame(0), DataFrame(1), PriorityFrame(1, depends_on=3), GoAwayFrame(0)],
    ids=lambda frame: type(frame).__name__,
)
async def test_a_flood_of_frames_that_carry_nothing(frame: Frame) -> None:
    async with raw_client(Echo()) as raw:
        raw.machine.send_headers(1, HEADERS)
        await raw.flush()
        await raw.stream.send_all(frame.serialize() * 1100)
        assert await told(raw) == ErrorCodes.ENHANCE_YOUR_CALM


async def test_a_peer_that_asks_and_never_reads(autojump_clock: MockClock) -> None:
    limits = Limits(control_backlog_bytes=5_000, control_frames=10**6)
    async with raw_client(Echo(), limits) as raw:
        await raw.stream.send_all(PingFrame(0, b"12345678").serialize() * 500)
        await trio.sleep(0.1)
        assert await told(raw) == ErrorCodes.ENHANCE_YOUR_CALM


async def test_one_stream_too_many_is_refused_and_the_others_live() -> None:
    echo = Echo()
    async with raw_client(echo, Limits(streams=10)) as raw:
        for stream_id in range(1, 25, 2):
            raw.machine.send_headers(stream_id, HEADERS)
        await raw.flush()
        while len(raw.find(h2.events.StreamReset)) < 2:
            await raw.read()
        refused = {(event.stream_id, event.error_code) for event in raw.find(h2.events.StreamReset)}  # type: ignore[attr-defined]
        assert refused == {(21, ErrorCodes.REFUSED_STREAM), (23, ErrorCodes.REFUSED_STREAM)}
        await wait_all_tasks_blocked()
        assert echo.live == 10


async def test_a_client_that_says_nothing_is_dropped(autojump_clock: MockClock) -> None:
    async with raw_client(Echo(), greeted=False) as raw:
        start = trio.current_time()
        raw.machine.initiate_connection()
        raw.machine.clear_outbound_data_buffer()
        assert await told(raw) == ErrorCodes.SETTINGS_TIMEOUT
        assert trio.current_time() - start <= Limits().preface_s + Limits().flush_s
