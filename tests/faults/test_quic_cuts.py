"""Followers that change between HTTP/3 and HTTP/2 while both are cut and the daemon is killed: what arrives is the tape."""

import random
import socket
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import attrs
import pytest
import trio
from grpclib.const import Status

from palyra_trio.journal.check import check_file
from palyra_trio.pb.runs_pb2 import RunStreamResponse, StartRun
from tests.faults.cutting import Relay, cutting
from tests.faults.followers import Client, Received, over_our_own
from tests.faults.roaming import over_quic
from tests.faults.serving import QUIC, Server
from tests.faults.udp_relay import UdpRelay, relaying

AT_ONCE = 8  # runs, with one follower each
AGAIN_S = 0.05
LEAVES = 0.25  # of the calls are left by the client itself; the others meet a relay
LIVE = "live"
TURNS = (
    {"deltas": [f"{number} " for number in range(100)], "delta_pause_s": 0.004, "calls": [{"tool": "clock.now"}]},
    {"repeat": {"text": "0123456789abcdef", "times": 20_000}, "calls": [{"tool": "clock.now"}]},
    {"deltas": [f"{number} " for number in range(100)], "delta_pause_s": 0.004},
)
# A run that a kill interrupted ends with FAILED_PRECONDITION after its last row, which a cut may have kept from the client.
# A busy machine may take no new run for a while, and says RESOURCE_EXHAUSTED.
BROKEN = {
    *(Status.UNAVAILABLE, Status.CANCELLED, Status.OK, Status.INTERNAL, Status.FAILED_PRECONDITION),
    Status.RESOURCE_EXHAUSTED,
}


@attrs.define
class Storm:
    """Followers against a daemon through two relays, and what became of them."""

    server: Server
    tcp: Relay
    udp: UdpRelay
    chance: random.Random
    kills_at: list[float]
    left: int = 0
    switches: int = 0
    statuses: Counter[tuple[str, Status]] = attrs.Factory(Counter)
    received: list[Received] = attrs.Factory(list)
    _killing: trio.Lock = attrs.Factory(trio.Lock)

    @property
    def cuts(self) -> int:
        return self.tcp.cuts + self.udp.cuts + self.left

    @property
    def _ways(self) -> Mapping[str, tuple[Client, int]]:
        return {"h2": (over_our_own, self.tcp.port), "quic": (over_quic(self.server.authority), self.udp.port)}

    async def keep_running(self, until: int) -> None:
        """Start a run and follow it, and again, until there were as many cuts."""
        while self.cuts < until:
            await self._follow(self.server.new_run(LIVE))

    async def _follow(self, order: StartRun) -> None:
        """Follow a run until it ends or is not going on, each time by a way that chance picks."""
        received = Received(order)
        before = ""
        while not received.over:
            way = self.chance.choice(("h2", "quic"))
            self.switches += bool(before) and way != before
            before = way
            await self._call(way, received)
        self.received.append(received)

    async def _call(self, way: str, received: Received) -> None:
        most = len(received.rows) + self.chance.randint(1, 100) if self.chance.random() < LEAVES else None

        def heard(response: RunStreamResponse) -> bool:
            received.take(response)
            return not (received.over and not received.finished) and (most is None or len(received.rows) < most)

        client, port = self._ways[way]
        status, words = await client(port, {"authorization": self.server.authorization}, received.request(), heard)
        self.statuses[way, status] += 1
        assert status in BROKEN, f"over {way}: {status} {words}, with {len(received.rows)} rows"
        self.left += status is Status.CANCELLED and not received.over
        async with self._killing:
            await self._kill_if_due()
        if status is not Status.OK and not received.over:
            await trio.sleep(AGAIN_S)

    async def _kill_if_due(self) -> None:
        if self.kills_at and self.cuts >= self.kills_at[0]:
            del self.kills_at[0]
            self.server.kill()
            await self.server.start()


@pytest.mark.parametrize(("cuts", "kills"), [(16, 1), pytest.param(1000, 50, marks=[pytest.mark.slow])])
async def test_followers_that_change_their_transport_receive_exactly_the_tape(
    tmp_path: Path, cuts: int, kills: int
) -> None:
    seed = random.randrange(1 << 32)
    chance = random.Random(seed)
    server = Server.below(tmp_path, **QUIC | {"PALYRA_QUIC__PORT": str(_free_port())})
    kills_at = [(number + chance.random()) * cuts / (kills + 1) for number in range(kills)]
    async with server.running():
        await server.define(LIVE, *TURNS)
        async with (
            cutting(lambda: server.port, chance) as tcp,
            relaying(lambda: server.quic_port, chance) as udp,
        ):
            storm = Storm(server, tcp, udp, chance, kills_at)
            with trio.fail_after(60 + cuts):
                async with trio.open_nursery() as nursery:
                    for _ in range(AT_ONCE):
                        nursery.start_soon(storm.keep_running, cuts)
        rows = sum(len(each.rows) for each in storm.received)
        print(f"seed {seed}: {tcp.cuts} cuts over h2, {udp.cuts} over quic, {storm.left} left, {kills} kills")
        print(f"{len(storm.received)} runs, {storm.switches} switches, {rows} rows; {dict(storm.statuses)}")
        for received in storm.received:
            assert received.rows == server.recorded(received.order.run_id)
    assert storm.cuts >= cuts
    assert udp.cuts
    assert tcp.cuts
    assert storm.switches
    assert storm.kills_at == []
    assert any(received.finished for received in storm.received)
    assert server.tracebacks == []
    assert check_file(server.shell.journal).faults == ()


def _free_port() -> int:
    """Return a UDP port of localhost: the next daemon has it too, so that it can tell the last one's clients."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port
