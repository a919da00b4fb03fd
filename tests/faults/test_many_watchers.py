"""Many who watch many runs: everybody sees everything in its order, whoever does not read costs nothing, and nobody holds up the end."""

import json
import signal
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import h11
import pytest
import trio

from palyra_trio.daemon import LAST_ROWS_S
from palyra_trio.pb import runs_pb2
from palyra_trio.pb.gateway_grpc import GatewayServiceStub
from palyra_trio.wire.h2_client import connect
from tests.faults.event_stream import EventStream, page, sign_in
from tests.faults.serving import HTTP, Server
from tests.transports.console.dom import apply, parse

pytestmark = pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="looks at processes in /proc")

MOST_KB = 150 * 1024
WORDS = 300
EACH_S = 0.01
PATIENCE_S = 60.0
DRAIN_S = 2
ENDING_S = 3.0  # for the process to end once all is drained; only a hang comes to it
TALKS = (
    {
        "deltas": [f"word{number} " for number in range(WORDS)],
        "delta_pause_s": EACH_S,
        "calls": [{"tool": "clock.now"}],
    },
    {"deltas": ["And ", "that ", "was ", "that."]},
)
GOES_ON = {"repeat": {"text": "and on ", "times": 1_000_000}, "delta_pause_s": 0.05}
LONG = {"repeat": {"text": "0123456789abcdef" * 64, "times": 8_000}}
LONG_KB = 96 * 1024  # a daemon that kept the text for each of these would need more than twice as much
EVENTS, PAGE, LATE_EVENTS, LATE_PAGE = "events", "page", "late events", "late page"
EAGER = (EVENTS, PAGE, EVENTS, PAGE)
LATE = (LATE_EVENTS, LATE_PAGE)
LAZY = (*[LATE_EVENTS] * 12, *[LATE_PAGE] * 4)
FOLLOWERS = len(EAGER) + 1  # of each run


async def begin(server: Server, agent: str, runs: int) -> list[runs_pb2.Accepted]:
    """Start runs, and stay with none of them."""
    accepted = []
    async with connect(await trio.open_unix_socket(str(server.shell.state_dir / "socket"))) as channel:
        stub = GatewayServiceStub(channel)  # type: ignore[arg-type]
        for _ in range(runs):
            async with stub.RunStream.open() as call:
                await call.send_message(runs_pb2.RunStreamRequest(start=server.new_run(agent)), end=True)
                response = await call.recv_message()
                assert response is not None
                accepted.append(response.accepted)
                await call.cancel()
    return accepted


async def signed_in(server: Server) -> str:
    """Return the cookie of another browser."""
    return await sign_in(server.http_port, server.authorization.removeprefix("Bearer "))


class Watchers:
    """Those who watch the runs of one server. Who is late reads nothing until `ended` is set."""

    def __init__(self, server: Server, cookie: str) -> None:
        self.server = server
        self.cookie = cookie  # of one who looks at a page now and then
        self.ended = trio.Event()
        self.most_kb = 0
        self.seen: list[str] = []
        self._saw = trio.Event()

    async def open(self, run: runs_pb2.Accepted, way: str) -> EventStream:
        path, headers = f"/api/v1/runs/{run.run_id}/events", {"Authorization": self.server.authorization}
        if way in (PAGE, LATE_PAGE):
            # Everybody has a browser of their own: one has five live pages.
            path, headers = f"/sessions/{run.session_id}/live", {"Cookie": await signed_in(self.server)}
        return await EventStream.open(self.server.http_port, path, headers, narrow=way in LATE)

    async def watch(self, run: runs_pb2.Accepted, way: str) -> None:
        """Follow a run to its end in one way or another, and see that nothing is missing."""
        async with await self.open(run, way) as stream:
            if way in LATE:
                await self.ended.wait()
            await (self._read_page(run, stream) if way in (PAGE, LATE_PAGE) else self._read_events(run, stream))
        self._see(way)

    async def _read_events(self, run: runs_pb2.Accepted, stream: EventStream) -> None:
        received = []
        while (event := await stream.next()) is not None:
            name, data, seq = event
            row = json.loads(data)
            received.append((int(seq), row["g"], name))
        recorded = await trio.to_thread.run_sync(self.server.recorded, run.run_id)
        assert [(seq, g) for seq, g, _ in received] == [row[:2] for row in recorded]
        assert received[-1][2] == "RunFinished"

    async def _read_page(self, run: runs_pb2.Accepted, stream: EventStream) -> None:
        shown, places = parse('<div id="transcript"></div>'), []
        while (end := shown.find(f"end-{run.run_id}")) is None or "state done" not in end.html():
            event = await stream.next()
            assert event is not None
            name, html, place = event
            if name == "beat":
                continue
            assert name == "update"
            apply(shown, html)
            places.append(int(dict(part.split(":") for part in place.split(","))[run.run_id]))
        assert places == sorted(set(places))
        reloaded = parse(await page(self.server.http_port, f"/sessions/{run.session_id}", self.cookie))
        ours, theirs = shown.find(f"blocks-{run.run_id}"), reloaded.find(f"blocks-{run.run_id}")
        assert ours is not None
        assert theirs is not None
        assert ours.html() == theirs.html()

    async def hang_on(self, run: runs_pb2.Accepted, way: str) -> None:
        """Follow a run for as long as there is a daemon, and read what comes, or nothing."""
        async with await self.open(run, way) as stream:
            if way in LATE:
                await self.ended.wait()
            await stream.next()
            self._see(way)
            with suppress(OSError, trio.BrokenResourceError, h11.RemoteProtocolError):
                while await stream.next() is not None:
                    pass

    async def let_the_late_read(self, others: int) -> None:
        """Once so many others have seen the end."""
        await self.until_seen(others)
        self.ended.set()

    def _see(self, way: str) -> None:
        self.seen.append(way)
        self._saw.set()
        self._saw = trio.Event()

    async def until_seen(self, count: int) -> None:
        while len(self.seen) < count:
            await self._saw.wait()

    async def measure(self) -> None:
        while True:
            self.most_kb = max(self.most_kb, self.server.rss_kb)
            await trio.sleep(0.1)


