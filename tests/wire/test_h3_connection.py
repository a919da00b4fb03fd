from functools import partial

import pytest
import trio
from trio.testing import MockClock

from palyra_trio.wire.framing import encode_messages
from palyra_trio.wire.h3_client import connect
from palyra_trio.wire.h3_frames import Code, Frame, StreamKind, encode_frame, encode_number, encode_settings
from palyra_trio.wire.h3_headers import HeaderCodec
from palyra_trio.wire.limits import Limits
from palyra_trio.wire.metadata import Headers
from tests.wire.echo import Echo
from tests.wire.echo_grpc import EchoStub
from tests.wire.echo_pb2 import Order, Text
from tests.wire.quic import Weather, certified, endpoint_of, listener_of, listening, server_of, until
from tests.wire.raw_quic import Raw, headers_of, raw_client

CONTROL = encode_number(StreamKind.CONTROL)
SETTINGS = encode_settings(1000)
HELLO = encode_messages([Text(body=b"hello").SerializeToString()])
TRAILERS = HeaderCodec(Limits().header_bytes).encode([("x", "y")])
UNKNOWN = 0x21  # RFC 9114, section 7.2.8


@pytest.mark.parametrize("seed", range(3))
async def test_a_bad_network_loses_doubles_and_shuffles_no_message(autojump_clock: MockClock, seed: int) -> None:
    server = server_of(Echo())
    async with listening(server) as port, connect("127.0.0.1", port, trust=certified().pin) as channel:
        near = Weather(endpoint_of(channel), loss=0.1, twice=0.1, late=0.1)
        far = Weather(listener_of(server), loss=0.1, twice=0.1, late=0.1)
        near.random.seed(seed)
        far.random.seed(seed + 100)
        async with EchoStub(channel).Chat.open() as call, trio.open_nursery() as nursery:
            sent = [number.to_bytes(4, "big") * 50 for number in range(2000)]

            async def send() -> None:
                for each in sent:
                    await call.send_message(Text(body=each))
                await call.end()

            await call.send_request()
            nursery.start_soon(send)
            assert [each.body async for each in call] == [*sent, b"bye"]
        assert near.lost + far.lost > 20


async def test_many_queued_messages_share_frames_and_datagrams() -> None:
    server = server_of(Echo())
    async with listening(server) as port, connect("127.0.0.1", port, trust=certified().pin) as channel:
        await EchoStub(channel).Say(Text())
        sent: list[int] = []
        send = listener_of(server).send
        listener_of(server).send = lambda data, address: (sent.append(len(data)), send(data, address))[1]  # type: ignore[method-assign, func-returns-value]
        assert len(await EchoStub(channel).Count(Order(messages=1000, bytes_each=10))) == 1000
        payload = 1000 * (10 + 2 + 5)
        assert sum(sent) < 1.25 * payload
        assert len(sent) < 1.5 * payload / 1400


async def test_a_call_that_nobody_reads_does_not_hold_up_others() -> None:
    async with listening(server_of(Echo())) as port, connect("127.0.0.1", port, trust=certified().pin) as channel:
        async with EchoStub(channel).Count.open() as call:
            await call.send_message(Order(messages=10**6, bytes_each=1000), end=True)
            assert await call.recv_message() is not None
            for _ in range(20):
                assert (await EchoStub(channel).Say(Text(body=bytes(50_000)))).body == bytes(50_000)


async def asked(port: int, *parts: bytes, end: bool = True) -> tuple[int, dict[bytes, bytes]]:
    """Send bytes as a request, and return the code of its reset (0: none) and its last headers."""
    async with raw_client(port) as raw:
        for part in parts:
            raw.say(0, part, end=end and part is parts[-1])
            await trio.sleep(0.002)
        await raw.until(0)
        assert not raw.over.is_set()
        sections = raw.answer(0) if not raw.resets else []
        return raw.resets.get(0, 0), sections[-1] if sections else {}


def request(method: str = "Say", *more: tuple[str, str]) -> bytes:
    headers: Headers = [*headers_of(method), *more]
    return HeaderCodec(Limits().header_bytes).encode(headers)


