"""The front door under faults, in a process of its own and over real sockets: what arrives is the tape, whatever breaks."""

import random
import shutil
import signal
import threading
from collections import Counter
from collections.abc import Awaitable, Callable
from itertools import cycle
from pathlib import Path

import attrs
import pytest
import trio
from grpclib.const import Status

from palyra_trio.cli.open import is_held
from palyra_trio.core.run import RunState
from palyra_trio.core.tape import ModelDelta
from palyra_trio.journal.check import check_file
from palyra_trio.pb.gateway_grpc import GatewayServiceStub
from palyra_trio.pb.runs_pb2 import RUN_STATE_DONE, RouteMessageRequest, RunStreamResponse, StartRun
from palyra_trio.wire.h2_client import connect
from tests.fakes import assert_journal
from tests.faults.cutting import Relay, cutting
from tests.faults.followers import CLIENTS, SILENCE_S, Client, Ended, Received
from tests.faults.serving import Server, processes_with

pytestmark = pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="looks at processes in /proc")

# --- 1: followers that are cut off, and a daemon that is killed ---

AT_ONCE = 4  # runs, with one follower of each kind
AGAIN_S = 0.05
LEAVES = 0.25  # of the calls are left by the client itself; the others meet the relay
LIVE_TURNS = (
    {"deltas": [f"{number} " for number in range(100)], "delta_pause_s": 0.004, "calls": [{"tool": "clock.now"}]},
    {"repeat": {"text": "0123456789abcdef", "times": 20_000}, "calls": [{"tool": "clock.now"}]},
    {"deltas": [f"{number} " for number in range(100)], "delta_pause_s": 0.004},
)
LARGE = 1 / 8  # of the runs have bodies that come in parts
LARGE_TURNS = ({"text": "large " * 300_000},)
# A run that a kill interrupted ends with FAILED_PRECONDITION after its last row, which a cut may have kept from the client.
BROKEN = {
    *(Status.UNAVAILABLE, Status.CANCELLED, Status.OK, Status.INTERNAL, Status.UNKNOWN, Status.FAILED_PRECONDITION),
}


@attrs.define
class Storm:
    """Followers against a server through a relay, and what became of them."""

    server: Server
    relay: Relay
    chance: random.Random
    kills_at: list[float]
    left: int = 0
    statuses: Counter[tuple[str, Status]] = attrs.Factory(Counter)
    received: list[tuple[str, Received]] = attrs.Factory(list)
    _killing: trio.Lock = attrs.Factory(trio.Lock)

    @property
    def disconnects(self) -> int:
        return self.relay.cuts + self.left

    async def follow(self, name: str, order: StartRun) -> None:
        """Follow a run until it ends or is not going on, over as many connections as it takes."""
        received = Received(order)
        metadata = {"authorization": self.server.authorization}

        while not received.over:
            most = len(received.rows) + self.chance.randint(1, 100) if self.chance.random() < LEAVES else None

            def heard(response: RunStreamResponse, most: int | None = most) -> bool:
                received.take(response)
                return not (received.over and not received.finished) and (most is None or len(received.rows) < most)

            status, _ = await CLIENTS[name](self.relay.port, metadata, received.request(), heard)
            self.statuses[name, status] += 1
            assert status in BROKEN, f"{name} got {status}, and has {len(received.rows)} rows of {order.run_id}"
            self.left += status is Status.CANCELLED and not received.over
            async with self._killing:
                await self._kill_if_due()
            if status is not Status.OK and not received.over:
                await trio.sleep(AGAIN_S)
        self.received.append((name, received))

    async def _kill_if_due(self) -> None:
        """Kill the server and start it again, when as many disconnects have passed. What was in line runs then."""
        if not self.kills_at or self.disconnects < self.kills_at[0]:
            return
        del self.kills_at[0]
        self.server.kill()
        await self.server.start()

    async def keep_running(self, until: int) -> None:
        """Start a run with three followers, and again, until there were as many disconnects."""
        while self.disconnects < until:
            order = self.server.new_run("large" if self.chance.random() < LARGE else "live")
            async with trio.open_nursery() as nursery:
                for name in CLIENTS:
                    nursery.start_soon(self.follow, name, order)


