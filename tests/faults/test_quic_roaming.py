"""A follower whose path changes in mid-run, a hundred times: its call goes on, and what arrives is the tape."""

from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
import trio
from grpclib.const import Status

from palyra_trio.pb.runs_pb2 import RunStreamResponse
from palyra_trio.wire.h3_client import H3Channel, connect
from palyra_trio.wire.quic_config import Trust
from tests.faults import netns
from tests.faults.followers import Received
from tests.faults.roaming import follow
from tests.faults.serving import QUIC, Server
from tests.faults.udp_relay import relaying

AGENT = "speaker"
EVERY_ROWS = 3  # there is another move
PAUSE_S = 0.02
SPARE = 3  # times as many rows as moves need: on a busy machine rows come in larger numbers
WITHIN_S = 120.0

moves = pytest.mark.parametrize("moves", [5, pytest.param(100, marks=[pytest.mark.slow])])

needs_namespaces = pytest.mark.skipif(netns.missing() is not None, reason=f"NOT RUN: {netns.missing()}")

Move = Callable[[H3Channel], Awaitable[None]]


async def _define(server: Server, moves: int) -> None:
    deltas = [f"{number} " for number in range((moves + 2) * EVERY_ROWS * SPARE)]
    await server.define(AGENT, {"deltas": deltas, "delta_pause_s": PAUSE_S})


async def _follow_and_move(server: Server, host: str, port: int, moves: int, move: Move) -> None:
    """Follow a run by one call to its end, and move after every few rows of it."""
    received = Received(server.new_run(AGENT))
    moved = 0

    def heard(response: RunStreamResponse) -> bool:
        nonlocal moved
        received.take(response)
        if moved < moves and len(received.rows) >= (moved + 1) * EVERY_ROWS:
            moved += 1
            nursery.start_soon(move, channel)
        return True

    with trio.fail_after(WITHIN_S):
        async with connect(host, port, trust=Trust(ca=server.authority)) as channel, trio.open_nursery() as nursery:
            metadata = {"authorization": server.authorization}
            ended = await follow(channel, metadata, received.request(), heard)
            assert ended == (Status.OK, "")
            assert channel.usable
    assert moved == moves
    assert received.finished
    assert received.rows == server.recorded(received.order.run_id)
    assert server.tracebacks == []


@moves
async def test_a_client_that_takes_other_ports_keeps_its_call(tmp_path: Path, moves: int) -> None:
    server = Server.below(tmp_path, **QUIC)
    async with server.running():
        await _define(server, moves)
        await _follow_and_move(server, "127.0.0.1", server.quic_port, moves, H3Channel.rebind)


@moves
async def test_a_client_behind_a_nat_that_forgets_keeps_its_call(tmp_path: Path, moves: int) -> None:
    server = Server.below(tmp_path, **QUIC)
    async with server.running(), relaying(lambda: server.quic_port) as relay:
        await _define(server, moves)
        await _follow_and_move(server, "127.0.0.1", relay.port, moves, lambda _: relay.rebind())
        assert relay.rebinds == moves


@needs_namespaces
@moves
@pytest.mark.parametrize("says_so", [True, False], ids=["it rebinds", "it is told nothing"])
async def test_a_client_that_moves_to_other_addresses_keeps_its_call(tmp_path: Path, moves: int, says_so: bool) -> None:
    with netns.two_hosts() as (near, far):
        server = Server.below(tmp_path, **QUIC, PALYRA_QUIC__HOST=far.address, PALYRA_GRPC__HOST=far.address)
        server.before = tuple(far.command())
        addresses = (f"192.0.2.{number}" for number in range(100, 100 + moves))

        async def move(channel: H3Channel) -> None:
            near.move_to(next(addresses))
            if says_so:
                await channel.rebind()

        async with server.running():
            await _define(server, moves)
            with near.entered():
                await _follow_and_move(server, far.address, server.quic_port, moves, move)
