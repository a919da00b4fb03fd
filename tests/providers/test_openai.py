"""The driver over a real socket: streams, stalls, cuts and cancels; and the official SDK as a witness."""

import gc
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import httpx2
import msgspec
import openai
import pytest
import trio
import trio.testing

from palyra_trio.core.errors import ConfigInvalid
from palyra_trio.core.messages import Message, ModelDelta, ModelReply, ModelRequest, ToolDefinition, Usage
from palyra_trio.providers.base import ProviderError
from palyra_trio.providers.openai import OpenAIProvider, http_client
from tests.providers.fake_openai import Exchange, FakeServer, Handler, call_piece, chunk, fake_openai, usage_chunk

KEY = "sk-secret"
TOOLS = (ToolDefinition("files.list", "List files.", {"type": "object"}), ToolDefinition("files.read", "Read.", {}))
REQUEST = ModelRequest("gpt-test", (Message("user", "hello"),), TOOLS)
HELLO = (
    chunk({"role": "assistant", "content": ""}),
    chunk({"content": "Hel"}),
    chunk({"content": "lo"}),
    chunk({}, "stop"),
)
CALLS = (
    chunk({"role": "assistant", "content": "Let me look."}),
    chunk({"tool_calls": [call_piece(0, "", "call_a", "files_list")]}),
    chunk({"tool_calls": [call_piece(0, "{}")]}),
    chunk({"tool_calls": [call_piece(1, '{"pa', "call_b", "files_read")]}),
    chunk({"tool_calls": [call_piece(1, 'th":"README.md"}')]}),
    chunk({}, "tool_calls"),
    usage_chunk(20, 9, cached=5),
)


encoded = msgspec.json.encode


def says(*datas: Any, done: bool = True) -> Handler:
    async def handler(exchange: Exchange) -> None:
        await exchange.events(*datas, done=done)

    return handler


def answers(status: int, body: Any, content_type: str = "application/json", **headers: str) -> Handler:
    async def handler(exchange: Exchange) -> None:
        await exchange.answer(status, body, content_type, **headers)

    return handler


@asynccontextmanager
async def serving(*handlers: Handler, idle_s: float = 5.0) -> AsyncGenerator[tuple[FakeServer, OpenAIProvider]]:
    async with fake_openai(*handlers) as server, http_client() as client:
        yield server, OpenAIProvider("openai", server.base_url, KEY, client, idle_s=idle_s)


async def collect(provider: OpenAIProvider, request: ModelRequest = REQUEST) -> tuple[list[str], ModelReply]:
    async with provider.stream(request) as events:
        *deltas, reply = [event async for event in events]
    assert isinstance(reply, ModelReply)
    assert all(isinstance(delta, ModelDelta) for delta in deltas)
    return [delta.text for delta in deltas], reply


async def failing(*handlers: Handler, idle_s: float = 5.0) -> ProviderError:
    async with serving(*handlers, idle_s=idle_s) as (_, provider):
        with pytest.raises(ProviderError) as caught:
            await collect(provider)
    return caught.value


# --- what arrives ---


async def test_a_stream_becomes_deltas_and_a_reply_and_the_next_one_reuses_the_connection() -> None:
    async with serving(says(*HELLO, usage_chunk(3, 2)), says(*HELLO)) as (server, provider):
        deltas, reply = await collect(provider)
        assert (await collect(provider))[1].text == "Hello"
    assert deltas == ["Hel", "lo"]
    assert reply == ModelReply("Hello", (), "stop", Usage(3, 0, 2), "gpt-test")
    asked = server.asked[0]
    assert (asked.target, asked.headers["authorization"]) == ("/v1/chat/completions", f"Bearer {KEY}")
    assert asked.json["messages"] == [{"role": "user", "content": "hello"}]
    assert server.connections == 1


async def test_fragments_of_any_size_make_the_same_reply() -> None:
    async def byte_by_byte(exchange: Exchange) -> None:
        await exchange.start()
        parts = b"".join(b"data: " + encoded(each) + b"\r\n\r\n" for each in CALLS) + b"data: [DONE]\r\n\r\n"
        for byte in parts:
            await exchange.send(bytes([byte]))
        await exchange.end()

    async with serving(byte_by_byte, says(*CALLS)) as (_, provider):
        assert await collect(provider) == await collect(provider)


async def test_a_stream_may_end_without_done_or_break_off_after_the_finish_reason() -> None:
    async def broken_after_finish(exchange: Exchange) -> None:
        await exchange.start()
        for each in HELLO:
            await exchange.send(b"data: " + encoded(each) + b"\n\n")
        await exchange.cut()

    async with serving(says(*HELLO, done=False), broken_after_finish) as (_, provider):
        assert (await collect(provider))[1].text == "Hello"
        assert (await collect(provider))[1].text == "Hello"


