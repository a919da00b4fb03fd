"""One UDP socket on Trio: read in runs of datagrams, written at once or, when the kernel has no room, as soon as it has.

A datagram that cannot be sent is lost, as on any network. Who it is for, and what it means, is the endpoint's.
"""

import errno
import socket
from collections import deque
from collections.abc import Callable
from typing import Any, TypeAlias

import trio

from palyra_trio.wire.limits import QuicLimits

Address: TypeAlias = tuple[Any, ...]  # a socket address

_LARGEST = 65_535
# What sending says when the address that the socket is bound to is not this machine's any more, or leads nowhere.
_NO_WAY = {errno.EINVAL, errno.EADDRNOTAVAIL, errno.ENETUNREACH, errno.ENETDOWN, errno.EHOSTUNREACH}


class UdpPort:
    """Takes a bound, non-blocking socket and owns it. `take` gets what arrives, with its sender and the time.

    A connected socket also hears that nobody listens at the other end; `refused` is told of it.
    """

    def __init__(
        self,
        opened: socket.socket,
        quic: QuicLimits,
        take: Callable[[bytes, Address, float], None],
        refused: Callable[[], None],
        *,
        stranded: Callable[[], None] | None = None,
        connected: bool = False,
    ) -> None:
        self._socket = opened
        self._quic = quic
        self._take = take
        self._refused = refused
        self._connected = connected
        self._stranded = stranded
        self._backlog: deque[tuple[bytes, Address]] = deque(maxlen=quic.backlog_datagrams)
        self._has_backlog = trio.Event()

    @property
    def address(self) -> Address:
        """Where it is bound."""
        return tuple(self._socket.getsockname())

    async def run(self) -> None:
        """Read, and write what waits, until cancelled. The socket is closed then."""
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._write)
                await self._read()
        finally:
            trio.lowlevel.notify_closing(self._socket)
            self._socket.close()

    def send(self, data: bytes, address: Address) -> None:
        """Send a datagram now or, behind others that wait, later. Never raises."""
        if self._backlog or not self._try_to_send(data, address):
            self._backlog.append((data, address))
            self._has_backlog.set()

    async def _read(self) -> None:
        buffer = bytearray(_LARGEST)
        view = memoryview(buffer)
        while True:
            await trio.lowlevel.wait_readable(self._socket)
            now = trio.current_time()
            for _ in range(self._quic.window_datagrams):
                try:
                    size, address = self._socket.recvfrom_into(buffer)
                except BlockingIOError:
                    break
                except OSError as error:
                    self._failed(error)
                else:
                    self._take(bytes(view[:size]), address, now)

    async def _write(self) -> None:
        while True:
            await self._has_backlog.wait()
            while self._backlog:
                if self._try_to_send(*self._backlog[0]):
                    self._backlog.popleft()
                else:
                    await trio.lowlevel.wait_writable(self._socket)
            self._has_backlog = trio.Event()

    def _try_to_send(self, data: bytes, address: Address) -> bool:
        try:
            if self._connected:
                self._socket.send(data)
            else:
                self._socket.sendto(data, address)
        except BlockingIOError:
            return False
        except OSError as error:  # such as EMSGSIZE, or a network that is down: the datagram is lost
            self._failed(error)
        return True

    def _failed(self, error: OSError) -> None:
        if error.errno == errno.ECONNREFUSED:
            self._refused()
        elif self._stranded is not None and error.errno in _NO_WAY:
            self._stranded()
