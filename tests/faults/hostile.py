"""A peer that means harm: `python -m tests.faults.hostile WHAT PORT AMOUNT SEED`, against a UDP port of 127.0.0.1.

`mutated` sends datagrams that were real before something in them was changed, `sealed` packets that are encrypted as they
should be and make no sense inside, `flood` first datagrams of handshakes, each from another port, `slow` opens requests and
sends a byte of them now and then, `dropped` opens connections and leaves them without a word. Each waits until
the server has read what was sent, so that none of it was lost, and prints how much it was as its last line.
"""

import contextlib
import random
import socket
import ssl
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import QuicConnection
from aioquic.quic.crypto import CryptoPair
from aioquic.quic.events import ConnectionTerminated, HandshakeCompleted
from aioquic.quic.packet import QuicFrameType, QuicPacketType
from aioquic.quic.packet_builder import QuicPacketBuilder
from aioquic.tls import Epoch

HOST = "127.0.0.1"
DATAGRAM_BYTES = 1200
AT_ONCE = 64  # datagrams, before it is asked whether the server has read them
VERSION = 1
WITHIN_S = 5.0
STREAMS = 50  # of a connection that is slow
SLOW_S, SLOW_ROUNDS = 1.0, 6
HEADERS_BEGUN = b"\x01\x40\x80\x00\x00"  # a HEADERS frame of 128 bytes, of which this is the beginning
SETTINGS = b"\x00\x04\x00"


class Door:
    """The server's socket, as the kernel sees it."""

    def __init__(self, port: int) -> None:
        self.address = (HOST, port)
        self._port = f":{port:04X}"

    def _fields(self) -> list[str]:
        lines = map(str.split, Path("/proc/net/udp").read_text("ascii").splitlines())
        return next(fields for fields in lines if fields[1].endswith(self._port))

    @property
    def dropped(self) -> int:
        """How many datagrams it had no room for."""
        return int(self._fields()[-1])

    def until_read(self) -> None:
        """Wait until the server has read all. Raises TimeoutError when it does not."""
        end = time.monotonic() + WITHIN_S
        while self._fields()[4].partition(":")[2] != "00000000":
            if time.monotonic() > end:
                raise TimeoutError("the server reads nothing")
            time.sleep(0.0005)  # ruff: ignore[banned-api]


class Client:
    """A connection that is driven by hand."""

    def __init__(self, address: tuple[str, int]) -> None:
        configuration = QuicConfiguration(
            alpn_protocols=["h3"], verify_mode=ssl.CERT_NONE, server_name="localhost", idle_timeout=600
        )
        self.quic = QuicConnection(configuration=configuration)
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.connect(address)
        self.over = False
        self.sent: list[bytes] = []
        self._address = address
        self.quic.connect(address, time.monotonic())

    def shake(self) -> bool:
        """Finish the handshake. Return whether the server let it."""
        end = time.monotonic() + WITHIN_S
        while time.monotonic() < end and not self.over:
            self.write()
            if self.read(end):
                self.write()
                return True
        return False

    def write(self) -> None:
        for data, _ in self.quic.datagrams_to_send(time.monotonic()):
            self.sent.append(data)
            with contextlib.suppress(OSError):
                self.socket.send(data)

    def ask(self, head: bytes, *, last: bool) -> int:
        """Send what should be a request's HEADERS frame on a stream of its own, which is returned."""
        stream = self.quic.get_next_available_stream_id()
        self.quic.send_stream_data(stream, head, last)
        return stream

    def read(self, until: float) -> bool:
        """Take a datagram, or a timer. Return whether the handshake was completed by it."""
        due = min(self.quic.get_timer() or until, until)
        self.socket.settimeout(max(due - time.monotonic(), 0.001))
        try:
            self.quic.receive_datagram(self.socket.recv(65536), self._address, time.monotonic())
        except TimeoutError:
            self.quic.handle_timer(time.monotonic())
        except OSError:
            self.over = True
        completed = False
        while (event := self.quic.next_event()) is not None:
            completed = completed or isinstance(event, HandshakeCompleted)
            self.over = self.over or isinstance(event, ConnectionTerminated)
        self.over = self.over or self.quic._close_event is not None  # refused: no use in draining
        return completed


# --- datagrams ---


def _corpus(door: Door, chance: random.Random) -> list[bytes]:
    """Return what clients send, from the first datagram of a handshake to the last of a connection."""
    sent: list[bytes] = []
    for _ in range(8):
        client = Client(door.address)
        if not client.shake():
            raise TimeoutError("the server does not answer")
        client.quic.send_stream_data(client.quic.get_next_available_stream_id(is_unidirectional=True), SETTINGS)
        client.ask(chance.randbytes(100), last=True)
        client.write()
        client.quic.close()
        client.write()
        client.socket.close()
        sent += client.sent
    return sent


