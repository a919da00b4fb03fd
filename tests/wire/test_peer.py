import os
import socket

import trio
from trio.testing import memory_stream_pair

from palyra_trio.core.identity import Peer
from palyra_trio.wire.peer import peer_of


async def test_a_unix_peer_is_known_by_its_user() -> None:
    near, far = trio.socket.socketpair()
    with far:
        async with trio.SocketStream(near) as stream:
            assert peer_of(stream) == Peer(os.getuid(), "unix")


async def test_a_tcp_peer_is_known_by_its_address() -> None:
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    client = await trio.open_tcp_stream(*listener.socket.getsockname()[:2])
    async with listener, client, await listener.accept() as served:
        host, port = client.socket.getsockname()[:2]
        assert peer_of(served) == Peer(None, f"{host}:{port}")


async def test_a_peer_that_has_left_or_is_no_socket_is_nameless() -> None:
    assert peer_of(memory_stream_pair()[0]) == Peer()
    async with trio.SocketStream(trio.socket.socket(socket.AF_INET)) as unconnected:
        assert peer_of(unconnected) == Peer()
