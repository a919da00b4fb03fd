"""The cases with our own client."""

from typing import Any

import trio
from grpclib.const import Status
from grpclib.exceptions import GRPCError

from palyra_trio.wire.client_call import ClientCall
from palyra_trio.wire.h2_client import Channel, connect
from tests.wire.interop.cases import (
    CASES,
    LARGE_REPLY,
    LARGE_REQUEST,
    METADATA,
    REPLIES,
    REQUESTS,
    SPECIAL_MESSAGE,
    STATUS,
    STATUS_MESSAGE,
    TIMEOUT_S,
    WITHIN_S,
    expect,
    line,
)
from tests.wire.interop.service import messages, methods_of, ordering, zeros


async def talk(port: int) -> list[str]:
    """Return a line for each case against the server on a port of the loopback."""
    lines = []
    async with connect(await trio.open_tcp_stream("127.0.0.1", port)) as channel:
        client = Client(channel)
        for case in CASES:
            try:
                with trio.fail_after(WITHIN_S):
                    await getattr(client, case)()
            except (AssertionError, GRPCError, trio.TooSlowError) as failure:
                lines.append(line(case, failure))
            else:
                lines.append(line(case))
    return lines


class Client:
    """A method for each case, which raises AssertionError or GRPCError when it fails."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel

    def _open(self, name: str, service: str = "TestService", **options: Any) -> ClientCall:
        return self._channel.request(*methods_of(service)[name], **options)

    async def _unary(
        self, name: str, request: Any, service: str = "TestService", **options: Any
    ) -> tuple[Any, ClientCall]:
        async with self._open(name, service, **options) as call:
            await call.send_message(request, end=True)
            reply = await call.recv_message()
        return reply, call

    async def _duplex(self, *requests: Any, **options: Any) -> tuple[list[Any], ClientCall]:
        async with self._open("FullDuplexCall", **options) as call:
            await call.send_request()
            for request in requests:
                await call.send_message(request)
            await call.end()
            replies = [reply async for reply in call]
        return replies, call

    async def empty_unary(self) -> None:
        reply, _ = await self._unary("EmptyCall", messages.Empty())
        expect(reply, messages.Empty())

    async def large_unary(self) -> None:
        request = messages.SimpleRequest(response_size=LARGE_REPLY, payload=zeros(LARGE_REQUEST))
        reply, _ = await self._unary("UnaryCall", request)
        expect(reply.payload.body, bytes(LARGE_REPLY))

    async def client_streaming(self) -> None:
        async with self._open("StreamingInputCall") as call:
            for size in REQUESTS:
                await call.send_message(messages.StreamingInputCallRequest(payload=zeros(size)))
            await call.end()
            expect((await call.recv_message()).aggregated_payload_size, sum(REQUESTS))

    async def server_streaming(self) -> None:
        request = messages.StreamingOutputCallRequest(response_parameters=[{"size": size} for size in REPLIES])
        async with self._open("StreamingOutputCall") as call:
            await call.send_message(request, end=True)
            expect([len(reply.payload.body) async for reply in call], list(REPLIES))

    async def ping_pong(self) -> None:
        async with self._open("FullDuplexCall") as call:
            for size, payload in zip(REPLIES, REQUESTS, strict=True):
                await call.send_message(ordering(size, payload))
                expect(len((await call.recv_message()).payload.body), size)
            await call.end()
            expect(await call.recv_message(), None)

    async def empty_stream(self) -> None:
        replies, _ = await self._duplex()
        expect(replies, [])

    async def cancel_after_begin(self) -> None:
        async with self._open("StreamingInputCall") as call:
            await call.send_request()
            await call.recv_initial_metadata()  # the server's handler has begun
            await call.cancel()
            expect(await _status(call), Status.CANCELLED)

    async def cancel_after_first_response(self) -> None:
        async with self._open("FullDuplexCall") as call:
            await call.send_message(ordering(REPLIES[0], REQUESTS[0]))
            expect(len((await call.recv_message()).payload.body), REPLIES[0])
            await call.cancel()
            expect(await _status(call), Status.CANCELLED)

    async def timeout_on_sleeping_server(self) -> None:
        try:
            async with self._open("FullDuplexCall", timeout=TIMEOUT_S) as call:
                await call.send_message(messages.StreamingOutputCallRequest(payload=zeros(REQUESTS[0])))
                await call.recv_message()
        except GRPCError as late:
            expect(late.status, Status.DEADLINE_EXCEEDED)
        else:
            raise AssertionError("there was an answer")

    async def status_code_and_message(self) -> None:
        wanted = messages.EchoStatus(code=STATUS, message=STATUS_MESSAGE)
        await self._fails("UnaryCall", messages.SimpleRequest(response_status=wanted), STATUS_MESSAGE)
        await self._fails("FullDuplexCall", messages.StreamingOutputCallRequest(response_status=wanted), STATUS_MESSAGE)

    async def special_status_message(self) -> None:
        wanted = messages.EchoStatus(code=STATUS, message=SPECIAL_MESSAGE)
        await self._fails("UnaryCall", messages.SimpleRequest(response_status=wanted), SPECIAL_MESSAGE)

    async def _fails(self, name: str, request: Any, message: str) -> None:
        try:
            await self._unary(name, request)
        except GRPCError as error:
            expect((error.status, error.message), (Status(STATUS), message))
        else:
            raise AssertionError("there was an answer")

    async def unimplemented_method(self) -> None:
        await self._is_unimplemented("TestService")

    async def unimplemented_service(self) -> None:
        await self._is_unimplemented("UnimplementedService")

    async def _is_unimplemented(self, service: str) -> None:
        try:
            await self._unary("UnimplementedCall", messages.Empty(), service)
        except GRPCError as error:
            expect(error.status, Status.UNIMPLEMENTED)
        else:
            raise AssertionError("there was an answer")

    async def custom_metadata(self) -> None:
        request = messages.SimpleRequest(response_size=LARGE_REPLY, payload=zeros(LARGE_REQUEST))
        _, unary = await self._unary("UnaryCall", request, metadata=METADATA)
        _, streaming = await self._duplex(ordering(LARGE_REPLY, LARGE_REQUEST), metadata=METADATA)
        for call in (unary, streaming):
            got = {**(call.initial_metadata or {}), **(call.trailing_metadata or {})}
            expect({name: got.get(name) for name in METADATA}, METADATA)


async def _status(call: ClientCall) -> Status:
    try:
        await call.recv_message()
    except GRPCError as error:
        return error.status
    return Status.OK