def _mutation(corpus: list[bytes], chance: random.Random) -> bytes:
    """Return a datagram of the corpus with something changed."""
    data = bytearray(chance.choice(corpus))
    match chance.randrange(7):
        case 0:
            for _ in range(chance.randint(1, 8)):
                data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
        case 1:
            place = chance.randrange(len(data))
            data[place : place + chance.randint(1, 64)] = chance.randbytes(chance.randint(0, 64))
        case 2:
            del data[chance.randrange(len(data)) :]
        case 3:
            other = chance.choice(corpus)
            data[chance.randrange(len(data)) :] = other[chance.randrange(len(other)) :]
        case 4:  # version, and the lengths of the ids after it (RFC 8999, section 5.1)
            data[1:5] = chance.choice((bytes(4), b"\x6b\x33\x43\xcf", chance.randbytes(4)))
            data[5:6] = chance.randbytes(1)
        case 5:  # another connection's, which is a new one where the datagram is a first one
            data[6:14] = chance.randbytes(8)
        case _:
            data[:] = chance.randbytes(chance.randint(1, 1500))
    return bytes(data)


def mutated(door: Door, amount: int, chance: random.Random) -> int:
    """Send mutations from a few ports."""
    corpus = _corpus(door, chance)
    sockets = [_connected(door) for _ in range(16)]
    for number in range(amount):
        with contextlib.suppress(OSError):
            sockets[number % len(sockets)].send(_mutation(corpus, chance))
        if number % AT_ONCE == 0:
            door.until_read()
    return amount


def sealed(door: Door, amount: int, chance: random.Random) -> int:
    """Send packets on good connections that only their payload makes wrong, and another connection when one is closed."""
    sent = 0
    while sent < amount:
        client = Client(door.address)
        if not client.shake():
            continue
        pair = client.quic._cryptos[Epoch.ONE_RTT]
        encrypt = pair.encrypt_packet

        def spoilt(header: bytes, payload: bytes, number: int, encrypt: Any = encrypt) -> bytes:
            data = bytearray(payload)
            for _ in range(chance.randint(1, 4)):
                data[chance.randrange(len(data))] = chance.randrange(256)
            return bytes(encrypt(header, bytes(data), number))

        if chance.random() < 0.5:
            pair.encrypt_packet = spoilt  # type: ignore[assignment, method-assign]
        before = len(client.sent)
        for _ in range(20):
            client.ask(chance.randbytes(chance.randint(1, 300)), last=chance.random() < 0.5)
            client.quic.send_ping(chance.randrange(1 << 30))
            client.write()
        door.until_read()
        sent += len(client.sent) - before
        client.socket.close()
    return sent


def flood(door: Door, amount: int, chance: random.Random) -> int:
    """Send first datagrams of handshakes that nobody goes on with, each from a port of its own."""
    hello = bytes(Client(door.address).quic._crypto_streams[Epoch.INITIAL].sender._buffer)
    for number in range(amount):
        with _connected(door) as spoofed, contextlib.suppress(OSError):
            spoofed.send(_first(hello, chance))
        if number % AT_ONCE == 0:
            door.until_read()
    return amount


def _first(hello: bytes, chance: random.Random) -> bytes:
    """Return the first datagram of a client that says this ClientHello."""
    there, here = chance.randbytes(8), chance.randbytes(8)
    pair = CryptoPair()
    pair.setup_initial(cid=there, is_client=True, version=VERSION)
    builder = QuicPacketBuilder(
        host_cid=here, peer_cid=there, version=VERSION, is_client=True, max_datagram_size=DATAGRAM_BYTES
    )
    builder.start_packet(QuicPacketType.INITIAL, pair)
    frame = builder.start_frame(QuicFrameType.CRYPTO, capacity=len(hello) + 8)
    frame.push_uint_var(0)
    frame.push_uint16(len(hello) | 0x4000)
    frame.push_bytes(hello)
    (datagram,), _ = builder.flush()
    return datagram


def _connected(door: Door) -> socket.socket:
    opened = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    opened.connect(door.address)
    opened.setblocking(False)
    return opened


# --- connections ---


def slow(door: Door, amount: int, chance: random.Random) -> int:
    """Keep so many requests open for some seconds, and send a byte of one of each connection every second."""
    clients = list(_clients(door, -(-amount // STREAMS)))
    streams = [[client.ask(HEADERS_BEGUN, last=False) for _ in range(STREAMS)] for client in clients]
    print("slow", flush=True)
    for _ in range(SLOW_ROUNDS):
        for client, opened in zip(clients, streams, strict=True):
            if not client.over:
                client.quic.send_stream_data(chance.choice(opened), b"\0")
                client.write()
                client.read(time.monotonic() + 0.001)
        time.sleep(SLOW_S)  # ruff: ignore[banned-api]
    return sum(STREAMS for client in clients if not client.over)


def dropped(door: Door, amount: int, chance: random.Random) -> int:
    """Open connections, and leave each: some with a close, some with a request under way, none with patience."""
    opened = 0
    for client in _clients(door, amount):
        if chance.random() < 0.5:
            client.ask(HEADERS_BEGUN, last=False)
            client.write()
        if chance.random() < 0.5:
            client.quic.close()
            client.write()
        client.socket.close()
        opened += 1
    return opened


def _clients(door: Door, amount: int) -> Iterator[Client]:
    """Yield connections that stand; those that the server refuses are not among them."""
    for _ in range(amount):
        client = Client(door.address)
        if client.shake():
            yield client


def main(what: str, port: int, amount: int, seed: int) -> None:
    kinds = {each.__name__: each for each in (mutated, sealed, flood, slow, dropped)}
    door = Door(port)
    before = door.dropped
    done = kinds[what](door, amount, random.Random(seed))
    door.until_read()
    print(f"{what} {done} unread {door.dropped - before}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]))
