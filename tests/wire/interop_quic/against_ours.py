"""Foreign clients against `palyra-trio serve`: each loads /healthz and, where it can send a token, follows a run to its end.

A case holds when it was HTTP/3, the answers are what they should be, and the events are the rows of the journal.
"""

from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import ModuleType

import attrs
import trio

from palyra_trio.pb.gateway_grpc import GatewayServiceStub
from palyra_trio.pb.runs_pb2 import RunStreamRequest, StartRun
from palyra_trio.wire.h2_client import connect
from tests.faults.serving import QUIC, Server
from tests.wire.interop_quic import chromium, curl, gtls, picoquic
from tests.wire.interop_quic.place import Place, Talk, sequence

CLIENTS: tuple[ModuleType, ...] = (gtls, curl, chromium, picoquic)
AGENT = "speaker"
TURNS = (
    {"deltas": [f"{number} " for number in range(200)], "delta_pause_s": 0.01, "calls": [{"tool": "clock.now"}]},
    {"text": "large " * 5_000},
)


@attrs.frozen
class Case:
    """What came of a client: `failures` is empty when it holds."""

    who: str
    failures: tuple[str, ...]
    raw: str


@asynccontextmanager
async def serving(root: Path, *, retry: bool) -> AsyncGenerator[Server]:
    """Run a daemon that answers each first datagram with Retry, or none."""
    server = Server.below(root, **QUIC, PALYRA_QUIC__RETRY="always" if retry else "auto")
    async with server.running():
        await server.define(AGENT, *TURNS)
        yield server


async def case(server: Server, client: ModuleType) -> Case:
    """Let a client talk to the daemon while a run speaks."""
    order = server.new_run(AGENT)
    tls = server.shell.state_dir / "tls"
    token = server.authorization.removeprefix("Bearer ")
    place = Place(server.quic_port, tls / "ca.pem", tls / "leaf.pem", token, order.run_id)
    talk: Talk | None = None
    failure = ""
    async with trio.open_nursery() as nursery:
        await nursery.start(_run, server, order)
        try:
            talk = await client.talk(place)
        except Exception as error:  # whatever it is: this client has failed, the others go on
            failure = f"{error!r:.2000}"
    if talk is None:
        return Case(client.NAME, (failure,), "")
    recorded = [row[0] for row in server.recorded(order.run_id)]
    return Case(f"{client.NAME} {talk.version}", tuple(failures(talk, recorded)), talk.raw)


async def _run(server: Server, order: StartRun, task_status: trio.TaskStatus[None]) -> None:
    """Begin a run, and wait for its end."""
    async with connect(await trio.open_unix_socket(str(server.shell.state_dir / "socket"))) as channel:
        stub = GatewayServiceStub(channel)  # type: ignore[arg-type]
        async with stub.RunStream.open() as call:
            await call.send_message(RunStreamRequest(start=order), end=True)
            async for _ in call:
                task_status.started()
                task_status = trio.TASK_STATUS_IGNORED


def failures(talk: Talk, recorded: list[int]) -> Iterator[str]:
    for what, answer in (("/healthz", talk.health), ("events", talk.events)):
        if answer is not None and (answer.status, answer.protocol) != (200, "h3"):
            yield f"{what} was answered with {answer.status} over {answer.protocol}"
    if not talk.health.body:
        yield "/healthz is empty"
    if talk.events is not None and (got := sequence(talk.events.body)) != recorded:
        yield f"{len(got)} events instead of {len(recorded)}"
