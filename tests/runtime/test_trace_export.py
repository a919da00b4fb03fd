"""Nobody waits for a collector: what is queued is bounded, what failed is tried again, an end comes in time, in one line of log."""

import subprocess
import sys
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from itertools import pairwise
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTracePartialSuccess,
    ExportTraceServiceResponse,
)
from trio.testing import MockClock

from palyra_trio import runtime
from palyra_trio.core.config import OtelConfig
from palyra_trio.core.errors import ConfigInvalid, PeerError
from palyra_trio.journal.queries import Reader
from palyra_trio.journal.reader_pool import ReaderPool
from palyra_trio.runtime import trace_export
from palyra_trio.runtime.counters import Counters
from palyra_trio.runtime.trace_export import (
    ANSWER_BYTES,
    AT_ONCE,
    BACK_OFF_S,
    COMPLAINT_S,
    GATHER_S,
    LAST_S,
    PATIENCE_S,
    QUEUE_SPANS,
    RETRY_AFTER_S,
    TRY_AGAIN,
    Answer,
    Outbox,
    open_tracing,
)
from palyra_trio.runtime.tracing import Span
from tests.collector import SILENT, Collector
from tests.core.tapes import ASSEMBLED, FINISHED, ROUTED, STARTED, asked_for, request, said
from tests.runtime.test_tracing import DOCS, rows_of

TAPE = rows_of([asked_for(), STARTED, ROUTED, ASSEMBLED, request(), said("a"), FINISHED])
NOBODY = PeerError("nobody is there")
REFUSED = "the collector answered with status 400"


def span(number: int) -> Span:
    return Span(bytes(16), number.to_bytes(8, "big"), b"", str(number), False, 0, 0, {}, ())


@attrs.define
class Post:
    """Answers with the next of `answers`, the last again and again, and notes when it was asked for what."""

    answers: list[int | Answer | Exception | Callable[[], Awaitable[object]]]
    asked: list[tuple[float, list[str]]] = attrs.Factory(list)

    async def __call__(self, spans: tuple[Span, ...]) -> Answer:
        self.asked.append((trio.current_time(), [each.name for each in spans]))
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        await trio.lowlevel.checkpoint()
        if isinstance(answer, Exception):
            raise answer
        if isinstance(answer, int):
            return Answer(answer)
        if not isinstance(answer, Answer):
            await answer()
            raise AssertionError("it was to be cancelled")
        return answer

    @property
    def names(self) -> list[list[str]]:
        return [names for _, names in self.asked]


def logged(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records]


# --- the queue ---


async def test_spans_are_gathered_and_sent_in_order_a_bounded_number_at_once(autojump_clock: MockClock) -> None:
    outbox, post = Outbox(Counters()), Post([200])
    async with trio.open_nursery() as nursery:
        nursery.start_soon(outbox.send, post)
        for number in range(AT_ONCE + 1):
            outbox.put(span(number))
        await trio.sleep(GATHER_S * 1.5)
        assert post.asked == [
            (GATHER_S, [str(number) for number in range(AT_ONCE)]),
            (GATHER_S, [str(AT_ONCE)]),
        ]
        outbox.put(span(7))
        await trio.sleep(GATHER_S * 1.5)
        assert post.asked[2:] == [(GATHER_S * 2.5, ["7"])]
        nursery.cancel_scope.cancel()


async def test_beyond_the_bound_spans_are_lost_and_counted() -> None:
    outbox = Outbox(counters := Counters(), queue_spans=2)
    for number in range(5):
        outbox.put(span(number))
    assert (len(outbox), counters.spans_lost) == (2, 3)


@pytest.mark.parametrize("answer", [429, 502, 503, 504, NOBODY, trio.sleep_forever])
async def test_what_a_collector_cannot_take_now_is_sent_again_later(
    answer: int | Exception | Callable[[], Awaitable[object]], autojump_clock: MockClock
) -> None:
    outbox, post = Outbox(counters := Counters()), Post([answer, answer, 200])
    outbox.put(span(1))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(outbox.send, post)
        await trio.sleep(100)
        nursery.cancel_scope.cancel()
    held = PATIENCE_S if answer is trio.sleep_forever else 0
    assert post.asked == [(1, ["1"]), (3 + held, ["1"]), (7 + 2 * held, ["1"])]
    assert (len(outbox), counters.spans_lost) == (0, 0)


