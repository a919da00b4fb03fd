from types import SimpleNamespace
from typing import Any

import aioquic
import pytest
from aioquic.buffer import Buffer
from aioquic.quic.connection import QuicConnectionError
from aioquic.quic.events import ConnectionTerminated, HandshakeCompleted, QuicEvent, StreamDataReceived, StreamReset
from aioquic.quic.packet import QuicFrameType
from aioquic.tls import Epoch

from palyra_trio.wire import quic_machine
from palyra_trio.wire.limits import Limits, QuicLimits
from palyra_trio.wire.quic_config import OpenTraces, client_configuration, server_configuration
from palyra_trio.wire.quic_machine import GAPS, HANDSHAKE_BYTES, WRITTEN_FOR, Machine, check_version
from tests.wire.quic import certified

CLIENT, SERVER = ("192.0.2.1", 1000), ("192.0.2.2", 2000)
LIMITS = Limits(streams=10, stream_window_bytes=40_000, connection_window_bytes=100_000)
TRIP_S = 0.01


def token(connection_id: bytes) -> bytes:
    return connection_id * 2


class Two:
    """A client and a server, whose datagrams take 10 ms, and the events that they gave and nobody has looked at."""

    def __init__(self, quic: QuicLimits | None = None) -> None:
        quic = quic or QuicLimits()
        self.now = 1.0
        configuration = client_configuration("localhost", certified().trust, None, LIMITS, quic, OpenTraces())
        self.client = Machine(configuration, LIMITS, quic)
        served = server_configuration(certified().identity, LIMITS, quic, OpenTraces())
        first = self.client.original_destination_connection_id
        self.server = Machine(served, LIMITS, quic, original_id=first, reset_token=token)
        self.cut = False  # whether nothing arrives
        self.largest = 0  # datagram
        self.client.connect(SERVER, self.now)
        self.pass_on(20)
        assert any(isinstance(event, HandshakeCompleted) for event in self.events(self.client))
        self.events(self.server)
        self.client.settle()
        self.server.settle()

    def pass_on(self, times: int) -> None:
        """Carry datagrams to and fro, with 10 ms for each way, and let timers ring."""
        for _ in range(times):
            for sender, receiver, source in ((self.client, self.server, CLIENT), (self.server, self.client, SERVER)):
                self.now += TRIP_S
                for each in (self.client, self.server):
                    timer = each.get_timer()
                    if timer is not None and timer <= self.now:
                        each.handle_timer(self.now)
                for data, _ in sender.datagrams_to_send(self.now) if sender._network_paths else []:
                    self.largest = max(self.largest, len(data))
                    if not self.cut:
                        receiver.receive_datagram(data, source, self.now)

    def wait(self, machine: Machine, most_s: float) -> float:
        """Let only a machine's timers ring, and its datagrams be lost, until it is over. Return how long that took."""
        began = self.now
        while not machine.is_over and self.now < began + most_s:
            timer = machine.get_timer()
            assert timer is not None
            self.now = max(self.now, timer)
            machine.handle_timer(self.now)
            machine.datagrams_to_send(self.now)
        return self.now - began

    def events(self, machine: Machine) -> list[QuicEvent]:
        return list(iter(machine.next_event, None))

    def received_bytes(self, machine: Machine, stream_id: int) -> int:
        events = [each for each in self.events(machine) if isinstance(each, StreamDataReceived)]
        return sum(len(each.data) for each in events if each.stream_id == stream_id)


def test_aioquic_is_the_version_that_its_private_parts_are_known_of() -> None:
    """When this fails, aioquic was changed: read what quic_machine overrides again, and run all of tests/wire."""
    assert aioquic.__version__ == WRITTEN_FOR
    check_version()


def test_another_version_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quic_machine.aioquic, "__version__", "9.9.9")
    with pytest.raises(RuntimeError, match=r"9\.9\.9"):
        check_version()


def test_a_peer_may_send_no_more_than_a_window_ahead_of_who_reads() -> None:
    two = Two()
    two.client.write(0, bytes(1_000_000))
    two.pass_on(60)
    assert two.received_bytes(two.server, 0) == LIMITS.stream_window_bytes
    assert two.server.credit(0, 30_000)
    two.pass_on(60)
    assert two.received_bytes(two.server, 0) == 30_000


