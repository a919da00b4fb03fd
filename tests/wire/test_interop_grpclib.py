"""grpclib's own client, on its asyncio loop in a thread, over real sockets."""

import asyncio  # ruff: ignore[banned-api] - the peer under test is an asyncio program
from collections.abc import Awaitable, Callable
from typing import TypeVar

import pytest
import trio
from grpclib.client import Channel
from grpclib.const import Status
from grpclib.exceptions import GRPCError
from grpclib.reflection.service import ServerReflection
from grpclib.reflection.v1.reflection_grpc import ServerReflectionStub
from grpclib.reflection.v1.reflection_pb2 import ServerReflectionRequest

from palyra_trio.wire.h2_server import H2Server
from palyra_trio.wire.served_calls import handlers_of
from tests.wire.echo import Echo, listening, server_of, translate
from tests.wire.echo_grpc import EchoStub
from tests.wire.echo_pb2 import Failure, Order, Text

T = TypeVar("T")


async def on_asyncio(port: int, talk: Callable[[Channel], Awaitable[T]]) -> T:
    async def main() -> T:
        async with Channel("127.0.0.1", port) as channel:
            return await talk(channel)

    with trio.fail_after(10):
        return await trio.to_thread.run_sync(lambda: asyncio.run(main()))


async def test_every_kind_of_call() -> None:
    async def talk(channel: Channel) -> tuple[bytes, int, int, list[bytes]]:
        stub = EchoStub(channel)
        return (
            (await stub.Say(Text(body=b"hi"))).body,
            len(await stub.Count(Order(messages=3000, bytes_each=25, together=30))),
            (await stub.Collect([Text(body=bytes(1000))] * 1000)).bytes,
            [each.body for each in await stub.Chat([Text(body=b"a")])],
        )

    async with listening(server_of(Echo())) as port:
        assert await on_asyncio(port, talk) == (b"hi", 3000, 1_000_000, [b"a", b"bye"])


async def test_a_status() -> None:
    async def talk(channel: Channel) -> GRPCError:
        with pytest.raises(GRPCError) as failed:
            await EchoStub(channel).Fail(Failure(after_messages=3, status=10, message="ñ"))
        return failed.value

    async with listening(server_of(Echo())) as port:
        error = await on_asyncio(port, talk)
        assert (error.status, error.message) == (Status.ABORTED, "ñ")


async def test_metadata() -> None:
    async def talk(channel: Channel) -> tuple[object, object]:
        async with EchoStub(channel).Say.open(metadata={"x-blob-bin": b"\0\xff", "t-text": "b"}) as call:
            await call.send_message(Text(), end=True)
            await call.recv_message()
            await call.recv_trailing_metadata()
            return dict(call.initial_metadata or {}), dict(call.trailing_metadata or {})

    async with listening(server_of(Echo())) as port:
        assert await on_asyncio(port, talk) == ({"x-blob-bin": b"\0\xff"}, {"t-text": "b"})


async def test_grpclibs_reflection_is_served_as_it_is() -> None:
    async def talk(channel: Channel) -> list[str]:
        (reply,) = await ServerReflectionStub(channel).ServerReflectionInfo(
            [ServerReflectionRequest(list_services="*")]
        )
        return [service.name for service in reply.list_services_response.service]

    services = ServerReflection.extend([Echo()])
    async with listening(H2Server(handlers_of(services), translate)) as port:
        assert "tests.wire.Echo" in await on_asyncio(port, talk)