async def test_a_request_may_come_byte_by_byte_and_with_frames_that_nobody_knows() -> None:
    async with listening(server_of(Echo())) as port:
        whole = request() + encode_frame(UNKNOWN, b"grease") + encode_frame(Frame.DATA, HELLO)
        _, trailers = await asked(port, *[bytes([byte]) for byte in whole])
        assert trailers == {b"grpc-status": b"0"}


async def test_a_body_of_the_length_that_was_said_is_taken() -> None:
    assert len(HELLO) == 12
    async with listening(server_of(Echo())) as port:
        whole = request("Say", ("content-length", "12")) + encode_frame(Frame.DATA, HELLO)
        _, trailers = await asked(port, whole[:-5], whole[-5:])
        assert trailers == {b"grpc-status": b"0"}


async def test_a_body_that_is_too_long_is_not_waited_for_to_end() -> None:
    async with listening(server_of(Echo())) as port, raw_client(port) as raw:
        raw.say(0, request("Wait", ("content-length", "5")) + encode_frame(Frame.DATA, HELLO))
        assert await raw.told() == Code.MESSAGE_ERROR


async def test_trailers_of_a_client_are_taken_and_mean_nothing() -> None:
    async with listening(server_of(Echo())) as port:
        _, trailers = await asked(port, request(), encode_frame(Frame.DATA, HELLO), TRAILERS)
        assert trailers == {b"grpc-status": b"0"}


async def test_a_request_without_headers_is_reset() -> None:
    async with listening(server_of(Echo())) as port:
        code, _ = await asked(port, encode_frame(UNKNOWN, b"x"))
        assert code == Code.REQUEST_INCOMPLETE


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (encode_frame(Frame.DATA, b"x"), Code.FRAME_UNEXPECTED),
        (encode_frame(Frame.SETTINGS, b""), Code.FRAME_UNEXPECTED),
        (encode_frame(Frame.PUSH_PROMISE, b"\0"), Code.FRAME_UNEXPECTED),
        (encode_frame(0x8, b""), Code.FRAME_UNEXPECTED),
        (encode_frame(Frame.HEADERS, b"\xff" * 9), Code.QPACK_DECOMPRESSION_FAILED),
        (encode_number(Frame.HEADERS) + encode_number(1 << 30), Code.EXCESSIVE_LOAD),
        (request("Say", ("connection", "close")), Code.MESSAGE_ERROR),
        (request() + TRAILERS + TRAILERS, Code.FRAME_UNEXPECTED),
        (request() + TRAILERS + encode_frame(Frame.DATA, b"x"), Code.FRAME_UNEXPECTED),
        (request() + request(), Code.MESSAGE_ERROR),
        (request("Say", ("content-length", "11")) + encode_frame(Frame.DATA, HELLO), Code.MESSAGE_ERROR),
        (request("Wait", ("content-length", "13")) + encode_frame(Frame.DATA, HELLO), Code.MESSAGE_ERROR),
        (request("Wait", ("content-length", "1")), Code.MESSAGE_ERROR),
        (request("Say", ("content-length", "x")) + encode_frame(Frame.DATA, HELLO), Code.MESSAGE_ERROR),
        (request("Say", ("host", "y")) + encode_frame(Frame.DATA, HELLO), Code.MESSAGE_ERROR),
        (request()[:-1], Code.FRAME_ERROR),
        (request() + encode_frame(Frame.DATA, b"12345")[:-1], Code.FRAME_ERROR),
        (request("Wait") + encode_frame(Frame.DATA, b"") * 2000, Code.EXCESSIVE_LOAD),
        (request("Wait") + encode_frame(UNKNOWN, b"") * 2000, Code.EXCESSIVE_LOAD),
    ],
)
async def test_a_request_that_breaks_the_rules_ends_its_connection(data: bytes, code: Code) -> None:
    echo = Echo()
    server = server_of(echo)
    async with listening(server) as port:
        async with raw_client(port) as raw:
            raw.say(0, data, end=True)
            assert await raw.told() == code
        await until(lambda: not listener_of(server).connections)
        assert echo.live == 0


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (CONTROL + encode_frame(Frame.GOAWAY, b"\0"), Code.MISSING_SETTINGS),
        (CONTROL + SETTINGS + SETTINGS, Code.FRAME_UNEXPECTED),
        (CONTROL + SETTINGS + encode_frame(Frame.DATA, b""), Code.FRAME_UNEXPECTED),
        (CONTROL + encode_frame(Frame.SETTINGS, b"\x02\x00"), Code.SETTINGS_ERROR),
        (CONTROL + encode_number(Frame.SETTINGS) + encode_number(5000), Code.EXCESSIVE_LOAD),
        (CONTROL + SETTINGS + encode_frame(Frame.MAX_PUSH_ID, b"\0") * 2000, Code.EXCESSIVE_LOAD),
        (encode_number(StreamKind.PUSH), Code.STREAM_CREATION_ERROR),
        (encode_number(StreamKind.QPACK_ENCODER) + b"\x3f\xe1\x1f", Code.QPACK_ENCODER_STREAM_ERROR),
        (encode_number(StreamKind.QPACK_DECODER) + b"\x81", Code.QPACK_DECODER_STREAM_ERROR),
    ],
)
async def test_a_control_stream_that_breaks_the_rules_ends_its_connection(data: bytes, code: Code) -> None:
    async with listening(server_of(Echo())) as port, raw_client(port, greeted=False) as raw:
        raw.say(2, data)
        assert await raw.told() == code


