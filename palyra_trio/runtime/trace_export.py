"""Spans to a collector: a bounded queue that nobody ever waits for, and one task that empties it over HTTP.

Written for Trio, because the exporters of OpenTelemetry's SDK hold a thread in a request that cannot be cancelled: they
would outlive the drain of a process whose collector does not answer. A collector that is away is told of in one line of
the log, and another once it is back; spans beyond the bound are lost, and counted, and so are those that it rejects.
"""

import logging
import time
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from itertools import islice
from math import inf

import attrs
import trio

from palyra_trio.core.codec import TapeRow
from palyra_trio.core.config import OtelConfig
from palyra_trio.core.errors import ConfigInvalid, PeerError
from palyra_trio.core.words import one_line
from palyra_trio.journal.queries import whole_tape
from palyra_trio.journal.reader_pool import ReaderPool
from palyra_trio.providers.retry_after import retry_after_s
from palyra_trio.runtime.counters import Counters
from palyra_trio.runtime.trace_feed import TraceFeed
from palyra_trio.runtime.tracing import Span

_log = logging.getLogger(__name__)

QUEUE_SPANS = 2048  # with contents some 30 MB at most
AT_ONCE = 64  # so that a request stays below the 4 MiB that some collectors take
GATHER_S = 1.0
BACK_OFF_S = 60.0  # at most
RETRY_AFTER_S = 600.0  # at most, whatever a collector asks for
COMPLAINT_S = 600.0  # between two lines of the log about what a collector rejects
ANSWER_BYTES = 64 * 1024
MESSAGE_CHARACTERS = 500
PATIENCE_S = 10.0  # for one request
LAST_S = 2.0  # that the last spans have when the process ends
TRY_AGAIN = frozenset({429, 502, 503, 504})  # OTLP 1.x, "Retryable Response Codes"


@attrs.frozen
class Answer:
    """What a collector answered: with which status, and when to try again (0: it does not say).

    Of a request that it took it may have `rejected` some spans; `message` says why, or warns.
    """

    status: int
    retry_after_s: float = 0.0
    rejected: int = 0
    message: str = ""


Post = Callable[[tuple[Span, ...]], Awaitable[Answer]]
"""Send spans, and return the answer. Raises PeerError when there is none."""


@attrs.frozen
class _Failure:
    """Why spans were not taken, whether they are to be sent `again`, and when, if the collector says so."""

    why: str
    again: bool
    retry_after_s: float = 0.0


class Outbox:
    """Spans that are to be sent, the oldest first. `counters` get how many never will be, and how many were sent in vain."""

    def __init__(self, counters: Counters, queue_spans: int = QUEUE_SPANS) -> None:
        self._counters = counters
        self._most = queue_spans
        self._spans: deque[Span] = deque()
        self._some = trio.Event()
        self._closed = trio.Event()
        self._failing = False
        self._complained_at = -inf

    def __len__(self) -> int:
        return len(self._spans)

    def put(self, span: Span) -> None:
        """Take a span, or count it as lost where there is no room."""
        if len(self._spans) >= self._most:
            self._counters.spans_lost += 1
            return
        self._spans.append(span)
        self._some.set()

    def close(self) -> None:
        """Let `send` return once it is rid of all, or cannot be for now."""
        self._closed.set()
        self._some.set()

    async def send(self, post: Post) -> None:
        """Send what comes, gathered, until closed. Nothing is raised but Cancelled, which leaves what was not sent."""
        wait_s = GATHER_S
        while True:
            await self._some.wait()
            with trio.move_on_after(wait_s):
                await self._closed.wait()
            failure = await self._empty(post)
            if self._closed.is_set():
                return
            if failure is None:
                self._some = trio.Event()
                wait_s = GATHER_S
            elif failure.retry_after_s:
                wait_s = min(max(failure.retry_after_s, GATHER_S), RETRY_AFTER_S)
            else:
                wait_s = min(2 * wait_s, BACK_OFF_S)

    async def _empty(self, post: Post) -> _Failure | None:
        """Send all there is, or return why the collector takes nothing for now."""
        while batch := tuple(islice(self._spans, AT_ONCE)):
            answer = await _attempt(post, batch)
            if isinstance(answer, _Failure) and answer.again:
                self._tell(answer.why)
                return answer
            for _ in batch:
                self._spans.popleft()
            if isinstance(answer, _Failure):
                self._counters.spans_lost += len(batch)
                self._tell(answer.why)
            else:
                self._tell("")
                self._complain(answer.message, min(max(answer.rejected, 0), len(batch)))
        return None

    def _complain(self, message: str, rejected: int) -> None:
        self._counters.spans_rejected += rejected
        if (rejected or message) and trio.current_time() >= self._complained_at + COMPLAINT_S:
            self._complained_at = trio.current_time()
            said = one_line(message, MESSAGE_CHARACTERS) or "it does not say why"
            if rejected:
                _log.warning("the collector has rejected %d spans so far: %s", self._counters.spans_rejected, said)
            else:
                _log.warning("the collector warns: %s", said)

    def _tell(self, why: str) -> None:
        if why and not self._failing:
            _log.warning("traces cannot be sent: %s", why)
        elif self._failing and not why:
            _log.info("traces are sent again; %d spans were lost", self._counters.spans_lost)
        self._failing = bool(why)


