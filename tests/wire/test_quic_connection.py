import logging
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from palyra_trio.core.errors import PeerError
from palyra_trio.wire.call import ConnectionLost
from palyra_trio.wire.h3_client import PATIENCE, H3Channel, connect
from palyra_trio.wire.h3_server import H3Server
from palyra_trio.wire.limits import Limits, QuicLimits
from palyra_trio.wire.quic_config import Traces
from tests.wire.echo import Echo, translate
from tests.wire.echo_grpc import EchoStub
from tests.wire.echo_pb2 import Order, Text
from tests.wire.quic import SECRET, Weather, certified, endpoint_of, listener_of, listening, server_of, serving, until

SILENCE = 1.0  # of all datagrams are lost


def deaf(channel: H3Channel, server: H3Server) -> None:
    """Cut the path in both directions, without a word to either end."""
    Weather(endpoint_of(channel), loss=SILENCE)
    Weather(listener_of(server), loss=SILENCE)


async def test_both_ends_have_the_same_binding_and_two_connections_have_two() -> None:
    server = server_of(Echo())
    async with listening(server) as port:
        async with connect("127.0.0.1", port, trust=certified().pin) as first:
            async with connect("127.0.0.1", port, trust=certified().pin) as second:
                for channel in (first, second):
                    await EchoStub(channel).Say(Text())
                served = {each.channel_binding for each in listener_of(server).connections}
                assert served == {first.channel_binding, second.channel_binding}
                assert [len(each) for each in served] == [32, 32]


async def test_a_client_notices_that_the_path_is_dead_within_its_patience(autojump_clock: MockClock) -> None:
    server, quic = server_of(Echo()), QuicLimits(idle_s=6, keepalive_s=2)
    async with listening(server) as port, connect("127.0.0.1", port, trust=certified().pin, quic=quic) as channel:
        await EchoStub(channel).Say(Text())
        deaf(channel, server)
        began = trio.current_time()
        await channel.ended.wait()
        assert trio.current_time() - began <= quic.idle_s + quic.keepalive_s + 0.1
        assert not channel.usable


async def test_a_server_notices_a_dead_client_of_a_call_and_forgets_it(autojump_clock: MockClock) -> None:
    echo, quic = Echo(), QuicLimits()
    server = server_of(echo, quic=quic)
    async with listening(server) as port, connect("127.0.0.1", port, trust=certified().pin, quic=quic) as channel:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(waiting, channel)
            await echo.began.wait()
            deaf(channel, server)
            began = trio.current_time()
            await until(lambda: not listener_of(server).connections)
            assert trio.current_time() - began <= quic.idle_s + quic.keepalive_s + 2
            assert echo.live == 0
            assert not listener_of(server)._by_id


async def waiting(channel: H3Channel) -> None:
    with pytest.raises(ConnectionLost):
        await EchoStub(channel).Wait(Text())


async def test_an_idle_connection_of_ours_is_kept_and_a_call_on_it_for_hours(autojump_clock: MockClock) -> None:
    echo = Echo()
    server = server_of(echo)
    async with listening(server) as port, connect("127.0.0.1", port, trust=certified().pin) as channel:
        await trio.sleep(3600)
        assert (await EchoStub(channel).Say(Text(body=b"x"))).body == b"x"
        async with EchoStub(channel).Chat.open() as call:
            await call.send_message(Text(body=b"first"))
            assert (await call.recv_message()).body == b"first"  # type: ignore[union-attr]
            await trio.sleep(3600)
            await call.send_message(Text(body=b"second"))
            assert (await call.recv_message()).body == b"second"  # type: ignore[union-attr]


async def test_a_short_patience_keeps_a_connection_too(autojump_clock: MockClock) -> None:
    server, quic = server_of(Echo()), QuicLimits(idle_s=6, keepalive_s=2)
    async with listening(server) as port, connect("127.0.0.1", port, trust=certified().pin, quic=quic) as channel:
        await trio.sleep(600)
        assert (await EchoStub(channel).Say(Text(body=b"x"))).body == b"x"


async def test_a_server_does_not_ask_after_a_client_that_wants_nothing(autojump_clock: MockClock) -> None:
    server = server_of(Echo())
    quiet = QuicLimits(idle_s=60, keepalive_s=600)  # half of idle_s: the client will ask at 30
    async with listening(server) as port, connect("127.0.0.1", port, trust=certified().pin, quic=quiet) as channel:
        await EchoStub(channel).Say(Text())
        await trio.sleep(1)
        sent = Weather(listener_of(server))
        heard: list[bytes] = []
        listener_of(server).send = lambda data, address: (heard.append(data), sent.send(data, address))[1]  # type: ignore[method-assign, func-returns-value]
        await trio.sleep(28)
        assert heard == []
        await trio.sleep(4)
        assert len(heard) == 1


