"""Three clients that follow a run over one connection: grpcio (C core), grpclib (asyncio) and our own.

Each makes one call on a connection of its own and hands on what arrives until it is told to leave, which it does without
a word more than its library says.
"""

import asyncio  # ruff: ignore[banned-api]  # grpclib's client is an asyncio program; it has a thread of its own
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress

import attrs
import grpc
import grpclib.client
import trio
from grpclib.const import Status
from grpclib.exceptions import GRPCError, StreamTerminatedError
from h2.exceptions import StreamClosedError

from palyra_trio.core.codec import decode
from palyra_trio.core.run import RunState
from palyra_trio.core.tape import RunFinished, StatusChange
from palyra_trio.pb.gateway_grpc import GatewayServiceStub
from palyra_trio.pb.runs_pb2 import AttachRun, RunStreamRequest, RunStreamResponse, StartRun
from palyra_trio.wire.h2_client import connect
from tests.faults.serving import Row

METHOD = "/palyra.gateway.v1.GatewayService/RunStream"
SILENCE_S = 30.0  # a call that takes longer is stuck: none of the runs does

Heard = Callable[[RunStreamResponse], bool]
"""Takes a response; False means: leave."""
Ended = tuple[Status, str]
"""What a call ended with, as its client sees it: a status, and what was said with it."""
Client = Callable[[int, Mapping[str, str], RunStreamRequest, Heard], Awaitable[Ended]]
LEFT = (Status.CANCELLED, "")


@attrs.define
class Received:
    """What a follower has of a run: rows, each once and in order, whatever came in between."""

    order: StartRun
    rows: list[Row] = attrs.Factory(list)
    finished: bool = False
    interrupted: bool = False
    _part: bytes = b""

    @property
    def over(self) -> bool:
        return self.finished or self.interrupted

    def request(self) -> RunStreamRequest:
        """Return how to go on. Until a row has arrived, starting the run again attaches to it."""
        self._part = b""
        if not self.rows:
            return RunStreamRequest(start=self.order)
        return RunStreamRequest(attach=AttachRun(run_id=self.order.run_id, after_seq=self.rows[-1][0]))

    def take(self, response: RunStreamResponse) -> None:
        assert response.WhichOneof("response") in {"accepted", "batch", "ended"}
        for item in response.batch.items:
            assert item.run_id == self.order.run_id
            self._part += item.body
            if item.more:
                continue
            body = self._part if item.HasField("body") else None
            self._part = b""
            self.rows.append((item.seq, item.g, item.kind_number, item.at_ms, body, item.hash))
            self._look(item.kind_number, body)

    def _look(self, kind: int, body: bytes | None) -> None:
        if kind in {RunFinished.kind, StatusChange.kind} and body is not None:
            event = decode(kind, body)
            self.finished = isinstance(event, RunFinished)
            self.interrupted = (
                isinstance(event, StatusChange) and event.after is RunState.WAITING and event.reason == "interrupted"
            )


async def over_grpcio(port: int, metadata: Mapping[str, str], request: RunStreamRequest, heard: Heard) -> Ended:
    def talk() -> Ended:
        # A subchannel that is shared with other channels would be a shared connection.
        options = [("grpc.use_local_subchannel_pool", 1), ("grpc.max_receive_message_length", 4 * 1024 * 1024)]
        with grpc.insecure_channel(f"127.0.0.1:{port}", options) as channel:
            follow = channel.stream_stream(METHOD, RunStreamRequest.SerializeToString, RunStreamResponse.FromString)
            call = follow(iter([request]), timeout=SILENCE_S, metadata=tuple(metadata.items()))
            try:
                for response in call:
                    if not heard(response):
                        return LEFT
            except grpc.RpcError:
                pass
            return Status(call.code().value[0]), call.details() or ""

    return await trio.to_thread.run_sync(talk, limiter=trio.CapacityLimiter(1))


async def over_grpclib(port: int, metadata: Mapping[str, str], request: RunStreamRequest, heard: Heard) -> Ended:
    async def talk() -> Ended:
        async with grpclib.client.Channel("127.0.0.1", port) as channel:
            try:
                async with GatewayServiceStub(channel).RunStream.open(timeout=SILENCE_S, metadata=metadata) as call:
                    await call.send_message(request, end=True)
                    async for response in call:
                        if not heard(response):
                            with suppress(StreamClosedError):
                                await call.cancel()
                            return LEFT
            except GRPCError as error:
                return error.status, error.message or ""
            except TimeoutError:
                return Status.DEADLINE_EXCEEDED, ""
            except (StreamTerminatedError, OSError, AttributeError) as error:
                # AttributeError: grpclib takes a transport away from a stream that is about to begin.
                return Status.UNAVAILABLE, str(error)
        return Status.OK, ""

    return await trio.to_thread.run_sync(lambda: asyncio.run(talk()), limiter=trio.CapacityLimiter(1))


async def over_our_own(port: int, metadata: Mapping[str, str], request: RunStreamRequest, heard: Heard) -> Ended:
    try:
        async with connect(await trio.open_tcp_stream("127.0.0.1", port)) as channel:
            opened = GatewayServiceStub(channel).RunStream.open(timeout=SILENCE_S, metadata=metadata)  # type: ignore[arg-type]
            async with opened as call:
                await call.send_message(request, end=True)
                async for response in call:
                    if not heard(response):
                        return LEFT
    except GRPCError as error:
        return error.status, error.message or ""
    except OSError as error:
        return Status.UNAVAILABLE, str(error)
    return Status.OK, ""


CLIENTS: dict[str, Client] = {"grpcio": over_grpcio, "grpclib": over_grpclib, "our own": over_our_own}
