"""A QUIC client that says what it likes on its streams, and keeps what the server says: for peers that break the rules."""

from collections import defaultdict
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import trio
from aioquic.quic import events

from palyra_trio.wire.h3_frames import Frame, StreamKind, encode_number, encode_settings, request_reader
from palyra_trio.wire.h3_headers import HeaderCodec
from palyra_trio.wire.limits import Limits, QuicLimits
from palyra_trio.wire.metadata import Headers, request_headers
from palyra_trio.wire.quic_config import OpenTraces, client_configuration
from palyra_trio.wire.quic_connection import QuicPump
from palyra_trio.wire.quic_dialer import QuicDialer
from palyra_trio.wire.quic_machine import Machine
from tests.wire.quic import certified

WITHIN_S = 40  # a server that never answers fails the test, also one in which silence is what is tested


def headers_of(method: str) -> Headers:
    return request_headers(f"/tests.wire.Echo/{method}", "x", "https", float("inf"), "raw", {})


class Raw(QuicPump):
    """`machine` makes the datagrams. What arrives is not acted on."""

    def __init__(self, port: int, quic: QuicLimits | None = None) -> None:
        quic = quic or QuicLimits()
        address = ("127.0.0.1", port)
        self.dialer = QuicDialer(address, quic)
        limits = Limits()
        configuration = client_configuration("localhost", certified().trust, None, limits, quic, OpenTraces())
        super().__init__(self.dialer, Machine(configuration, limits, quic), limits, (*address, 0))
        self.codec = HeaderCodec(limits.header_bytes)
        self.got: defaultdict[int, bytearray] = defaultdict(bytearray)
        self.ended: set[int] = set()
        self.resets: dict[int, int] = {}
        self.stops: dict[int, int] = {}
        self.ready = trio.Event()
        self.over = trio.Event()
        self.heard = trio.Event()  # something; replaced each time

    async def dial(self) -> None:
        self.machine.connect(self._address, trio.current_time())
        self.dialer.send_soon(self)
        await self.dialer.run(self)

    def say(self, stream_id: int, data: bytes, *, end: bool = False) -> None:
        self.machine.write(stream_id, data, end=end)
        self.dialer.send_soon(self)

    def ask(self, stream_id: int, method: str) -> None:
        """Send a request's headers."""
        self.say(stream_id, self.codec.encode(headers_of(method)))

    def greet(self) -> None:
        """Open the control stream."""
        self.say(2, encode_number(StreamKind.CONTROL) + encode_settings(1000))

    def push(self) -> None:
        """Send what was asked of the machine."""
        self.dialer.send_soon(self)

    async def push_out(self) -> None:
        """Send all that was asked of the machine so far, before what is asked of it next."""
        self.transmit(trio.current_time())
        await trio.lowlevel.checkpoint()

    async def until(self, stream_id: int) -> None:
        """Wait until a stream has ended or was reset by the server, or the connection is over."""
        with trio.fail_after(WITHIN_S):
            while not (stream_id in self.ended or stream_id in self.resets or self.over.is_set()):
                await self.heard.wait()

    async def told(self) -> int:
        """Wait until the server has ended the connection, and return the code that it gave."""
        with trio.fail_after(WITHIN_S):
            await self.over.wait()
        event = self.machine._close_event
        assert event is not None
        return event.error_code

    def answer(self, stream_id: int) -> list[dict[bytes, bytes]]:
        """Return the header sections of a response."""
        frames = request_reader(1 << 20).feed(bytes(self.got[stream_id]))
        return [dict(self.codec._decoder.feed_header(0, data)[1]) for kind, data in frames if kind == Frame.HEADERS]

    def take(self, event: events.StreamDataReceived | events.StreamReset | events.StopSendingReceived) -> None:
        match event:
            case events.StreamDataReceived(data, ended, stream_id):
                self.got[stream_id] += data
                if ended:
                    self.ended.add(stream_id)
            case events.StreamReset(code, stream_id):
                self.resets[stream_id] = code
            case events.StopSendingReceived(code, stream_id):
                self.stops[stream_id] = code
        self._tell()

    def handshake_done(self) -> None:
        self.ready.set()

    def flush(self) -> None:
        pass

    def lost(self, why: str) -> None:
        self.over.set()
        self._tell()

    def is_wanted(self) -> bool:
        return False

    def _tell(self) -> None:
        self.heard.set()
        self.heard = trio.Event()


@asynccontextmanager
async def raw_client(port: int, quic: QuicLimits | None = None, *, greeted: bool = True) -> AsyncGenerator[Raw, None]:
    """Connect; with the control stream opened, unless it is not to be."""
    raw = Raw(port, quic)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(raw.dial)
        with trio.fail_after(WITHIN_S):
            await raw.ready.wait()
        if greeted:
            raw.greet()
        yield raw
        nursery.cancel_scope.cancel()
