"""A server that speaks OpenAI's chat completions, over httpx2: one request, one stream, no judgement about the wire.

What is sent and what an answer means is decided in `openai_wire` and `openai_errors`. Nothing is retried here, and
the HTTP client belongs to whoever made it.
"""

import re
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from contextlib import aclosing, asynccontextmanager, contextmanager, suppress

import attrs
import httpx2
import msgspec
import trio

from palyra_trio.core.errors import ConfigInvalid, PalyraError
from palyra_trio.core.messages import ModelDelta, ModelReply, ModelRequest
from palyra_trio.providers.base import ModelStream, ProviderError
from palyra_trio.providers.openai_errors import failure, scrub, stream_failure
from palyra_trio.providers.openai_wire import DONE, Assembler, decode_chunk, request_body
from palyra_trio.providers.sse import MAX_EVENT_BYTES, EventParser

CONNECT_S = 10.0
IDLE_S = 180.0  # a reasoning model may think for minutes before its first byte
_ERROR_BYTES = 64 * 1024
_LAST_PACKET_S = 0.05
_USER = re.compile(r"(?<=:)//[^/]*@")


def http_client() -> httpx2.AsyncClient:
    """Return a client fit for model streams: bounded connects, no limit on connections; idleness is ours to judge.

    It must be closed by whoever called this: `async with http_client() as client`.
    """
    return httpx2.AsyncClient(
        timeout=httpx2.Timeout(None, connect=CONNECT_S), limits=httpx2.Limits(max_connections=None)
    )


def _sendable(name: str, key: str) -> str:
    if not (key.isascii() and key.isprintable()):
        raise ConfigInvalid(
            f"the API key of {name} holds a character that no HTTP header can carry",
            remedy="set it again, without line breaks",
        )
    return key


def _printable(provider: "OpenAIProvider", _: object, key: str) -> None:
    _sendable(provider.name, key)


@attrs.define
class _Key:
    """The key that is sent now."""

    value: str = attrs.field(repr=False)


