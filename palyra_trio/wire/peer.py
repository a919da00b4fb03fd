"""Who is at the other end of a Trio stream, as far as the operating system tells."""

import socket
import struct

import trio

from palyra_trio.core.identity import Peer

_CREDENTIALS = struct.Struct("3i")  # pid, uid, gid: unix(7), SO_PEERCRED


def peer_of(stream: trio.abc.Stream) -> Peer:
    """Return the peer of a TCP, Unix or TLS stream. It is nameless for other streams, and when it has left already."""
    if isinstance(stream, trio.SSLStream):
        return peer_of(stream.transport_stream)
    if not isinstance(stream, trio.SocketStream):
        return Peer()
    try:
        if stream.socket.family == socket.AF_UNIX:
            credentials = stream.socket.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
            return Peer(_CREDENTIALS.unpack(credentials)[1], "unix")
        host, port = stream.socket.getpeername()[:2]
    except OSError:
        return Peer()
    return Peer(None, f"[{host}]:{port}" if ":" in host else f"{host}:{port}")
