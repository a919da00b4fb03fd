"""A run's tape as server-sent events (WHATWG HTML, section 9.2), for any HTTP version.

An event is a tape row: `id` is its seq, `event` the name of its kind, `data` the line that `--jsonl` prints of it. So a
client that comes back with `Last-Event-ID` misses nothing. Who writes the bytes, and how, is the transport's part.
"""

import trio

from palyra_trio.core.codec import KIND_NAMES, TapeRow, json_line
from palyra_trio.core.errors import InvalidArgument, PalyraError
from palyra_trio.core.identity import Caller, RunId, Scope
from palyra_trio.guard.auth import Metadata
from palyra_trio.runtime.follow import Follower
from palyra_trio.runtime.gateway import Gateway
from palyra_trio.transports.door import Access
from palyra_trio.transports.refusals import problem_of

CONTENT_TYPE = "text/event-stream"
LAST_EVENT_ID = "last-event-id"
HEARTBEAT_S = 15.0  # proxies and clients begin to think after 30 s and more of silence that the other end is gone
HEARTBEAT = b": still here\n\n"
PAGE_ROWS = 100  # in one chunk: what a slow client is sent is not kept in memory by the thousand
_SEQ_DIGITS = 15


class RunEvents:
    """A run's rows as chunks of an event stream. Made by `open_run_events`; an abandoned one leaves nothing."""

    def __init__(self, follower: Follower, access: Access, caller: Caller) -> None:
        self._follower = follower
        self._access = access
        self._caller = caller
        self._ended = follower.ended

    @property
    def ended(self) -> bool:
        """Whether nothing follows. When it is so from the start, the answer is 204, which tells an EventSource to stay away."""
        return self._ended

    async def next_chunk(self) -> bytes:
        """Return whole events, at least one, or a comment when nothing happened for a while; b"" once nothing follows.

        A refusal on the way (the token was revoked, the run is interrupted) is the last event, `problem`, which has no
        id. If cancelled, the next call returns the same rows.
        """
        if self._ended:
            return b""
        try:
            with trio.move_on_after(HEARTBEAT_S) as waiting:
                rows = await self._follower.next_rows(PAGE_ROWS)
            self._access.require(self._caller, Scope.READ)
        except PalyraError as error:
            self._ended = True
            return _event("problem", problem_of(error).decode())
        if waiting.cancelled_caught:
            return HEARTBEAT
        self._ended = self._follower.ended
        return b"".join(map(encode_row, rows))


async def open_run_events(
    gateway: Gateway, access: Access, caller: Caller, metadata: Metadata, run_id: str
) -> RunEvents:
    """Return the events of a run of the caller's after the one that `Last-Event-ID` names, or all of them.

    `metadata` are the request's headers, their names in lower case. `run_id` may be `last` or the beginning of an id.
    Raises what `Gateway.follow` raises, and InvalidArgument for a Last-Event-ID that is no seq.
    """
    after_seq = _seq(metadata.get(LAST_EVENT_ID) or "0")
    return RunEvents(await gateway.follow(RunId(run_id), after_seq, caller.context), access, caller)


def encode_row(row: TapeRow) -> bytes:
    """Return a row as one event."""
    return b"id: %d\n" % row.seq + _event(KIND_NAMES.get(row.kind, str(row.kind)), json_line(row))


def _event(name: str, line: str) -> bytes:
    return f"event: {name}\ndata: {line}\n\n".encode()


def _seq(text: str | bytes) -> int:
    if not isinstance(text, str) or not (text.isascii() and text.isdigit() and len(text) <= _SEQ_DIGITS):
        raise InvalidArgument(f"{LAST_EVENT_ID} is not the id of an event: {text!r}", remedy="send the last one's id")
    return int(text)