async def test_a_server_that_does_not_stream_is_understood() -> None:
    whole = {
        "model": "m",
        "choices": [{"message": {"role": "assistant", "content": "Hello"}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 1, "completion_tokens": 2},
    }
    async with serving(answers(200, whole, "application/json; charset=utf-8")) as (_, provider):
        assert await collect(provider) == (["Hello"], ModelReply("Hello", (), "stop", Usage(1, 0, 2), "m"))


async def test_no_key_means_no_authorization_header() -> None:
    async with fake_openai(says(*HELLO)) as server, http_client() as client:
        await collect(OpenAIProvider("ollama", server.base_url + "/", "", client))
    assert "authorization" not in server.asked[0].headers
    assert server.asked[0].target == "/v1/chat/completions"


async def test_models_are_listed_in_the_servers_order() -> None:
    listing = {"object": "list", "data": [{"id": "b", "object": "model"}, {"id": "a"}]}
    async with serving(answers(200, listing), answers(200, {"models": []}), answers(404, {})) as (server, provider):
        assert await provider.list_models() == ("b", "a")
        for kind in ("malformed", "bad_request"):
            with pytest.raises(ProviderError) as caught:
                await provider.list_models()
            assert caught.value.kind == kind
    assert server.asked[0].target == "/v1/models"


async def test_a_list_of_models_that_is_nested_without_end_is_malformed() -> None:
    deep = b'{"x": ' + b"[" * 200_000 + b"]" * 200_000 + b', "data": []}'
    async with serving(answers(200, deep)) as (_, provider):
        with pytest.raises(ProviderError) as caught:
            await provider.list_models()
    assert caught.value.kind == "malformed"


# --- what goes wrong ---


async def test_a_refusal_has_its_kind_and_when_to_try_again() -> None:
    error = await failing(answers(429, {"error": {"message": "slow down"}}, retry_after="7"))
    assert (error.kind, error.retryable, error.retry_after_s) == ("rate_limited", True, 7.0)
    assert error.message == "openai answered 429: slow down"


async def test_an_endless_refusal_is_not_read_to_its_end() -> None:
    async def endless(exchange: Exchange) -> None:
        await exchange.start(500, "text/html")
        while True:
            await exchange.send(b"x" * 10_000)

    assert (await failing(endless)).kind == "overloaded"


@pytest.mark.parametrize("before", [(), (chunk({"content": "Hel"}),)])
async def test_a_connection_that_breaks_is_a_network_failure(before: tuple[Any, ...]) -> None:
    async def cut(exchange: Exchange) -> None:
        await exchange.start()
        for each in before:
            await exchange.send(b"data: " + encoded(each) + b"\n\n")
        await exchange.cut()

    error = await failing(cut)
    assert (error.kind, error.retryable) == ("network", True)


async def test_an_end_without_a_finish_reason_is_a_network_failure() -> None:
    error = await failing(says(chunk({"content": "Hel"}), done=False))
    assert (error.kind, error.retryable) == ("network", True)
    assert "broke the answer off" in error.message


async def test_a_server_that_is_not_there_is_a_network_failure() -> None:
    async with fake_openai() as server:
        gone = server.base_url
    async with http_client() as client:
        with pytest.raises(ProviderError, match="cannot be reached") as caught:
            await collect(OpenAIProvider("openai", gone.replace("://", "://user:hunter2@"), KEY, client))
    assert (caught.value.kind, caught.value.retryable) == ("network", True)
    assert gone in caught.value.message
    assert "hunter2" not in caught.value.message


@pytest.mark.parametrize("url", ["localhost:8000/v1", "http://[::1/v1", "ftp://x/v1", ""])
async def test_a_base_url_that_is_none_says_so(url: str) -> None:
    async with http_client() as client:
        with pytest.raises(ProviderError) as caught:
            await collect(OpenAIProvider("openai", url, KEY, client))
    assert caught.value.kind == "bad_request"


async def test_an_error_object_in_the_stream_ends_it_after_the_deltas_before_it() -> None:
    texts: list[str] = []

    async def read(provider: OpenAIProvider) -> None:
        async with provider.stream(REQUEST) as events:
            async for event in events:
                texts.append(event.text)

    async with serving(says(chunk({"content": "Hel"}), {"error": {"message": "no room", "code": 503}})) as (
        _,
        provider,
    ):
        with pytest.raises(ProviderError, match="no room") as caught:
            await read(provider)
    assert texts == ["Hel"]
    assert caught.value.kind == "overloaded"


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (b"data: {nope\n\n", "text/event-stream"),
        (b"<html>", "text/html"),
        (b"<html>", "application/json"),
        (b"", "text/plain"),
    ],
)
async def test_what_is_no_completion_is_a_failure(body: bytes, content_type: str) -> None:
    assert (await failing(answers(200, body, content_type))).kind in {"malformed", "network"}


