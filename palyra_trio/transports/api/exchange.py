"""A plain HTTP request and what it is answered with, for any HTTP version. Refusals are problem details (RFC 9457).

A transport hands in what it has parsed and writes what it is given back; nothing here reads or writes.
"""

from collections.abc import Awaitable, Callable
from http import HTTPStatus

import attrs

from palyra_trio.core.errors import PalyraError
from palyra_trio.core.identity import Peer
from palyra_trio.guard.auth import Metadata
from palyra_trio.transports.refusals import OF_CODE, problem, problem_of
from palyra_trio.transports.run_events import RunEvents

JSON = "application/json"
PROBLEM = "application/problem+json"
HEADERS = (
    ("cache-control", "no-store"),
    ("content-security-policy", "default-src 'none'; frame-ancestors 'none'"),
    ("cross-origin-resource-policy", "same-origin"),
    ("x-content-type-options", "nosniff"),
)

Headers = tuple[tuple[str, str], ...]


async def no_body() -> None:
    """Receive the body of a request that has none."""


@attrs.frozen
class HttpRequest:
    """What was asked. `path` is decoded and without the query, `query` is as it came; names of `headers` are in lower case.

    `receive` returns the next part of the body, None after the last one.
    """

    method: str
    path: str
    headers: Metadata
    peer: Peer
    query: str = ""
    receive: Callable[[], Awaitable[bytes | None]] = no_body


@attrs.frozen
class HttpResponse:
    """What to answer: `body`, or else the chunks of `events` until one is empty. HEAD has neither."""

    status: int
    headers: Headers = HEADERS
    body: bytes = b""
    events: RunEvents | None = None


def answer(status: int, content_type: str, body: bytes, more: Headers = ()) -> HttpResponse:
    """Return an answer with all of its body."""
    described = (("content-type", content_type), ("content-length", str(len(body))))
    return HttpResponse(status, (*described, *HEADERS, *more), body)


def refused(status: HTTPStatus, detail: str, remedy: str, more: Headers = ()) -> HttpResponse:
    """Return what a request is answered with that HTTP itself refuses: the name of its status is the code."""
    return answer(status, PROBLEM, problem(status, detail, status.name.lower(), remedy), more)


def refusal(error: PalyraError) -> HttpResponse:
    """Return what a refusal is answered with: problem details, and what HTTP says of it in headers."""
    meaning = OF_CODE[error.code]
    more = [("www-authenticate", "Bearer")] if meaning.http == 401 else []
    more += [("retry-after", str(meaning.retry_after_s))] if meaning.retry_after_s else []
    return answer(meaning.http, PROBLEM, problem_of(error), tuple(more))
