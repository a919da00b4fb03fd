import logging
from collections.abc import Sequence

import pytest
import trio
from grpclib.const import Status
from grpclib.exceptions import GRPCError
from h2.events import TrailersReceived
from trio.testing import MockClock, memory_stream_pair, wait_all_tasks_blocked

from palyra_trio.core.errors import Draining, PalyraError
from palyra_trio.wire.call import STATUS_WAIT_S
from palyra_trio.wire.framing import encode_messages
from palyra_trio.wire.h2_client import connect
from palyra_trio.wire.h2_server import H2Server
from palyra_trio.wire.metadata import status_of
from palyra_trio.wire.served_calls import handlers_of
from tests.wire.echo import Echo, pair
from tests.wire.echo_grpc import EchoStub
from tests.wire.echo_pb2 import Failure, Order, Text
from tests.wire.raw import HEADERS, Raw, raw_client


class Garbage:
    def SerializeToString(self) -> bytes:
        return b"\xff"


async def failure_of(echo: Echo, failure: Failure) -> tuple[int, GRPCError]:
    """Return how many messages came before the error, and the error."""
    got = 0
    async with pair(echo) as (channel, _), EchoStub(channel).Fail.open() as call:
        await call.send_message(failure, end=True)
        try:
            async for _ in call:
                got += 1
        except GRPCError as error:
            return got, error
    raise AssertionError("the call did not fail")


async def test_a_status_comes_after_the_messages_before_it() -> None:
    got, error = await failure_of(Echo(), Failure(after_messages=1000, status=10, message="schön 100%"))
    assert (got, error.status, error.message) == (1000, Status.ABORTED, "schön 100%")


async def test_an_error_of_ours_is_translated() -> None:
    echo = Echo()
    echo.raises = Draining("closing")
    _, error = await failure_of(echo, Failure())
    assert (error.status, error.details[0].reason) == (Status.FAILED_PRECONDITION, "draining")


async def test_an_error_that_a_nursery_wrapped_is_translated_too() -> None:
    echo = Echo()
    echo.raises = ExceptionGroup("", [ExceptionGroup("", [Draining("closing")])])
    _, error = await failure_of(echo, Failure())
    assert error.status is Status.FAILED_PRECONDITION


async def test_an_unexpected_error_is_logged_once_and_not_told(caplog: pytest.LogCaptureFixture) -> None:
    echo = Echo()
    echo.raises = KeyError("the secret")
    _, error = await failure_of(echo, Failure())
    assert (error.status, error.message) == (Status.INTERNAL, "internal error")
    assert [record.levelno for record in caplog.records] == [logging.ERROR]


async def test_a_request_that_is_not_its_type_is_refused() -> None:
    async with pair(Echo()) as (channel, _), EchoStub(channel).Count.open() as call:
        await call.send_message(Garbage(), end=True)  # type: ignore[arg-type]
        with pytest.raises(GRPCError, match="not a Order"):
            await call.recv_message()


async def test_a_handler_that_answers_nothing_has_failed(caplog: pytest.LogCaptureFixture) -> None:
    class Silent(Echo):
        async def Say(self, call: object) -> None:
            pass

    async with pair(Silent()) as (channel, _):
        with pytest.raises(GRPCError, match="internal error"):
            await EchoStub(channel).Say(Text())
    assert "without a response" in caplog.text


async def test_the_deadline_of_the_client_ends_the_handler(autojump_clock: MockClock) -> None:
    echo = Echo()
    async with pair(echo) as (channel, _):
        start = trio.current_time()
        with pytest.raises(GRPCError) as failed:
            await EchoStub(channel).Wait(Text(), timeout=3)
        assert failed.value.status is Status.DEADLINE_EXCEEDED
        assert trio.current_time() - start == pytest.approx(3, abs=0.01)
        await wait_all_tasks_blocked()
        assert echo.live == 0