async def test_it_is_tried_ever_more_seldom_up_to_a_bound(autojump_clock: MockClock) -> None:
    outbox, post = Outbox(Counters()), Post([NOBODY])
    outbox.put(span(1))
    with trio.move_on_after(1000):
        await outbox.send(post)
    times = [when for when, _ in post.asked]
    assert [after - before for before, after in pairwise(times)][:7] == [2, 4, 8, 16, 32, BACK_OFF_S, BACK_OFF_S]


@pytest.mark.parametrize(
    ("asked_s", "waited_s"),
    [(0.0, 2), (1e-9, GATHER_S), (7.0, 7), (BACK_OFF_S + 1, BACK_OFF_S + 1), (1e9, RETRY_AFTER_S)],
)
async def test_a_collector_that_says_when_is_tried_again_then_within_a_bound(
    asked_s: float, waited_s: float, autojump_clock: MockClock
) -> None:
    outbox, post = Outbox(Counters()), Post([Answer(429, asked_s), Answer(503, asked_s), 200])
    outbox.put(span(1))
    with trio.move_on_after(2000):
        await outbox.send(post)
    times = [when for when, _ in post.asked]
    assert times[1] - times[0] == pytest.approx(waited_s)
    assert times[2] - times[1] == pytest.approx(waited_s if asked_s else 4)


