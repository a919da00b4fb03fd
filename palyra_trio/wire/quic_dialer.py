"""The calling end of QUIC: one connected socket for one connection, which can be exchanged for another under it."""

import math
import socket
from contextlib import suppress

import trio

from palyra_trio.wire.limits import QuicLimits
from palyra_trio.wire.quic_connection import QuicPump
from palyra_trio.wire.quic_endpoint import QuicEndpoint
from palyra_trio.wire.udp_port import Address, UdpPort

REBIND_APART_S = 0.25  # at least: a network that refuses all that is sent would else keep us at exchanging sockets


class QuicDialer(QuicEndpoint):
    """Reaches a socket address."""

    def __init__(self, address: Address, quic: QuicLimits) -> None:
        super().__init__(quic)
        self._address = address
        self._reading = trio.CancelScope()
        self._rebinds_at = -math.inf
        self._connection: QuicPump
        self._nursery: trio.Nursery

    @property
    def local(self) -> Address:
        """Where our end is now."""
        return self._ports[0].address

    async def run(self, connection: QuicPump) -> None:
        """Keep the connection to its end, or until cancelled. Raises OSError when there is no way to the address."""
        self._connection = connection
        opened = self._connected("")
        async with trio.open_nursery() as self._nursery:
            self._use(opened)
            self._nursery.start_soon(self.write)
            await connection.run()
            self._nursery.cancel_scope.cancel()

    def rebind(self, host: str) -> None:
        """Go on from another port, of this local address or of any. Raises OSError, and then all stays as it was."""
        self._use(self._connected(host))

    def _use(self, opened: socket.socket) -> None:
        refused = self._connection.refused
        port = UdpPort(opened, self.quic, self._take, refused, stranded=self._rebind_anywhere, connected=True)
        self._reading.cancel()
        self._ports[:] = [port]
        self._reading = trio.CancelScope()
        self._nursery.start_soon(self._read, port, self._reading)

    def _rebind_anywhere(self) -> None:
        """Go on from whatever address this machine has now; while it has none, a later datagram tries again."""
        now = trio.current_time()
        if now < self._rebinds_at:
            return
        with suppress(OSError):
            self.rebind("")
            self._rebinds_at = now + REBIND_APART_S
            self._connection.machine.send_ping(0)  # the server learns from us where we are, and has not yet heard it
            self.send_soon(self._connection)

    async def _read(self, port: UdpPort, scope: trio.CancelScope) -> None:
        with scope:
            await port.run()

    def _connected(self, host: str) -> socket.socket:
        opened = socket.socket(socket.AF_INET6 if len(self._address) > 2 else socket.AF_INET, socket.SOCK_DGRAM)
        try:
            opened.setblocking(False)
            if host:
                opened.bind((host, 0))
            opened.connect(self._address)
        except OSError:
            opened.close()
            raise
        return opened

    def _take(self, data: bytes, address: Address, now: float) -> None:
        self._connection.receive(data, (*self._address, 0), now)

    def established(self, connection: QuicPump) -> None: ...

    def listen_for(self, connection: QuicPump, connection_id: bytes) -> None: ...

    def forget(self, connection: QuicPump, connection_id: bytes) -> None: ...