def test_streams_together_may_not_send_more_than_the_connections_window_ahead() -> None:
    two = Two()
    for stream_id in (0, 4, 8, 12):
        two.client.write(stream_id, bytes(1_000_000))
    two.pass_on(100)
    events = [each for each in two.events(two.server) if isinstance(each, StreamDataReceived)]
    assert sum(len(each.data) for each in events) == LIMITS.connection_window_bytes
    for stream_id in (0, 4):
        two.server.credit(stream_id, 20_000)
    two.pass_on(100)
    events = [each for each in two.events(two.server) if isinstance(each, StreamDataReceived)]
    assert sum(len(each.data) for each in events) == 40_000


def test_a_small_part_of_a_window_is_not_worth_a_word() -> None:
    two = Two()
    two.client.write(0, bytes(20_000))
    two.pass_on(20)
    assert not two.server.credit(0, 5000)
    assert two.server.credit(0, 5000)


def test_what_was_lost_with_a_reset_does_not_count_for_ever() -> None:
    two = Two()
    for turn in range(10):
        stream_id = 4 * turn
        two.client.write(stream_id, bytes(30_000))
        two.cut = True
        two.pass_on(1)
        two.cut = False
        two.client.reset_stream(stream_id, 0x10C)
        while not (event := two.server.next_event()):
            two.pass_on(1)
        assert isinstance(event, StreamReset)
        two.server.credit_reset(stream_id)
        two.server.drop(stream_id, 0x10C)
        two.pass_on(10)
        assert not two.server._streams
    limit = two.server._local_max_data
    assert limit.value - limit.used == LIMITS.connection_window_bytes


def test_streams_are_limited_and_those_that_ended_make_room() -> None:
    two = Two()
    assert two.client.peer_max_streams == LIMITS.streams
    for stream_id in range(0, 4 * LIMITS.streams, 4):
        two.client.write(stream_id, b"x", end=True)
    two.pass_on(5)
    for stream_id in range(0, 4 * LIMITS.streams, 4):
        two.server.write(stream_id, b"y", end=True)
    two.pass_on(20)
    assert two.client.peer_max_streams >= 2 * LIMITS.streams - 2
    assert not two.client._streams
    assert not two.server._streams


def test_a_server_may_open_no_request() -> None:
    two = Two()
    two.server.write(1, b"x")
    two.pass_on(5)
    assert not [each for each in two.events(two.client) if isinstance(each, StreamDataReceived)]


def test_what_is_written_after_a_stream_is_over_goes_nowhere() -> None:
    two = Two()
    two.client.write(0, b"x", end=True)
    two.pass_on(3)
    two.server.drop(0, 0x100)
    two.pass_on(10)
    two.server.write(0, b"too late")
    two.client.drop(0, 0x100)
    assert two.server.held_bytes(0) == 0


def test_both_ends_export_the_same_and_other_connections_something_else() -> None:
    two, other = Two(), Two()
    assert two.client.export(b"a", 32) == two.server.export(b"a", 32)
    assert len({two.client.export(b"a", 32), two.client.export(b"b", 32), other.client.export(b"a", 32)}) == 3


def test_datagrams_grow_after_the_handshake_and_shrink_when_they_do_not_arrive() -> None:
    two = Two()
    assert two.largest == 1200
    two.client.write(0, bytes(30_000))
    two.pass_on(10)
    assert two.largest == QuicLimits().datagram_bytes
    two.cut = True
    two.client.write(0, bytes(10_000))
    two.pass_on(200)
    two.cut, two.largest = False, 0
    two.server.credit(0, 30_000)
    two.pass_on(100)
    assert two.received_bytes(two.server, 0) == 40_000
    assert two.largest == 1200


def test_a_path_that_comes_back_is_found_within_the_bound() -> None:
    two = Two(QuicLimits(probe_s=2))
    two.client.send_ping(1)
    two.pass_on(5)
    two.cut = True
    two.client.write(0, b"x")
    two.pass_on(int(20 / TRIP_S / 2))
    two.cut = False
    began = two.now
    while two.received_bytes(two.server, 0) == 0:
        two.pass_on(1)
    assert two.now - began < 2.1


