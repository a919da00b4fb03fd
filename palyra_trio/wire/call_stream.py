"""One stream of a connection, HTTP/2 or HTTP/3: what has arrived and is not read, what is queued and does not fit yet.

It is the Carrier of a call, on either end. Windows, frames and the socket are the connection's, behind `StreamPump`.
"""

from collections import deque
from typing import Protocol

import trio
from grpclib.const import Status
from grpclib.exceptions import GRPCError

from palyra_trio.core.errors import PalyraError
from palyra_trio.core.identity import Peer
from palyra_trio.wire.framing import PREFIX_BYTES, Chunks, MessageParser
from palyra_trio.wire.limits import Limits
from palyra_trio.wire.metadata import Headers, NotGrpc, RawHeaders


class StreamPump(Protocol):
    """What a stream asks of its connection. None of it waits."""

    limits: Limits
    unread_bytes: int  # of messages, on all streams

    @property
    def peer(self) -> Peer: ...

    def has_output(self, stream: "CallStream") -> None:
        """Give the stream a turn: it has bytes queued, or its end."""

    def send_headers(self, stream: "CallStream", headers: Headers) -> None:
        """Send headers before all that is queued."""

    def check_unread(self) -> None:
        """Return if what has arrived and is not read may stay. Raises Busy."""

    def hand_back(self, stream: "CallStream", flow_bytes: int) -> None:
        """Let the peer send as many bytes more."""

    def reset(self, stream: "CallStream", code: int | None = None) -> None:
        """Drop the stream in both directions, with the transport's code for a cancel or another one."""