async def test_an_event_without_end_is_malformed() -> None:
    async def endless(exchange: Exchange) -> None:
        await exchange.start()
        await exchange.send(b"data: ")
        while True:
            await exchange.send(b"x" * 1_000_000)

    assert (await failing(endless)).kind == "malformed"


def test_the_key_is_not_in_the_repr_and_must_fit_a_header() -> None:
    client: Any = None
    assert KEY not in repr(OpenAIProvider("openai", "http://x/v1", KEY, client))
    with pytest.raises(ConfigInvalid) as caught:
        OpenAIProvider("openai", "http://x/v1", "sk-secret\n", client)
    assert "sk-secret" not in str(caught.value)


# --- silence and cancels ---


@pytest.mark.parametrize("begun", [False, True])
async def test_a_silent_stream_fails_as_idle_and_the_server_sees_the_client_leave(begun: bool) -> None:
    left = trio.Event()

    async def silent(exchange: Exchange) -> None:
        if begun:
            await exchange.start()
            await exchange.send(b"data: " + encoded(HELLO[1]) + b"\n\n")
        await exchange.disconnected()
        left.set()

    async with serving(silent, idle_s=0.05) as (_, provider):
        with pytest.raises(ProviderError, match=r"sent nothing for 0\.05 s") as caught:
            await collect(provider)
        assert (caught.value.kind, caught.value.retryable) == ("idle", True)
        with trio.fail_after(5):
            await left.wait()


class PacedTransport(httpx2.AsyncBaseTransport):
    """Answers with one piece of a stream every `pace_s` of virtual time."""

    def __init__(self, pace_s: float, *pieces: bytes) -> None:
        self.pace_s, self.pieces = pace_s, pieces

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(200, headers={"content-type": "text/event-stream"}, content=self.paced())

    async def paced(self) -> AsyncGenerator[bytes]:
        for piece in self.pieces:
            await trio.sleep(self.pace_s)
            yield piece


@pytest.mark.parametrize(("pace_s", "idle"), [(170, False), (190, True)])
async def test_every_byte_even_of_a_comment_puts_the_idle_time_off(
    pace_s: float, idle: bool, autojump_clock: trio.testing.MockClock
) -> None:
    hello = b"".join(b"data: " + encoded(each) + b"\n\n" for each in HELLO)
    transport = PacedTransport(pace_s, b": still thinking\n\n", b": ", b"\n\n", hello)
    async with httpx2.AsyncClient(transport=transport) as client:
        provider = OpenAIProvider("openai", "http://x/v1", KEY, client, idle_s=180)
        if not idle:
            assert (await collect(provider))[1].text == "Hello"
            return
        with pytest.raises(ProviderError) as caught:
            await collect(provider)
    assert caught.value.kind == "idle"
    assert trio.current_time() == pytest.approx(180)


async def leave_by_break(provider: OpenAIProvider) -> None:
    async with provider.stream(REQUEST) as events:
        async for _event in events:
            break


async def leave_by_error(provider: OpenAIProvider) -> None:
    async def fail() -> None:
        async with provider.stream(REQUEST) as events:
            async for _event in events:
                raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await fail()


async def leave_by_cancel_while_reading(provider: OpenAIProvider) -> None:
    with trio.CancelScope() as scope:
        async with provider.stream(REQUEST) as events:
            async for event in events:
                if event.text.endswith("last"):
                    trio.lowlevel.current_trio_token().run_sync_soon(scope.cancel)
    assert scope.cancelled_caught


async def leave_by_cancel_while_busy(provider: OpenAIProvider) -> None:
    with trio.CancelScope() as scope:
        async with provider.stream(REQUEST) as events:
            async for _event in events:
                scope.cancel()
                await trio.sleep_forever()
    assert scope.cancelled_caught


@pytest.mark.parametrize(
    "leave", [leave_by_break, leave_by_error, leave_by_cancel_while_reading, leave_by_cancel_while_busy]
)
async def test_however_a_stream_is_left_the_socket_closes_at_once_and_nothing_is_left_behind(
    leave: Callable[[OpenAIProvider], Awaitable[None]],
) -> None:
    left = trio.Event()

    async def endless(exchange: Exchange) -> None:
        await exchange.start()
        texts = ("one", "two", "last")
        await exchange.send(b"".join(b"data: " + encoded(chunk({"content": text})) + b"\n\n" for text in texts))
        await exchange.disconnected()
        left.set()

    async with serving(endless) as (_, provider):
        await leave(provider)
        with trio.fail_after(5):
            await left.wait()
    gc.collect()  # an async generator that was left open would warn here, and a warning is an error