@pytest.mark.parametrize(("disconnects", "kills"), [(40, 1), pytest.param(1000, 20, marks=[pytest.mark.slow])])
async def test_followers_that_are_cut_off_receive_exactly_the_tape(
    tmp_path: Path, disconnects: int, kills: int
) -> None:
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    server = Server.below(tmp_path)
    async with server.running(), cutting(lambda: server.port, chance) as relay:
        await server.define("live", *LIVE_TURNS)
        await server.define("large", *LARGE_TURNS)
        kills_at = [(number + chance.random()) * disconnects / (kills + 1) for number in range(kills)]
        storm = Storm(server, relay, chance, kills_at)
        with trio.fail_after(60 + disconnects):
            async with trio.open_nursery() as nursery:
                for _ in range(AT_ONCE):
                    nursery.start_soon(storm.keep_running, disconnects)
        again = [received for _, received in storm.received if received.finished]
        rows = sum(len(each.rows) for _, each in storm.received)
        print(f"{storm.disconnects} disconnects, {kills} kills, {rows} rows; statuses {dict(storm.statuses)}")
        print(f"{len(storm.received)} followers, {len(again)} to the end")
        for name in CLIENTS:
            before = chance.choice(again)
            whole = await _follow_undisturbed(CLIENTS[name], server, before.order)
            assert whole.finished
            assert whole.rows == before.rows, name
        for name, received in storm.received:
            assert received.rows == server.recorded(received.order.run_id), name
    assert storm.disconnects >= disconnects
    assert storm.kills_at == []
    assert again
    assert check_file(server.shell.journal).faults == ()


async def _follow_undisturbed(client: Client, server: Server, order: StartRun) -> Received:
    received = Received(order)

    def heard(response: RunStreamResponse) -> bool:
        received.take(response)
        return True

    ended = await client(server.port, {"authorization": server.authorization}, received.request(), heard)
    assert ended == (Status.OK, ""), server.log
    return received


# --- 2: a reader that is slow ---

READS_BYTES_PER_S = 10_000
PIECE = "0123456789abcde " * 1024
OTHER_TURNS = ({"deltas": [f"{number} " for number in range(100)], "delta_pause_s": 0.005},)
COSTS_KB = 50_000
SLOWER = 1.5  # a shared machine is not steadier than that
SLOWER_S = 0.5


