"""How fast a finished tape reaches its followers, beside servers that send the same rows out of memory.

Ours reads the journal, checks the token and the run, and says how the run ended; the peers only send.
"""

import tempfile
import time
from collections import defaultdict
from contextlib import ExitStack
from importlib.util import find_spec
from pathlib import Path
from statistics import median

import attrs
import trio

from bench.follower import RUN_STREAM, Follower
from bench.report import Bar, Figures, progress
from bench.served import Served, daemon, serving
from bench.tapes import write_tapes
from palyra_trio.pb import runs_pb2

TAPES_EACH = {1: 8, 50: 1}  # of a follower, one after another, for a measurement of about a second
OURS = "palyra-trio"
UNBATCHED = "grpcio aio, an event a message"
GRPCIO = "grpcio aio, batches"
GRPCLIB = "grpclib on uvloop, batches"
BATCHED = (GRPCIO, GRPCLIB)


@attrs.frozen
class Contestant:
    """A server and its method. It is asked for the last 1/`part` of each tape: the slow one would keep the others waiting."""

    served: Served
    method: str
    part: int = 1


def compare(tapes: int, rows: int, rounds: int) -> tuple[list[Bar], dict[str, Figures]]:
    """Let 1 and 50 followers catch up with tapes of so many rows, all contestants in turn, and return the medians."""
    found: dict[str, dict[str, list[float]]] = {name: defaultdict(list) for name in (OURS, UNBATCHED, *BATCHED)}
    with tempfile.TemporaryDirectory() as folder, ExitStack() as processes:
        home = Path(folder)
        run_ids = write_tapes(home / "state", tapes, rows)
        contestants = _start(processes, home, run_ids)
        for number in range(rounds + 1):
            for followers, each in TAPES_EACH.items():
                for name, contestant in contestants.items():
                    figures = follow(contestant, run_ids, rows, followers, each)
                    if not number:  # one round to warm the caches
                        continue
                    for what, value in figures.items():
                        found[name][f"{what}, {_of(followers)}"].append(value)
                    speed = f"{figures['events/s']:,.0f} events/s"
                    progress(f"catch-up, round {number} of {rounds}: {name}, {_of(followers)}: {speed}")
    peers: dict[str, Figures] = {
        name: {what: median(values) for what, values in each.items()} for name, each in found.items()
    }
    return _bars(peers), peers


def _start(processes: ExitStack, home: Path, run_ids: list[str]) -> dict[str, Contestant]:
    given = [str(home / "state"), *run_ids]
    contestants = {OURS: Contestant(processes.enter_context(daemon(home)), RUN_STREAM)}
    if find_spec("grpc"):
        grpcio = processes.enter_context(serving("bench.peers.tape_grpcio", *given))
        contestants[UNBATCHED] = Contestant(grpcio, "/bench.Tapes/Single", part=10)
        contestants[GRPCIO] = Contestant(grpcio, "/bench.Tapes/Batched")
    if find_spec("uvloop"):
        grpclib = processes.enter_context(serving("bench.peers.tape_grpclib", *given))
        contestants[GRPCLIB] = Contestant(grpclib, "/bench.Tapes/Batched")
    return contestants


def _bars(peers: dict[str, Figures]) -> list[Bar]:
    bars = []
    for followers in TAPES_EACH:
        what = f"events/s, {_of(followers)}"
        of_unbatched, of_best = _ratio(peers, what, [UNBATCHED]), _ratio(peers, what, BATCHED)
        bars.append(Bar(f"catch-up, ratio to unbatched grpcio, {_of(followers)}", of_unbatched, "x", 2))
        bars.append(Bar(f"catch-up, ratio to the best batching peer, {_of(followers)}", of_best, "x", 0.6))
    return bars


def _ratio(peers: dict[str, Figures], what: str, others: "list[str] | tuple[str, ...]") -> float | None:
    speeds = [peers[name].get(what) for name in (OURS, *others)]
    numbers = [speed for speed in speeds if isinstance(speed, float)]
    return numbers[0] / max(numbers[1:]) if len(numbers) == len(speeds) else None


def follow(contestant: Contestant, run_ids: list[str], rows: int, followers: int, tapes_each: int) -> dict[str, float]:
    """Return events/s, what they cost the server, and how busy this client was, over `followers` connections at once."""
    cpu_began = contestant.served.cpu_s()
    elapsed_s, client_s = trio.run(_follow, contestant, run_ids, rows, followers, tapes_each)
    events = rows // contestant.part * followers * tapes_each
    cpu_s = contestant.served.cpu_s() - cpu_began
    return {
        "events/s": events / elapsed_s,
        "CPU us/event": cpu_s / events * 1e6,
        "client busy %": client_s / elapsed_s * 100,
    }


async def _follow(
    contestant: Contestant, run_ids: list[str], rows: int, followers: int, tapes_each: int
) -> tuple[float, float]:
    wanted = rows // contestant.part

    async def catch_up(follower: Follower, first: int) -> None:
        async with follower:
            for number in range(first, first + tapes_each):
                await follower.begin(contestant.method, contestant.served.token)
                attach = runs_pb2.AttachRun(run_id=run_ids[number % len(run_ids)], after_seq=rows - wanted)
                await follower.send(runs_pb2.RunStreamRequest(attach=attach), last=True)
                received = 0
                while responses := await follower.receive():
                    received += sum(len(response.batch.items) for response in responses)
                if received != wanted:
                    raise RuntimeError(f"a follower received {received} events of {wanted}")

    async with trio.open_nursery() as nursery:
        connected = [await Follower.connect(contestant.served.port) for _ in range(followers)]
        began, cpu_began = time.perf_counter(), time.process_time()
        for first, follower in enumerate(connected):
            nursery.start_soon(catch_up, follower, first)
    return time.perf_counter() - began, time.process_time() - cpu_began


def _of(followers: int) -> str:
    return f"{followers} follower{'s' * (followers > 1)}"
