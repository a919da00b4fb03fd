import socket
from pathlib import Path

import pytest
import trio
import trustme
from grpclib.const import Status
from grpclib.exceptions import GRPCError
from trio.testing import MockClock

from palyra_trio.core.errors import PeerError
from palyra_trio.wire.call import ConnectionLost
from palyra_trio.wire.framing import encode_messages
from palyra_trio.wire.h3_client import connect
from palyra_trio.wire.h3_exchange import Exchange
from palyra_trio.wire.h3_frames import Code, Frame, decode_number, encode_frame, encode_number
from palyra_trio.wire.limits import Limits, QuicLimits
from palyra_trio.wire.quic_config import Identity, Trust
from palyra_trio.wire.udp_sockets import open_udp_sockets
from tests.wire.echo import Echo
from tests.wire.echo_grpc import EchoStub
from tests.wire.echo_pb2 import Order, Text
from tests.wire.quic import certified, listener_of, listening, server_of, until
from tests.wire.raw_quic import Raw, headers_of, raw_client


def message(size: int) -> bytes:
    return encode_messages([Text(body=bytes(size)).SerializeToString()])


@pytest.mark.parametrize(
    ("changes", "status"),
    [({":method": "GET"}, b"405"), ({"content-type": "text/html"}, b"415"), ({"te": ""}, b"400")],
)
async def test_what_is_not_grpc_is_answered_in_words(changes: dict[str, str], status: bytes) -> None:
    async with listening(server_of(Echo())) as port, raw_client(port) as raw:
        headers = [(name, changes.get(name, value)) for name, value in headers_of("Say") if changes.get(name) != ""]
        raw.say(0, raw.codec.encode(headers), end=True)
        await raw.until(0)
        (head,) = raw.answer(0)
        assert head[b":status"] == status
        assert b"gRPC" in raw.got[0]


async def test_an_early_answer_stops_what_the_client_still_sends() -> None:
    async with listening(server_of(Echo())) as port, raw_client(port) as raw:
        raw.say(0, raw.codec.encode(headers_of("Nothing")))
        await raw.until(0)
        assert raw.answer(0)[-1][b"grpc-status"] == str(Status.UNIMPLEMENTED.value).encode()
        with trio.fail_after(5):
            while not raw.stops:
                await raw.heard.wait()
        assert (raw.stops, raw.resets) == ({0: Code.NO_ERROR}, {})


@pytest.mark.parametrize("how", ["reset", "stop", "both"])
async def test_a_client_that_drops_a_call_ends_its_handler(how: str) -> None:
    echo = Echo()
    server = server_of(echo)
    async with listening(server) as port, raw_client(port) as raw:
        raw.ask(0, "Wait")
        await echo.began.wait()
        if how != "stop":
            raw.machine.reset_stream(0, Code.REQUEST_CANCELLED)
        if how != "reset":
            raw.machine.refuse(0, Code.REQUEST_CANCELLED)
        raw.push()
        await until(lambda: not echo.live)
        await raw.until(0)
        assert raw.resets == {0: Code.REQUEST_CANCELLED}
        (connection,) = listener_of(server).connections
        await until(lambda: not (connection.machine._streams.keys() & {0}))


async def goaway(raw: Raw) -> int:
    """Return the id that the server's GOAWAY names."""
    with trio.fail_after(5):
        while True:
            control = bytes(raw.got[3])
            at = 1
            while (kind := decode_number(control, at)) and (size := decode_number(control, kind[1])):
                if kind[0] == Frame.GOAWAY and (number := decode_number(control, size[1])):
                    return number[0]
                at = size[1] + size[0]
            await raw.heard.wait()


async def test_a_drain_says_which_calls_are_taken_and_ends_when_they_have() -> None:
    echo = Echo()
    server = server_of(echo)
    sockets = open_udp_sockets("127.0.0.1", 0)
    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            await nursery.start(server.serve, sockets)
            async with raw_client(sockets[0].getsockname()[1]) as raw:
                raw.ask(0, "Wait")
                await echo.began.wait()
                server.drain(trio.current_time() + 30)
                assert await goaway(raw) == 4
                raw.ask(4, "Wait")
                await raw.until(4)
                assert raw.resets == {4: Code.REQUEST_REJECTED}
                echo.go_on.set()
                await raw.until(0)
                assert raw.answer(0)[-1] == {b"grpc-status": b"0"}
                assert await raw.told() == Code.NO_ERROR


async def test_a_drain_without_connections_ends_at_once() -> None:
    server = server_of(Echo())
    with trio.fail_after(2):
        async with trio.open_nursery() as nursery:
            await nursery.start(server.serve, open_udp_sockets("localhost", 0))
            server.drain(trio.current_time() + 30)


