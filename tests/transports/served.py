"""The services over a real gateway, and a stream object that stands for a call's wire."""

from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import attrs
import trio
from grpclib.exceptions import GRPCError
from multidict import MultiDict

from palyra_trio.core.commands import CreateToken, TokenIssued
from palyra_trio.core.config import WorkspacesConfig
from palyra_trio.core.errors import PalyraError
from palyra_trio.core.identity import Peer, Principal, RequestContext, Scope
from palyra_trio.guard.auth import Authenticator
from palyra_trio.runtime.access import Access
from palyra_trio.transports.grpc_services import SERVICES, grpc_services
from palyra_trio.transports.health import HealthService
from palyra_trio.transports.refusals import grpc_error
from tests.fakes import CONFIG, Runtime, open_fake_runtime

ALICE, BOB, ROOT = Principal("user:alice"), Principal("user:bob"), Principal("user:root")
LOCAL_UID = 1000
TCP = Peer(None, "127.0.0.1:1")
EVERY_SCOPE = tuple(Scope)
PACKAGE = "/palyra.gateway.v1."


class FakeStream:
    """What a handler sees of a call: requests come from one channel, responses go into another."""

    def __init__(self, metadata: Mapping[str, str], peer: Peer) -> None:
        self.metadata = MultiDict(metadata)
        self.peer = peer
        self.to_server, self._requests = trio.open_memory_channel[Any](100)
        self._responses, self.to_client = trio.open_memory_channel[Any](100)

    async def recv_message(self) -> Any:
        try:
            return await self._requests.receive()
        except trio.EndOfChannel:
            return None

    def __aiter__(self) -> AsyncIterator[Any]:
        return self._requests

    async def send_message(self, message: Any) -> None:
        await self._responses.send(type(message).FromString(message.SerializeToString()))


@attrs.define
class Talk:
    """A call under way, as its client sees it."""

    stream: FakeStream

    async def say(self, request: Any) -> None:
        await self.stream.to_server.send(request)

    async def hear(self) -> Any:
        return await self.stream.to_client.receive()

    async def rest(self) -> list[Any]:
        """Close the sending side and return all responses that are still to come."""
        self.stream.to_server.close()
        return [each async for each in self.stream.to_client]


@attrs.define
class Served:
    """The services, and tokens by name: `alice`, `bob` and `root`, each with every scope."""

    runtime: Runtime
    access: Access
    health: HealthService
    handlers: dict[str, Any]
    tokens: dict[str, str] = attrs.Factory(dict)

    async def token(self, principal: str, *scopes: Scope, expires_ms: int = 0) -> TokenIssued:
        by = RequestContext(ROOT, local=True)
        command = CreateToken("test", principal, scopes or EVERY_SCOPE, expires_ms)
        issued = await self.runtime.gateway.submit(command, by)
        assert isinstance(issued, TokenIssued)
        return issued

    def metadata(self, who: str) -> dict[str, str]:
        return {"authorization": f"Bearer {self.tokens[who]}"}

    @asynccontextmanager
    async def talk(
        self, method: str, who: str = "alice", metadata: Mapping[str, str] | None = None, peer: Peer = TCP
    ) -> AsyncGenerator[Talk, None]:
        """Make a call of `Service/Method`. Leaving the block waits for the handler; its error is raised there."""
        stream = FakeStream(self.metadata(who) if metadata is None else metadata, peer)
        handler = self.handlers[method if method.startswith("/") else PACKAGE + method]
        failed: GRPCError | None = None

        async def serve() -> None:
            nonlocal failed
            try:
                with stream._responses:
                    await handler.func(stream)
            except (GRPCError, PalyraError, ExceptionGroup) as error:
                only: BaseException = error
                while isinstance(only, ExceptionGroup):
                    (only,) = only.exceptions
                assert isinstance(only, PalyraError | GRPCError)
                failed = grpc_error(only) if isinstance(only, PalyraError) else only

        async with trio.open_nursery() as nursery:
            nursery.start_soon(serve)
            yield Talk(stream)
            stream.to_server.close()
        if failed is not None:
            raise failed

    async def call(self, method: str, request: Any, who: str = "alice", **rest: Any) -> Any:
        """Make a unary call and return its response."""
        async with self.talk(method if "/" in method else f"GatewayService/{method}", who, **rest) as talk:
            await talk.say(request)
            responses = await talk.rest()
        (response,) = responses
        return response


@asynccontextmanager
async def open_served(folder: Path, *args: Any, **fields: Any) -> AsyncGenerator[Served, None]:
    """Serve a fake runtime, whose tokens' principals may work in its workspace."""
    roots = {principal: (str(folder / "work"),) for principal in (ALICE, BOB)}
    config = attrs.evolve(fields.pop("config", CONFIG), workspaces=WorkspacesConfig(roots))
    async with open_fake_runtime(folder, *args, config=config, **fields) as runtime:
        authenticator = Authenticator(runtime.gateway.tokens, LOCAL_UID, ROOT, runtime.state.now_s)
        access, health = Access(authenticator, runtime.state.journal), HealthService(SERVICES)
        handlers: dict[str, Any] = {}
        for service in grpc_services(runtime.gateway, access, health):
            handlers |= service.__mapping__()
        served = Served(runtime, access, health, handlers)
        for name in (ALICE, BOB, ROOT):
            served.tokens[name.removeprefix("user:")] = (await served.token(name)).secret
        yield served


def code_of(error: GRPCError | PalyraError) -> str:
    """Return the stable code in a status's details."""
    assert isinstance(error, GRPCError)
    return str(error.details[0].reason)
