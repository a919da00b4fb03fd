"""grpcio, the C core, as a client over real sockets: the published interop cases, and what clients do to servers."""

import threading
from collections.abc import AsyncGenerator, Callable, Iterator
from typing import Any, TypeVar

import attrs
import grpc
import pytest
import trio
from grpclib.const import Status
from grpclib.exceptions import GRPCError

from tests.wire.echo import Echo, listening, server_of
from tests.wire.echo_pb2 import Failure, Order, Sum, Text

T = TypeVar("T")
WITHIN_S = 10


@attrs.define
class Served:
    echo: Echo
    port: int
    channel: grpc.Channel

    def method(self, name: str, kind: str, reply: type[Any] = Text) -> Callable[..., Any]:
        multi = getattr(self.channel, kind)
        call: Callable[..., Any] = multi(
            f"/tests.wire.Echo/{name}",
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=reply.FromString,
        )
        return call


@pytest.fixture
async def served() -> AsyncGenerator[Served, None]:
    echo = Echo()
    async with listening(server_of(echo)) as port:
        channel = grpc.insecure_channel(f"127.0.0.1:{port}")
        yield Served(echo, port, channel)
        await trio.to_thread.run_sync(channel.close)


async def in_thread(function: Callable[[], T]) -> T:
    with trio.fail_after(WITHIN_S):
        return await trio.to_thread.run_sync(function)


async def settled(echo: Echo) -> None:
    with trio.fail_after(WITHIN_S):
        while echo.live:
            await trio.testing.wait_all_tasks_blocked(0.005)


@pytest.mark.parametrize("size", [0, 1, 100_000, 4_000_000])
async def test_unary_empty_and_large(served: Served, size: int) -> None:
    say = served.method("Say", "unary_unary")
    reply = await in_thread(lambda: say(Text(body=bytes(size))))
    assert len(reply.body) == size


async def test_client_streaming(served: Served) -> None:
    collect = served.method("Collect", "stream_unary", Sum)
    total = await in_thread(lambda: collect(Text(body=bytes(each)) for each in (27182, 8, 1828, 45904)))
    assert (total.messages, total.bytes) == (4, 74922)


async def test_server_streaming(served: Served) -> None:
    count = served.method("Count", "unary_stream")
    for together in (0, 100):
        order = Order(messages=5000, bytes_each=25, together=together)
        assert await in_thread(lambda order=order: sum(1 for _ in count(order))) == 5000  # type: ignore[misc]


async def test_ping_pong_and_half_close(served: Served) -> None:
    chat = served.method("Chat", "stream_stream")

    def talk() -> list[bytes]:
        turn = threading.Semaphore(1)

        def say() -> Iterator[Text]:
            for word in (b"a", b"b", b"c"):
                turn.acquire()
                yield Text(body=word)

        heard = []
        for reply in chat(say()):
            heard.append(reply.body)
            turn.release()
        return heard

    assert await in_thread(talk) == [b"a", b"b", b"c", b"bye"]


async def test_cancel_after_begin(served: Served) -> None:
    collect = served.method("Collect", "stream_unary", Sum)
    stop = threading.Event()

    def say() -> Iterator[Text]:
        stop.wait(WITHIN_S)
        yield from ()

    future = collect.future(say())  # type: ignore[attr-defined]
    await served.echo.began.wait()
    future.cancel()
    stop.set()
    assert await in_thread(future.code) is grpc.StatusCode.CANCELLED
    await settled(served.echo)


async def test_cancel_after_the_first_response(served: Served) -> None:
    count = served.method("Count", "unary_stream")

    def talk() -> grpc.StatusCode:
        replies = count(Order(messages=10**6, bytes_each=1000))
        next(replies)
        replies.cancel()
        code: grpc.StatusCode = replies.code()
        return code

    assert await in_thread(talk) is grpc.StatusCode.CANCELLED
    await settled(served.echo)


async def test_a_deadline(served: Served) -> None:
    wait = served.method("Wait", "unary_unary")

    def talk() -> grpc.StatusCode:
        with pytest.raises(grpc.RpcError) as late:
            wait(Text(), timeout=0.2)
        code: grpc.StatusCode = late.value.code()
        return code

    assert await in_thread(talk) is grpc.StatusCode.DEADLINE_EXCEEDED
    await settled(served.echo)


async def test_a_status_and_its_message(served: Served) -> None:
    fail = served.method("Fail", "unary_stream")
    message = "\t\ntest with whitespace\r\nand Unicode BMP ☺ and non-BMP \U0001f608 100%\t\n"

    def talk() -> tuple[int, Any, Any]:
        replies, got = fail(Failure(after_messages=500, status=2, message=message)), 0
        try:
            for _ in replies:
                got += 1
        except grpc.RpcError:
            pass
        return got, replies.code(), replies.details()

    assert await in_thread(talk) == (500, grpc.StatusCode.UNKNOWN, message)


async def test_metadata_both_ways(served: Served) -> None:
    say = served.method("Say", "unary_unary")

    def talk() -> tuple[Any, Any]:
        sent = (("x-text", "a b"), ("x-blob-bin", b"\x0a\x0b\xff"), ("t-blob-bin", b""))
        _, call = say.with_call(Text(), metadata=sent)  # type: ignore[attr-defined]
        return call.initial_metadata(), call.trailing_metadata()

    began, ended = await in_thread(talk)
    assert [tuple(each) for each in began] == [("x-text", "a b"), ("x-blob-bin", b"\x0a\x0b\xff")]
    assert [tuple(each) for each in ended] == [("t-blob-bin", b"")]