async def test_a_cancel_before_the_answer_begins_closes_the_socket() -> None:
    asked, left = trio.Event(), trio.Event()

    async def silent(exchange: Exchange) -> None:
        asked.set()
        await exchange.disconnected()
        left.set()

    async with serving(silent) as (_, provider), trio.open_nursery() as nursery:
        nursery.start_soon(collect, provider)
        await asked.wait()
        nursery.cancel_scope.cancel()
        with trio.fail_after(5) as scope:
            scope.shield = True
            await left.wait()


# --- the witness ---


def read_by_the_sdk(base_url: str, arguments: dict[str, Any]) -> tuple[list[str], Any]:
    """Return the deltas and the final completion; the synchronous client, as the other leaves generators behind."""
    with (
        openai.OpenAI(base_url=base_url, api_key=KEY, max_retries=0) as sdk,
        sdk.chat.completions.stream(**arguments) as stream,
    ):
        deltas = [event.delta for event in stream if event.type == "content.delta" and event.delta]
        return deltas, stream.get_final_completion()


async def test_the_official_sdk_reads_our_fixtures_as_we_do() -> None:
    async with serving(
        says(*CALLS), says(*CALLS), says(*HELLO, usage_chunk(3, 2)), says(*HELLO, usage_chunk(3, 2))
    ) as (
        server,
        provider,
    ):
        for deltas_expected in (["Let me look."], ["Hel", "lo"]):
            deltas, reply = await collect(provider)
            arguments = server.asked[-1].json
            del arguments["stream"]
            theirs, completion = await trio.to_thread.run_sync(read_by_the_sdk, server.base_url, arguments)
            assert deltas == theirs == deltas_expected
            message, usage = completion.choices[0].message, completion.usage
            assert reply.text == message.content
            assert reply.finish == completion.choices[0].finish_reason
            assert usage is not None
            assert usage.prompt_tokens_details is not None
            assert reply.usage == Usage(
                usage.prompt_tokens, usage.prompt_tokens_details.cached_tokens or 0, usage.completion_tokens
            )
            assert [(call.call_id, call.tool.replace(".", "_")) for call in reply.calls] == [
                (call.id, call.function.name) for call in message.tool_calls or ()
            ]
            assert [call.arguments for call in reply.calls] == [
                msgspec.json.decode(call.function.arguments) for call in message.tool_calls or ()
            ]


# --- keys that are looked up ---


REFUSED = answers(401, {"error": {"message": f"Incorrect API key provided: {KEY}", "code": "invalid_api_key"}})


@asynccontextmanager
async def looking_again(
    keys: list[str | Exception], *handlers: Handler
) -> AsyncGenerator[tuple[FakeServer, OpenAIProvider]]:
    """Serve a provider whose key, when it is looked up again, is the next of `keys`."""

    async def look_again() -> str:
        key = keys.pop(0)
        if isinstance(key, Exception):
            raise key
        return key

    async with fake_openai(*handlers) as server, http_client() as client:
        yield server, OpenAIProvider("openai", server.base_url, KEY, client, look_again=look_again)


def keys_sent(server: FakeServer) -> list[str]:
    return [each.headers["authorization"].removeprefix("Bearer ") for each in server.asked]


async def test_a_key_that_is_refused_is_looked_up_once_more_and_the_new_one_stays() -> None:
    async with looking_again(["sk-new"], REFUSED, says(*HELLO), says(*HELLO)) as (server, provider):
        assert (await collect(provider))[0] == ["Hel", "lo"]
        assert (await collect(provider))[0] == ["Hel", "lo"]
    assert keys_sent(server) == [KEY, "sk-new", "sk-new"]
    assert "sk-new" not in repr(provider)


@pytest.mark.parametrize("found", [KEY, ConfigInvalid("the variable is not set"), "not\nsendable"])
async def test_where_there_is_no_other_key_the_refusal_stands_and_nothing_is_sent_again(found: str | Exception) -> None:
    async with looking_again([found], REFUSED) as (server, provider):
        with pytest.raises(ProviderError, match="Incorrect API key") as caught:
            await collect(provider)
    assert (caught.value.kind, len(server.asked)) == ("auth", 1)
    assert KEY not in str(caught.value)


async def test_a_second_refusal_is_final() -> None:
    said = answers(401, {"error": {"message": "Incorrect API key provided: sk-new"}})
    async with looking_again(["sk-new"], REFUSED, said) as (server, provider):
        with pytest.raises(ProviderError) as caught:
            await collect(provider)
    assert len(server.asked) == 2
    assert "sk-new" not in str(caught.value)
