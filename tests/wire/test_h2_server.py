import os
import socket
import ssl
from contextlib import AsyncExitStack, suppress
from pathlib import Path

import h2.events
import pytest
import trio
import trustme
from h2.config import H2Configuration
from h2.errors import ErrorCodes
from trio.testing import MockClock, memory_stream_pair, wait_all_tasks_blocked

from palyra_trio.wire.call import ConnectionLost
from palyra_trio.wire.h2_client import connect
from palyra_trio.wire.h2_connection import Machine
from palyra_trio.wire.limits import Limits
from palyra_trio.wire.tls import server_context
from tests.wire.echo import Echo, listening, server_of
from tests.wire.echo_grpc import EchoStub
from tests.wire.echo_pb2 import Text
from tests.wire.raw import HEADERS, Raw, raw_client


@pytest.mark.parametrize(
    ("changes", "status"),
    [({":method": "GET"}, "405"), ({"content-type": "text/html"}, "415"), ({"te": "gzip"}, "400")],
)
async def test_what_is_not_grpc_is_answered_in_words(changes: dict[str, str], status: str) -> None:
    async with raw_client(Echo()) as raw:
        headers = [(name, changes.get(name, value)) for name, value in HEADERS if changes.get(name) != "gzip"]
        raw.machine.send_headers(1, headers, end_stream=True)
        await raw.flush()
        while not raw.find(h2.events.StreamEnded):
            await raw.read()
        (began,), (data,) = raw.find(h2.events.ResponseReceived), raw.find(h2.events.DataReceived)
        assert dict(began.headers)[b":status"].decode() == status  # type: ignore[attr-defined]
        assert b"gRPC" in data.data  # type: ignore[attr-defined]


async def test_a_call_that_was_sent_as_the_drain_began_is_refused_so_that_it_can_be_tried_elsewhere() -> None:
    async with raw_client(Echo()) as raw:
        raw.machine.send_headers(1, HEADERS)
        await raw.flush()
        await wait_all_tasks_blocked()
        raw.server.drain(trio.current_time() + 10)
        raw.machine.send_headers(3, HEADERS)
        await raw.flush()
        while not raw.find(h2.events.StreamReset):
            await raw.read()
        (refused,) = raw.find(h2.events.StreamReset)
        assert (refused.stream_id, refused.error_code) == (3, ErrorCodes.REFUSED_STREAM)  # type: ignore[attr-defined]


async def test_a_drain_ends_serving() -> None:
    server = server_of(Echo())
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with trio.open_nursery() as nursery:
        await nursery.start(server.serve, listeners)
        async with connect(await trio.testing.open_stream_to_socket_listener(listeners[0])) as channel:
            await EchoStub(channel).Say(Text())
            server.drain(trio.current_time() + 10)


