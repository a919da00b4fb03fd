"""A route: which method of which path it is, what it needs and says, and the handler that answers it.

A handler is written for an `Ask` and what was said; `get`, `post` and `delete` make a route of it, from its own types. What passes
before it, and how its answer is written, is `resources`' part.
"""

import inspect
import re
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Any, TypeVar, get_type_hints

import attrs

from palyra_trio.core.commands import Command
from palyra_trio.core.errors import StateConflict
from palyra_trio.core.identity import Caller, RequestContext, Scope
from palyra_trio.guard.auth import Metadata
from palyra_trio.runtime.gateway import Gateway
from palyra_trio.transports.api.exchange import JSON
from palyra_trio.transports.door import Access
from palyra_trio.transports.refusals import OF_CODE

T = TypeVar("T")
API = "/api/v1"
_VARIABLE = re.compile(r"\{(\w+)\}")
_OF_ALL = ("internal", "invalid_argument")
_OF_WHO_ASKS = ("unauthenticated", "denied", "busy", "journal_stopped")
_OF_WHAT_IS_NAMED = ("not_found", "ambiguous")
_OF_BODIES = ("too_large", "draining")


@attrs.frozen
class Ask:
    """A request that was let in. `key` is its Idempotency-Key, "" without one."""

    gateway: Gateway
    access: Access
    caller: Caller
    headers: Metadata
    key: str = ""

    @property
    def context(self) -> RequestContext:
        return self.caller.context

    async def bring_about(self, command: Command, read: Callable[[], Awaitable[T]], is_so: Callable[[T], bool]) -> T:
        """Carry out a command, and return what `read` finds then. Where it was so already, that is no conflict.

        Raises StateConflict where it came to something else, and what the command and `read` raise.
        """
        refused: StateConflict | None = None
        try:
            await self.gateway.submit(command, self.context)
        except StateConflict as error:
            refused = error
        found = await read()
        if refused is not None and not is_so(found):
            raise refused
        return found


@attrs.frozen
class Answered:
    """One way in which a route answers: a status, and of what type the body is. Without a type there is none."""

    status: int
    type: Any = None
    content_type: str = JSON
    headers: tuple[tuple[str, str], ...] = ()


Handler = Callable[..., Awaitable[Any]]


@attrs.frozen
class Route:
    """One method of one path. Without a `scope` anybody may ask.

    `query` and `body` are the classes of what may be said there, `codes` those of the refusals that it knows. `header`
    is a header of its own, and what it is for.
    """

    method: str
    path: str
    scope: Scope | None
    handler: Handler
    query: type[Any] | None
    body: type[Any] | None
    answers: tuple[Answered, ...]
    codes: tuple[str, ...]
    header: tuple[str, str] | None = None

    @property
    def name(self) -> str:
        return self.handler.__name__

    @property
    def words(self) -> str:
        return inspect.getdoc(self.handler) or ""

    @property
    def variables(self) -> tuple[str, ...]:
        return tuple(_VARIABLE.findall(self.path))

    @property
    def pattern(self) -> re.Pattern[str]:
        """What a path of this route looks like: a variable is whatever stands between two slashes."""
        return re.compile(_VARIABLE.sub("([^/]+)", self.path))

    @property
    def statuses(self) -> tuple[int, ...]:
        """The statuses of its refusals."""
        of_http = {HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.UNSUPPORTED_MEDIA_TYPE} if self.body else set()
        return tuple(sorted({*(OF_CODE[code].http for code in self.codes), *of_http}))


def get(path: str, scope: Scope | None = Scope.READ, **fields: Any) -> Callable[[Handler], Route]:
    """Make a route that only reads of a handler. `fields` are those of `route`."""
    return lambda handler: route("GET", path, scope, handler, **fields)


def post(path: str, scope: Scope, **fields: Any) -> Callable[[Handler], Route]:
    """Make a route that does something of a handler."""
    return lambda handler: route("POST", path, scope, handler, **fields)


def delete(path: str, scope: Scope, **fields: Any) -> Callable[[Handler], Route]:
    """Make a route that removes what its path names of a handler."""
    return lambda handler: route("DELETE", path, scope, handler, **fields)


def route(
    method: str,
    path: str,
    scope: Scope | None,
    handler: Handler,
    *,
    refuses: tuple[str, ...] = (),
    answers: tuple[Answered, ...] = (),
    header: tuple[str, str] | None = None,
) -> Route:
    """Return the route of a handler, which has a parameter of each variable's name, and `query` and `body` if it takes them.

    `refuses` are codes beyond those that every route of its kind has. Without `answers` it answers 200 with what the
    handler returns. Raises LookupError for parameters that the path does not have.
    """
    hints = get_type_hints(handler)
    answers = answers or (Answered(200, hints["return"]),)
    query, body = hints.get("query"), hints.get("body")
    codes = (
        *_OF_ALL,
        *(_OF_WHO_ASKS if scope is not None else ()),
        *(_OF_WHAT_IS_NAMED if "{" in path else ()),
        *(_OF_BODIES if body is not None else ()),
        *refuses,
    )
    made = Route(method, path, scope, handler, query, body, answers, tuple(dict.fromkeys(codes)), header)
    expected = {"ask", *made.variables, *(name for name in ("query", "body") if name in hints)}
    if expected != inspect.signature(handler).parameters.keys():
        raise LookupError(f"{handler.__name__} does not take what {path} has")
    return made