@pytest.mark.parametrize("how", ["end", "reset", "stop", "twice"])
async def test_control_streams_must_stay_and_be_alone(how: str) -> None:
    async with listening(server_of(Echo())) as port, raw_client(port) as raw:
        with trio.fail_after(5):
            while 3 not in raw.got:
                await raw.heard.wait()
        code = Code.CLOSED_CRITICAL_STREAM
        match how:
            case "end":
                raw.say(2, b"", end=True)
            case "reset":
                raw.machine.reset_stream(2, 0)
                raw.push()
            case "stop":
                raw.machine.refuse(3, 0)
                raw.push()
            case "twice":
                raw.say(6, CONTROL + SETTINGS)
                code = Code.STREAM_CREATION_ERROR
        assert await raw.told() == code


async def test_streams_of_a_kind_that_nobody_knows_are_refused_and_forgotten() -> None:
    server = server_of(Echo())
    async with listening(server) as port, raw_client(port) as raw:
        for number in range(1, 10):
            raw.say(2 + 4 * number, encode_number(UNKNOWN) + b"grease")
        raw.say(42, b"\x40")  # the first half of a number
        raw.ask(0, "Say")
        raw.say(0, encode_frame(Frame.DATA, HELLO), end=True)
        await raw.until(0)
        assert raw.answer(0)[-1] == {b"grpc-status": b"0"}
        assert set(raw.stops) == {2 + 4 * number for number in range(1, 10)}
        assert set(raw.stops.values()) == {Code.STREAM_CREATION_ERROR}


@pytest.mark.parametrize("how", ["reset", "stop", "both"])
async def test_requests_that_are_dropped_over_and_over_end_the_connection(how: str) -> None:
    echo, most = Echo(), 50
    async with listening(server_of(echo, Limits(resets=most, resets_per_s=0))) as port, raw_client(port) as raw:
        for stream_id in range(0, 4 * (most + 1), 4):
            await until(partial(may_open, raw, stream_id))
            raw.ask(stream_id, "Wait")
            await raw.push_out()
            assert not raw.over.is_set()
            if how != "stop":
                raw.machine.reset_stream(stream_id, Code.REQUEST_CANCELLED)
            if how != "reset":
                raw.machine.refuse(stream_id, Code.REQUEST_CANCELLED)
            await raw.push_out()
        assert await raw.told() == Code.EXCESSIVE_LOAD
        await until(lambda: not echo.live)


def may_open(raw: Raw, stream_id: int) -> bool:
    return raw.machine.peer_max_streams > stream_id // 4 or raw.over.is_set()