@asynccontextmanager
async def watched(tmp_path: Path, agent: str, *turns: dict[str, Any]) -> AsyncGenerator[Watchers]:
    """Serve an agent that plays `turns`, to somebody who has signed in."""
    server = Server.below(tmp_path, **HTTP, PALYRA_DAEMON__DRAIN_S=str(DRAIN_S))
    async with server.running():
        await server.define(agent, *turns)
        with trio.fail_after(PATIENCE_S):
            yield Watchers(server, await signed_in(server))
        assert server.tracebacks == []


@pytest.mark.parametrize("runs", [4, pytest.param(20, marks=pytest.mark.slow)])
async def test_everybody_sees_every_event_in_its_order(tmp_path: Path, runs: int) -> None:
    async with watched(tmp_path, "talks", *TALKS) as watchers, trio.open_nursery() as nursery:
        nursery.start_soon(watchers.measure)
        async with trio.open_nursery() as late, trio.open_nursery() as eager:
            for run in await begin(watchers.server, "talks", runs):
                for way in EAGER:
                    eager.start_soon(watchers.watch, run, way)
                late.start_soon(watchers.watch, run, LATE_PAGE)
            eager.start_soon(watchers.let_the_late_read, runs * len(EAGER))
        nursery.cancel_scope.cancel()
    assert len(watchers.seen) == runs * FOLLOWERS
    assert watchers.most_kb < MOST_KB


async def test_whoever_does_not_read_costs_nothing(tmp_path: Path) -> None:
    async with watched(tmp_path, "long", LONG) as watchers, trio.open_nursery() as nursery:
        [run] = await begin(watchers.server, "long", 1)
        for way in LAZY:
            nursery.start_soon(watchers.hang_on, run, way)
        before_kb = watchers.server.rss_kb
        await watchers.watch(run, EVENTS)
        while watchers.server.rss_kb - before_kb >= LONG_KB:  # for a moment there may be more, in the hand of a page
            await trio.sleep(0.1)
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("runs", [4, pytest.param(20, marks=pytest.mark.slow)])
async def test_the_end_comes_in_time_whoever_watches(tmp_path: Path, runs: int) -> None:
    async with watched(tmp_path, "goes-on", GOES_ON) as watchers, trio.open_nursery() as nursery:
        process = watchers.server.process
        assert process is not None
        for run in await begin(watchers.server, "goes-on", runs):
            for way in (*EAGER, LATE_PAGE):
                nursery.start_soon(watchers.hang_on, run, way)
        await watchers.until_seen(runs * len(EAGER))
        process.send_signal(signal.SIGTERM)
        with trio.fail_after(DRAIN_S + LAST_ROWS_S + ENDING_S):
            await trio.to_thread.run_sync(process.wait, abandon_on_cancel=True)
        assert process.returncode == 0
        nursery.cancel_scope.cancel()
