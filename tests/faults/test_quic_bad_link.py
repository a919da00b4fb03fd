"""A follower over HTTP/3 at the end of a bad wire, which for a while carries nothing: no row is lost, and memory stays bounded."""

from collections.abc import Callable
from pathlib import Path

import attrs
import pytest
import trio
from grpclib.const import Status

from palyra_trio.core.errors import NoDaemon
from palyra_trio.pb.runs_pb2 import RunStreamResponse
from palyra_trio.wire.h3_client import connect
from palyra_trio.wire.quic_config import Trust
from tests.faults import netns
from tests.faults.followers import Received
from tests.faults.link import Badness
from tests.faults.roaming import follow
from tests.faults.serving import QUIC, Server

pytestmark = pytest.mark.skipif(netns.missing() is not None, reason=f"NOT RUN: {netns.missing()}")

AGENT = "speaker"
PAUSE_S = 0.02
WORDS = "some words of a model that goes on and on "
BAD = Badness(loss=0.05, delay_s=0.05, overtaking=0.1, duplication=0.02)
BLACK_HOLE = Badness(loss=1.0)
AGAIN_S = 0.2
COSTS_KB = 20_000
RECOVERS_S = 15.0  # after the wire carries again: a connection that has died is one handshake, which was backing off


@attrs.define
class Follower:
    """A run that is followed on as many connections as it takes."""

    server: Server
    host: str
    received: Received
    arrived: Callable[[float], None]
    connections: int = 0

    async def run(self) -> None:
        while not self.received.over:
            self.connections += 1
            try:
                async with connect(self.host, self.server.quic_port, trust=Trust(ca=self.server.authority)) as channel:
                    metadata = {"authorization": self.server.authorization}
                    status, words = await follow(channel, metadata, self.received.request(), self._heard)
            except NoDaemon:
                status, words = Status.UNAVAILABLE, ""
            assert status in {Status.OK, Status.UNAVAILABLE}, f"{status} {words}"
            if not self.received.over:
                await trio.sleep(AGAIN_S)

    def _heard(self, response: RunStreamResponse) -> bool:
        self.received.take(response)
        self.arrived(trio.current_time())
        return True


@pytest.mark.parametrize("hole_s", [3, pytest.param(30, marks=[pytest.mark.slow])])
async def test_a_bad_wire_loses_nothing(tmp_path: Path, hole_s: float) -> None:
    arrivals: list[float] = []
    with netns.two_hosts_apart() as (near, far, link):
        server = Server.below(tmp_path, **QUIC, PALYRA_QUIC__HOST=far.address, PALYRA_GRPC__HOST=far.address)
        server.before = tuple(far.command())
        async with server.running():
            speaks_s = hole_s * 2 + 4
            deltas = [f"{WORDS}{number} " for number in range(int(speaks_s / PAUSE_S))]
            await server.define(AGENT, {"deltas": deltas, "delta_pause_s": PAUSE_S})
            follower = Follower(server, far.address, Received(server.new_run(AGENT)), arrivals.append)
            before_kb, peak_kb = server.rss_kb, 0
            hole: list[float] = []

            async def watch() -> None:
                nonlocal peak_kb
                while True:
                    peak_kb = max(peak_kb, server.rss_kb)
                    await trio.sleep(0.1)

            async def worsen() -> None:
                await trio.sleep(2)
                link.become(BLACK_HOLE)
                hole.append(trio.current_time())
                await trio.sleep(hole_s)
                link.become(BAD)
                hole.append(trio.current_time())

            link.become(BAD)
            with near.entered(), trio.fail_after(60 + speaks_s):
                async with trio.open_nursery() as beside:
                    beside.start_soon(watch)
                    async with trio.open_nursery() as nursery:
                        nursery.start_soon(worsen)
                        await follower.run()
                    beside.cancel_scope.cancel()
    recovered_s = min(at for at in arrivals if at > hole[1]) - hole[1]
    rows = follower.received.rows
    print(f"{link.done}; {len(rows)} rows over {follower.connections} connections; black hole of {hole_s} s")
    print(f"the first row came {recovered_s:.2f} s after it; RSS {before_kb} kB before, {peak_kb} kB at most")
    assert follower.received.finished
    assert rows == server.recorded(follower.received.order.run_id)
    assert min(link.done[each] for each in ("lost", "duplicated", "overtaking")) > 0
    assert not [at for at in arrivals if hole[0] + 1 < at < hole[1]]
    assert recovered_s < RECOVERS_S
    assert peak_kb - before_kb < COSTS_KB