async def test_a_message_over_the_limit(served: Served) -> None:
    say = served.method("Say", "unary_unary")

    def talk() -> Any:
        with pytest.raises(grpc.RpcError) as refused:
            say(Text(body=bytes(5_000_000)))
        return refused.value.code()

    assert await in_thread(talk) is grpc.StatusCode.RESOURCE_EXHAUSTED


async def test_an_unknown_method(served: Served) -> None:
    call = served.method("Nothing", "unary_unary")

    def talk() -> Any:
        with pytest.raises(grpc.RpcError) as refused:
            call(Text())
        return refused.value.code()

    assert await in_thread(talk) is grpc.StatusCode.UNIMPLEMENTED


async def test_compressed_requests_are_refused_by_their_status(served: Served) -> None:
    say = served.method("Say", "unary_unary")

    def talk() -> Any:
        with pytest.raises(grpc.RpcError) as refused:
            say(Text(body=bytes(1000)), compression=grpc.Compression.Gzip)
        return refused.value.code()

    assert await in_thread(talk) is grpc.StatusCode.UNIMPLEMENTED


async def test_300_calls_at_once_and_200_cancelled_at_once(served: Served) -> None:
    say, wait = served.method("Say", "unary_unary"), served.method("Wait", "unary_unary")

    def talk() -> int:
        futures = [say.future(Text(body=b"x")) for _ in range(300)]  # type: ignore[attr-defined]
        return sum(len(future.result(WITHIN_S).body) for future in futures)

    assert await in_thread(talk) == 300
    futures = [wait.future(Text()) for _ in range(200)]  # type: ignore[attr-defined]
    with trio.fail_after(WITHIN_S):
        while served.echo.live < 100:  # the limit of one connection
            await trio.testing.wait_all_tasks_blocked(0.005)
    await in_thread(lambda: [future.cancel() for future in futures])
    await settled(served.echo)
    assert (await in_thread(lambda: say(Text(body=b"on")))).body == b"on"


async def test_a_client_that_reads_slowly_is_waited_for(served: Served) -> None:
    count = served.method("Count", "unary_stream")

    def begin() -> Any:
        replies = count(Order(messages=200_000, bytes_each=1000))
        next(replies)
        return replies

    replies = await in_thread(begin)
    await trio.testing.wait_all_tasks_blocked(0.1)
    assert served.echo.sent < 20_000  # grpcio's windows grow to a few MiB, and then the handler waits
    replies.cancel()
    await settled(served.echo)


async def test_a_stopped_call_has_its_status_although_the_window_is_closed(served: Served) -> None:
    count = served.method("Count", "unary_stream")

    def begin() -> Any:
        replies = count(Order(messages=200_000, bytes_each=1000))
        next(replies)
        return replies

    replies = await in_thread(begin)
    await trio.testing.wait_all_tasks_blocked(0.1)
    assert served.echo.last is not None
    served.echo.last.stop(GRPCError(Status.ABORTED, "stopped by a person"))

    def end() -> Any:
        with pytest.raises(grpc.RpcError):
            for _ in replies:
                pass
        return replies.code(), replies.details()

    assert await in_thread(end) == (grpc.StatusCode.ABORTED, "stopped by a person")


async def test_a_channel_that_is_closed_in_the_middle_leaves_nothing(served: Served) -> None:
    def begin() -> grpc.Channel:
        channel = grpc.insecure_channel(f"127.0.0.1:{served.port}")
        count = channel.unary_stream(
            "/tests.wire.Echo/Count",
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=Text.FromString,
        )
        next(count(Order(messages=10**6, bytes_each=1000)))
        return channel

    channel = await in_thread(begin)
    await in_thread(channel.close)
    await settled(served.echo)


async def test_a_drain_lets_a_running_call_end_and_cuts_a_hung_one() -> None:
    echo = Echo()
    server = server_of(echo)
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with trio.open_nursery() as nursery:
        await nursery.start(server.serve, listeners)
        channel = grpc.insecure_channel(f"127.0.0.1:{listeners[0].socket.getsockname()[1]}")
        served = Served(echo, 0, channel)
        wait, collect = served.method("Wait", "unary_unary"), served.method("Collect", "stream_unary", Sum)
        replies: list[Text] = []
        codes: list[Any] = []
        never = threading.Event()

        def end() -> None:
            replies.append(wait(Text(), timeout=WITHIN_S))

        def hang() -> None:
            with pytest.raises(grpc.RpcError) as cut:
                collect((Text() for _ in iter(never.wait, True)), timeout=WITHIN_S)
            codes.append(cut.value.code())

        nursery.start_soon(in_thread, hang)
        nursery.start_soon(in_thread, end)
        with trio.fail_after(WITHIN_S):
            while echo.live < 2:
                await trio.testing.wait_all_tasks_blocked(0.005)
        server.drain(trio.current_time() + 0.5)
        echo.go_on.set()
    assert (codes, replies) == ([grpc.StatusCode.UNAVAILABLE], [Text()])
    never.set()
    await in_thread(channel.close)
