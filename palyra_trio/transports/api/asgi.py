"""The resources on the console's port: requests for them are answered here, and all others go on to the pages.

They pass nothing that a page does: no cookie counts, and a token must come with each. The host must be one of ours.
"""

from collections.abc import Awaitable, Callable
from typing import Any

import attrs
import trio
from multidict import MultiDict

from palyra_trio.core.errors import PolicyError
from palyra_trio.core.identity import Peer
from palyra_trio.transports.api.exchange import HttpRequest, HttpResponse, refusal
from palyra_trio.transports.api.resources import Resources
from palyra_trio.transports.console.security import Hosts

PROBES = frozenset({"/healthz", "/readyz"})  # asked by address, without a name of ours

Message = dict[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


@attrs.frozen
class Beside:
    """An ASGI application: the resources, and `pages` for everything else."""

    resources: Resources
    hosts: Hosts
    pages: Callable[[Any, Any, Any], Awaitable[None]]

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answer a request. One whose client goes away is given up; what it asked for may still be carried out."""
        if scope["type"] == "websocket":  # there are none here, and any site may try to open one
            await send({"type": "websocket.close"})
            return
        if scope["type"] != "http" or scope["path"] not in self.resources:
            await self.pages(scope, receive, send)
            return
        with trio.CancelScope() as there:
            body = _Body(receive, there)
            response = await self._respond(scope, body)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(body.pass_over)
                await _write(response, send)
                nursery.cancel_scope.cancel()

    async def _respond(self, scope: Message, body: "_Body") -> HttpResponse:
        headers = MultiDict((name.decode("latin-1"), value.decode("latin-1")) for name, value in scope["headers"])
        if scope["path"] not in PROBES:
            try:
                self.hosts.check(headers.get("host"))
            except PolicyError as error:
                return refusal(error)
        host, port = (scope.get("client") or ("", 0))[:2]
        query = scope["query_string"].decode("latin-1")
        peer = Peer(None, f"{host}:{port}")
        return await self.resources.respond(
            HttpRequest(scope["method"], scope["path"], headers, peer, query, body.receive)
        )


class _Body:
    """The body of a request, which ends `there` when its client goes away."""

    def __init__(self, receive: Receive, there: trio.CancelScope) -> None:
        self._receive = receive
        self._there = there
        self._ended = False

    async def receive(self) -> bytes | None:
        """Return the next part, None after the last one."""
        return None if self._ended else await self._next()

    async def pass_over(self) -> None:
        """Wait until the client goes away; what it still sends is dropped."""
        while True:
            await self._next()

    async def _next(self) -> bytes:
        message = await self._receive()
        if message["type"] == "http.disconnect":
            self._there.cancel()
            await trio.sleep_forever()
        self._ended = not message.get("more_body")
        return bytes(message.get("body", b""))


async def _write(response: HttpResponse, send: Send) -> None:
    headers = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in response.headers]
    await send({"type": "http.response.start", "status": response.status, "headers": headers})
    while response.events is not None and (chunk := await response.events.next_chunk()):
        await send({"type": "http.response.body", "body": chunk, "more_body": True})
    await send({"type": "http.response.body", "body": response.body, "more_body": False})
