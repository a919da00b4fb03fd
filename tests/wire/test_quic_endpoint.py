import gc
import logging
import os
import socket
import weakref
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from functools import partial
from random import Random
from typing import Any, cast

import pytest
import trio
from aioquic.buffer import Buffer
from aioquic.quic.packet import QuicPacketType, pull_quic_header
from grpclib.const import Status
from grpclib.exceptions import GRPCError
from trio.testing import MockClock, wait_all_tasks_blocked

from palyra_trio.core.errors import PeerError
from palyra_trio.wire.call import Call, ConnectionLost
from palyra_trio.wire.h3_client import H3Channel, connect
from palyra_trio.wire.h3_exchange import Exchange
from palyra_trio.wire.limits import Limits, QuicLimits
from palyra_trio.wire.quic_config import OpenTraces, client_configuration
from palyra_trio.wire.quic_connection import QuicPump
from palyra_trio.wire.quic_endpoint import QuicEndpoint
from palyra_trio.wire.quic_machine import Machine
from tests.wire.echo import Echo
from tests.wire.echo_grpc import EchoStub
from tests.wire.echo_pb2 import Failure, Order, Text
from tests.wire.quic import certified, endpoint_of, listener_of, listening, server_of, serving, until
from tests.wire.raw_quic import Raw

SEED = 11


@asynccontextmanager
async def speaking(port: int) -> AsyncGenerator[trio.socket.SocketType, None]:
    with trio.socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as opened:
        await opened.connect(("127.0.0.1", port))
        yield opened


def initial(quic: QuicLimits | None = None) -> bytes:
    """Return the first datagram of a new client."""
    quic = quic or QuicLimits()
    configuration = client_configuration("localhost", certified().trust, None, Limits(), quic, OpenTraces())
    machine = Machine(configuration, Limits(), quic)
    machine.connect(("127.0.0.1", 1), 0.0)
    ((data, _),) = machine.datagrams_to_send(0.0)
    return data


async def asked(port: int, data: bytes) -> bytes:
    async with speaking(port) as opened:
        await opened.send(data)
        with trio.fail_after(5):
            return await opened.recv(2000)


async def say(port: int) -> bytes:
    async with connect("127.0.0.1", port, trust=certified().pin) as channel:
        return bytes((await EchoStub(channel).Say(Text(body=b"fine"))).body)


async def test_both_loopbacks_are_served() -> None:
    async with listening(server_of(Echo()), "localhost") as port:
        for host in ("127.0.0.1", "::1", "localhost"):
            async with connect(host, port, trust=certified().trust) as channel:
                assert (await EchoStub(channel).Say(Text(body=b"x"))).body == b"x"


async def test_a_version_that_is_not_known_is_told_which_are() -> None:
    async with listening(server_of(Echo())) as port:
        unknown = initial()
        unknown = unknown[:1] + bytes.fromhex("1a2a3a4a") + unknown[5:]
        header = pull_quic_header(Buffer(data=await asked(port, unknown)), host_cid_length=8)
        assert header.packet_type is QuicPacketType.VERSION_NEGOTIATION
        assert 1 in header.supported_versions
        assert await say(port) == b"fine"


async def test_versions_are_not_told_to_small_datagrams_nor_to_other_servers() -> None:
    server = server_of(Echo())
    async with listening(server) as port, speaking(port) as opened:
        negotiation = b"\xc0" + bytes(4) + b"\x08" + bytes(8) + b"\x08" + bytes(8) + bytes.fromhex("00000001")
        small = b"\xc0" + bytes.fromhex("1a2a3a4a") + b"\x08" + bytes(8) + b"\x08" + bytes(8)
        await opened.send(negotiation)
        await opened.send(negotiation.ljust(1200, b"\0"))
        await opened.send(small)
        assert await say(port) == b"fine"
        with trio.move_on_after(0.05) as silence:
            await opened.recv(2000)
        assert silence.cancelled_caught


async def test_with_retry_nothing_is_kept_of_who_has_not_shown_that_it_is_there() -> None:
    server = server_of(Echo(), quic=QuicLimits(always_retry=True))
    async with listening(server) as port:
        for _ in range(20):
            header = pull_quic_header(Buffer(data=await asked(port, initial())), host_cid_length=8)
            assert header.packet_type is QuicPacketType.RETRY
        assert not listener_of(server).connections
        assert not listener_of(server)._by_id
        assert await say(port) == b"fine"


