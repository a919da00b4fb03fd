import socket
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import trio
from trio.testing import wait_all_tasks_blocked

from palyra_trio.wire.limits import QuicLimits
from palyra_trio.wire.udp_port import Address, UdpPort
from tests.wire.quic import until


class Busy(socket.socket):
    """A socket that has no room for as many datagrams as it is told."""

    refuses = 0

    def sendto(self, *arguments: object) -> int:
        if self.refuses:
            self.refuses -= 1
            raise BlockingIOError
        return super().sendto(*arguments)  # type: ignore[call-overload, no-any-return]


class Got:
    def __init__(self) -> None:
        self.datagrams: list[bytes] = []
        self.senders: set[Address] = set()
        self.refused = 0

    def take(self, data: bytes, address: Address, now: float) -> None:
        self.datagrams.append(data)
        self.senders.add(address)

    def was_refused(self) -> None:
        self.refused += 1

    async def until(self, count: int) -> None:
        await until(lambda: len(self.datagrams) >= count)


def bound() -> Busy:
    opened = Busy(socket.AF_INET, socket.SOCK_DGRAM)
    opened.bind(("127.0.0.1", 0))
    opened.setblocking(False)
    return opened


@asynccontextmanager
async def running(opened: socket.socket, got: Got, *, connected: bool = False) -> AsyncGenerator[UdpPort, None]:
    port = UdpPort(opened, QuicLimits(backlog_datagrams=10), got.take, got.was_refused, connected=connected)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(port.run)
        yield port
        nursery.cancel_scope.cancel()


async def test_more_datagrams_than_are_read_in_one_turn_arrive_in_order_with_their_sender() -> None:
    near, far = Got(), Got()
    async with running(bound(), near) as here, running(bound(), far) as there:
        sent = [number.to_bytes(2, "big") for number in range(200)]
        for each in sent:
            here.send(each, there.address)
        await far.until(200)
        assert far.datagrams == sent
        assert far.senders == {here.address}


async def test_what_the_kernel_has_no_room_for_waits_and_keeps_its_order() -> None:
    got, opened = Got(), bound()
    async with running(opened, Got()) as here, running(bound(), got) as there:
        opened.refuses = 2
        for number in range(5):
            here.send(bytes([number]), there.address)
        await got.until(5)
        assert got.datagrams == [bytes([number]) for number in range(5)]


async def test_what_waits_is_bounded_and_the_newest_is_kept() -> None:
    got, opened = Got(), bound()
    async with running(opened, Got()) as here, running(bound(), got) as there:
        opened.refuses = 1
        for number in range(25):
            here.send(bytes([number]), there.address)
        await got.until(10)
        assert got.datagrams == [bytes([number]) for number in range(15, 25)]


async def test_a_datagram_that_is_too_large_is_lost_and_the_next_is_not() -> None:
    got = Got()
    async with running(bound(), Got()) as here, running(bound(), got) as there:
        here.send(bytes(70_000), there.address)
        here.send(b"next", there.address)
        await got.until(1)
        assert got.datagrams == [b"next"]


async def test_a_connected_socket_hears_that_nobody_listens() -> None:
    got, opened, gone = Got(), bound(), bound()
    address = gone.getsockname()
    gone.close()
    opened.connect(address)
    async with running(opened, got, connected=True) as here:
        here.send(b"?", address)
        await until(lambda: got.refused)
        here.send(b"?", address)


async def test_nothing_is_open_when_it_has_ended() -> None:
    opened = bound()
    async with running(opened, Got()):
        await wait_all_tasks_blocked()
    assert opened.fileno() == -1
