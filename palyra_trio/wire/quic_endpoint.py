"""UDP sockets and the connections behind them: datagrams find their connection, and what connections have to say goes out.

All that a turn of the scheduler has brought is sent in one go, after the handlers that it woke have had theirs. Who may
begin a connection is `quic_admission`'s to say, and what a connection does is its own; one that fails ends alone.
"""

import logging
import os
import socket
import time
from collections.abc import Callable, Sequence

import trio
from aioquic._buffer import Buffer
from aioquic.quic.crypto import CryptoPair
from aioquic.quic.packet import (
    QuicErrorCode,
    QuicFrameType,
    QuicHeader,
    QuicPacketType,
    encode_quic_retry,
    encode_quic_version_negotiation,
    pull_quic_header,
)
from aioquic.quic.packet_builder import QuicPacketBuilder

from palyra_trio.wire.limits import Bucket, Limits, QuicLimits
from palyra_trio.wire.quic_admission import ID_BYTES, Admission, Gatekeeper, ServerKeys, Verdict
from palyra_trio.wire.quic_config import SAFE_DATAGRAM_BYTES, VERSIONS
from palyra_trio.wire.quic_connection import QuicPump
from palyra_trio.wire.quic_memory import MemoryBudget
from palyra_trio.wire.udp_port import Address, UdpPort

_LONG = 0x80  # RFC 9000, section 17.2
_SHORT = 0x40
_RESET_BYTES = 43  # at least, of a datagram that gets a reset: the reset is shorter, or two ends would never be done

_log = logging.getLogger(__name__)


class QuicEndpoint:
    """What servers and clients share: ports, and the one task that sends. An address ends with the place of its port."""

    def __init__(self, quic: QuicLimits) -> None:
        self.quic = quic
        self._ports: list[UdpPort] = []
        self._dirty: dict[QuicPump, None] = {}  # those with something to send
        self._next: dict[QuicPump, None] = {}  # those of them whose turn it is
        self._writer = trio.lowlevel.ParkingLot()

    def send_soon(self, connection: QuicPump) -> None:
        """Ask the connection for datagrams once everybody who is awake had a turn."""
        if not self._dirty:
            self._writer.unpark_all()
        self._dirty[connection] = None

    def send_now(self, connection: QuicPump) -> None:
        """Ask the connection for datagrams at once, unless it is at work already or others wait for their turn."""
        if connection.at_work or (self._dirty.keys() | self._next.keys()) - {connection}:
            self.send_soon(connection)
        else:
            self._has_sent(connection)
            connection.transmit(trio.current_time())

    def send(self, data: bytes, address: Address) -> None:
        """Send a datagram from the port that the address names."""
        self._ports[address[-1]].send(data, address[:-1])

    async def write(self) -> None:
        """Send for connections until cancelled."""
        while True:
            while not self._dirty:
                await self._writer.park()
            self._next, self._dirty = self._dirty, self._next
            await trio.lowlevel.checkpoint()  # handlers that were woken with us speak first
            self._transmit(trio.current_time())

    def _transmit(self, now: float) -> None:
        while self._next:
            self._next.popitem()[0].transmit(now)

    def _has_sent(self, connection: QuicPump) -> None:
        self._dirty.pop(connection, None)
        self._next.pop(connection, None)