async def _attempt(post: Post, batch: tuple[Span, ...]) -> Answer | _Failure:
    try:
        with trio.fail_after(PATIENCE_S):
            answer = await post(batch)
    except (PeerError, trio.TooSlowError) as error:
        return _Failure(str(error) or f"the collector did not answer within {PATIENCE_S:g} s", again=True)
    except Exception as error:
        return _Failure(f"{type(error).__name__}: {error}", again=False)
    if 200 <= answer.status < 300:
        return answer
    why = f"the collector answered with status {answer.status}"
    return _Failure(why, answer.status in TRY_AGAIN, answer.retry_after_s)


class Tracing:
    """What a process does about traces: `take` is for `Feed(watch=…)`, and `sending` goes around the runs."""

    def __init__(self, config: OtelConfig, authorization: str, counters: Counters) -> None:
        """Raises ConfigInvalid without the extra `otel`, and for what no header can say. Loads libraries: for a thread."""
        if not (authorization.isascii() and authorization.isprintable()):
            raise ConfigInvalid(
                "what otel.authorization refers to is no header's value", remedy="keep one line such as `Bearer TOKEN`"
            )
        try:
            from palyra_trio.runtime import otlp
        except ModuleNotFoundError as error:
            raise ConfigInvalid(
                f"otel.endpoint is set, but this installation has no {error.name}",
                remedy="pip install 'palyra-trio[otel]'",
            ) from error
        import httpx2

        self._otlp, self._unreachable = otlp, httpx2.HTTPError
        self._url = config.endpoint.rstrip("/") + otlp.PATH
        headers = {
            "content-type": otlp.MEDIA_TYPE,
            "accept-encoding": "identity",
            **({"authorization": authorization} if authorization else {}),
        }
        # to this machine nothing goes through a proxy
        self._client = httpx2.AsyncClient(timeout=None, headers=headers, trust_env=config.endpoint.startswith("https:"))
        self._counters = counters
        self._outbox = Outbox(counters)
        self._feed = TraceFeed(self._outbox.put, content=config.content)
        self.take = self._feed.take

    @asynccontextmanager
    async def sending(self, readers: ReaderPool, instance_id: str) -> AsyncGenerator[None, None]:
        """Send the spans for the length of the block, and what is left of them within LAST_S after it."""

        async def read(run_id: str) -> tuple[TapeRow, ...]:
            return await readers.ask(lambda reader: whole_tape(reader, run_id))

        async with self._client, trio.open_nursery() as nursery:
            nursery.start_soon(self._outbox.send, partial(self._post, instance_id))
            async with trio.open_nursery() as reading:
                reading.start_soon(self._feed.catch_up, read)
                try:
                    yield
                finally:
                    reading.cancel_scope.cancel()
            nursery.cancel_scope.deadline = trio.current_time() + LAST_S
            await self._feed.read_behind(read)
            self._outbox.close()
        self._counters.spans_lost += len(self._outbox)
        if left := self._counters.spans_lost:
            _log.warning("%d spans were not sent to %s", left, self._url)
        if rejected := self._counters.spans_rejected:
            _log.warning("%d spans were rejected by %s", rejected, self._url)

    async def _post(self, instance_id: str, spans: tuple[Span, ...]) -> Answer:
        """Redirects are not followed, and of an answer no more is read than tells if it took all. Raises PeerError."""
        body = self._otlp.encode(spans, instance_id)
        try:
            async with self._client.stream("POST", self._url, content=body) as response:
                if response.status_code != 200:
                    return Answer(response.status_code, retry_after_s(response.headers, time.time()))
                return Answer(200, 0.0, *self._otlp.partial_success(await _read(response.aiter_raw())))
        except self._unreachable as error:
            raise PeerError(f"{self._url}: {type(error).__name__}: {error}") from error


async def _read(chunks: AsyncIterator[bytes]) -> bytes:
    """Return a body, or nothing of one that is longer than any of use."""
    body = bytearray()
    with trio.CancelScope() as enough:
        async for chunk in chunks:
            body += chunk
            if len(body) > ANSWER_BYTES:
                enough.cancel()  # httpx2's nested generators end from the inside, where leaving would strand them
    return b"" if enough.cancel_called else bytes(body)


async def open_tracing(config: OtelConfig, key: Callable[[str], str], counters: Counters) -> Tracing | None:
    """Return what sends traces, or None where none are wanted. `key` looks up a reference, in a thread.

    `counters` are told of the spans that do not arrive.

    Raises ConfigInvalid without the extra `otel`, and what `key` raises.
    """
    if not config.endpoint:
        return None
    return await trio.to_thread.run_sync(
        lambda: Tracing(config, key(config.authorization) if config.authorization else "", counters)
    )
