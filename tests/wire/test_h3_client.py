from pathlib import Path

import pytest
import trio
import trustme
from grpclib.const import Status
from grpclib.exceptions import GRPCError
from trio.testing import MockClock

from palyra_trio.core.errors import NoDaemon, PeerError
from palyra_trio.wire.call import ConnectionLost
from palyra_trio.wire.h3_client import connect
from palyra_trio.wire.h3_exchange import Exchange
from palyra_trio.wire.h3_frames import Code
from palyra_trio.wire.limits import Limits
from palyra_trio.wire.quic_config import Trust
from tests.wire.echo import Echo
from tests.wire.echo_grpc import EchoStub
from tests.wire.echo_pb2 import Order, Text
from tests.wire.quic import certified, listener_of, listening, server_of, serving, until


async def test_a_server_is_believed_by_its_authority_or_by_its_own_certificate() -> None:
    async with listening(server_of(Echo())) as port:
        for trust in (certified().trust, certified().pin):
            async with connect("127.0.0.1", port, trust=trust) as channel:
                assert (await EchoStub(channel).Say(Text(body=b"x"))).body == b"x"
                assert channel.fingerprint == certified().identity.fingerprint


async def test_a_server_of_another_authority_is_not_believed() -> None:
    with trustme.CA().cert_pem.tempfile() as other:
        async with listening(server_of(Echo())) as port:
            with pytest.raises(PeerError, match="certificate"):
                async with connect("127.0.0.1", port, trust=Trust(ca=Path(other))):
                    pass


async def test_a_server_of_another_name_is_not_believed() -> None:
    async with listening(server_of(Echo())) as port:
        with pytest.raises(PeerError, match=r"127\.0\.0\.2"):
            async with connect("127.0.0.2", port, trust=certified().trust):
                pass


async def test_another_certificate_than_the_pinned_one_is_not_believed_and_nothing_is_said_to_it() -> None:
    echo = Echo()
    server = server_of(echo)
    async with listening(server) as port:
        with pytest.raises(PeerError, match="is pinned"):
            async with connect("127.0.0.1", port, trust=Trust(fingerprint="0" * 64)):
                pass
        await until(lambda: not listener_of(server).connections)


async def test_a_name_that_does_not_exist_is_told() -> None:
    with pytest.raises(PeerError, match="cannot be found"):
        async with connect("no.such.host.invalid", 1, trust=certified().pin):
            pass


async def test_an_address_that_there_is_no_way_to_is_told() -> None:
    with trio.fail_after(5), pytest.raises(NoDaemon, match="does not answer"):
        async with connect("255.255.255.255", 1, trust=certified().pin):  # a datagram to all needs leave
            pass


async def test_what_the_block_raises_leaves_it_without_a_group() -> None:
    async with listening(server_of(Echo())) as port:
        with pytest.raises(KeyError):
            async with connect("127.0.0.1", port, trust=certified().pin):
                raise KeyError


async def test_metadata_of_the_channel_goes_with_every_call_and_a_call_overrides_it() -> None:
    async with listening(server_of(Echo())) as port:
        connecting = connect("127.0.0.1", port, trust=certified().pin, metadata={"x-a": "1", "x-b": "1"})
        async with connecting as channel, EchoStub(channel).Say.open(metadata={"x-b": "2"}) as call:
            await call.send_message(Text(), end=True)
            await call.recv_initial_metadata()
            assert dict(call.initial_metadata or {}) == {"x-a": "1", "x-b": "2"}


async def test_a_lost_connection_is_one_clear_error_for_calls_now_and_later(autojump_clock: MockClock) -> None:
    echo = Echo()
    async with trio.open_nursery() as nursery:
        killed, port = await nursery.start(serving, server_of(echo))
        async with connect("127.0.0.1", port, trust=certified().pin) as channel:
            nursery.start_soon(killing, killed, echo)
            with pytest.raises(ConnectionLost):
                await EchoStub(channel).Wait(Text())
            with pytest.raises(ConnectionLost):
                await EchoStub(channel).Say(Text())
            assert not channel.usable
            await channel.ended.wait()


async def killing(scope: trio.CancelScope, echo: Echo) -> None:
    await echo.began.wait()
    scope.cancel()


async def test_messages_that_arrived_before_the_loss_are_still_read() -> None:
    echo = Echo()
    server = server_of(echo)
    async with listening(server) as port, connect("127.0.0.1", port, trust=certified().pin) as channel:
        async with EchoStub(channel).Chat.open() as call:
            await call.send_message(Text(body=b"first"))
            await until(lambda: call._stream._messages)
            (connection,) = listener_of(server).connections
            connection.stop(0x100, "that was all")
            await channel.ended.wait()
            assert (await call.recv_message()).body == b"first"  # type: ignore[union-attr]
            with pytest.raises(ConnectionLost, match="that was all"):
                await call.recv_message()


