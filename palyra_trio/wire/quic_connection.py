"""A QUIC connection on Trio, either end: aioquic decides, one task keeps its timer, and the endpoint brings and sends.

All but the timer happens where the datagrams arrive, without a task in between. What the streams carry is a subclass's.
"""

import logging
import math
from typing import Protocol

import trio
from aioquic.quic import events

from palyra_trio.core.identity import Peer
from palyra_trio.wire.limits import Limits
from palyra_trio.wire.quic_machine import Machine
from palyra_trio.wire.udp_port import Address

CHANNEL_BINDING = b"EXPORTER-Channel-Binding"  # RFC 9266
CHANNEL_BINDING_BYTES = 32
REFUSALS = 4  # in a row, and nothing heard in between, after which a connection is given up

_log = logging.getLogger(__name__)


class Sender(Protocol):
    """What a connection asks of its endpoint."""

    def send_soon(self, connection: "QuicPump") -> None: ...

    def send_now(self, connection: "QuicPump") -> None: ...

    def send(self, data: bytes, address: Address) -> None: ...

    def established(self, connection: "QuicPump") -> None: ...

    def listen_for(self, connection: "QuicPump", connection_id: bytes) -> None: ...

    def forget(self, connection: "QuicPump", connection_id: bytes) -> None: ...