async def test_a_token_of_the_process_before_is_good_after_a_restart() -> None:
    """The client is told to retry by one server, and does so with another one that was given the same secret."""
    quic = QuicLimits(always_retry=True)
    configuration = client_configuration("localhost", certified().trust, None, Limits(), quic, OpenTraces())
    machine = Machine(configuration, Limits(), quic)
    machine.connect(("127.0.0.1", 1), 0.0)
    async with listening(server_of(Echo(), quic=quic)) as first_port:
        with trio.socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as opened:
            await opened.bind(("127.0.0.1", 0))
            here = opened.getsockname()
            ((data, _),) = machine.datagrams_to_send(0.0)
            await opened.sendto(data, ("127.0.0.1", first_port))
            machine.receive_datagram(await opened.recv(2000), ("127.0.0.1", 1), 0.1)
    ((shown, _),) = machine.datagrams_to_send(0.2)
    server = server_of(Echo(), quic=quic)
    async with listening(server) as port:
        with trio.socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as opened:
            await opened.bind(here)
            await opened.sendto(shown, ("127.0.0.1", port))
            with trio.fail_after(5):
                answer = await opened.recv(2000)
        header = pull_quic_header(Buffer(data=answer), host_cid_length=8)
        assert header.packet_type is QuicPacketType.INITIAL
        assert len(listener_of(server).connections) == 1


async def test_many_handshakes_that_are_not_finished_bring_retry_and_keep_out_nobody_who_is_there() -> None:
    quic = QuicLimits(retry_above=5)
    server = server_of(Echo(), quic=quic)
    async with listening(server) as port:
        kinds = []
        for _ in range(12):
            header = pull_quic_header(Buffer(data=await asked(port, initial())), host_cid_length=8)
            kinds.append(header.packet_type)
        assert kinds == [QuicPacketType.INITIAL] * 5 + [QuicPacketType.RETRY] * 7
        assert len(listener_of(server).connections) == 5
        assert await say(port) == b"fine"


async def test_a_flood_of_first_datagrams_is_forgotten_after_the_time_for_a_handshake(
    autojump_clock: MockClock,
) -> None:
    quic = QuicLimits(handshakes=50)
    server = server_of(Echo(), Limits(preface_s=3), quic)
    async with listening(server) as port, speaking(port) as opened:
        for _ in range(300):
            await opened.send(initial())
            await trio.lowlevel.checkpoint()
        await trio.sleep(1)
        assert len(listener_of(server).connections) == quic.retry_above
        await trio.sleep(10)
        assert not listener_of(server).connections
        assert not listener_of(server)._by_id
        assert listener_of(server)._gatekeeper.table.unvalidated == 0
        assert await say(port) == b"fine"


async def test_one_connection_too_many_is_refused_at_once_and_room_is_used_again() -> None:
    server = server_of(Echo(), Limits(connections=2), QuicLimits(address_share=1))
    async with listening(server) as port:
        async with connect("127.0.0.1", port, trust=certified().pin), connect("127.0.0.1", port, trust=certified().pin):
            with pytest.raises(PeerError, match="closed with the code 0x2"):
                await say(port)
        await until(lambda: not listener_of(server).connections)
        assert await say(port) == b"fine"


async def test_one_address_has_its_share_of_connections() -> None:
    server = server_of(Echo(), Limits(connections=8))
    async with listening(server) as port:
        async with connect("127.0.0.1", port, trust=certified().pin), connect("127.0.0.1", port, trust=certified().pin):
            with pytest.raises(PeerError, match="closed with the code 0x2"):
                await say(port)
        await until(lambda: not listener_of(server).connections)
        assert await say(port) == b"fine"


async def test_the_oldest_handshake_of_many_is_given_up_for_a_new_one() -> None:
    server = server_of(Echo(), quic=QuicLimits(always_retry=True, handshakes=2, address_share=1))
    async with listening(server) as port, trio.open_nursery() as nursery:
        came: dict[QuicPump, bytes] = {}

        def are(number: int) -> bool:
            came.update(listener_of(server)._gatekeeper.table._handshaking)
            return len(came) == number

        for number in range(1, 5):
            raw = Raw(port)
            mute(raw, after=2)  # the first datagram, and the one with the token
            nursery.start_soon(raw.dial)
            await until(partial(are, number))
        assert [each.machine.is_over for each in came] == [True, True, False, False]
        assert await say(port) == b"fine"
        nursery.cancel_scope.cancel()


def mute(raw: Raw, after: int) -> None:
    """Send so many datagrams and no more."""
    send, left = raw.dialer.send, iter(range(after))

    def sending(data: bytes, address: tuple[object, ...]) -> None:
        if next(left, None) is not None:
            send(data, address)

    raw.dialer.send = sending  # type: ignore[method-assign]