async def test_while_draining_nobody_is_let_in(autojump_clock: MockClock) -> None:
    echo = Echo()
    server = server_of(echo)
    async with listening(server) as port, connect("127.0.0.1", port, trust=certified().pin) as channel:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(EchoStub(channel).Wait, Text())
            await echo.began.wait()
            server.drain(trio.current_time() + 60)
            with pytest.raises(PeerError, match="nobody answered"):
                async with connect("127.0.0.1", port, trust=certified().pin, limits=Limits(preface_s=3)):
                    pass
            with pytest.raises(ConnectionLost, match="takes no more calls"):
                await EchoStub(channel).Say(Text())
            echo.go_on.set()


async def test_a_drain_ends_connections_that_are_in_their_handshake(autojump_clock: MockClock) -> None:
    server = server_of(Echo())
    async with listening(server) as port, trio.open_nursery() as nursery:
        raw = Raw(port)
        nursery.start_soon(raw.dial)
        await until(lambda: listener_of(server).connections)
        server.drain(trio.current_time())
        await raw.told()
        await trio.sleep(2)
        assert not listener_of(server).connections
        nursery.cancel_scope.cancel()


async def test_requests_that_are_begun_and_not_ended_are_held_up_to_a_bound() -> None:
    """Each call is one large message but for its last byte: nothing of it can be read, and all of it is kept."""
    async with listening(server_of(Echo(), Limits(unread_bytes=300_000))) as port, raw_client(port) as raw:
        for stream_id in (0, 4, 8):
            raw.ask(stream_id, "Collect")
            raw.say(stream_id, encode_frame(Frame.DATA, message(1_000_000)[:140_000]))
        with trio.fail_after(10):
            while not (ended := raw.ended & {0, 4, 8}):
                await raw.heard.wait()
        (refused,) = ended
        assert b"300000%20bytes" in raw.answer(refused)[-1][b"grpc-message"].replace(b" ", b"%20")


SMALL = QuicLimits(kept_bytes=500_000, weighed_bytes=10_000)


async def test_when_all_keep_too_much_of_what_is_not_read_who_keeps_the_most_is_forgotten(
    caplog: pytest.LogCaptureFixture,
) -> None:
    server = server_of(Echo(), quic=SMALL)
    async with listening(server) as port, raw_client(port) as light, raw_client(port) as heavy:
        begun = encode_frame(Frame.DATA, message(1_000_000)[:140_000])
        light.ask(0, "Collect")
        light.say(0, begun)
        await until(lambda: sum(each.kept_bytes for each in listener_of(server).connections) >= 140_000)
        for stream_id in (0, 4, 8):
            heavy.ask(stream_id, "Collect")
            heavy.say(stream_id, begun)
        await until(lambda: len(listener_of(server).connections) == 1)
        heavy.say(12, b"")
        with trio.fail_after(5):
            await heavy.over.wait()
        light.ask(4, "Say")
        light.say(4, encode_frame(Frame.DATA, message(1)), end=True)
        await light.until(4)
        assert light.answer(4)[-1] == {b"grpc-status": b"0"}
    assert "made this server keep too much" in caplog.text


async def test_what_a_client_does_not_take_is_bounded_for_all_of_them_too() -> None:
    server = server_of(Echo(), quic=SMALL)
    async with listening(server) as port, raw_client(port) as raw:
        for stream_id in (0, 4, 8):
            raw.ask(stream_id, "Count")
            order = Order(messages=10**6, bytes_each=1000).SerializeToString()
            raw.say(stream_id, encode_frame(Frame.DATA, encode_messages([order])))
        await until(lambda: not listener_of(server).connections)


