"""Every route there is, by its path: the one table that requests are looked up in, and that is published."""

from collections.abc import Iterable, Mapping

from palyra_trio.transports.api import (
    agents,
    approvals,
    jobs,
    operations,
    policy,
    probes,
    runs,
    sessions,
    tapes,
    tokens,
)
from palyra_trio.transports.api.exchange import JSON, HttpResponse, answer
from palyra_trio.transports.api.openapi import document
from palyra_trio.transports.api.route import API, Answered, Ask, Route, get

Methods = Mapping[str, Route]


@get(f"{API}/openapi.json", None, answers=(Answered(200, dict),))
async def describe(ask: Ask) -> HttpResponse:
    """This description (OpenAPI 3.1)."""
    return answer(200, JSON, document(ROUTES))


ROUTES: tuple[Route, ...] = (
    *probes.ROUTES,
    describe,
    *operations.ROUTES,
    *runs.ROUTES,
    *tapes.ROUTES,
    *sessions.ROUTES,
    *jobs.ROUTES,
    *approvals.ROUTES,
    *agents.ROUTES,
    *policy.ROUTES,
    *tokens.ROUTES,
)


class Table:
    """Routes by path and method. A path that is spelled out comes before one with a variable that would fit it too."""

    def __init__(self, routes: Iterable[Route] = ROUTES) -> None:
        by_path: dict[str, dict[str, Route]] = {}
        for each in routes:
            by_path.setdefault(each.path, {})[each.method] = each
        self._literal = {path: methods for path, methods in by_path.items() if "{" not in path}
        self._with_variables = [
            (next(iter(methods.values())).pattern, methods) for path, methods in by_path.items() if "{" in path
        ]

    def find(self, path: str) -> tuple[Methods, tuple[str, ...]]:
        """Return what there is under a path, by method, and the values of its variables. Nothing where nothing is."""
        if path in self._literal:
            return self._literal[path], ()
        for pattern, methods in self._with_variables:
            if found := pattern.fullmatch(path):
                return methods, found.groups()
        return {}, ()
