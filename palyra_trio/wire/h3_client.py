"""The calling end of HTTP/3: a channel on one connection, on which grpclib's generated stubs work as they are.

The connection lives on when this machine's address changes. No reconnecting: who calls decides whether to try again.
"""

import socket
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager

import attrs
import trio
from aioquic.quic.packet import QuicErrorCode
from aioquic.tls import AlertDescription
from grpclib.const import Status
from grpclib.exceptions import GRPCError
from multidict import MultiDict

from palyra_trio.core.errors import NoDaemon, PeerError
from palyra_trio.wire.call import ConnectionLost
from palyra_trio.wire.call_stream import CallStream
from palyra_trio.wire.client_call import USER_AGENT, Calling
from palyra_trio.wire.h3_connection import H3Pump, H3Stream
from palyra_trio.wire.h3_frames import Code
from palyra_trio.wire.h3_headers import decode_response, decode_trailers
from palyra_trio.wire.limits import Limits, QuicLimits
from palyra_trio.wire.metadata import Headers, Metadata, MetadataLike, is_grpc, request_headers, status_of
from palyra_trio.wire.quic_config import Identity, Traces, Trust, client_configuration, fingerprint_of
from palyra_trio.wire.quic_dialer import QuicDialer
from palyra_trio.wire.quic_machine import Machine, check_version
from palyra_trio.wire.udp_port import Address

# A client has to know sooner than a server that its path is gone: it can take another one.
PATIENCE = QuicLimits(idle_s=30, keepalive_s=10)

_BAD_CERTIFICATE = QuicErrorCode.CRYPTO_ERROR + AlertDescription.bad_certificate
_NO_CERTIFICATE = QuicErrorCode.CRYPTO_ERROR + AlertDescription.certificate_required


@asynccontextmanager
async def connect(
    host: str,
    port: int,
    *,
    trust: Trust,
    identity: Identity | None = None,
    authority: str = "",
    metadata: MetadataLike = (),
    limits: Limits | None = None,
    quic: QuicLimits | None = None,
    traces: Traces | None = None,
) -> AsyncGenerator["H3Channel", None]:
    """Speak gRPC with a server over QUIC, showing it `identity` if it asks; `metadata` goes with every call. Leaving the block drops all calls.

    Raises NoDaemon when nobody answers within `preface_s`, and PeerError when one end does not trust the other. A lost connection is told by its calls, as ConnectionLost. What the block raises leaves it as it is, not in a
    group.
    """
    check_version()
    limits, quic, failure = limits or Limits(), quic or PATIENCE, None
    addresses = await _addresses(host, port)
    channel: H3Channel
    with (traces or Traces()).opened() as opened:
        configuration = client_configuration(host, trust, identity, limits, quic, opened)
        for place, address in enumerate(addresses):
            patience = attrs.evolve(limits, preface_s=limits.preface_s / (len(addresses) - place))
            dialer = QuicDialer(address, quic)
            machine = Machine(configuration, patience, quic)
            channel = H3Channel(dialer, machine, patience, address, authority or f"{host}:{port}", metadata, trust)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(channel.dial)
                try:
                    await channel.greeted.wait()
                    if channel.established:
                        yield channel
                except Exception as error:
                    failure = error
                finally:
                    channel.leave()
                nursery.cancel_scope.cancel()
            if channel.established:
                break
    if not channel.established:
        kind = PeerError if channel.machine.is_distrusted else NoDaemon
        raise kind(f"{host}:{port} does not answer over QUIC: {channel.farewell}", remedy="check the address")
    if failure is not None:
        raise failure


