"""The services over a real gateway, called by our own client through the real pumps."""

import os
import socket
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import attrs
import trio
import trio.testing
from grpclib.exceptions import GRPCError

from palyra_trio.core.commands import CreateToken, TokenIssued
from palyra_trio.core.config import WorkspacesConfig
from palyra_trio.core.identity import Principal, RequestContext, Scope
from palyra_trio.guard.auth import Authenticator
from palyra_trio.runtime.access import Access
from palyra_trio.transports.grpc_services import SERVICES, grpc_services
from palyra_trio.transports.health import HealthService
from palyra_trio.transports.refusals import grpc_error
from palyra_trio.wire.client_call import ClientCall
from palyra_trio.wire.h2_client import Channel, connect
from palyra_trio.wire.h2_server import H2Server
from palyra_trio.wire.served_calls import handlers_of
from tests.fakes import CONFIG, Runtime, open_fake_runtime

ALICE, BOB, ROOT = Principal("user:alice"), Principal("user:bob"), Principal("user:root")
EVERY_SCOPE = tuple(Scope)
PACKAGE = "/palyra.gateway.v1."


@attrs.define
class Talk:
    """A call under way, as its client sees it."""

    call: ClientCall

    async def say(self, request: Any) -> None:
        await self.call.send_message(request)

    async def hear(self) -> Any:
        message = await self.call.recv_message()
        assert message is not None
        return message

    async def rest(self) -> list[Any]:
        """Close the sending side and return all responses that are still to come. Raises the call's status."""
        await self.call.end()
        return [each async for each in self.call]


@attrs.define
class Served:
    """The services, and tokens by name: `alice`, `bob` and `root`, each with every scope."""

    runtime: Runtime
    health: HealthService
    server: H2Server
    handlers: Mapping[str, Any]
    channel: Channel
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
        self,
        method: str,
        who: str = "alice",
        metadata: Mapping[str, str] | None = None,
        channel: Channel | None = None,
    ) -> AsyncGenerator[Talk, None]:
        """Make a call of `Service/Method`. Leaving the block drops it."""
        path = method if method.startswith("/") else PACKAGE + method
        handler = self.handlers[path]
        sent = self.metadata(who) if metadata is None else metadata
        call = (channel or self.channel).request(
            path, handler.cardinality, handler.request_type, handler.reply_type, metadata=sent
        )
        async with call:
            await call.send_request()
            yield Talk(call)

    async def call(self, method: str, request: Any, who: str = "alice", **rest: Any) -> Any:
        """Make a unary call, of the GatewayService unless another is named, and return its response."""
        async with self.talk(method if "/" in method else f"GatewayService/{method}", who, **rest) as talk:
            await talk.say(request)
            responses = await talk.rest()
        (response,) = responses
        return response

    @asynccontextmanager
    async def unix_socket(self) -> AsyncGenerator[Channel, None]:
        """Connect as this process's user over a Unix socket."""
        ours, theirs = (trio.SocketStream(end) for end in trio.socket.socketpair(socket.AF_UNIX))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.server.serve_connection, theirs)
            async with connect(ours) as channel:
                yield channel


@asynccontextmanager
async def open_served(
    folder: Path, *args: Any, local_uid: int | None = None, **fields: Any
) -> AsyncGenerator[Served, None]:
    """Serve a fake runtime, whose tokens' principals may work in its workspace."""
    roots = {principal: (str(folder / "work"),) for principal in (ALICE, BOB)}
    config = attrs.evolve(fields.pop("config", CONFIG), workspaces=WorkspacesConfig(roots))
    uid = os.getuid() if local_uid is None else local_uid
    async with open_fake_runtime(folder, *args, config=config, **fields) as runtime:
        authenticator = Authenticator(runtime.gateway.tokens, uid, ROOT, runtime.state.now_s)
        access, health = Access(authenticator, runtime.gateway), HealthService(SERVICES)
        handlers = handlers_of(grpc_services(runtime.gateway, access, health))
        server = H2Server(handlers, grpc_error)
        ours, theirs = trio.testing.memory_stream_pair()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(server.serve_connection, theirs)
            async with connect(ours) as channel:
                served = Served(runtime, health, server, handlers, channel)
                for name in (ALICE, BOB, ROOT):
                    served.tokens[name.removeprefix("user:")] = (await served.token(name)).secret
                yield served


async def pages(served: Served, method: str, request: Any, field: str) -> list[list[Any]]:
    """Return what all pages hold."""
    found = []
    while True:
        response = await served.call(method, request)
        found.append(list(getattr(response, field)))
        if not response.next_page_token:
            return found
        request.page_token = response.next_page_token


def code_of(error: GRPCError) -> str:
    """Return the stable code in a status's details."""
    return str(error.details[0].reason)