@pytest.mark.parametrize("silent", ["before the drain", "as the drain began"])
async def test_a_drain_does_not_wait_for_a_client_that_never_begins_tls(tmp_path: Path, silent: str) -> None:
    issued = trustme.CA().issue_cert("localhost")
    issued.private_key_pem.write_to_path(tmp_path / "key.pem")
    issued.cert_chain_pems[0].write_to_path(tmp_path / "chain.pem")
    context = server_context(tmp_path / "chain.pem", tmp_path / "key.pem")
    server = server_of(Echo())
    (plain,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    with trio.fail_after(Limits().preface_s / 2):
        async with trio.open_nursery() as nursery:
            await nursery.start(server.serve, [trio.SSLListener(plain, context)])
            async with await trio.testing.open_stream_to_socket_listener(plain) as stream:
                if silent == "before the drain":
                    await wait_all_tasks_blocked(0.05)
                server.drain(trio.current_time())
                with suppress(trio.BrokenResourceError):
                    assert await stream.receive_some() == b""


async def test_a_connection_that_was_accepted_as_the_drain_began_is_closed_at_once(tmp_path: Path) -> None:
    server = server_of(Echo())
    server.drain(trio.current_time())
    near, far = memory_stream_pair()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with trio.fail_after(Limits().preface_s / 2):
        await server.serve_connection(trio.SSLStream(far, context, server_side=True))
        assert await near.receive_some() == b""


async def test_requests_that_are_begun_and_not_ended_are_held_up_to_a_bound() -> None:
    """Each call is one large message but for its last byte: nothing of it can be read, and all of it is kept."""
    limits = Limits(unread_bytes=300_000)
    collect = [(name, value.replace("Wait", "Collect")) for name, value in HEADERS]
    server = server_of(Echo(), limits)
    async with listening(server) as port, await trio.open_tcp_stream("127.0.0.1", port) as stream:
        raw = Raw(stream, server, Machine(H2Configuration(client_side=True, validate_outbound_headers=False)), [])
        raw.machine.initiate_connection()
        for stream_id in (1, 3, 5):
            raw.machine.send_headers(stream_id, collect)
            raw.machine.send_data(stream_id, b"\0" + (1_000_000).to_bytes(4, "big"))
        await raw.flush()
        for stream_id, size in ((1, 140_000), (3, 140_000), (5, 140_000)):
            for _ in range(size // 10_000):
                while raw.machine.local_flow_control_window(stream_id) < 10_000:
                    await raw.read()
                    await raw.flush()
                raw.machine.send_data(stream_id, bytes(10_000))
                await raw.flush()
        while not (ended := raw.find(h2.events.TrailersReceived) + raw.find(h2.events.ResponseReceived)):
            await raw.read()
        (refused,) = ended
        assert refused.stream_id == 5  # type: ignore[attr-defined]
        assert b"300000 bytes of requests" in dict(refused.headers)[b"grpc-message"]  # type: ignore[attr-defined]
        raw.machine.reset_stream(1)
        raw.machine.reset_stream(3)
        raw.machine.send_headers(7, collect)
        message = Text(body=bytes(200_000)).SerializeToString()
        raw.machine.send_data(7, b"\0" + len(message).to_bytes(4, "big"))
        for place in range(0, len(message), 10_000):
            while raw.machine.local_flow_control_window(7) < 10_000:
                await raw.read()
                await raw.flush()
            raw.machine.send_data(7, message[place : place + 10_000])
            await raw.flush()
        raw.machine.end_stream(7)
        await raw.flush()
        while not any(event.stream_id == 7 for event in raw.find(h2.events.StreamEnded)):  # type: ignore[attr-defined]
            await raw.read()
        assert any(event.stream_id == 7 for event in raw.find(h2.events.DataReceived))  # type: ignore[attr-defined]


async def test_requests_that_are_read_do_not_count_for_ever() -> None:
    async with listening(server_of(Echo(), Limits(unread_bytes=300_000))) as port:
        async with connect(await trio.open_tcp_stream("127.0.0.1", port)) as channel:
            async with EchoStub(channel).Collect.open() as call:
                for _ in range(100):
                    await call.send_message(Text(body=bytes(10_000)))
                await call.end()
                total = await call.recv_message()
    assert (total.messages, total.bytes) == (100, 1_000_000)


async def test_one_connection_too_many_is_told(autojump_clock: MockClock) -> None:
    server = server_of(Echo(), Limits(connections=1))
    (near, far), (second, served) = memory_stream_pair(), memory_stream_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(server.serve_connection, far)
        async with connect(near) as channel:
            await EchoStub(channel).Say(Text())
            nursery.start_soon(server.serve_connection, served)
            async with connect(second) as refused:
                with pytest.raises(ConnectionLost, match="too many connections"):
                    await EchoStub(refused).Say(Text())
            assert (await EchoStub(channel).Say(Text(body=b"on"))).body == b"on"


async def test_strangers_on_tcp_do_not_keep_the_local_user_out(tmp_path: Path) -> None:
    server = server_of(Echo(), Limits(connections=2))
    unix = trio.socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    await unix.bind(str(tmp_path / "socket"))
    unix.listen()
    tcp = await trio.open_tcp_listeners(0, host="127.0.0.1")
    port = tcp[0].socket.getsockname()[1]
    async with trio.open_nursery() as nursery, AsyncExitStack() as strangers:
        await nursery.start(server.serve, [trio.SocketListener(unix), *tcp])
        for _ in range(2):
            await strangers.enter_async_context(await trio.open_tcp_stream("127.0.0.1", port))
        with pytest.raises(ConnectionLost, match="too many connections"):
            await say(await trio.open_tcp_stream("127.0.0.1", port))
        for _ in range(2):
            assert await say(await trio.open_unix_socket(tmp_path / "socket")) == b"fine"
        nursery.cancel_scope.cancel()


async def say(stream: trio.abc.Stream) -> bytes:
    async with connect(stream) as channel:
        return bytes((await EchoStub(channel).Say(Text(body=b"fine"))).body)


async def test_a_unix_socket_says_who_its_client_is(tmp_path: Path) -> None:
    echo = Echo()
    unix = trio.socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    await unix.bind(str(tmp_path / "socket"))
    unix.listen()
    async with trio.open_nursery() as nursery:
        await nursery.start(server_of(echo).serve, [trio.SocketListener(unix)])
        async with connect(await trio.open_unix_socket(tmp_path / "socket")) as channel:
            await EchoStub(channel).Say(Text())
            assert echo.last is not None
            assert (echo.last.peer.uid, echo.last.peer.address) == (os.getuid(), "unix")
        nursery.cancel_scope.cancel()


async def test_many_clients_that_hang_up_leave_nothing() -> None:
    echo = Echo()
    async with listening(server_of(echo)) as port:

        async def visit() -> None:
            async with connect(await trio.open_tcp_stream("127.0.0.1", port)) as channel:
                with trio.move_on_after(0.05):
                    await EchoStub(channel).Wait(Text())

        async with trio.open_nursery() as nursery:
            for _ in range(50):
                nursery.start_soon(visit)
        while echo.live:
            await trio.testing.wait_all_tasks_blocked(0.01)


async def test_a_client_that_broke_the_rules_does_not_disturb_another() -> None:
    async with listening(server_of(Echo())) as port:
        connected = await trio.open_tcp_stream("127.0.0.1", port)
        async with connect(connected) as channel:
            for garbage in (b"GET / HTTP/1.1\r\n\r\n", b"\0" * 100, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\xff" * 30):
                stream = await trio.open_tcp_stream("127.0.0.1", port)
                await stream.send_all(garbage)
                with suppress(trio.BrokenResourceError):
                    while await stream.receive_some():
                        pass
                await stream.aclose()
            assert (await EchoStub(channel).Say(Text(body=b"fine"))).body == b"fine"