class CallStream:
    """Made by the connection. `gone` is why neither side of it can be used any more; what arrived before can still be read."""

    def __init__(self, pump: StreamPump, stream_id: int) -> None:
        self.id = stream_id
        self.gone: GRPCError | None = None
        self.remote_ended = False
        self.local_ended = False
        self.response: RawHeaders | None = None
        self.trailers: RawHeaders | None = None
        self._pump = pump
        self._parser: MessageParser | Chunks = MessageParser(pump.limits.message_bytes)
        self._prefix_bytes = PREFIX_BYTES
        self._room_bytes = pump.limits.send_buffer_bytes
        self._messages: deque[bytes] = deque()
        self._malformed: GRPCError | PalyraError | None = None
        self._unread_bytes = 0  # flow-controlled, not handed back
        self._held_bytes = 0  # of messages, whole or begun, that nobody has read: their windows may be handed back
        self._waiting = False
        self._out = bytearray()
        self._last: Headers | None = None  # to send after _out; empty: the end alone
        self._arrived = trio.lowlevel.ParkingLot()
        self._moved = trio.lowlevel.ParkingLot()

    @property
    def peer(self) -> Peer:
        return self._pump.peer

    def limit_messages(self, limit_bytes: int) -> None:
        self._parser.limit(limit_bytes)

    def read_chunks(self) -> None:
        """Take what arrives as it comes, and not as messages: from the beginning, for what is no call."""
        self._parser = Chunks()
        self._prefix_bytes = 0

    def stop_sending(self) -> None:
        """The peer reads no more: drop what is queued. Whoever sends waits until the stream is gone."""
        self._out.clear()
        self._room_bytes = 0
        self.has_sent_all()

    # --- the call's side ---

    async def receive(self) -> bytes | None:
        await trio.lowlevel.checkpoint_if_cancelled()
        if not self._messages and not self._over():
            # A message may be larger than the window: who waits for one takes its parts as they come.
            self._hand_back(self._unread_bytes)
            self._waiting = True
            try:
                while not self._messages and not self._over():
                    await self._arrived.park()
            finally:
                self._waiting = False
        if self._messages:
            body = self._messages.popleft()
            self._hold(-(self._prefix_bytes + len(body)))
            self._hand_back(min(self._unread_bytes, self._prefix_bytes + len(body)))
            return body
        if error := self._malformed or (None if self.remote_ended else self.gone):
            raise error
        return None

    async def send(self, data: bytes) -> None:
        await trio.lowlevel.checkpoint_if_cancelled()
        while len(self._out) >= self._room_bytes and self.gone is None:
            await self._moved.park()
        self._require()
        self._out += data
        self._pump.has_output(self)

    async def begin(self) -> RawHeaders | None:
        """Return the peer's response headers when they have arrived, or None when they never will."""
        while self.response is None and not self._over():
            await self._arrived.park()
        return self.response

    def send_headers(self, headers: Headers) -> None:
        if self.gone is None:
            self._pump.send_headers(self, headers)

    def end(self, headers: Headers, *, drop: bool = False) -> None:
        if self.gone is not None:
            return
        if drop:
            self._out.clear()
        self._last = headers
        self._pump.has_output(self)

    async def drained(self) -> None:
        while self.gone is None and not self.local_ended:
            await self._moved.park()

    def reset(self, code: int | None = None) -> None:
        if self.gone is None:
            self._pump.reset(self, code)

    # --- the connection's side ---

    def has_arrived(self, data: bytes, flow_bytes: int) -> None:
        """Take a DATA frame's bytes; `flow_bytes` counts its padding too."""
        self._unread_bytes += flow_bytes
        if self._malformed is None:
            self._hold(len(data))
            try:
                self._pump.check_unread()
                self._messages.extend(self._parser.feed(data))
            except (GRPCError, PalyraError) as error:
                self._malformed = error
                self._parser = MessageParser(0)
                self._hold(sum(self._prefix_bytes + len(body) for body in self._messages) - self._held_bytes)
        if self._malformed is not None or (self._waiting and not self._messages):
            self._hand_back(self._unread_bytes)
        self._arrived.unpark_all()

    def has_headers(self, headers: RawHeaders) -> None:
        """Take the response's headers, and then its trailers."""
        if self.response is None:
            self.response = headers
        else:
            self.trailers = headers
        self._arrived.unpark_all()

    def has_ended(self) -> None:
        """The peer has sent its last byte."""
        if self._parser.unfinished_bytes and self._malformed is None:
            self._malformed = GRPCError(Status.INTERNAL, "the last message is cut short")
        self.remote_ended = True
        self._arrived.unpark_all()

    def is_gone(self, why: GRPCError) -> None:
        """The stream is closed. Whoever waits is told."""
        self._hold(-self._held_bytes)
        self.gone = why
        self._out.clear()
        self._hand_back(self._unread_bytes)
        self._arrived.unpark_all()
        self._moved.unpark_all()

    @property
    def queued_bytes(self) -> int:
        return len(self._out)

    @property
    def last(self) -> Headers | None:
        """What is to be sent after the queued bytes; None when more may come."""
        return self._last

    def take(self, most_bytes: int) -> bytes:
        """Return queued bytes for a DATA frame, and make room for as many."""
        with memoryview(self._out) as view:
            data = view[:most_bytes].tobytes()
        del self._out[:most_bytes]
        if len(self._out) < self._room_bytes:
            self._moved.unpark_all()
        return data

    def has_sent_all(self) -> None:
        """The last bytes and the end are with the socket."""
        self._last = None
        self.local_ended = True
        self._moved.unpark_all()

    def refuse(self, error: NotGrpc) -> None:
        """Answer a request that is no call's, in words."""
        headers = [(":status", str(error.http_status)), ("content-type", "text/plain; charset=utf-8")]
        self._pump.send_headers(self, headers)
        self._out += f"{error.text}\n".encode()
        self._last = []
        self._pump.has_output(self)

    # ---

    def _over(self) -> bool:
        return self.remote_ended or self.gone is not None or self._malformed is not None

    def _require(self) -> None:
        if self.gone is not None:
            raise self.gone

    def _hold(self, more_bytes: int) -> None:
        if self.gone is None:
            self._held_bytes += more_bytes
            self._pump.unread_bytes += more_bytes

    def _hand_back(self, flow_bytes: int) -> None:
        if flow_bytes:
            self._unread_bytes -= flow_bytes
            self._pump.hand_back(self, flow_bytes)