class _Slow(trio.abc.Stream):
    """A socket that is read at a fixed pace."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self._stream = stream
        self.socket = stream.socket
        self.taken_bytes = 0

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        data = bytes(await self._stream.receive_some(READS_BYTES_PER_S // 10))
        self.taken_bytes += len(data)
        await trio.sleep(len(data) / READS_BYTES_PER_S)
        return data

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await self._stream.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        await self._stream.wait_send_all_might_not_block()

    async def aclose(self) -> None:
        await self._stream.aclose()


@attrs.define
class _Measured:
    """Two runs beside each other: how long each took, and how much memory the daemon held at most."""

    large_s: float = 0
    other_s: float = 0
    peak_kb: int = 0


async def _timed(server: Server, order: StartRun, took: Callable[[float], None]) -> None:
    began = trio.current_time()
    async with connect(await trio.open_tcp_stream("127.0.0.1", server.port)) as channel:
        stub = GatewayServiceStub(channel)  # type: ignore[arg-type]
        reply = await stub.RouteMessage(
            RouteMessageRequest(start=order), metadata={"authorization": server.authorization}
        )
    assert reply.state == RUN_STATE_DONE, reply
    took(trio.current_time() - began)


async def _read_slowly(server: Server, received: Received, stream: _Slow) -> None:
    async with connect(stream) as channel:
        opened = GatewayServiceStub(channel).RunStream.open(metadata={"authorization": server.authorization})  # type: ignore[arg-type]
        async with opened as call:
            await call.send_message(received.request(), end=True)
            async for response in call:
                received.take(response)
    raise AssertionError("it was cut off, or did not read slowly")


async def _measure(server: Server, reader: Callable[[StartRun], Awaitable[None]]) -> _Measured:
    """Run something large with something small beside it, while `reader` follows the large one."""
    found = _Measured()
    order = server.new_run("large")

    async def watch() -> None:
        while True:
            found.peak_kb = max(found.peak_kb, server.rss_kb)
            await trio.sleep(0.02)

    async with trio.open_nursery() as beside:
        beside.start_soon(watch)
        beside.start_soon(reader, order)
        async with trio.open_nursery() as runs:
            runs.start_soon(_timed, server, order, lambda took_s: setattr(found, "large_s", took_s))
            other = server.new_run("other")
            runs.start_soon(_timed, server, other, lambda took_s: setattr(found, "other_s", took_s))
        beside.cancel_scope.cancel()
    return found


@pytest.mark.parametrize("mib", [64, pytest.param(1024, marks=pytest.mark.slow)])
async def test_a_slow_reader_slows_nobody_and_costs_little(tmp_path: Path, mib: int) -> None:
    server = Server.below(tmp_path)
    received: list[tuple[Received, _Slow]] = []

    async def nobody(order: StartRun) -> None:
        pass

    async def slowly(order: StartRun) -> None:
        plain = await trio.open_tcp_stream("127.0.0.1", server.port)
        received.append((Received(order), _Slow(plain)))
        await _read_slowly(server, *received[-1])

    try:
        async with server.running():
            await server.define("large", {"repeat": {"text": PIECE, "times": mib * 1024 * 1024 // len(PIECE)}})
            await server.define("other", *OTHER_TURNS)
            idle_kb = server.rss_kb
            alone = [await _measure(server, nobody)]
            before_kb = server.rss_kb
            followed = await _measure(server, slowly)
            alone.append(await _measure(server, nobody))
            for each, stream in received:
                print(f"the reader took {stream.taken_bytes} bytes in {followed.large_s:.1f} s, {len(each.rows)} rows")
                assert each.rows == server.recorded(each.order.run_id, len(each.rows))
                assert stream.taken_bytes > followed.large_s * READS_BYTES_PER_S / 4
    finally:
        shutil.rmtree(server.shell.state_dir)
    print(f"{mib} MiB; RSS {idle_kb} kB idle, {before_kb} kB before; alone {alone}, with a slow reader {followed}")
    assert followed.large_s < max(each.large_s for each in alone) * SLOWER + SLOWER_S
    assert followed.other_s < max(each.other_s for each in alone) * SLOWER + SLOWER_S
    assert followed.peak_kb - before_kb < COSTS_KB


# --- 3: the end of a daemon that is busy ---

STREAMS = 100
DRAIN_S = 1
HANGS = ({"text": "thinking", "hang": True},)
LEFT_BEHIND = {"journal.sqlite3", "lock", "token"}


async def _stay(server: Server, name: str, received: Received, begun: threading.Semaphore) -> tuple[Ended, float]:
    """Follow a run that hangs, say when it does, and return what the call ended with, and when."""

    def heard(response: RunStreamResponse) -> bool:
        received.take(response)
        if any(item.kind_number == ModelDelta.kind for item in response.batch.items):
            begun.release()
        return True

    ended = await CLIENTS[name](server.port, {"authorization": server.authorization}, received.request(), heard)
    return ended, trio.current_time()


async def test_a_daemon_that_is_told_to_stop_tells_every_client_and_leaves_nothing(tmp_path: Path) -> None:
    server = Server.below(tmp_path, PALYRA_DAEMON__DRAIN_S=str(DRAIN_S))
    streams = [(name, Received(server.new_run("hangs"))) for name, _ in zip(cycle(CLIENTS), range(STREAMS))]
    ended: list[tuple[str, Ended, float]] = []
    begun = threading.Semaphore(0)

    async def stay(name: str, received: Received) -> None:
        ended.append((name, *await _stay(server, name, received, begun)))

    async with server.running():
        await server.define("hangs", *HANGS)
        assert server.process is not None
        with trio.fail_after(60):
            async with trio.open_nursery() as nursery:
                for name, received in streams:
                    nursery.start_soon(stay, name, received)
                for _ in streams:
                    assert await trio.to_thread.run_sync(begun.acquire, True, SILENCE_S)
                told_at = trio.current_time()
                server.process.send_signal(signal.SIGTERM)
                exit_status = await trio.to_thread.run_sync(server.process.wait)
                gone_s = trio.current_time() - told_at
        last_s = max(at for _, _, at in ended) - told_at
    print(f"exit {exit_status} after {gone_s:.2f} s, last status after {last_s:.2f} s")
    assert exit_status == 0, server.log
    assert Counter((name, status) for name, (status, _), _ in ended) == Counter(
        (name, Status.FAILED_PRECONDITION) for name, _ in streams
    )
    assert all("was interrupted" in said for _, (_, said), _ in ended)
    assert last_s < DRAIN_S + 1
    assert {path.name for path in server.shell.state_dir.iterdir()} == LEFT_BEHIND
    assert not is_held(server.shell.state_dir)
    assert processes_with(str(server.shell.state_dir)) == []
    assert "Traceback" not in server.log
    for name, received in streams:
        # grpclib's client drops what it did not read yet when it hears GOAWAY.
        most = len(received.rows) if name == "grpclib" else None
        assert received.rows == server.recorded(received.order.run_id, most), name
    assert {(run.state, run.reason) for run in server.shell.runs()} == {(RunState.WAITING, "interrupted")}
    assert len(assert_journal(server.shell.state_dir, frozenset({RunState.WAITING}))) == STREAMS
