"""The calling end of HTTP/2: a channel on one connection, on which grpclib's generated stubs work as they are.

One connection, no reconnecting and no name resolution: who calls decides whether to try again, and where.
"""

import math
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import h2.events
import trio
from h2.errors import ErrorCodes

from palyra_trio.core.errors import PeerError
from palyra_trio.wire.call import ConnectionLost
from palyra_trio.wire.call_stream import CallStream
from palyra_trio.wire.client_call import USER_AGENT, Calling
from palyra_trio.wire.h2_connection import H2Pump
from palyra_trio.wire.limits import Limits
from palyra_trio.wire.metadata import Metadata, MetadataLike, is_grpc, request_headers, status_of
from palyra_trio.wire.peer import peer_of
from palyra_trio.wire.tls import handshake

UNTOLD_STREAMS = 100  # until the server has said how many: what every one should allow (RFC 9113, section 6.5.2)


@asynccontextmanager
async def connect(
    stream: trio.abc.Stream,
    *,
    authority: str = "localhost",
    metadata: MetadataLike = (),
    limits: Limits | None = None,
) -> AsyncGenerator["Channel", None]:
    """Speak gRPC on a connected stream; `metadata` goes with every call. Leaving the block drops all calls and the stream.

    Raises PeerError when the TLS handshake fails. A lost connection is told by its calls, as ConnectionLost. What the
    block raises leaves it as it is, not in a group.
    """
    failure: Exception | None = None
    try:
        limits = limits or Limits()
        with trio.move_on_after(limits.preface_s) as shaking:
            await handshake(stream)
        if shaking.cancelled_caught:
            raise PeerError(f"the TLS handshake took longer than {limits.preface_s:g} s", remedy="check the address")
        channel = Channel(stream, authority, metadata, limits)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(channel.run)
            try:
                yield channel
            except Exception as error:
                failure = error
            nursery.cancel_scope.cancel()
    finally:
        await trio.aclose_forcefully(stream)
    if failure is not None:
        raise failure


class Channel(H2Pump, Calling):
    """Calls on one connection. Beyond the streams that the server allows, they wait for their turn."""

    def __init__(self, stream: trio.abc.Stream, authority: str, metadata: MetadataLike, limits: Limits) -> None:
        H2Pump.__init__(self, stream, peer_of(stream), limits, client=True)
        Calling.__init__(self, metadata)
        self._authority = authority
        self._scheme = "https" if isinstance(stream, trio.SSLStream) else "http"
        self._turns = trio.lowlevel.ParkingLot()
        self._refusing = False
        self._farewell = "the connection is closed"
        self.ended = trio.Event()

    @property
    def usable(self) -> bool:
        """Whether the connection still takes calls."""
        return not self._refusing and not self._stopping

    async def run(self) -> None:
        """Read and write until the connection ends."""
        try:
            await super().run()
        finally:
            self._refusing = True
            self._turns.unpark_all()
            self.ended.set()

    async def open(self, method: str, deadline: float, metadata: Metadata) -> CallStream:
        """Send a request's headers as soon as the server allows one more stream. Raises ConnectionLost."""
        while not self._refusing and len(self.streams) >= self._most_streams():
            await self._turns.park()
        if not self.usable:
            raise ConnectionLost(self._farewell)
        timeout_s = max(0.0, deadline - trio.current_time())
        headers = request_headers(method, self._authority, self._scheme, timeout_s, USER_AGENT, metadata)
        stream = CallStream(self, self._h2.get_next_available_stream_id())
        self.streams[stream.id] = stream
        self.send_headers(stream, headers)
        return stream

    def _most_streams(self) -> int:
        return self._h2.remote_settings.max_concurrent_streams if self._greeted else UNTOLD_STREAMS

    def received(self, event: h2.events.Event) -> None:
        match event:
            case h2.events.ResponseReceived() | h2.events.TrailersReceived():
                if stream := self.streams.get(event.stream_id):
                    stream.has_headers(event.headers)
                    if isinstance(event, h2.events.ResponseReceived) and not is_grpc(event.headers):
                        self.reset(stream, ErrorCodes.CANCEL, status_of(event.headers))
            case h2.events.RemoteSettingsChanged():
                self._turns.unpark_all()
            case h2.events.ConnectionTerminated():
                self._refusing = True
                self._farewell = "the server takes no more calls on this connection"
                if event.additional_data:
                    self._farewell += f": {event.additional_data[:200].decode('utf-8', 'replace')}"
                self._turns.unpark_all()
                for stream in [each for each in self.streams.values() if each.id > (event.last_stream_id or 0)]:
                    self.close(stream, ConnectionLost(self._farewell))

    def closed(self, stream: CallStream) -> None:
        if self._stopping:
            self._refusing = True
        self._turns.unpark(count=math.inf if self._refusing else 1)

    def half_closed(self, stream: CallStream) -> None:
        if stream.remote_ended:  # the server has answered and reads no more
            self.reset(stream, ErrorCodes.CANCEL)