def test_what_is_kept_is_what_waits_for_what_is_missing_and_what_is_not_acknowledged() -> None:
    two = Two()
    two.client.write(0, bytes(5000))
    (_, *late) = two.client.datagrams_to_send(two.now)
    for data, _ in late:
        two.server.receive_datagram(data, CLIENT, two.now)
    assert two.server.kept_bytes > sum(len(data) for data, _ in late)  # the gap takes memory, too
    assert two.client.kept_bytes == 5000
    assert two.server.moved_bytes == two.server.kept_bytes
    two.pass_on(50)
    assert (two.client.kept_bytes, two.server.kept_bytes) == (0, 0)
    assert (moved := two.server.moved_bytes) == 5000
    two.server.write(0, bytes(100))
    assert (two.server.kept_bytes, two.server.moved_bytes) == (100, moved + 100)


def test_why_a_peer_says_it_goes_is_told_without_what_a_terminal_would_obey() -> None:
    two = Two()
    two.client.close(0x100, reason_phrase="a\x1b[2J\nb" + "c" * 1000)
    two.pass_on(3)
    assert two.server.end.startswith("a\\u001b[2J ⏎ bccc")
    assert len(two.server.end) == 200


def test_silence_ends_a_connection() -> None:
    two = Two(QuicLimits(idle_s=30))
    assert 29 < two.wait(two.client, 100) < 31
    assert "Idle" in two.client.end


def test_a_reset_of_who_has_forgotten_ends_the_connection_and_other_datagrams_do_not() -> None:
    two = Two()
    (known, *_) = two.server.ids
    for reset in (b"\x40" + bytes(26) + bytes(16), b"\xc0" + bytes(26) + token(known), b"\x40" + token(known)[1:]):
        two.client.receive_datagram(reset, SERVER, two.now)
        assert not two.client.is_over
    two.client.receive_datagram(b"\x40" + bytes(26) + token(known), SERVER, two.now)
    assert two.client.is_over
    assert [type(each) for each in two.events(two.client)][-1] is ConnectionTerminated


def test_a_machine_that_is_made_to_forget_says_nothing() -> None:
    two = Two()
    two.client.write(0, b"x")
    two.client.forget("enough")
    assert two.client.datagrams_to_send(two.now) == []
    assert (two.client.is_over, two.client.end) == (True, "enough")


def test_an_answer_carries_the_acknowledgement_with_it() -> None:
    two = Two()
    two.pass_on(20)
    two.client.write(0, b"x", end=True)
    ((data, _),) = two.client.datagrams_to_send(two.now)
    two.server.receive_datagram(data, CLIENT, two.now)
    two.server.write(0, b"y", end=True)
    ((data, _),) = two.server.datagrams_to_send(two.now)
    two.client.receive_datagram(data, SERVER, two.now)
    assert not two.client.has_output()


@pytest.mark.parametrize("place", [0, HANDSHAKE_BYTES], ids=["begun and never ended", "far ahead of the rest"])
def test_tls_that_nobody_can_use_is_not_kept(place: int) -> None:
    """What is sent as TLS has no window: a peer could have 16 MB of a message kept, or with one byte half a MB of nothing."""
    two = Two()
    sender = two.client._crypto_streams[Epoch.ONE_RTT].sender
    if place:
        sender._buffer_start = sender._buffer_stop = place
        sender.write(b"x")
    else:
        sender.write(b"\x04\xff\xff\xff" + bytes(2 * HANDSHAKE_BYTES))
    two.pass_on(200)
    assert len(two.server.tls._receive_buffer) <= HANDSHAKE_BYTES
    assert not two.server._crypto_streams[Epoch.ONE_RTT].receiver._buffer
    assert "TLS has more than" in two.server.end


@pytest.mark.parametrize("level", ["of a stream", "of TLS"])
def test_gaps_are_bounded_for_each_of_them_costs_every_later_frame(level: str) -> None:
    server, taken = Two().server, 0
    context: Any = SimpleNamespace(epoch=Epoch.ONE_RTT, time=1.0)
    with pytest.raises(QuicConnectionError, match=f"more than {GAPS} gaps"):
        for number in range(1000):
            frame = Buffer(capacity=100)
            for each in ((0,) if level == "of a stream" else ()) + (1 + 2 * number, 1):
                frame.push_uint_var(each)
            frame.push_bytes(b"x")
            if level == "of a stream":
                server._handle_stream_frame(context, QuicFrameType.STREAM_BASE | 6, Buffer(data=frame.data))
            else:
                server._handle_crypto_frame(context, QuicFrameType.CRYPTO, Buffer(data=frame.data))
            taken += 1
    assert taken == GAPS + 1