async def test_what_a_collector_rejects_of_a_request_is_counted_and_told_of_now_and_then(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    outbox = Outbox(counters := Counters())
    post = Post([Answer(200, rejected=2, message="too\nold"), Answer(200, rejected=9), 200])
    async with trio.open_nursery() as nursery:
        nursery.start_soon(outbox.send, post)
        for pause_s in (2.0, COMPLAINT_S, 2.0):
            for number in range(3):
                outbox.put(span(number))
            await trio.sleep(pause_s)
        nursery.cancel_scope.cancel()
    assert (len(post.asked), counters.spans_rejected, counters.spans_lost) == (3, 2 + 3, 0)
    assert logged(caplog) == ["the collector has rejected 2 spans so far: too ⏎ old"]


async def test_a_complaint_is_told_of_again_after_a_while(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    outbox, post = Outbox(Counters()), Post([Answer(200, message="a warning"), Answer(200, rejected=1)])
    async with trio.open_nursery() as nursery:
        nursery.start_soon(outbox.send, post)
        for _ in range(3):
            outbox.put(span(1))
            await trio.sleep(COMPLAINT_S)
        nursery.cancel_scope.cancel()
    assert logged(caplog) == [
        "the collector warns: a warning",
        "the collector has rejected 1 spans so far: it does not say why",
        "the collector has rejected 2 spans so far: it does not say why",
    ]


@pytest.mark.parametrize(("answer", "why"), [(400, REFUSED), (ValueError("odd"), "ValueError: odd")])
async def test_what_a_collector_will_never_take_is_lost_and_holds_nothing_up(
    answer: int | Exception, why: str, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    outbox, post = Outbox(counters := Counters()), Post([answer, 200])
    outbox.put(span(1))
    with trio.move_on_after(2):
        await outbox.send(post)
    outbox.put(span(2))
    with trio.move_on_after(2):
        await outbox.send(post)
    assert post.names == [["1"], ["2"]]
    assert counters.spans_lost == 1
    assert logged(caplog) == [f"traces cannot be sent: {why}", "traces are sent again; 1 spans were lost"]


async def test_a_collector_that_is_away_is_one_line_and_one_more_once_it_is_back(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    outbox, post = Outbox(Counters()), Post([NOBODY] * 5 + [200])
    outbox.put(span(1))
    with trio.move_on_after(1000):
        await outbox.send(post)
    assert len(post.asked) == 6
    assert logged(caplog) == ["traces cannot be sent: nobody is there", "traces are sent again; 0 spans were lost"]


# --- the end ---


async def test_the_end_sends_what_is_left_at_once(autojump_clock: MockClock) -> None:
    outbox, post = Outbox(Counters()), Post([200])
    outbox.put(span(1))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(outbox.send, post)
        outbox.close()
    assert post.asked == [(0, ["1"])]


async def test_the_end_does_not_wait_out_a_pause(autojump_clock: MockClock) -> None:
    outbox, post = Outbox(Counters()), Post([NOBODY, 200])
    outbox.put(span(1))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(outbox.send, post)
        await trio.sleep(1.5)
        outbox.close()
    assert post.asked == [(1, ["1"]), (1.5, ["1"])]


async def test_an_end_with_nobody_there_is_one_attempt(autojump_clock: MockClock) -> None:
    outbox, post = Outbox(Counters()), Post([NOBODY])
    outbox.put(span(1))
    outbox.close()
    await outbox.send(post)
    assert (len(post.asked), len(outbox)) == (1, 1)


# --- over HTTP ---


async def sent_to(url: str, tmp_path: Path, **config: str | bool) -> None:
    """Tell a collector of one run, and end at once."""
    tracing = await open_tracing(OtelConfig(url, **config), {"env:COLLECTOR": "Bearer hush"}.__getitem__, Counters())  # type: ignore[arg-type]
    assert tracing is not None
    async with ReaderPool(tmp_path / "none") as readers, tracing.sending(readers, "boot-1"):
        tracing.take(TAPE)


async def test_a_collector_is_told_before_the_end(tmp_path: Path) -> None:
    async with Collector.open() as collector:
        await sent_to(collector.url, tmp_path)
    assert [each.name for each in collector.spans] == ["chat m", "invoke_agent default"]
    (asked,) = collector.requests
    headers = dict(asked.headers.raw_items())
    assert (asked.method, asked.target) == (b"POST", b"/v1/traces")
    assert headers[b"content-type"] == b"application/x-protobuf"
    assert b"authorization" not in headers


class Journal(ReaderPool):
    """One that holds TAPE."""

    async def ask(self, question: Callable[[Reader], object]) -> Any:
        await trio.lowlevel.checkpoint()
        return tuple(TAPE)


async def test_what_has_to_be_looked_up_in_the_last_moment_is_told_too(tmp_path: Path) -> None:
    async with Collector.open() as collector:
        tracing = await open_tracing(OtelConfig(collector.url), {}.__getitem__, Counters())
        assert tracing is not None
        async with tracing.sending(Journal(tmp_path / "none"), "boot-1"):
            tracing.take(TAPE[-1:])
    assert [each.name for each in collector.spans] == ["invoke_agent default"]


async def test_a_collector_that_wants_it_is_told_who_asks(tmp_path: Path) -> None:
    async with Collector.open() as collector:
        await sent_to(f"{collector.url}/base/", tmp_path, authorization="env:COLLECTOR")
    (asked,) = collector.requests
    assert asked.target == b"/base/v1/traces"
    assert (b"authorization", b"Bearer hush") in asked.headers


async def test_a_redirect_is_not_followed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with Collector.open(307) as collector:
        await sent_to(collector.url, tmp_path)
    assert len(collector.requests) == 1
    assert logged(caplog) == [
        "traces cannot be sent: the collector answered with status 307",
        f"2 spans were not sent to {collector.url}/v1/traces",
    ]


def rejecting(message: str) -> bytes:
    said = ExportTracePartialSuccess(rejected_spans=1, error_message=message)
    return ExportTraceServiceResponse(partial_success=said).SerializeToString()


async def test_what_a_collector_says_of_a_request_that_it_took_is_read(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with Collector.open() as collector:
        collector.says = rejecting("no name")
        await sent_to(collector.url, tmp_path)
    assert logged(caplog) == [
        "the collector has rejected 1 spans so far: no name",
        f"1 spans were rejected by {collector.url}/v1/traces",
    ]


async def test_a_collector_that_says_too_much_is_not_listened_to(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with Collector.open() as collector:
        collector.says = rejecting("x" * ANSWER_BYTES)
        await sent_to(collector.url, tmp_path)
    assert len(collector.spans) == 2
    assert logged(caplog) == []


async def test_an_answer_without_end_is_left_unread() -> None:
    sent = list[int]()

    async def chunks() -> AsyncGenerator[bytes]:
        while True:
            await trio.lowlevel.checkpoint()
            sent.append(ANSWER_BYTES // 4)
            yield bytes(sent[-1])

    async with aclosing(chunks()) as endless:
        with trio.fail_after(5):
            assert await trace_export._read(endless) == b""
    assert sum(sent) <= ANSWER_BYTES * 5 // 4


@pytest.mark.parametrize("status", [429, 503])
async def test_a_collector_that_is_busy_is_tried_when_it_says(tmp_path: Path, status: int) -> None:
    async with Collector.open(status, 200) as collector:
        collector.headers = [("retry-after", "1")]
        tracing = await open_tracing(OtelConfig(collector.url), {}.__getitem__, Counters())
        assert tracing is not None
        async with ReaderPool(tmp_path / "none") as readers, tracing.sending(readers, "boot-1"):
            tracing.take(TAPE)
            with trio.fail_after(2 * GATHER_S + 0.9):  # without being asked it waits for twice GATHER_S
                await collector.until_told(2)


async def test_a_collector_that_is_not_there_ends_nothing_and_is_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with Collector.open() as collector:
        gone = collector.url
    await sent_to(gone, tmp_path)
    why, end = logged(caplog)
    assert why.startswith(f"traces cannot be sent: {gone}/v1/traces: ConnectError")
    assert end == f"2 spans were not sent to {gone}/v1/traces"


async def test_a_collector_that_never_answers_holds_the_end_up_for_a_moment_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trace_export, "LAST_S", 1)
    async with Collector.open(SILENT) as collector:
        with trio.fail_after(20):
            await sent_to(collector.url, tmp_path)
    assert len(collector.requests) == 1


# --- how it is set up ---


async def test_nothing_is_loaded_where_no_traces_are_wanted() -> None:
    assert await open_tracing(OtelConfig(), {}.__getitem__, Counters()) is None


@pytest.mark.parametrize("value", ["Bearer hush\r\nx: y", "Bearer hüsh"])
async def test_what_no_header_can_say_is_refused_and_not_repeated(value: str) -> None:
    with pytest.raises(ConfigInvalid, match=r"otel\.authorization") as refused:
        await open_tracing(OtelConfig("http://127.0.0.1:4318", "env:COLLECTOR"), lambda _: value, Counters())
    assert value.split()[1] not in str(refused.value)


async def test_without_the_extra_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "palyra_trio.runtime.otlp", raising=False)
    monkeypatch.delattr(runtime, "otlp", raising=False)
    monkeypatch.setitem(sys.modules, "opentelemetry.proto.collector.trace.v1.trace_service_pb2", None)
    with pytest.raises(ConfigInvalid, match=r"otel\.endpoint is set.*pip install 'palyra-trio\[otel\]'"):
        await open_tracing(OtelConfig("http://127.0.0.1:4318"), {}.__getitem__, Counters())


def test_a_process_that_tells_nobody_loads_nothing_of_it() -> None:
    check = "import sys, palyra_trio.daemon; sys.exit(any(name.startswith('opentelemetry') for name in sys.modules))"
    assert subprocess.run([sys.executable, "-c", check], check=False).returncode == 0


def test_the_page_about_traces_says_how_long_and_how_much() -> None:
    page = DOCS.read_text("utf-8")
    assert f"a queue of {QUEUE_SPANS:,};" in page
    assert f"A request has {PATIENCE_S:g} s;" in page
    assert f"made again after {2 * GATHER_S:g} s, {4 * GATHER_S:g} s and so on up to a minute" in page
    assert BACK_OFF_S == 60
    assert f"what is left has {LAST_S:g} s" in page
    assert all(str(status) in page for status in TRY_AGAIN)
    assert (RETRY_AFTER_S, COMPLAINT_S) == (600, 600)
    assert page.count("ten minutes") == 2
