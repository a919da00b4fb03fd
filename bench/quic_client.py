"""An HTTP/3 client that costs as little as Python allows, the same for all servers: aioquic's state machine under one poll loop.

It drains a socket before it acts, writes once a turn, leaves its windows open, and looks at no header field but the
status. It is no model of a client: it trusts the server in all.
"""

import select
import socket
import ssl
import time
from collections.abc import Callable

import pylsqpack
from aioquic.buffer import encode_uint_var
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import QuicConnection
from aioquic.quic.events import ConnectionTerminated, HandshakeCompleted, StreamDataReceived, StreamReset

WIDE = 1 << 30
AT_ONCE = 64  # datagrams of a connection, before it writes
DATA, HEADERS, SETTINGS = 0, 1, 4  # RFC 9114, section 7.2
SILENCE_S = 20.0  # a server that says nothing for so long has failed
MAY_ASK = 0  # RFC 9114, section 6.2.1: the type of the control stream


class Connection:
    """A connection and its requests; the time of each is what `on_end` and `on_data` find out."""

    def __init__(self, port: int) -> None:
        configuration = QuicConfiguration(
            alpn_protocols=["h3"],
            verify_mode=ssl.CERT_NONE,
            server_name="localhost",
            max_data=WIDE,
            max_stream_data=WIDE,
            idle_timeout=600.0,
        )
        self.quic = QuicConnection(configuration=configuration)
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.setblocking(False)
        self.socket.connect(("127.0.0.1", port))
        self.ready = False
        self.on_ready: Callable[[], None] = _nothing
        self._peer = ("127.0.0.1", port)
        self._good: set[bytes] = set()  # response headers that said 200
        self._requests: dict[int, Request] = {}
        self.quic.connect(self._peer, time.monotonic())
        control = self.quic.get_next_available_stream_id(is_unidirectional=True)
        self.quic.send_stream_data(control, encode_uint_var(MAY_ASK) + frame(SETTINGS, b""))

    def request(self, head: bytes, *, last: bool = True) -> "Request":
        """Send a request's HEADERS frame, as `head` makes them."""
        stream = self.quic.get_next_available_stream_id()
        request = self._requests[stream] = Request(self.quic, stream)
        self.quic.send_stream_data(stream, head, last)
        return request

    def turn(self, now: float) -> None:
        """Read what has come, act on it, and write what is to be sent. Raises RuntimeError when the server has given up."""
        for _ in range(AT_ONCE):
            try:
                datagram = self.socket.recv(65536)
            except BlockingIOError:
                break
            self.quic.receive_datagram(datagram, self._peer, now)
        while (event := self.quic.next_event()) is not None:
            if isinstance(event, StreamDataReceived):
                if (request := self._requests.get(event.stream_id)) is not None:
                    self._take(request, event)
            elif isinstance(event, HandshakeCompleted):
                self.ready = True
                self.on_ready()
            elif isinstance(event, ConnectionTerminated | StreamReset):
                raise RuntimeError(f"the server has given up: {event}")
        self.write(now)

    def write(self, now: float) -> None:
        """Write what is to be sent."""
        for datagram, _ in self.quic.datagrams_to_send(now):
            try:
                self.socket.send(datagram)
            except BlockingIOError:  # it counts as lost, and is sent again
                break

    def _take(self, request: "Request", event: StreamDataReceived) -> None:
        data = event.data
        if not request.begun:
            data = request.head = request.head + data  # datagrams end where they like
            length = 2 + data[1] if len(data) > 1 else len(data) + 1  # a server's few fields take less than 64 bytes
            if len(data) < length:
                return
            self._look(data[:length])
            request.begun = True
            data = data[length:]
        request.taken_bytes += len(data)
        if event.end_stream:
            del self._requests[event.stream_id]
            request.on_end()
        elif data:
            request.on_data()

    def _look(self, head: bytes) -> None:
        """Raise RuntimeError unless a HEADERS frame says 200."""
        if head not in self._good:
            _, fields = pylsqpack.Decoder(0, 0).feed_header(0, head[2:])
            if dict(fields).get(b":status") != b"200" or head[0] != HEADERS:
                raise RuntimeError(f"the server answers {fields}")
            self._good.add(head)

    def close(self) -> None:
        """Say so to the server, and close the socket."""
        self.quic.close()
        self.write(time.monotonic())
        self.socket.close()


class Request:
    """A request. `taken_bytes` are the bytes of the response's DATA frames, with the frames' headers."""

    def __init__(self, quic: QuicConnection, stream: int) -> None:
        self.taken_bytes = 0
        self.begun = False
        self.head = b""
        self.on_end: Callable[[], None] = _nothing
        self.on_data: Callable[[], None] = _nothing
        self._quic = quic
        self._stream = stream

    def send(self, data: bytes, *, last: bool = False) -> None:
        """Send data in a DATA frame."""
        self._quic.send_stream_data(self._stream, frame(DATA, data), last)


class Poll:
    """Connections to one server, under one loop."""

    def __init__(self, port: int) -> None:
        self.connections: dict[int, Connection] = {}
        self._port = port
        self._epoll = select.epoll()
        self._due: dict[int, float] = {}

    def connect(self) -> Connection:
        """Begin a connection."""
        connection = Connection(self._port)
        place = connection.socket.fileno()
        self.connections[place] = connection
        self._epoll.register(place, select.EPOLLIN)
        self._turn(place, time.monotonic())
        return connection

    def close(self, connection: Connection) -> None:
        place = connection.socket.fileno()
        self._epoll.unregister(place)
        del self.connections[place], self._due[place]
        connection.close()

    def close_all(self) -> None:
        for connection in [*self.connections.values()]:
            self.close(connection)
        self._epoll.close()

    def until(self, done: Callable[[], bool], most_s: float = SILENCE_S) -> None:
        """Run until `done`. Raises TimeoutError when that takes longer than `most_s`."""
        end = time.monotonic() + most_s
        while not done():
            self.step(end)
            if time.monotonic() > end:
                raise TimeoutError(f"the server has not answered within {most_s} s")

    def step(self, end: float) -> None:
        """Wait until something comes or a timer is due, but no longer than `end`, and act on it."""
        wait_s = min(min(self._due.values(), default=end), end) - time.monotonic()
        ready = [place for place, _ in self._epoll.poll(max(wait_s, 0.0))]
        now = time.monotonic()
        late = [place for place, at in self._due.items() if at <= now]
        for place in late:
            self.connections[place].quic.handle_timer(now)
        for place in {*ready, *late}:
            if place in self.connections:
                self._turn(place, now)

    def write(self, connection: Connection) -> None:
        """Write what was queued from without."""
        self._turn(connection.socket.fileno(), time.monotonic())

    def _turn(self, place: int, now: float) -> None:
        connection = self.connections[place]
        connection.turn(now)
        if place in self.connections:
            self._due[place] = connection.quic.get_timer() or now + SILENCE_S


def frame(kind: int, payload: bytes) -> bytes:
    """Return a frame of HTTP/3."""
    return encode_uint_var(kind) + encode_uint_var(len(payload)) + payload


def head(method: str, path: str) -> bytes:
    """Return a request's HEADERS frame, which uses QPACK's static table only."""
    fields = [
        (b":method", method.encode()),
        (b":scheme", b"https"),
        (b":authority", b"localhost"),
        (b":path", path.encode()),
    ]
    _, block = pylsqpack.Encoder().encode(0, fields)
    return frame(HEADERS, block)


def _nothing() -> None:
    pass