@attrs.frozen
class OpenAIProvider:
    """One base URL, such as `https://api.openai.com/v1`, and the key for it (empty: none is sent).

    A stream that brings no byte for `idle_s` seconds, the wait for its first included, has failed. `now` returns Unix
    seconds and is asked only where a server names a date. `look_again` returns the key as it is now: where a server does not
    take the one that it was sent (401), and there is another, the request is made once more. Raises ConfigInvalid for a key
    that cannot be sent.
    """

    name: str
    base_url: str
    api_key: str = attrs.field(repr=False, validator=_printable)
    client: httpx2.AsyncClient = attrs.field(repr=False)
    idle_s: float = IDLE_S
    now: Callable[[], float] = attrs.field(default=time.time, repr=False)
    look_again: Callable[[], Awaitable[str]] | None = attrs.field(default=None, repr=False, kw_only=True)
    _key: _Key = attrs.field(
        init=False, repr=False, eq=False, default=attrs.Factory(lambda self: _Key(self.api_key), takes_self=True)
    )

    @asynccontextmanager
    async def stream(self, request: ModelRequest) -> AsyncGenerator[ModelStream]:
        """POST /chat/completions. However the block is left, the request is over and its connection closed or free."""
        async with self._exchange("POST", "/chat/completions", request_body(request)) as response:
            if response.media_type == "application/json":
                events = self._whole_reply(request, response)
            else:
                events = self._events(request, response)
            async with aclosing(events):
                yield events

    async def list_models(self) -> tuple[str, ...]:
        """Return the names that GET /models lists, in its order. Raises ProviderError."""
        async with self._exchange("GET", "/models") as response:
            body = await self._read(response, MAX_EVENT_BYTES)
        try:
            return tuple(entry.id for entry in _model_list.decode(body).data)
        except (ValueError, RecursionError) as error:
            raise ProviderError(
                "malformed", f"{self.place}/models lists no models: {error}", remedy="check the base URL"
            ) from error

    @property
    def place(self) -> str:
        """The base URL as it may be shown: without a user or password."""
        return _USER.sub("//", self.base_url).rstrip("/")

    @asynccontextmanager
    async def _exchange(self, method: str, path: str, body: bytes | None = None) -> AsyncGenerator["_Response"]:
        headers = {"accept-encoding": "identity"}
        if body is not None:
            headers["content-type"] = "application/json"
        response = await self._send(method, path, body, headers)
        if response.status_code == 401 and await self._has_another_key():
            await response.aclose()
            response = await self._send(method, path, body, headers)
        opened = _Response(response.headers, response.aiter_bytes())
        async with aclosing(response), aclosing(opened.chunks), _unwound(opened):
            if response.status_code != 200:
                text = await self._read(opened, _ERROR_BYTES)
                raise failure(
                    response.status_code, response.headers, text, self.now(), provider=self.name, secret=self._key.value
                )
            yield opened

    async def _send(self, method: str, path: str, body: bytes | None, headers: dict[str, str]) -> httpx2.Response:
        if self._key.value:
            headers = {**headers, "authorization": f"Bearer {self._key.value}"}
        with self._translated("cannot be reached"):
            request = self.client.build_request(method, self.base_url.rstrip("/") + path, content=body, headers=headers)
            with trio.fail_after(self.idle_s):
                return await self.client.send(request, stream=True)

    async def _has_another_key(self) -> bool:
        """Look where the key came from; return whether it is another one by now, which is then sent."""
        if self.look_again is None:
            return False
        before = self._key.value
        try:
            self._key.value = _sendable(self.name, await self.look_again())
        except PalyraError:  # what the server said of the old key says more
            return False
        return self._key.value != before

    async def _events(self, request: ModelRequest, response: "_Response") -> AsyncGenerator[ModelDelta | ModelReply]:
        parser, assembler = EventParser(), Assembler(request)
        while (chunk := await self._next(response, complete=assembler.complete)) is not None:
            for event in parser.feed(chunk):
                if event.data == DONE:
                    response.done = True
                    yield assembler.reply()
                    return
                said = decode_chunk(event.data)
                if said.error or event.type == "error":
                    raise stream_failure(said.error or event.data, provider=self.name, secret=self._key.value)
                if text := assembler.add(said):
                    yield ModelDelta(text)
        if not assembler.complete:
            raise ProviderError("network", f"{self.name} broke the answer off in the middle", retryable=True)
        yield assembler.reply()

    async def _whole_reply(
        self, request: ModelRequest, response: "_Response"
    ) -> AsyncGenerator[ModelDelta | ModelReply]:
        """Read the answer of a server that does not stream, though it was asked to."""
        said = decode_chunk(await self._read(response, MAX_EVENT_BYTES))
        if said.error:
            raise stream_failure(said.error, provider=self.name, secret=self._key.value)
        assembler = Assembler(request)
        if text := assembler.add(said):
            yield ModelDelta(text)
        yield assembler.reply()

    async def _next(self, response: "_Response", *, complete: bool = False) -> bytes | None:
        """Return the next bytes, or None at the end: how a connection ends matters not once the reply is complete."""
        try:
            with self._translated("broke the answer off"), trio.fail_after(self.idle_s):
                return await anext(response.chunks, None)
        except ProviderError:
            if complete:
                return None
            raise

    async def _read(self, response: "_Response", most_bytes: int) -> bytes:
        body = bytearray()
        while len(body) < most_bytes and (chunk := await self._next(response)) is not None:
            body += chunk
        return bytes(body[:most_bytes])

    @contextmanager
    def _translated(self, happened: str) -> Generator[None]:
        try:
            yield
        except trio.TooSlowError:
            message = f"{self.name} at {self.place} sent nothing for {self.idle_s:g} s"
            raise ProviderError("idle", message, retryable=True) from None
        except (httpx2.InvalidURL, httpx2.UnsupportedProtocol) as error:
            message = f"the base URL {self.place!r} of {self.name} is none: {error}"
            raise ProviderError("bad_request", message, remedy="write it as http://HOST:PORT/v1") from error
        except httpx2.RequestError as error:
            why = scrub(str(error), self._key.value) or type(error).__name__
            message = f"{self.name} at {self.place} {happened}: {why}"
            raise ProviderError("network", message, retryable=True, remedy="check that it runs") from error


@attrs.define
class _Response:
    """An answer whose body is still to come. `done` says that nothing of interest is left in it."""

    headers: httpx2.Headers
    chunks: AsyncGenerator[bytes]
    done: bool = False

    @property
    def media_type(self) -> str:
        return self.headers.get("content-type", "").partition(";")[0].strip().lower()


@attrs.frozen
class _Model:
    id: str


@attrs.frozen
class _ModelList:
    data: tuple[_Model, ...]


_model_list = msgspec.json.Decoder(_ModelList)


@asynccontextmanager
async def _unwound(response: _Response) -> AsyncGenerator[None]:
    """Run httpx2's nested generators to their ends on leaving, and free the connection where the answer was whole.

    Closing the outer one between two chunks would leave the inner ones to the garbage collector. Asking for more in
    a scope that is out of time unwinds them from the inside, without waiting. Only behind a `[DONE]`, whose end of
    body often comes in a packet of its own, is a moment's wait cheaper than the next connection.
    """
    try:
        yield
    finally:
        with suppress(httpx2.RequestError), trio.move_on_after(_LAST_PACKET_S if response.done else 0, shield=True):
            while await anext(response.chunks, None) is not None:
                pass
