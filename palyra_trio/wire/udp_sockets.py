"""The UDP sockets that a server binds: one for every address of its host. What is read from them is `udp_port`'s."""

import errno
import socket
from contextlib import ExitStack

_LOOPBACK = ("127.0.0.1", "::1")
_NO_SUCH_FAMILY = (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL)


def open_udp_sockets(host: str, port: int) -> list[socket.socket]:
    """Bind a UDP socket for every address of `host`, with the same port; 0 takes a free one. `localhost` is both loopbacks.

    Raises OSError, and leaves nothing open then. Blocks while a name is looked up.
    """
    sockets: list[socket.socket] = []
    with ExitStack() as opened:
        for address in _LOOPBACK if host == "localhost" else _addresses(host):
            try:
                bound = _bind(address, port)
            except OSError as error:
                if sockets and error.errno in _NO_SUCH_FAMILY:
                    continue  # a machine without IPv6
                raise
            sockets.append(opened.enter_context(bound))
            port = bound.getsockname()[1]
        opened.pop_all()
    return sockets


def _addresses(host: str) -> list[str]:
    found = socket.getaddrinfo(host or None, None, type=socket.SOCK_DGRAM, flags=socket.AI_PASSIVE)
    return list(dict.fromkeys(str(each[4][0]) for each in found))


def _bind(address: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    opened = socket.socket(family, socket.SOCK_DGRAM)
    try:
        if family == socket.AF_INET6:
            opened.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        opened.bind((address, port))
        opened.setblocking(False)
    except OSError:
        opened.close()
        raise
    return opened