async def test_ten_thousand_datagrams_of_garbage_and_of_changed_traffic_end_nothing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    echo, random = Echo(), Random(SEED)
    server = server_of(echo)
    seen: list[bytes] = []
    async with listening(server) as port, speaking(port) as stranger:
        async with connect("127.0.0.1", port, trust=certified().pin) as channel:
            endpoint = endpoint_of(channel)
            send = endpoint.send

            def changed(data: bytes) -> bytes:
                copy = bytearray(data)
                for _ in range(random.randrange(1, 6)):
                    copy[random.randrange(len(copy))] = random.randrange(256)
                return bytes(copy[: random.randrange(1, len(copy) + 1)] if random.random() < 0.3 else copy)

            def recording(data: bytes, address: tuple[object, ...]) -> None:
                seen.append(data)
                send(data, address)

            endpoint.send = recording  # type: ignore[method-assign]
            assert len(await EchoStub(channel).Count(Order(messages=500, bytes_each=100))) == 500
            seen.extend(initial() for _ in range(5))
            for number in range(10_000):
                data = random.randbytes(random.randrange(0, 1400)) if number % 2 else changed(random.choice(seen))
                if number % 3:
                    await stranger.send(data)
                else:  # from the client's own address
                    send(data, (0,))
                if number % 50 == 0:
                    assert (await EchoStub(channel).Say(Text(body=b"on"))).body == b"on"
            assert len(await EchoStub(channel).Count(Order(messages=500, bytes_each=100))) == 500
    assert [record for record in caplog.records if record.levelno >= logging.ERROR] == []


async def test_noise_that_looks_like_a_first_datagram_is_not_kept() -> None:
    server = server_of(Echo())
    async with listening(server) as port, speaking(port) as opened:
        real = initial()
        for length in (8, 20):
            identified = real[:5] + bytes([length]) + os.urandom(length) + b"\x08" + os.urandom(8) + b"\0\x44\x40"
            await opened.send(identified + os.urandom(1300 - len(identified)))
        short = real[:5] + b"\x04" + os.urandom(4) + b"\x08" + os.urandom(8) + b"\0\x44\x40"
        await opened.send(short + os.urandom(1300 - len(short)))
        assert await say(port) == b"fine"
        assert len(listener_of(server).connections) == 1
        assert listener_of(server)._gatekeeper.table.unvalidated == 0


async def test_an_error_while_a_datagram_is_taken_ends_one_connection_alone(caplog: pytest.LogCaptureFixture) -> None:
    server = server_of(Echo())
    async with listening(server) as port, connect("127.0.0.1", port, trust=certified().pin) as channel:
        await EchoStub(channel).Say(Text())
        async with connect("127.0.0.1", port, trust=certified().pin, quic=QuicLimits(idle_s=2, keepalive_s=1)) as other:
            await EchoStub(other).Say(Text())
            theirs = f"127.0.0.1:{other._dialer.local[1]}"
            (broken,) = [each for each in listener_of(server).connections if each.peer.address == theirs]
            broken.machine.receive_datagram = None  # type: ignore[method-assign, assignment]
            with pytest.raises(ConnectionLost):
                await EchoStub(other).Say(Text())
        assert (await EchoStub(channel).Say(Text(body=b"fine"))).body == b"fine"
        assert len(listener_of(server).connections) == 1
    assert "a connection to" in caplog.text


async def test_a_client_of_a_process_that_is_gone_is_told_by_the_next_one() -> None:
    """Without this, it would ask until its patience is over."""
    async with trio.open_nursery() as nursery:
        gone, port = await nursery.start(serving, server_of(Echo()))
        async with connect("127.0.0.1", port, trust=certified().pin) as channel:
            await EchoStub(channel).Say(Text())
            gone.cancel()
            again = await restarted(nursery, port)
            with trio.fail_after(5), pytest.raises(ConnectionLost, match="does not know the connection"):
                await EchoStub(channel).Say(Text())
        again.cancel()


async def restarted(nursery: trio.Nursery, port: int) -> trio.CancelScope:
    """Serve on a port again, as soon as the server before has closed it."""
    while True:
        try:
            scope, _ = await nursery.start(serving, server_of(Echo()), port)
        except OSError:
            await trio.lowlevel.checkpoint()
        else:
            assert isinstance(scope, trio.CancelScope)
            return scope


async def test_a_reset_is_not_sent_for_what_may_be_one() -> None:
    async with listening(server_of(Echo())) as port, speaking(port) as opened:
        await opened.send(b"\x40" + os.urandom(41))
        with trio.move_on_after(0.05) as silence:
            await opened.recv(2000)
        assert silence.cancelled_caught
        await opened.send(b"\x40" + os.urandom(60))
        with trio.fail_after(5):
            assert len(await opened.recv(2000)) < 61