class QuicListener(QuicEndpoint):
    """The serving end. `make` gives the connection for a client that is let in; it is run, and forgotten when it ends.

    `secret` are 32 random bytes that the next process should be given too: then clients of this one hear at once that it is
    gone, and need not show their address twice.
    """

    def __init__(
        self,
        make: Callable[["QuicListener", Admission, Address], QuicPump],
        limits: Limits,
        quic: QuicLimits,
        secret: bytes,
    ) -> None:
        super().__init__(quic)
        self.keys = ServerKeys(secret)
        self.connections: set[QuicPump] = set()
        self._make = make
        self._by_id: dict[bytes, QuicPump] = {}
        self._gatekeeper: Gatekeeper[QuicPump] = Gatekeeper(self.keys, quic, limits.connections)
        self._memory: MemoryBudget[QuicPump] = MemoryBudget(quic.kept_bytes)
        self._resets = Bucket(quic.resets_per_s, quic.resets_per_s, trio.current_time())
        self._draining = False
        self._opened = trio.CancelScope()
        self._nursery: trio.Nursery

    async def serve(self, sockets: Sequence[socket.socket], started: Callable[[], None]) -> None:
        """Serve on bound sockets until `close`, and return when the last connection has ended. The sockets are closed."""
        async with trio.open_nursery() as ports:
            for place, each in enumerate(sockets):
                self._ports.append(UdpPort(each, self.quic, self._taker(place), _nothing))
                ports.start_soon(self._ports[-1].run)
            ports.start_soon(self.write)
            async with trio.open_nursery() as self._nursery:
                self._nursery.start_soon(self._open)
                started()
            ports.cancel_scope.cancel()

    async def _open(self) -> None:
        with self._opened:
            await trio.sleep_forever()

    def close(self) -> None:
        """Take no more connections."""
        self._draining = True
        self._opened.cancel()

    def established(self, connection: QuicPump) -> None:
        """It has finished its handshake."""
        self._gatekeeper.established(connection, trio.current_time())

    def weigh(self, connection: QuicPump) -> None:
        """Look at what the connection keeps. While all of them keep too much, the heaviest ends without a word.

        Its client hears at once that it is gone, when it next sends something.
        """
        self._memory.note(connection, connection.kept_bytes)
        if not self._memory.is_over:
            return
        for each in self.connections:
            self._memory.note(each, 0 if each.machine.is_over else each.kept_bytes)
        while self._memory.is_over:
            heaviest = self._memory.heaviest(self._gatekeeper.table.network_of)
            _log.warning("%s made this server keep too much: %d bytes", heaviest.peer.address, heaviest.kept_bytes)
            heaviest.give_up("it made the server keep too much")
            self._memory.forget(heaviest)

    def listen_for(self, connection: QuicPump, connection_id: bytes) -> None:
        """Give the connection what is sent to an id of it."""
        self._by_id[connection_id] = connection

    def forget(self, connection: QuicPump, connection_id: bytes) -> None:
        """Give it no more of that."""
        if self._by_id.get(connection_id) is connection:
            del self._by_id[connection_id]

    def _taker(self, place: int) -> Callable[[bytes, Address, float], None]:
        def take(data: bytes, address: Address, now: float) -> None:
            try:
                self._take(data, (*address, place), now)
            except Exception as error:
                _log.error("a datagram of %s could not be taken", address, exc_info=error)

        return take

    def _take(self, data: bytes, address: Address, now: float) -> None:
        if data and not data[0] & _LONG:
            connection = self._by_id.get(data[1 : 1 + ID_BYTES])
            if connection is None:
                self._reset(data, address, now)
            else:
                connection.receive(data, address, now)
            return
        try:
            header = pull_quic_header(Buffer(data=data), host_cid_length=ID_BYTES)
        except ValueError:
            return
        if header.packet_type is QuicPacketType.VERSION_NEGOTIATION:
            return  # it is a server that sends these, and two of them would never be done
        if header.version not in VERSIONS:
            self._negotiate(header, data, address)
        elif (connection := self._by_id.get(header.destination_cid)) is not None:
            connection.receive(data, address, now)
        elif self._may_begin(header, data):
            self._begin(header, data, address, now)

    def _may_begin(self, header: QuicHeader, data: bytes) -> bool:
        """RFC 9000, sections 7.2 and 14.1."""
        is_first = header.packet_type is QuicPacketType.INITIAL and len(data) >= SAFE_DATAGRAM_BYTES
        return is_first and len(header.destination_cid) >= ID_BYTES and not self._draining

    def _begin(self, header: QuicHeader, data: bytes, address: Address, now: float) -> None:
        wall_s = time.time()
        admission = self._gatekeeper.admit(header, address, now=now, wall_s=wall_s)
        match admission.verdict:
            case Verdict.ACCEPT:
                connection = self._make(self, admission, address)
                connection.receive(data, address, now)
                if connection.machine.has_begun:
                    if (oldest := self._gatekeeper.add(connection, admission, address)) is not None:
                        oldest.give_up("its handshake took longer than that of others who wait")
                    self._keep(connection, header.destination_cid)
                else:  # noise with a header
                    self._has_sent(connection)
                    connection.machine.release()
            case Verdict.RETRY:
                retried_id, token = self._gatekeeper.retry_token(header, address, wall_s)
                answer = encode_quic_retry(
                    version=header.version or VERSIONS[0],
                    source_cid=retried_id,
                    destination_cid=header.source_cid,
                    original_destination_cid=header.destination_cid,
                    retry_token=token,
                )
                self.send(answer, address)
            case Verdict.INVALID_TOKEN:
                self.send(_refusal(header, QuicErrorCode.INVALID_TOKEN), address)
            case Verdict.FULL:
                self.send(_refusal(header, QuicErrorCode.CONNECTION_REFUSED), address)
            case Verdict.DROP:
                pass

    def _keep(self, connection: QuicPump, first_id: bytes) -> None:
        self.connections.add(connection)
        for each in (first_id, *connection.machine.ids):
            self._by_id[each] = connection
        self._nursery.start_soon(self._live, connection, first_id)

    async def _live(self, connection: QuicPump, first_id: bytes) -> None:
        try:
            await connection.run()
        except Exception as error:
            _log.error("a connection failed", exc_info=error)
        finally:
            self.connections.discard(connection)
            self._gatekeeper.table.remove(connection)
            self._memory.forget(connection)
            self._has_sent(connection)
            for each in (first_id, *connection.machine.ids):
                self.forget(connection, each)
            connection.machine.release()

    def _negotiate(self, header: QuicHeader, data: bytes, address: Address) -> None:
        """RFC 9000, section 6.1."""
        if len(data) >= SAFE_DATAGRAM_BYTES:
            answer = encode_quic_version_negotiation(
                source_cid=header.destination_cid, destination_cid=header.source_cid, supported_versions=list(VERSIONS)
            )
            self.send(answer, address)

    def _reset(self, data: bytes, address: Address, now: float) -> None:
        """Tell a client that its connection is not known here, which it can trust (RFC 9000, section 10.3)."""
        if data[0] & _SHORT and len(data) >= _RESET_BYTES and self._resets.take(now):
            token = self.keys.reset_token(data[1 : 1 + ID_BYTES])
            noise = os.urandom(_RESET_BYTES - 1 - len(token))
            self.send(bytes([_SHORT | noise[0] & 0x3F]) + noise[1:] + token, address)


def _refusal(header: QuicHeader, code: QuicErrorCode) -> bytes:
    """Return a CONNECTION_CLOSE for a client that no connection is made for (RFC 9000, sections 5.2.2 and 8.1.2)."""
    version = header.version or VERSIONS[0]
    crypto = CryptoPair()
    crypto.setup_initial(cid=header.destination_cid, is_client=False, version=version)
    builder = QuicPacketBuilder(
        host_cid=header.destination_cid,
        is_client=False,
        max_datagram_size=SAFE_DATAGRAM_BYTES,
        peer_cid=header.source_cid,
        version=version,
    )
    builder.start_packet(QuicPacketType.INITIAL, crypto)
    frame = builder.start_frame(QuicFrameType.TRANSPORT_CLOSE, capacity=8)
    frame.push_uint_var(code)
    frame.push_uint_var(QuicFrameType.PADDING)
    frame.push_uint_var(0)
    (datagram,), _ = builder.flush()
    return datagram


def _nothing() -> None:
    pass