async def test_an_error_that_has_no_translation_is_logged_and_ends_only_its_call(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Untold(PalyraError):
        code = "untold"

    near, far = memory_stream_pair()
    echo = Echo()
    echo.raises = Untold("?")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(H2Server(handlers_of([echo]), {}.__getitem__).serve_connection, far)
        async with connect(near) as channel:
            with pytest.raises(GRPCError, match="internal error"):
                await EchoStub(channel).Fail(Failure())
            assert (await EchoStub(channel).Say(Text(body=b"on"))).body == b"on"
    assert "Fail failed" in caplog.text


async def test_a_handler_sees_how_much_time_is_left(autojump_clock: MockClock) -> None:
    echo = Echo()
    async with pair(echo) as (channel, _), trio.open_nursery() as nursery:
        nursery.start_soon(lambda: EchoStub(channel).Wait(Text(), timeout=10))
        await echo.began.wait()
        await trio.sleep(4)
        assert echo.last is not None
        assert echo.last.deadline is not None
        assert echo.last.deadline.time_remaining() == pytest.approx(6, abs=0.01)
        echo.go_on.set()


async def fill_the_window(
    raw: Raw, method: str, request: Order | Failure, more: Sequence[tuple[str, str]] = ()
) -> None:
    """Call, and take what comes without ever handing the window back."""
    headers = [(name, value.replace("Wait", method)) for name, value in HEADERS]
    raw.machine.send_headers(1, [*headers, *more])
    raw.machine.send_data(1, encode_messages([request.SerializeToString()]), end_stream=True)
    await raw.flush()
    while raw.machine.remote_flow_control_window(1) > 0:
        assert await raw.read()


async def end_of(raw: Raw) -> GRPCError:
    """Return the status that comes next, which no DATA may precede: the window is closed."""
    while not raw.find(TrailersReceived):
        assert await raw.read()
    (ended,) = raw.find(TrailersReceived)
    return status_of(ended.headers)  # type: ignore[attr-defined]


async def test_a_stopped_call_has_its_status_although_the_window_is_closed() -> None:
    echo = Echo()
    async with raw_client(echo) as raw:
        await fill_the_window(raw, "Count", Order(messages=10**6, bytes_each=1000))
        assert echo.last is not None
        echo.last.stop(GRPCError(Status.ABORTED, "stopped by a person"))
        assert (await end_of(raw)).message == "stopped by a person"
        await wait_all_tasks_blocked()
        assert echo.live == 0


async def test_a_drain_and_a_deadline_are_told_although_the_window_is_closed(autojump_clock: MockClock) -> None:
    for end, status in (("deadline", Status.DEADLINE_EXCEEDED), ("drain", Status.UNAVAILABLE)):
        async with raw_client(Echo()) as raw:
            more = [("grpc-timeout", "5S")] if end == "deadline" else []
            await fill_the_window(raw, "Count", Order(messages=10**6, bytes_each=1000), more)
            if end == "drain":
                raw.server.drain(trio.current_time() + 5)
            assert (await end_of(raw)).status is status


async def test_a_failure_waits_a_second_and_no_longer_for_a_window(autojump_clock: MockClock) -> None:
    async with raw_client(Echo()) as raw:
        await fill_the_window(raw, "Fail", Failure(after_messages=15_000, status=10, message="enough"))
        start = trio.current_time()
        assert (await end_of(raw)).message == "enough"
        assert trio.current_time() - start == pytest.approx(STATUS_WAIT_S, abs=0.01)


async def test_a_call_that_is_cancelled_by_its_handler_has_no_status() -> None:
    class Rude(Echo):
        async def Say(self, call: object) -> None:
            await call.cancel()  # type: ignore[attr-defined]

    async with pair(Rude()) as (channel, _):
        with pytest.raises(GRPCError, match="reset") as failed:
            await EchoStub(channel).Say(Text())
        assert failed.value.status is Status.CANCELLED