class H3Channel(H3Pump, Calling):
    """Calls on one connection. Beyond the streams that the server allows, they wait for their turn."""

    def __init__(
        self,
        dialer: QuicDialer,
        machine: Machine,
        limits: Limits,
        address: Address,
        authority: str,
        metadata: MetadataLike,
        trust: Trust,
    ) -> None:
        H3Pump.__init__(self, dialer, machine, limits, (*address, 0))
        Calling.__init__(self, metadata)
        self.greeted = trio.Event()  # by the server, or not to be any more
        self.ended = trio.Event()
        self.farewell = ""
        self._dialer = dialer
        self._authority = authority
        self._trust = trust
        self._turns = trio.lowlevel.ParkingLot()
        self._refusing = False

    @property
    def usable(self) -> bool:
        """Whether the connection still takes calls."""
        return not self._refusing and not self._stopping

    @property
    def fingerprint(self) -> str:
        """The SHA-256 (hex) of the server's certificate."""
        certificate = self.machine.peer_certificate
        return "" if certificate is None else fingerprint_of(certificate)

    async def dial(self) -> None:
        """Connect, and read and write until the connection ends."""
        try:
            self.machine.connect(self._address, trio.current_time())
            self._dialer.send_soon(self)
            await self._dialer.run(self)
        except OSError as error:
            self.machine.forget(str(error))
        finally:
            self.lost(self.machine.end)
            self.ended.set()

    def leave(self) -> None:
        """Say goodbye."""
        self.machine.close(Code.NO_ERROR)
        self.transmit(trio.current_time())

    async def rebind(self, address: str = "") -> None:
        """Go on from another local port, and address if one is given, as after a change of network. Calls notice nothing.

        Raises OSError when the address is not one of this machine; then all stays as it was.
        """
        self._dialer.rebind(address)
        self.machine.change_connection_id()  # RFC 9000, section 9.5: observers cannot link the two paths
        self.machine.send_ping(0)  # the server learns of it from us, also when nobody has anything to say
        self._dialer.send_soon(self)
        await trio.lowlevel.checkpoint()

    async def open(self, method: str, deadline: float, metadata: Metadata) -> CallStream:
        """Send a request's headers as soon as the server allows one more stream. Raises ConnectionLost."""
        stream = await self._open()
        timeout_s = max(0.0, deadline - trio.current_time())
        self.send_headers(stream, request_headers(method, self._authority, "https", timeout_s, USER_AGENT, metadata))
        return stream

    @asynccontextmanager
    async def fetch(
        self, method: str, path: str, headers: Headers | None = None, body: bytes = b""
    ) -> AsyncGenerator["Response", None]:
        """Make a plain HTTP request. Raises GRPCError, and ConnectionLost among them, when there is no response."""
        stream = await self._open()
        stream.read_chunks()
        stream.plain = True
        pseudo = [(":method", method), (":scheme", "https"), (":authority", self._authority), (":path", path)]
        self.send_headers(stream, [*pseudo, *(headers or [])])
        try:
            if body:
                await stream.send(body)
            stream.end([])
            if await stream.begin() is None:
                raise stream.gone or GRPCError(Status.INTERNAL, "there was no response")
            yield Response(stream)
        finally:
            stream.reset()

    async def _open(self) -> H3Stream:
        while not self._refusing and self._turns_left() <= 0:
            await self._turns.park()
        if not self.usable:
            raise ConnectionLost(self.farewell)
        stream = H3Stream(self, self.machine.get_next_available_stream_id())
        self.streams[stream.id] = stream
        return stream

    def _turns_left(self) -> int:
        return self.machine.peer_max_streams - self.machine.get_next_available_stream_id() // 4

    def _refuse(self) -> None:
        self._refusing = True
        self._turns.unpark_all()

    def handshake_done(self) -> None:
        if self._trust.fingerprint and self.fingerprint != self._trust.fingerprint:
            why = f"the certificate has the SHA-256 {self.fingerprint}, and {self._trust.fingerprint} is pinned"
            self.abort(_BAD_CERTIFICATE, why)
            return
        if self.machine.lacks_certificate:
            self.abort(_NO_CERTIFICATE, "the server asks for a client certificate")
            return
        super().handshake_done()
        self._greet()

    def _greet(self) -> None:
        if self.established and not self.machine.awaits_verdict:
            self.greeted.set()

    def flush(self) -> None:
        super().flush()
        if not self.greeted.is_set():
            self._greet()
        if self._turns and (left := self._turns_left()) > 0:
            self._turns.unpark(count=left)

    def lost(self, why: str) -> None:
        self.farewell = self.farewell or why or "the connection was closed"
        self._refuse()
        self.established &= self.greeted.is_set()
        self.greeted.set()
        super().lost(self.farewell)

    def is_wanted(self) -> bool:
        return True

    def opened(self, stream_id: int) -> None:
        return None

    def headers(self, stream: H3Stream, block: bytes) -> bool:
        if stream.sections:
            stream.has_headers(decode_trailers(self.codec, block))
            return True
        headers = decode_response(self.codec, block)
        if dict(headers)[b":status"].startswith(b"1"):
            return False
        stream.has_headers(headers)
        if not stream.plain and not is_grpc(headers):
            self.reset(stream, Code.REQUEST_CANCELLED, status_of(headers))
        return True

    def going_away(self, first_id: int) -> None:
        self.farewell = "the server takes no more calls on this connection"
        self._refuse()
        for stream in [each for each in self.streams.values() if each.id >= first_id]:
            self.reset(stream, Code.REQUEST_CANCELLED, ConnectionLost(self.farewell))

    def closed(self, stream: CallStream) -> None:
        """Another call's turn comes with what the server allows next."""

    def half_closed(self, stream: H3Stream) -> None:
        if stream.remote_ended:  # the server has answered and reads no more
            self.reset(stream, Code.NO_ERROR, GRPCError(Status.OK))

    def stopped(self, stream: H3Stream, code: int) -> None:
        stream.stop_sending()


class Response:
    """A plain response: its head, and its body in parts as they come."""

    def __init__(self, stream: CallStream) -> None:
        self.headers = MultiDict(
            (name.decode("latin-1"), value.decode("latin-1")) for name, value in stream.response or ()
        )
        self.status = int(self.headers[":status"])
        self._stream = stream

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        if (part := await self._stream.receive()) is None:
            raise StopAsyncIteration
        return part

    async def read(self) -> bytes:
        """Return what is left of the body."""
        return b"".join([part async for part in self])


async def _addresses(host: str, port: int) -> list[Address]:
    try:
        found = await trio.socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)
    except OSError as error:
        raise NoDaemon(f"{host} cannot be found: {error}", remedy="check the address") from error
    return list(dict.fromkeys(each[4] for each in found))
