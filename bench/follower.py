"""A client that costs as little as Python allows, the same for all servers: one call at a time on a connection of its own.

It reads HTTP/2 frames by hand and opens the windows so wide that they never close; so what is measured is the server.
Every message is parsed and every event counted. It is no model of a client: it trusts the server in all.
"""

from collections.abc import Callable
from types import TracebackType
from typing import Self

import hpack
import trio
from google.protobuf.message import Message

from palyra_trio.pb import runs_pb2
from palyra_trio.wire.framing import MessageParser, encode_messages

RUN_STREAM = "/palyra.gateway.v1.GatewayService/RunStream"
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RESET, SETTINGS, PING, GOAWAY, WINDOW_UPDATE = 0, 1, 3, 4, 6, 7, 8
END_STREAM, END_HEADERS, ACK = 1, 4, 1
WIDE = (1 << 31) - 1
FRAME_BYTES = 64 * 1024
READ_BYTES = 256 * 1024
MESSAGE_BYTES = 4 * 1024 * 1024


class CallFailed(RuntimeError):
    """A call ended with another status than OK: `status` is its number (grpc-status)."""

    def __init__(self, headers: dict[bytes, bytes]) -> None:
        super().__init__(f"the call failed: {headers!r}")
        self.status = headers[b"grpc-status"].decode()


class Follower:
    """`async with await Follower.connect(port) as follower`: then `begin`, `send`, and `receive` until it is empty."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self._stream = stream
        self._encoder = hpack.Encoder()
        self._decoder = hpack.Decoder()
        self._buffer = bytearray()
        self._call = -1
        self._over = False
        self._parser = MessageParser(MESSAGE_BYTES)
        self._arrived: list[bytes] = []
        self._failed: CallFailed | None = None

    @classmethod
    async def connect(cls, place: int | str) -> Self:
        """Connect to a port of 127.0.0.1, or to a Unix socket."""
        stream: trio.abc.Stream
        if isinstance(place, str):
            stream = await trio.open_unix_socket(place)
        else:
            stream = await trio.open_tcp_stream("127.0.0.1", place)
        settings = b"".join(
            number.to_bytes(2, "big") + value.to_bytes(4, "big") for number, value in ((4, WIDE), (5, FRAME_BYTES))
        )
        widen = _frame(WINDOW_UPDATE, 0, 0, (WIDE - 65_535).to_bytes(4, "big"))
        await stream.send_all(PREFACE + _frame(SETTINGS, 0, 0, settings) + widen)
        return cls(stream)

    async def begin(self, method: str, token: str = "") -> None:
        """Begin a call; the one before it is over."""
        self._call += 2
        self._over = False
        self._parser = MessageParser(MESSAGE_BYTES)
        headers = [
            (":method", "POST"),
            (":scheme", "http"),
            (":path", method),
            (":authority", "127.0.0.1"),
            ("te", "trailers"),
            ("content-type", "application/grpc"),
            *([("authorization", f"Bearer {token}")] if token else []),
        ]
        await self._stream.send_all(_frame(HEADERS, END_HEADERS, self._call, self._encoder.encode(headers)))

    async def send(self, message: Message, *, last: bool = False) -> None:
        body = encode_messages([message.SerializeToString()])
        await self._stream.send_all(_frame(DATA, END_STREAM if last else 0, self._call, body))

    async def receive(self) -> list[runs_pb2.RunStreamResponse]:
        """Return the responses that have arrived: at least one, or none after the last.

        Raises CallFailed for a status that is not OK; the next call may begin then.
        """
        while not self._arrived and not self._over:
            data = await self._stream.receive_some(READ_BYTES)
            if not data:
                raise RuntimeError("the server has closed the connection")
            self._buffer += data
            if answers := self._take_frames():
                await self._stream.send_all(answers)
        if self._failed is not None:
            failed, self._failed = self._failed, None
            raise failed
        bodies, self._arrived = self._arrived, []
        return list(map(runs_pb2.RunStreamResponse.FromString, bodies))

    async def until(self, wanted: Callable[[runs_pb2.RunStreamResponse], bool]) -> None:
        """Receive until a response is as wanted; those before and with it are dropped. Raises RuntimeError at the end."""
        while responses := await self.receive():
            if any(map(wanted, responses)):
                return
        raise RuntimeError("the call ended before what was waited for")

    async def rest(self) -> None:
        """Receive to the end of the call."""
        while await self.receive():
            pass

    def _take_frames(self) -> bytes:
        answers = b""
        start, end = 0, len(self._buffer)
        with memoryview(self._buffer) as view:
            while end - start >= 9:
                length = int.from_bytes(view[start : start + 3], "big")
                after = start + 9 + length
                if after > end:
                    break
                answers += self._take(view[start + 3], view[start + 4], bytes(view[start + 9 : after]))
                start = after
        del self._buffer[:start]
        return answers

    def _take(self, kind: int, flags: int, payload: bytes) -> bytes:
        if kind == DATA:
            self._arrived += self._parser.feed(payload)
        elif kind == HEADERS:
            headers = dict(self._decoder.decode(payload, raw=True))
            if headers.get(b"grpc-status", b"0") != b"0":
                self._failed = CallFailed(headers)
        elif kind in {RESET, GOAWAY} and not self._over:
            raise RuntimeError(f"the server has given up: {payload!r}")
        elif kind in {SETTINGS, PING} and not flags & ACK:
            return _frame(kind, ACK, 0, payload if kind == PING else b"")
        if kind in {DATA, HEADERS} and flags & END_STREAM:
            self._over = True
        return b""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, _type: type[BaseException] | None, _error: BaseException | None, _where: TracebackType | None
    ) -> None:
        await self._stream.aclose()


def _frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return len(payload).to_bytes(3, "big") + bytes((kind, flags)) + stream.to_bytes(4, "big") + payload
