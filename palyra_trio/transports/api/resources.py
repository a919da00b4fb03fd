"""All that is served over plain HTTP and is no page: what a request passes before its handler, and how it is answered.

Any HTTP version hands its requests in here (see `exchange`); which routes there are is said in `table`.
"""

import logging
from http import HTTPStatus
from typing import Any

import attrs
import msgspec
import trio
from multidict import MultiDict

from palyra_trio.core.errors import Busy, PalyraError, TooLarge
from palyra_trio.core.identity import Caller, Principal, RequestContext
from palyra_trio.guard.auth import CHANNEL
from palyra_trio.runtime.gateway import Gateway
from palyra_trio.transports.api import probes
from palyra_trio.transports.api.exchange import JSON, HttpRequest, HttpResponse, answer, refusal, refused
from palyra_trio.transports.api.reading import Said, body_of, key_of, query_of
from palyra_trio.transports.api.route import API, Ask, Route
from palyra_trio.transports.api.table import Table
from palyra_trio.transports.body_room import BodyRoom
from palyra_trio.transports.door import Access

BODY_BYTES = 1024 * 1024
BODY_S = 30.0  # for all of a body to arrive
DEFAULT_CHANNEL = "http"
_NOBODY = Caller(RequestContext(Principal("")), frozenset())

_log = logging.getLogger(__name__)


class _Unacceptable(Exception):
    """A request that HTTP has a status for, and we no code."""

    def __init__(self, status: HTTPStatus, detail: str, remedy: str) -> None:
        super().__init__(detail)
        self.status = status
        self.remedy = remedy


class Resources:
    """The resources of one daemon."""

    def __init__(self, gateway: Gateway, access: Access) -> None:
        self._gateway = gateway
        self._access = access
        self._table = Table()
        self._bodies = BodyRoom()

    def __contains__(self, path: str) -> bool:
        """Whether a path is one of these, be there anything or not: all below `/api` is."""
        return path.startswith("/api/") or bool(self._table.find(path)[0])

    async def respond(self, request: HttpRequest) -> HttpResponse:
        """Return the response to a request. Raises nothing: a refusal is a response too, and so is a fault of ours."""
        methods, values = self._table.find(request.path)
        if not methods:
            remedy = f"{API}/openapi.json says what there is"
            return refused(HTTPStatus.NOT_FOUND, f"there is no {request.path[:200]}", remedy)
        route = methods.get("GET" if request.method == "HEAD" else request.method)
        if route is None:
            allowed = ", ".join(sorted({*methods, *(["HEAD"] if "GET" in methods else [])}))
            detail = f"{request.method[:20]} is not for {request.path[:200]}"
            return refused(HTTPStatus.METHOD_NOT_ALLOWED, detail, f"it takes {allowed}", (("allow", allowed),))
        try:
            response = await self._carry_out(route, dict(zip(route.variables, values, strict=True)), request)
        except _Unacceptable as error:
            response = refused(error.status, str(error), error.remedy)
        except PalyraError as error:
            response = refusal(error)
        except Exception as error:
            _log.error("%s %s failed", route.method, route.path, exc_info=error)
            response = refusal(PalyraError("this is a fault of palyra-trio"))
        return attrs.evolve(response, body=b"", events=None) if request.method == "HEAD" else response

    async def _carry_out(self, route: Route, said: dict[str, Any], request: HttpRequest) -> HttpResponse:
        caller = await self._admit(route, request)
        if route.path.startswith(API):
            query = query_of(request.query, route.query or Said)
            said |= {"query": query} if route.query is not None else {}
        key = key_of(request.headers) if route.method == "POST" else ""
        if route.body is not None:
            said["body"] = body_of(await _body(request, self._bodies), route.body)
        answered = await route.handler(Ask(self._gateway, self._access, caller, request.headers, key), **said)
        if isinstance(answered, HttpResponse):
            return answered
        return answer(200, JSON, msgspec.json.encode(answered))

    async def _admit(self, route: Route, request: HttpRequest) -> Caller:
        open_to_all = route is probes.read_metrics and self._gateway.config.http.open_metrics
        if route.scope is None or open_to_all:
            return _NOBODY
        headers = MultiDict(request.headers.items())
        headers.setdefault(CHANNEL, DEFAULT_CHANNEL)
        return await self._access.admit(headers, request.peer, route.scope, f"{route.method} {route.path}")


async def _body(request: HttpRequest, room: BodyRoom) -> bytes:
    """Return the whole body, which is given up where others need its place in `room`.

    Raises TooLarge before more than is allowed was taken in, Busy, and _Unacceptable.
    """
    kept = bytearray()
    with trio.CancelScope() as placed, trio.move_on_after(BODY_S) as waiting:
        try:
            while (part := await request.receive()) is not None:
                kept += part
                room.grew(placed.cancel, len(part))
                await trio.lowlevel.checkpoint()
                if len(kept) > BODY_BYTES:
                    raise TooLarge(f"the body has more than {BODY_BYTES // 1024} KiB", remedy="send less")
        finally:
            room.left(placed.cancel)
    if placed.cancelled_caught:
        raise Busy("others are sending too much", remedy="send it again in a moment")
    if waiting.cancelled_caught:
        detail = f"the body did not arrive within {BODY_S:g} s"
        raise _Unacceptable(HTTPStatus.REQUEST_TIMEOUT, detail, "send it faster, or less")
    kind = str(request.headers.get("content-type", "")).partition(";")[0].strip().lower()
    if kept and kind != JSON:
        detail = f"the body must be {JSON}, not {kind[:100] or 'unnamed'}"
        raise _Unacceptable(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, detail, f"send `content-type: {JSON}`")
    return bytes(kept)
