"""An OpenAI-compatible server on a real socket of 127.0.0.1, whose every answer the test writes byte by byte."""

from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import attrs
import h11
import msgspec
import trio


class Exchange:
    """One request, and the means to answer it."""

    def __init__(
        self, stream: trio.SocketStream, connection: h11.Connection, request: h11.Request, body: bytes
    ) -> None:
        self.target = request.target.decode()
        self.headers = {name.decode(): value.decode() for name, value in request.headers}
        self.body = body
        self._stream = stream
        self._connection = connection

    @property
    def json(self) -> Any:
        return msgspec.json.decode(self.body)

    async def start(self, status: int = 200, content_type: str = "text/event-stream", **headers: str) -> None:
        named = [(name.replace("_", "-"), value) for name, value in headers.items()]
        await self._send(
            h11.Response(
                status_code=status,
                headers=[("content-type", content_type), ("transfer-encoding", "chunked"), *named],
            )
        )

    async def send(self, data: bytes) -> None:
        await self._send(h11.Data(data=data))

    async def end(self) -> None:
        await self._send(h11.EndOfMessage())

    async def answer(self, status: int, body: Any, content_type: str = "application/json", **headers: str) -> None:
        await self.start(status, content_type, **headers)
        await self.send(body if isinstance(body, bytes) else msgspec.json.encode(body))
        await self.end()

    async def events(self, *datas: Any, done: bool = True) -> None:
        """Answer with one event for each of `datas`, and end."""
        await self.start()
        for data in datas:
            await self.send(b"data: " + msgspec.json.encode(data) + b"\n\n")
        if done:
            await self.send(b"data: [DONE]\n\n")
        await self.end()

    async def disconnected(self) -> None:
        """Wait until the client closes the connection."""
        try:
            while await self._stream.receive_some():
                pass
        except trio.BrokenResourceError:
            pass

    async def cut(self) -> None:
        """Break the connection off in the middle of the answer."""
        await self._stream.aclose()

    async def _send(self, event: h11.Event) -> None:
        await self._stream.send_all(self._connection.send(event) or b"")


Handler = Callable[[Exchange], Awaitable[None]]


@attrs.define
class FakeServer:
    """Answers its n-th request with the n-th handler, and keeps what it was asked."""

    handlers: Sequence[Handler]
    base_url: str = ""
    asked: list[Exchange] = attrs.Factory(list)
    connections: int = 0

    async def serve(self, stream: trio.SocketStream) -> None:
        self.connections += 1
        connection = h11.Connection(h11.SERVER)
        try:
            while await self._exchange(stream, connection):
                connection.start_next_cycle()
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass
        finally:
            await stream.aclose()

    async def _exchange(self, stream: trio.SocketStream, connection: h11.Connection) -> bool:
        request, body = None, bytearray()
        while True:
            event = connection.next_event()
            if event is h11.NEED_DATA:
                connection.receive_data(await stream.receive_some())
            elif isinstance(event, h11.Request):
                request = event
            elif isinstance(event, h11.Data):
                body += event.data
            elif isinstance(event, h11.EndOfMessage):
                break
            else:
                return False
        assert request is not None
        exchange = Exchange(stream, connection, request, bytes(body))
        self.asked.append(exchange)
        await self.handlers[len(self.asked) - 1](exchange)
        return connection.our_state is h11.DONE


@asynccontextmanager
async def fake_openai(*handlers: Handler) -> AsyncGenerator[FakeServer]:
    server = FakeServer(handlers)
    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(partial(trio.serve_tcp, server.serve, 0, host="127.0.0.1"))
        server.base_url = f"http://127.0.0.1:{listeners[0].socket.getsockname()[1]}/v1"
        try:
            yield server
        finally:
            nursery.cancel_scope.cancel()


def chunk(delta: dict[str, Any], finish: str | None = None) -> dict[str, Any]:
    """Return a chat.completion.chunk as OpenAI documents it."""
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": "gpt-test",
        "choices": [{"index": 0, "delta": delta, "finish_reason": finish}],
    }


def usage_chunk(prompt: int, completion: int, cached: int = 0) -> dict[str, Any]:
    return {
        **chunk({}),
        "choices": [],
        "usage": {
            "prompt_tokens": prompt,
            "completion_tokens": completion,
            "total_tokens": prompt + completion,
            "prompt_tokens_details": {"cached_tokens": cached},
        },
    }


def call_piece(index: int, arguments: str, call_id: str | None = None, name: str | None = None) -> dict[str, Any]:
    """Return a piece of a tool call; the first of a call has its id and name."""
    piece: dict[str, Any] = {"index": index, "function": {"arguments": arguments}}
    if call_id is not None:
        piece |= {"id": call_id, "type": "function"}
    if name is not None:
        piece["function"]["name"] = name
    return piece