async def test_what_waits_behind_that_counts_as_soon_as_it_waits() -> None:
    go_on = trio.Event()
    window = Limits().stream_window_bytes

    async def fill(exchange: Exchange) -> None:
        exchange.begin(200)
        for _ in range(8):
            await exchange.send(bytes(window // 4))
        await go_on.wait()
        await exchange.send(bytes(400_000))

    server = server_of(Echo(), quic=SMALL, exchange=fill)
    async with listening(server) as port, raw_client(port) as raw:
        get = [(":method", "GET"), (":scheme", "https"), (":authority", "x"), (":path", "/")]
        raw.say(0, raw.codec.encode(get), end=True)
        (connection,) = listener_of(server).connections
        await until(lambda: len(raw.got[0]) == window and window <= connection.kept_bytes < window + 1000)
        go_on.set()
        await until(lambda: not listener_of(server).connections)


async def test_headers_that_are_begun_count_too() -> None:
    """Each stream keeps 30 kB of a HEADERS frame that does not end; the window is open for more all the time."""
    server = server_of(Echo(), quic=SMALL)
    async with listening(server) as port, raw_client(port) as raw:
        for stream_id in range(0, 80, 4):
            raw.say(stream_id, encode_number(Frame.HEADERS) + encode_number(32_000) + bytes(30_000))
        await until(lambda: not listener_of(server).connections)


async def test_who_is_read_keeps_nothing_however_much_it_sends() -> None:
    server = server_of(Echo(), quic=SMALL)
    async with listening(server) as port, connect("127.0.0.1", port, trust=certified().pin) as channel:
        for _ in range(20):
            assert len((await EchoStub(channel).Say(Text(body=bytes(100_000)))).body) == 100_000


async def test_messages_over_the_limit_are_refused() -> None:
    async with listening(server_of(Echo(), Limits(message_bytes=1000))) as port:
        async with connect("127.0.0.1", port, trust=certified().pin) as channel:
            with pytest.raises(GRPCError, match="over the limit of 1000") as refused:
                await EchoStub(channel).Say(Text(body=bytes(2000)))
            assert refused.value.status is Status.RESOURCE_EXHAUSTED
            assert len((await EchoStub(channel).Say(Text(body=bytes(500)))).body) == 500


async def test_one_stream_too_many_is_the_clients_fault() -> None:
    async with listening(server_of(Echo(), Limits(streams=3))) as port, raw_client(port) as raw:
        raw.machine._remote_max_streams_bidi = 1000
        raw.ask(12, "Wait")
        assert await raw.told() == 4  # STREAM_LIMIT_ERROR: RFC 9000, section 20.1


async def test_requests_that_overtake_each_other_are_all_served() -> None:
    async with listening(server_of(Echo())) as port, raw_client(port) as raw:
        for stream_id in (0, 4, 8):
            raw.machine.write(stream_id, b"")
        for stream_id in (8, 0, 4):
            raw.ask(stream_id, "Say")
            raw.say(stream_id, encode_frame(Frame.DATA, message(1)), end=True)
            await trio.sleep(0.005)
        for stream_id in (0, 4, 8):
            await raw.until(stream_id)
            assert raw.answer(stream_id)[-1] == {b"grpc-status": b"0"}


async def test_another_certificate_is_shown_from_then_on() -> None:
    server = server_of(Echo())
    issued = trustme.CA().issue_cert("localhost", "127.0.0.1")
    with issued.private_key_and_cert_chain_pem.tempfile() as path:
        new = Identity.load(Path(path), Path(path))
    async with listening(server) as port, connect("127.0.0.1", port, trust=certified().pin) as before:
        server.use(new)
        async with connect("127.0.0.1", port, trust=Trust(fingerprint=new.fingerprint)) as after:
            assert (await EchoStub(after).Say(Text(body=b"x"))).body == b"x"
        assert (await EchoStub(before).Say(Text(body=b"x"))).body == b"x"


async def test_a_slow_loris_costs_no_more_than_its_connection(autojump_clock: MockClock) -> None:
    """Streams that are opened and never go on are kept only as long as their client answers."""
    server = server_of(Echo(), quic=QuicLimits(idle_s=10, keepalive_s=3))
    async with listening(server) as port:
        async with raw_client(port) as raw:
            for number in range(100):
                raw.say(4 * number, b"\x01")
            await trio.sleep(1)
            (connection,) = listener_of(server).connections
            raw.dialer.send = lambda data, address: None  # type: ignore[method-assign]
            await trio.sleep(30)
            assert not listener_of(server).connections
            assert connection.machine.is_over


async def test_sockets_are_closed_when_serving_ends() -> None:
    sockets: list[socket.socket] = open_udp_sockets("localhost", 0)
    async with trio.open_nursery() as nursery:
        await nursery.start(server_of(Echo()).serve, sockets)
        nursery.cancel_scope.cancel()
    assert [each.fileno() for each in sockets] == [-1, -1]


async def test_a_drain_has_nothing_to_say_to_a_connection_that_is_just_ending() -> None:
    server = server_of(Echo())
    async with listening(server) as port:
        async with connect("127.0.0.1", port, trust=certified().pin) as channel:
            await EchoStub(channel).Say(Text())
            (connection,) = listener_of(server).connections
        await until(lambda: not listener_of(server).connections)
        listener_of(server).connections.add(connection)
        server.drain(trio.current_time())
        listener_of(server).connections.clear()
