"""Peers that mean harm, over UDP: what they cost the daemon, and what a client that means well notices of them."""

import os
import subprocess
import sys
from pathlib import Path
from statistics import median

import attrs
import pytest
import trio

from palyra_trio.pb.gateway_grpc import GatewayServiceStub
from palyra_trio.pb.gateway_pb2 import GetHealthRequest
from palyra_trio.pb.operations_grpc import OperationsServiceStub
from palyra_trio.pb.operations_pb2 import ListTasksRequest
from palyra_trio.wire import h2_client, h3_client
from palyra_trio.wire.quic_config import Trust
from tests.faults.serving import QUIC, Server
from tests.processes import ROOT

EVERY_S = 0.05
CALM_S = 1.0
COSTS_KB = 150_000  # at most, whoever comes and whatever they do: 1,024 connections of 100 KB, and what is said on them
SLOWER_S = 0.05  # at the median
WORST_S = 3.0  # nobody is starved, on a machine that the attacker shares
WITHIN_S = 900.0
FORGOTTEN_S = 90.0  # a connection that is silent is over after 60


@attrs.define
class Healthy:
    """How long a client that means well waits for answers, and what the daemon holds meanwhile."""

    waits_s: list[float] = attrs.Factory(list)
    peak_kb: int = 0

    async def ask(self, server: Server, channel: h3_client.H3Channel) -> None:
        """Ask again and again, until cancelled."""
        stub = GatewayServiceStub(channel)  # type: ignore[arg-type]
        metadata = {"authorization": server.authorization}
        while True:
            began = trio.current_time()
            await stub.GetHealth(GetHealthRequest(), metadata=metadata)
            self.waits_s.append(trio.current_time() - began)
            self.peak_kb = max(self.peak_kb, server.rss_kb)
            await trio.sleep(EVERY_S)

    def __str__(self) -> str:
        waits_ms = sorted(each * 1000 for each in self.waits_s)
        p99_ms = waits_ms[len(waits_ms) * 99 // 100]
        return f"p50 {median(waits_ms):.1f} ms, p99 {p99_ms:.1f} ms, longest {waits_ms[-1]:.1f} ms of {len(waits_ms)}"


@attrs.frozen
class Held:
    """What the daemon holds: tasks and open files."""

    tasks: int
    files: int


async def _held(server: Server) -> Held:
    assert server.process is not None
    socket = str(server.shell.state_dir / "socket")
    async with h2_client.connect(await trio.open_unix_socket(socket)) as channel:
        stub = OperationsServiceStub(channel)  # type: ignore[arg-type]
        lines = (await stub.ListTasks(ListTasksRequest())).lines
        return Held(len(lines), len(os.listdir(f"/proc/{server.process.pid}/fd")))


async def _attack(what: str, port: int, amount: int) -> str:
    """Run an attacker to its end, and return what it says that it has done."""
    command = [sys.executable, "-m", "tests.faults.hostile", what, str(port), str(amount), "1"]
    done = await trio.run_process(command, cwd=ROOT, capture_stdout=True, stderr=subprocess.STDOUT, check=False)
    said = done.stdout.decode()
    assert done.returncode == 0, said[-2000:]
    return said.splitlines()[-1]


async def _measure(server: Server, channel: h3_client.H3Channel, what: str, amount: int) -> tuple[Healthy, str]:
    healthy, said = Healthy(), ""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(healthy.ask, server, channel)
        if amount:
            said = await _attack(what, server.quic_port, amount)
        else:
            await trio.sleep(CALM_S)
        nursery.cancel_scope.cancel()
    return healthy, said


async def _forgets(server: Server, before: Held) -> float | None:
    """Return after how many seconds the daemon holds no more than before; None when it never does."""
    began = trio.current_time()
    while trio.current_time() < began + FORGOTTEN_S:
        held = await _held(server)
        if held.tasks <= before.tasks and held.files <= before.files:
            return trio.current_time() - began
        await trio.sleep(0.5)
    return None


@pytest.mark.parametrize(
    ("what", "amount", "waits"),
    [
        ("mutated", 10_000, True),
        ("sealed", 500, False),
        ("flood", 200, False),
        ("slow", 200, False),
        ("dropped", 60, False),
        pytest.param("mutated", 2_000_000, True, marks=pytest.mark.slow),
        pytest.param("sealed", 50_000, True, marks=pytest.mark.slow),
        pytest.param("flood", 50_000, True, marks=pytest.mark.slow),
        pytest.param("slow", 5_000, True, marks=pytest.mark.slow),
        pytest.param("dropped", 10_000, True, marks=pytest.mark.slow),
    ],
)
async def test_harm_is_bounded(tmp_path: Path, what: str, amount: int, waits: bool) -> None:
    server = Server.below(tmp_path, **QUIC)
    async with server.running():
        trust = Trust(ca=server.authority)
        with trio.fail_after(WITHIN_S):
            async with h3_client.connect("127.0.0.1", server.quic_port, trust=trust) as channel:
                calm, _ = await _measure(server, channel, what, 0)
                before, before_kb = await _held(server), server.rss_kb
                attacked, said = await _measure(server, channel, what, amount)
                assert channel.usable
                forgotten_s = await _forgets(server, before) if waits else None
                after_kb = server.rss_kb
                after, _ = await _measure(server, channel, what, 0)
    print(f"{said}; calm {calm}; attacked {attacked}; after {after}")
    print(
        f"RSS {before_kb} kB before, {attacked.peak_kb} kB at most, {after_kb} kB after; forgotten in {forgotten_s} s"
    )
    assert max(attacked.peak_kb, after_kb) - before_kb < COSTS_KB
    assert median(attacked.waits_s) < median(calm.waits_s) + SLOWER_S
    assert max(attacked.waits_s) < WORST_S
    assert server.tracebacks == []
    assert not waits or forgotten_s is not None
