"""The interop service on our own server, and the messages of testing.proto, which is compiled as this is imported."""

from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import grpc
from google.protobuf.message_factory import GetMessageClass
from grpclib.const import Cardinality, Handler, Status
from grpclib.exceptions import GRPCError

from palyra_trio.wire.call import Call
from palyra_trio.wire.h2_server import H2Server
from palyra_trio.wire.served_calls import handlers_of
from tests.wire.echo import listening, translate
from tests.wire.interop.cases import METADATA

messages: Any = grpc.protos("tests/wire/interop/testing.proto")


def methods_of(service: str) -> dict[str, tuple[str, Cardinality, Any, Any]]:
    """Return each method's path, kind, and the types of its request and reply, by its name."""
    described = messages.DESCRIPTOR.services_by_name[service]
    return {
        method.name: (
            f"/{described.full_name}/{method.name}",
            Cardinality((method.client_streaming, method.server_streaming)),
            GetMessageClass(method.input_type),
            GetMessageClass(method.output_type),
        )
        for method in described.methods
    }


def zeros(size: int) -> Any:
    return messages.Payload(body=bytes(size))


def ordering(size: int, payload: int) -> Any:
    """Return a request with a payload, for one reply of a size."""
    return messages.StreamingOutputCallRequest(response_parameters=[{"size": size}], payload=zeros(payload))


class Interop:
    """`live` counts the calls in a handler, `beside` those that were in one when the last call began."""

    def __init__(self) -> None:
        self.live = 0
        self.beside = 0

    def __mapping__(self) -> dict[str, Handler]:
        return {
            path: Handler(getattr(self, name), *kinds)
            for name, (path, *kinds) in methods_of("TestService").items()
            if hasattr(self, name)
        }

    @contextmanager
    def _calling(self) -> Generator[None, None, None]:
        self.beside = self.live
        self.live += 1
        try:
            yield
        finally:
            self.live -= 1

    @asynccontextmanager
    async def _answering(self, call: Call) -> AsyncGenerator[None, None]:
        """Echo the metadata, and give the status that the block raises."""
        initial, trailing = ([(name, each) for each in call.metadata.getall(name, ())] for name in METADATA)
        with self._calling():
            await call.send_initial_metadata(metadata=initial)
            try:
                yield
            except GRPCError as error:
                await call.send_trailing_metadata(status=error.status, status_message=error.message, metadata=trailing)
            else:
                await call.send_trailing_metadata(metadata=trailing)

    async def EmptyCall(self, call: Call) -> None:
        async with self._answering(call):
            await call.send_message(await call.recv_message())

    async def UnaryCall(self, call: Call) -> None:
        async with self._answering(call):
            request = await call.recv_message()
            _obey(request)
            await call.send_message(messages.SimpleResponse(payload=zeros(request.response_size)))

    async def StreamingInputCall(self, call: Call) -> None:
        async with self._answering(call):
            total = sum([len(request.payload.body) async for request in call])
            await call.send_message(messages.StreamingInputCallResponse(aggregated_payload_size=total))

    async def StreamingOutputCall(self, call: Call) -> None:
        async with self._answering(call):
            await _reply(call, await call.recv_message())

    async def FullDuplexCall(self, call: Call) -> None:
        async with self._answering(call):
            async for request in call:
                _obey(request)
                await _reply(call, request)


def _obey(request: Any) -> None:
    wanted = request.response_status
    if wanted.code:
        raise GRPCError(Status(wanted.code), wanted.message)


async def _reply(call: Call, request: Any) -> None:
    for wanted in request.response_parameters:
        await call.send_message(messages.StreamingOutputCallResponse(payload=zeros(wanted.size)))


async def against_ours(talk: Callable[[int], Awaitable[list[str]]]) -> list[str]:
    """Return what a client says of the service on our server; a line is added when handlers outlived their calls.

    The cases come one after the other, and so nothing is beside the last call, unless an earlier one was not ended.
    """
    service = Interop()
    async with listening(H2Server(handlers_of([service]), translate)) as port:
        lines = await talk(port)
    return lines + [f"FAILED server: {service.beside} handlers outlived their calls"] * (service.beside > 0)