class QuicPump:
    """The part that both ends share. A subclass says what events mean, and whether the silence of the peer is asked about."""

    def __init__(self, endpoint: Sender, machine: Machine, limits: Limits, address: Address) -> None:
        self.machine = machine
        self.limits = limits
        self.established = False
        self.at_work = False  # taking what has happened, or sending
        self._endpoint = endpoint
        self._address = address
        self._running = False
        self._stopping = False
        # The last moment of the handshake, and later that of what is still to be sent.
        self._stop_at = trio.current_time() + limits.preface_s
        self._code, self._why = 0, ""
        self._refusals = 0
        self._alarm = trio.CancelScope()
        self._nursery: trio.Nursery

    @property
    def peer(self) -> Peer:
        """Who is there; the address is where it was when it was last asked for."""
        host, port = (self.machine.get_peer_address() or self._address)[:2]
        return Peer(None, f"[{host}]:{port}" if ":" in host else f"{host}:{port}", self.machine.subject)

    @property
    def kept_bytes(self) -> int:
        """How much is kept of what has arrived and was not read, and of what is to be sent or not acknowledged."""
        return self.machine.kept_bytes

    @property
    def channel_binding(self) -> bytes:
        """What both ends of this connection know, and those of no other (RFC 9266). Only once it is established."""
        return self.machine.export(CHANNEL_BINDING, CHANNEL_BINDING_BYTES)

    async def run(self) -> None:
        """Keep the connection until either end, silence or `stop` ends it; all tasks of it end here.

        Nothing is raised but Cancelled, and then nothing is said.
        """
        try:
            async with trio.open_nursery() as self._nursery:
                self._running = True
                self._endpoint.send_soon(self)
                while not self.machine.is_over:
                    with trio.CancelScope(deadline=self._due()) as self._alarm:
                        await trio.sleep_forever()
                    self._ring(trio.current_time())
                self.lost(self.machine.end)
                self._nursery.cancel_scope.cancel()
        finally:
            self.machine.forget("it was cut")
            self.lost(self.machine.end)

    def receive(self, data: bytes, address: Address, now: float) -> None:
        """Take a datagram. Whatever is wrong with it ends no more than this connection."""
        self._refusals = 0
        try:
            self.machine.receive_datagram(data, address, now)
            self._take_events()
        except Exception as error:
            self._fail(error)
        self._endpoint.send_soon(self)

    def refused(self) -> None:
        """The system says that nobody listens at the other end. Anybody may have told it so, and so it is not believed at once."""
        self._refusals += 1
        if not self.established or self._refusals >= REFUSALS:
            self.give_up("nobody listens there")

    def give_up(self, why: str) -> None:
        """End the connection now, without a word."""
        self._stopping = True
        self.machine.forget(why)
        self._alarm.cancel()

    def transmit(self, now: float) -> None:
        """Send what there is to send, and set the timer. Before `run` nothing is sent: an answer could not be taken yet."""
        if not self._running:
            return
        self.at_work = True
        try:
            self.flush()
            for data, address in self.machine.datagrams_to_send(now):
                self._endpoint.send(data, address)
            self._take_events()
        except Exception as error:
            self._fail(error)
        self._set_alarm()

    def stop(self, code: int, why: str = "") -> None:
        """End the connection once the peer has what is queued, but after `flush_s` at the latest. Calls end now."""
        if not self._stopping:
            self._stopping = True
            self._code, self._why = code, why
            self._stop_at = trio.current_time() + self.limits.flush_s
            self.lost(why or "the connection was closed")
            self._close_if_done()
            self._endpoint.send_soon(self)

    def abort(self, code: int, why: str) -> None:
        """End the connection now: the peer has broken the rules, and is told which."""
        self._stopping = True
        self.machine.close(code, reason_phrase=why)
        self._stop_at = math.inf
        self._endpoint.send_soon(self)
        self.lost(why)

    # --- for the two ends ---

    def take(self, event: events.StreamDataReceived | events.StreamReset | events.StopSendingReceived) -> None:
        """Take what has happened on a stream."""
        raise NotImplementedError

    def handshake_done(self) -> None:
        """The handshake is done."""
        raise NotImplementedError

    def flush(self) -> None:
        """Give the machine what fits of all that is queued. Datagrams are made right after."""
        raise NotImplementedError

    def lost(self, why: str) -> None:
        """The connection is of no more use, or will soon not be; this may be said more than once."""
        raise NotImplementedError

    def is_wanted(self) -> bool:
        """Whether the peer's silence matters."""
        raise NotImplementedError

    # ---

    def _take_events(self) -> None:
        self.at_work = True
        while (event := self.machine.next_event()) is not None:
            match event:
                case events.StreamDataReceived() | events.StreamReset() | events.StopSendingReceived():
                    if not self.machine.is_closing:
                        self.take(event)
                case events.HandshakeCompleted():
                    self.established = True
                    self._endpoint.established(self)
                    self._stop_at = math.inf
                    self.machine.settle()
                    self.handshake_done()
                case events.ConnectionIdIssued():
                    self._endpoint.listen_for(self, event.connection_id)
                case events.ConnectionIdRetired():
                    self._endpoint.forget(self, event.connection_id)
                case events.ConnectionTerminated():
                    self._alarm.cancel()
        if self._stopping:
            self._close_if_done()
        elif self.machine.is_closing:
            self._stopping = True
            self.lost(self.machine.end)
        self.at_work = False

    def _close_if_done(self) -> None:
        if not self.machine.is_closing and not self.machine.has_output():
            self._close()

    def _close(self) -> None:
        self.machine.close(self._code, reason_phrase=self._why)
        self._stop_at = math.inf

    def _fail(self, error: Exception) -> None:
        _log.error("a connection to %s failed", self.peer.address, exc_info=error)
        self.give_up("it has failed")

    # --- silence and timers ---

    def _due(self) -> float:
        at = self.machine.get_timer()
        due = min(math.inf if at is None else at, self._stop_at)
        return min(due, self.machine.keepalive_at) if self._needs_keepalive() else due

    def _needs_keepalive(self) -> bool:
        return self.established and not self._stopping and self.is_wanted()

    def _set_alarm(self) -> None:
        if (due := self._due()) < self._alarm.deadline:
            self._alarm.deadline = due

    def _ring(self, now: float) -> None:
        """The alarm may be early: it was set for something that has happened since."""
        at = self.machine.get_timer()
        if at is not None and now >= at:
            self.machine.handle_timer(now)
        elif now >= self._stop_at:
            if self.established:
                self._close()
            else:
                self.machine.forget(f"nobody answered for {self.limits.preface_s:g} s")
        elif self._needs_keepalive() and now >= self.machine.keepalive_at:
            self.machine.send_keepalive(now)
        else:
            return
        self._take_events()
        self.transmit(now)