async def test_a_black_hole_of_half_a_minute_loses_nothing(autojump_clock: MockClock) -> None:
    server, quic = server_of(Echo()), QuicLimits(idle_s=60)
    async with listening(server) as port, connect("127.0.0.1", port, trust=certified().pin, quic=quic) as channel:
        async with EchoStub(channel).Chat.open() as call:
            near, far = Weather(endpoint_of(channel)), Weather(listener_of(server))
            for number in range(20):
                near.loss = far.loss = SILENCE if 5 <= number < 15 else 0.0
                await call.send_message(Text(body=bytes([number])))
                await trio.sleep(3)
            back = trio.current_time()
            await call.end()
            got = [each.body async for each in call]
            assert got == [*[bytes([number]) for number in range(20)], b"bye"]
            assert trio.current_time() - back <= quic.probe_s + 1


async def test_a_handshake_that_nobody_answers_is_given_up(autojump_clock: MockClock) -> None:
    with trio.socket.socket(trio.socket.AF_INET, trio.socket.SOCK_DGRAM) as silent:
        await silent.bind(("127.0.0.1", 0))
        began = trio.current_time()
        with pytest.raises(PeerError, match="nobody answered for 3 s"):
            async with connect("127.0.0.1", silent.getsockname()[1], trust=certified().pin, limits=Limits(preface_s=3)):
                pass
        assert 3 <= trio.current_time() - began < 3.1


async def test_a_port_that_nobody_listens_on_is_told_at_once() -> None:
    with trio.socket.socket(trio.socket.AF_INET, trio.socket.SOCK_DGRAM) as gone:
        await gone.bind(("127.0.0.1", 0))
        port = gone.getsockname()[1]
    with trio.fail_after(2), pytest.raises(PeerError, match="nobody listens"):
        async with connect("127.0.0.1", port, trust=certified().pin):
            pass


async def test_a_server_that_was_killed_is_noticed_by_what_the_system_says(autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:
        killed, port = await nursery.start(serving, server_of(Echo()))
        async with connect("127.0.0.1", port, trust=certified().pin) as channel:
            await EchoStub(channel).Say(Text())
            killed.cancel()
            began = trio.current_time()
            await channel.ended.wait()
            assert trio.current_time() - began < PATIENCE.keepalive_s + 2


async def test_leaving_tells_the_server_at_once() -> None:
    echo = Echo()
    server = server_of(echo)
    async with listening(server) as port:
        async with connect("127.0.0.1", port, trust=certified().pin) as channel, trio.open_nursery() as nursery:
            nursery.start_soon(EchoStub(channel).Wait, Text())
            await echo.began.wait()
            nursery.cancel_scope.cancel()
        await until(lambda: not echo.live)


async def test_keys_and_traces_are_written_where_they_are_wanted(tmp_path: Path) -> None:
    (tmp_path / "qlog").mkdir()
    traces = Traces(tmp_path / "keys", tmp_path / "qlog")
    server = H3Server({}, translate, certified().identity, secret=SECRET, traces=traces)
    async with listening(server) as port:
        async with connect("127.0.0.1", port, trust=certified().pin, traces=Traces(keys=tmp_path / "own")) as channel:
            async with channel.fetch("GET", "/") as response:
                assert response.status == 405
    labels = {line.split()[0] for line in (tmp_path / "keys").read_text().splitlines()}
    assert labels == {
        "CLIENT_HANDSHAKE_TRAFFIC_SECRET",
        "SERVER_HANDSHAKE_TRAFFIC_SECRET",
        "CLIENT_TRAFFIC_SECRET_0",
        "SERVER_TRAFFIC_SECRET_0",
    }
    assert sorted((tmp_path / "keys").read_text().split()) == sorted((tmp_path / "own").read_text().split())
    (trace,) = (tmp_path / "qlog").iterdir()
    assert trace.suffix == ".qlog"


async def test_nothing_is_logged_by_ordinary_traffic(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    async with listening(server_of(Echo())) as port, connect("127.0.0.1", port, trust=certified().pin) as channel:
        await EchoStub(channel).Count(Order(messages=100, bytes_each=1000))
    assert caplog.records == []