async def test_connections_that_end_leave_nothing() -> None:
    echo = Echo()
    server = server_of(echo)
    before = len(os.listdir("/proc/self/fd"))
    async with listening(server) as port:
        with pytest.raises(GRPCError):
            async with connect("127.0.0.1", port, trust=certified().pin) as channel:
                await EchoStub(channel).Say(Text(), timeout=0)
        async with trio.open_nursery() as nursery:
            for _ in range(20):
                nursery.start_soon(visit, port)
        await until(lambda: not listener_of(server).connections)
        assert (listener_of(server)._by_id, listener_of(server)._dirty) == ({}, {})
        table = listener_of(server)._gatekeeper.table
        assert (table.unvalidated, table._handshaking, table._established, table._of_network) == (0, {}, {}, {})
        assert echo.live == 0
        assert len(listener_of(server)._nursery.child_tasks) == 1  # which waits for the drain
        assert len(os.listdir("/proc/self/fd")) == before + 1
    assert len(os.listdir("/proc/self/fd")) == before


async def test_noise_leaves_nothing_for_the_collector() -> None:
    server = server_of(Echo())
    async with listening(server) as port, speaking(port) as opened:
        made: list[weakref.ref[Machine]] = []
        make = listener_of(server)._make

        def watched(*asked: Any) -> QuicPump:
            connection = make(*asked)
            made.append(weakref.ref(connection.machine))
            return connection

        listener_of(server)._make = watched
        gc.disable()
        try:
            real = initial()
            await opened.send(real[:6] + os.urandom(8) + real[14:])
            await until(lambda: made)
            assert [each() for each in made] == [None]
        finally:
            gc.enable()


async def visit(port: int) -> None:
    async with connect("127.0.0.1", port, trust=certified().pin) as channel:
        with trio.move_on_after(0.05):
            await EchoStub(channel).Wait(Text())


class Caused(Echo):
    async def Fail(self, call: Call) -> None:  # type: ignore[override]
        try:
            raise KeyError("x")
        except KeyError as error:
            raise GRPCError(Status.NOT_FOUND) from error


@pytest.mark.parametrize("call", ["none", "answered", "refused", "caused", "broken", "left", "plain", "plain and left"])
async def test_a_connection_that_has_ended_leaves_nothing_for_the_collector(
    call: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL, "palyra_trio.wire.call")  # a record that is caught would hold the error
    echo = Caused() if call == "caused" else Echo()
    echo.raises = KeyError("x") if call == "broken" else None
    server = server_of(echo, exchange=endless if call == "plain and left" else answering)
    gc.disable()
    try:
        async with listening(server) as port:
            async with connect("127.0.0.1", port, trust=certified().pin) as channel:
                await make(call, channel)
                (connection,) = listener_of(server).connections
                inside = weakref.ref(connection), weakref.ref(connection.machine), weakref.ref(connection.machine.tls)
                del connection
            await until(lambda: not listener_of(server).connections)
            echo.last = None
            await until(lambda: [each() for each in inside] == [None] * 3)
    finally:
        gc.enable()


async def make(call: str, channel: H3Channel) -> None:
    stub = EchoStub(channel)
    match call:
        case "answered":
            await stub.Say(Text())
        case "refused" | "caused" | "broken":
            with pytest.raises(GRPCError):
                await stub.Fail(Failure(status=5))
        case "left":
            async with stub.Count.open() as count:
                await count.send_message(Order(messages=10**6, bytes_each=1000), end=True)
                await count.recv_message()
        case "plain" | "plain and left":
            async with channel.fetch("GET", "/") as response:
                await anext(response)


async def answering(exchange: Exchange) -> None:
    await exchange.answer(200, b"fine")


async def endless(exchange: Exchange) -> None:
    exchange.begin(200)
    while True:
        await exchange.send(bytes(10_000))


class Asked:
    """A connection that only counts when it is asked for its datagrams."""

    def __init__(self, order: list[str], name: str) -> None:
        self.at_work = False
        self._order = order
        self._name = name

    def transmit(self, now: float) -> None:
        self._order.append(self._name)


async def test_the_last_words_of_a_connection_go_at_once_unless_others_wait_or_it_is_at_work() -> None:
    order: list[str] = []
    one, other = cast("list[QuicPump]", [Asked(order, "one"), Asked(order, "other")])
    endpoint = QuicEndpoint(QuicLimits())
    async with trio.open_nursery() as nursery:
        nursery.start_soon(endpoint.write)
        endpoint.send_soon(one)
        endpoint.send_now(one)
        assert order == ["one"]  # and it is not asked again
        await wait_all_tasks_blocked()
        assert order == ["one"]
        endpoint.send_soon(one)
        endpoint.send_now(other)
        assert order == ["one"]
        await wait_all_tasks_blocked()
        assert order[1:] in (["one", "other"], ["other", "one"])
        one.at_work = True
        endpoint.send_now(one)
        assert len(order) == 3
        await wait_all_tasks_blocked()
        assert order[3:] == ["one"]
        nursery.cancel_scope.cancel()
