"""What supervisors and scrapers ask: is the process alive, does it take work, and what has it counted.

A probe needs no token, and is told no more than it needs.
"""

from http import HTTPStatus
from typing import Literal

import attrs
import msgspec

from palyra_trio.transports.api.exchange import JSON, HttpResponse, answer
from palyra_trio.transports.api.route import Answered, Ask, get
from palyra_trio.transports.metrics import CONTENT_TYPE, Metrics


@attrs.frozen
class Alive:
    """`stopped` says that nothing can be recorded any more, so that the process is about to end."""

    status: Literal["serving", "stopped"]


@attrs.frozen
class Ready:
    """`paused` is ready too: all is served, and new runs are refused until a person resumes."""

    status: Literal["ready", "paused", "draining", "stopped"]


@get("/healthz", None, answers=(Answered(200, Alive), Answered(503, Alive)))
async def is_alive(ask: Ask) -> HttpResponse:
    """Whether the process is alive. One that drains is."""
    return _told(Alive("stopped" if ask.gateway.journal.failed.is_set() else "serving"))


@get("/readyz", None, answers=(Answered(200, Ready), Answered(503, Ready)))
async def is_ready(ask: Ask) -> HttpResponse:
    """Whether the process takes work."""
    health = ask.gateway.health()
    if ask.gateway.journal.failed.is_set():
        return _told(Ready("stopped"))
    if health.draining:
        return _told(Ready("draining"))
    return _told(Ready("paused" if health.paused is not None else "ready"))


@get("/metrics", answers=(Answered(200, str, CONTENT_TYPE),))
async def read_metrics(ask: Ask) -> HttpResponse:
    """The counters and histograms of the process for Prometheus. `http.open_metrics` lets scrapers in without a token."""
    return answer(200, CONTENT_TYPE, Metrics(ask.gateway).text())


def _told(state: Alive | Ready) -> HttpResponse:
    well = state.status in ("serving", "ready", "paused")
    return answer(HTTPStatus.OK if well else HTTPStatus.SERVICE_UNAVAILABLE, JSON, msgspec.json.encode(state))


ROUTES = (is_alive, is_ready, read_metrics)