async def test_a_deadline_is_kept_at_both_ends(autojump_clock: MockClock) -> None:
    echo = Echo()
    async with listening(server_of(echo)) as port, connect("127.0.0.1", port, trust=certified().pin) as channel:
        began = trio.current_time()
        with pytest.raises(GRPCError) as late:
            await EchoStub(channel).Wait(Text(), timeout=2)
        assert late.value.status is Status.DEADLINE_EXCEEDED
        assert 2 <= trio.current_time() - began < 2.1
        assert echo.last is not None
        assert echo.last.deadline is not None
        assert 1.9 < echo.last.deadline.at - began <= 2.1
        await trio.sleep(1)
        assert echo.live == 0


async def test_an_answer_that_is_not_grpc_is_told_by_its_http_status() -> None:
    async def unavailable(exchange: Exchange) -> None:
        await exchange.answer(503, b"try later")

    server = server_of(Echo(), exchange=unavailable)
    async with listening(server) as port, connect("127.0.0.1", port, trust=certified().pin) as channel:
        real = channel.send_headers
        channel.send_headers = lambda stream, headers: real(stream, [(a, b) for a, b in headers if a != "te"])  # type: ignore[method-assign]
        with pytest.raises(GRPCError, match="HTTP status 503") as failed:
            await EchoStub(channel).Say(Text())
        assert failed.value.status is Status.UNAVAILABLE


async def test_a_status_reaches_a_client_that_is_still_sending() -> None:
    async with listening(server_of(Echo(), Limits(message_bytes=5000))) as port:
        async with connect("127.0.0.1", port, trust=certified().pin) as channel:
            with trio.fail_after(10), pytest.raises(GRPCError) as refused:
                async with EchoStub(channel).Collect.open() as call:
                    await call.send_message(Text(body=bytes(10_000)))
                    while True:
                        await call.send_message(Text(body=bytes(1000)))
            assert refused.value.status is Status.RESOURCE_EXHAUSTED


async def test_calls_that_a_goaway_leaves_out_may_be_tried_elsewhere_and_the_others_go_on() -> None:
    async with listening(server_of(Echo())) as port, connect("127.0.0.1", port, trust=certified().pin) as channel:
        async with EchoStub(channel).Chat.open() as taken, EchoStub(channel).Chat.open() as left_out:
            await taken.send_message(Text(body=b"1"))
            await left_out.send_message(Text(body=b"2"))
            channel.going_away(4)
            with pytest.raises(ConnectionLost, match="takes no more calls"):
                await left_out.recv_message()
            assert (await taken.recv_message()).body == b"1"  # type: ignore[union-attr]
            assert not channel.usable


async def test_what_a_server_does_not_want_any_more_waits_for_the_end_of_the_call(autojump_clock: MockClock) -> None:
    async with listening(server_of(Echo())) as port, connect("127.0.0.1", port, trust=certified().pin) as channel:
        async with EchoStub(channel).Chat.open() as call:
            await call.send_message(Text(body=b"1"))
            assert (await call.recv_message()).body == b"1"  # type: ignore[union-attr]
            channel.stopped(channel.streams[0], Code.NO_ERROR)
            with trio.move_on_after(1) as waiting:
                await call.send_message(Text(body=b"2"))
            assert waiting.cancelled_caught


async def test_many_clients_that_hang_up_leave_nothing() -> None:
    echo = Echo()
    server = server_of(echo)
    async with listening(server) as port:

        async def visit() -> None:
            async with connect("127.0.0.1", port, trust=certified().pin) as channel:
                async with trio.open_nursery() as nursery:
                    for _ in range(10):
                        nursery.start_soon(EchoStub(channel).Wait, Text())
                    await trio.sleep(0.02)
                    nursery.cancel_scope.cancel()

        async with trio.open_nursery() as nursery:
            for _ in range(20):
                nursery.start_soon(visit)
        await until(lambda: not (echo.live or listener_of(server).connections))


async def test_two_thousand_calls_on_one_connection_leave_nothing() -> None:
    server = server_of(Echo())
    async with listening(server) as port, connect("127.0.0.1", port, trust=certified().pin) as channel:
        async with trio.open_nursery() as nursery:

            async def ask() -> None:
                for _ in range(20):
                    await EchoStub(channel).Say(Text())

            for _ in range(100):
                nursery.start_soon(ask)
        assert len(await EchoStub(channel).Count(Order(messages=2000, bytes_each=10))) == 2000
        (connection,) = listener_of(server).connections
        await until(lambda: not (len(connection.machine._streams) > 6 or len(channel.machine._streams) > 6))
        assert not channel.streams
        assert not connection.streams  # type: ignore[attr-defined]
