"""Spans to a collector: a bounded queue that nobody ever waits for, and one task that empties it over HTTP.

Written for Trio, because the exporters of OpenTelemetry's SDK hold a thread in a request that cannot be cancelled: they
would outlive the drain of a process whose collector does not answer. A collector that is away is told of in one line of
the log, and another once it is back; spans beyond the bound are lost, and counted.
"""

import logging
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from itertools import islice

import trio

from palyra_trio.core.codec import TapeRow
from palyra_trio.core.config import OtelConfig
from palyra_trio.core.errors import ConfigInvalid, PeerError
from palyra_trio.journal.queries import whole_tape
from palyra_trio.journal.reader_pool import ReaderPool
from palyra_trio.runtime.trace_feed import TraceFeed
from palyra_trio.runtime.tracing import Span

_log = logging.getLogger(__name__)

QUEUE_SPANS = 2048  # with contents some 30 MB at most
AT_ONCE = 64  # so that a request stays below the 4 MiB that some collectors take
GATHER_S = 1.0
BACK_OFF_S = 60.0  # at most
PATIENCE_S = 10.0  # for one request
LAST_S = 2.0  # that the last spans have when the process ends
TRY_AGAIN = frozenset({429, 502, 503, 504})  # OTLP 1.x, "Retryable Response Codes"

Post = Callable[[tuple[Span, ...]], Awaitable[int]]
"""Send spans, and return the status of the answer. Raises PeerError when there is none."""


class Outbox:
    """Spans that are to be sent, the oldest first."""

    def __init__(self, queue_spans: int = QUEUE_SPANS) -> None:
        self.lost = 0
        self._most = queue_spans
        self._spans: deque[Span] = deque()
        self._some = trio.Event()
        self._closed = trio.Event()
        self._failing = False

    def __len__(self) -> int:
        return len(self._spans)

    def put(self, span: Span) -> None:
        """Take a span, or count it as lost where there is no room."""
        if len(self._spans) >= self._most:
            self.lost += 1
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
            emptied = await self._empty(post)
            if self._closed.is_set():
                return
            if emptied:
                self._some = trio.Event()
            wait_s = GATHER_S if emptied else min(2 * wait_s, BACK_OFF_S)

    async def _empty(self, post: Post) -> bool:
        """Send all there is; False once the collector does not take any."""
        while batch := tuple(islice(self._spans, AT_ONCE)):
            again, why = await _attempt(post, batch)
            if again:
                self._tell(why)
                return False
            for _ in batch:
                self._spans.popleft()
            if why:
                self.lost += len(batch)
            self._tell(why)
        return True

    def _tell(self, why: str) -> None:
        if why and not self._failing:
            _log.warning("traces cannot be sent: %s", why)
        elif self._failing and not why:
            _log.info("traces are sent again; %d spans were lost", self.lost)
        self._failing = bool(why)


async def _attempt(post: Post, batch: tuple[Span, ...]) -> tuple[bool, str]:
    """Return whether a batch is to be sent again, and why it was not taken, "" where it was."""
    try:
        with trio.fail_after(PATIENCE_S):
            status = await post(batch)
    except (PeerError, trio.TooSlowError) as error:
        return True, str(error) or f"the collector did not answer within {PATIENCE_S:g} s"
    except Exception as error:
        return False, f"{type(error).__name__}: {error}"
    if 200 <= status < 300:
        return False, ""
    return status in TRY_AGAIN, f"the collector answered with status {status}"


class Tracing:
    """What a process does about traces: `take` is for `Feed(watch=…)`, and `sending` goes around the runs."""

    def __init__(self, config: OtelConfig, authorization: str) -> None:
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
        headers = {"content-type": otlp.MEDIA_TYPE, **({"authorization": authorization} if authorization else {})}
        # to this machine nothing goes through a proxy
        self._client = httpx2.AsyncClient(timeout=None, headers=headers, trust_env=config.endpoint.startswith("https:"))
        self._outbox = Outbox()
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
        if left := len(self._outbox) + self._outbox.lost:
            _log.warning("%d spans were not sent to %s", left, self._url)

    async def _post(self, instance_id: str, spans: tuple[Span, ...]) -> int:
        """Answers are not read, and redirects not followed. Raises PeerError."""
        body = self._otlp.encode(spans, instance_id)
        try:
            async with self._client.stream("POST", self._url, content=body) as response:
                return response.status_code
        except self._unreachable as error:
            raise PeerError(f"{self._url}: {type(error).__name__}: {error}") from error


async def open_tracing(config: OtelConfig, key: Callable[[str], str]) -> Tracing | None:
    """Return what sends traces, or None where none are wanted. `key` looks up a reference, in a thread.

    Raises ConfigInvalid without the extra `otel`, and what `key` raises.
    """
    if not config.endpoint:
        return None
    return await trio.to_thread.run_sync(
        lambda: Tracing(config, key(config.authorization) if config.authorization else "")
    )
