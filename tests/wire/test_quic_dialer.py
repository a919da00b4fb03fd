import errno
import os

import pytest
import trio

from palyra_trio.wire.h3_client import connect
from tests.wire.echo import Echo
from tests.wire.echo_grpc import EchoStub
from tests.wire.echo_pb2 import Order, Text
from tests.wire.quic import certified, listener_of, listening, server_of, until


async def test_a_connection_survives_ten_changes_of_port_in_mid_stream_and_nothing_is_lost() -> None:
    echo = Echo()
    server = server_of(echo)
    async with listening(server) as port, connect("127.0.0.1", port, trust=certified().pin) as channel:
        async with EchoStub(channel).Count.open() as call:
            await call.send_message(Order(messages=20_000, bytes_each=100), end=True)
            seen, ports = 0, {channel._dialer.local}
            async for message in call:
                assert len(message.body) == 100
                seen += 1
                if seen % 2000 == 0:
                    await channel.rebind()
                    ports.add(channel._dialer.local)
        assert (seen, len(ports)) == (20_000, 11)
        assert len(listener_of(server).connections) == 1


async def test_a_conversation_goes_on_from_another_address() -> None:
    echo = Echo()
    async with listening(server_of(echo)) as port, connect("127.0.0.1", port, trust=certified().pin) as channel:
        async with EchoStub(channel).Chat.open() as call:
            for number, address in enumerate(["", "127.0.0.2", "127.0.0.3", ""]):
                await channel.rebind(address)
                await call.send_message(Text(body=bytes([number])))
                reply = await call.recv_message()
                assert reply is not None
                assert reply.body == bytes([number])
                assert echo.last is not None
            assert channel._dialer.local[0] == "127.0.0.1"


async def test_the_server_sees_where_its_client_is_now() -> None:
    server = server_of(Echo())
    async with listening(server) as port, connect("127.0.0.1", port, trust=certified().pin) as channel:
        await EchoStub(channel).Say(Text())
        await channel.rebind("127.0.0.2")
        await EchoStub(channel).Say(Text())
        (connection,) = listener_of(server).connections
        assert connection.peer.address == f"127.0.0.2:{channel._dialer.local[1]}"


async def test_an_address_that_is_not_ours_changes_nothing() -> None:
    async with listening(server_of(Echo())) as port, connect("127.0.0.1", port, trust=certified().pin) as channel:
        before = channel._dialer.local
        with pytest.raises(OSError, match="Cannot assign"):
            await channel.rebind("192.0.2.1")
        assert channel._dialer.local == before
        assert (await EchoStub(channel).Say(Text(body=b"x"))).body == b"x"


async def test_old_sockets_are_closed() -> None:
    async with listening(server_of(Echo())) as port, connect("127.0.0.1", port, trust=certified().pin) as channel:
        await EchoStub(channel).Say(Text())
        before = len(os.listdir("/proc/self/fd"))
        for _ in range(20):
            await channel.rebind()
            await EchoStub(channel).Say(Text())
        await trio.testing.wait_all_tasks_blocked()
        assert len(os.listdir("/proc/self/fd")) == before


@pytest.mark.parametrize("number", [errno.EINVAL, errno.ENETUNREACH, errno.EADDRNOTAVAIL])
async def test_a_socket_whose_address_is_gone_is_exchanged_and_the_server_hears_of_it_at_once(number: int) -> None:
    server = server_of(Echo())
    async with listening(server) as port, connect("127.0.0.1", port, trust=certified().pin) as channel:
        await EchoStub(channel).Say(Text())
        before = channel._dialer.local
        channel._dialer._ports[0]._failed(OSError(number, os.strerror(number)))
        assert channel._dialer.local != before
        (connection,) = listener_of(server).connections
        await until(lambda: connection.peer.address == f"127.0.0.1:{channel._dialer.local[1]}")
        assert (await EchoStub(channel).Say(Text(body=b"x"))).body == b"x"


async def test_a_network_that_refuses_everything_does_not_have_sockets_exchanged_without_end() -> None:
    async with listening(server_of(Echo())) as port, connect("127.0.0.1", port, trust=certified().pin) as channel:
        channel._dialer._ports[0]._failed(OSError(errno.EHOSTUNREACH, ""))
        moved = channel._dialer.local
        channel._dialer._ports[0]._failed(OSError(errno.EHOSTUNREACH, ""))
        assert channel._dialer.local == moved
