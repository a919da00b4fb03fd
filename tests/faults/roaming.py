"""Following a run over HTTP/3, beside the clients of `followers`, which know HTTP/2 only."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path

from grpclib.const import Status
from grpclib.exceptions import GRPCError

from palyra_trio.core.errors import NoDaemon
from palyra_trio.pb.gateway_grpc import GatewayServiceStub
from palyra_trio.pb.runs_pb2 import RunStreamRequest
from palyra_trio.wire.h3_client import H3Channel, connect
from palyra_trio.wire.limits import Limits, QuicLimits
from palyra_trio.wire.quic_config import Trust
from tests.faults.followers import LEFT, Client, Ended, Heard

IMPATIENT = QuicLimits(idle_s=2, keepalive_s=0.5, probe_s=0.25)
"""For paths that die often and are not worth waiting for."""


async def follow(channel: H3Channel, metadata: Mapping[str, str], request: RunStreamRequest, heard: Heard) -> Ended:
    """Make one call on a connection, and return what it ended with."""
    opened = GatewayServiceStub(channel).RunStream.open(metadata=metadata)  # type: ignore[arg-type]
    try:
        async with opened as call:
            await call.send_message(request, end=True)
            async for response in call:
                if not heard(response):
                    return LEFT
    except GRPCError as error:
        return error.status, error.message or ""
    return Status.OK, ""


async def _over_quic(
    authority: Path, port: int, metadata: Mapping[str, str], request: RunStreamRequest, heard: Heard
) -> Ended:
    limits = Limits(preface_s=3)
    try:
        async with connect("127.0.0.1", port, trust=Trust(ca=authority), limits=limits, quic=IMPATIENT) as channel:
            return await follow(channel, metadata, request, heard)
    except NoDaemon as error:
        return Status.UNAVAILABLE, error.message


def over_quic(authority: Path) -> Client:
    """Return a client that makes its call on an HTTP/3 connection of its own, and gives that up after a short silence."""
    return partial(_over_quic, authority)
