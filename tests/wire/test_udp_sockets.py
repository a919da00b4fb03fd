import socket

import pytest

from palyra_trio.wire.udp_sockets import open_udp_sockets


def test_localhost_is_both_loopbacks_with_one_port() -> None:
    sockets = open_udp_sockets("localhost", 0)
    try:
        assert [each.getsockname()[0] for each in sockets] == ["127.0.0.1", "::1"]
        assert len({each.getsockname()[1] for each in sockets}) == 1
        assert not any(each.getblocking() for each in sockets)
    finally:
        for each in sockets:
            each.close()


def test_a_port_that_is_taken_on_one_of_them_leaves_nothing_open() -> None:
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as taken:
        taken.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        taken.bind(("::1", 0))
        port = taken.getsockname()[1]
        with pytest.raises(OSError, match="in use"):
            open_udp_sockets("localhost", port)
        (again,) = open_udp_sockets("127.0.0.1", port)
        again.close()
