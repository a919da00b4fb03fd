"""One table of all routes: each can be reached, and none hides another."""

import json
from pathlib import Path

import pytest

from palyra_trio.core.identity import Scope
from palyra_trio.transports.api.route import Route
from palyra_trio.transports.api.table import ROUTES, Table
from tests.transports.api.asking import DOCUMENT, read
from tests.transports.served import open_served

OPEN = {"/healthz", "/readyz", "/api/v1/openapi.json"}


@pytest.mark.parametrize("route", ROUTES, ids=lambda each: f"{each.method} {each.path}")
def test_a_route_is_found_by_a_path_of_its_own(route: Route) -> None:
    values = tuple(f"value-{number}" for number in range(len(route.variables)))
    methods, found = Table().find(route.path.format(**dict(zip(route.variables, values, strict=True))))
    assert (methods[route.method], found) == (route, values)


def test_every_route_has_a_method_and_path_and_a_name_of_its_own() -> None:
    assert len({(each.method, each.path) for each in ROUTES}) == len({each.name for each in ROUTES}) == len(ROUTES)


def test_only_probes_and_the_description_are_for_anybody() -> None:
    assert {each.path for each in ROUTES if each.scope is None} == OPEN


def test_what_only_reads_needs_no_more_than_that_and_what_changes_something_does() -> None:
    for each in ROUTES:
        if each.method == "GET":
            assert each.scope in (Scope.READ, None) or each.path == "/api/v1/tokens"
        else:
            assert each.scope is not Scope.READ or each.path == "/api/v1/policy/explain"


@pytest.mark.parametrize(
    "path",
    [
        "",
        "/",
        "/api/v1",
        "/api/v1/",
        "/api/v1/runs/",
        "/api/v1/runs//tape",
        "/api/v2/runs",
        "/healthz/",
        "/api/v1/runs/a/b",
        "/api/v1/runs/../status",
    ],
)
def test_there_is_nothing_else(path: str) -> None:
    assert Table().find(path) == ({}, ())


async def test_the_description_is_told_to_anybody(tmp_path: Path) -> None:
    async with open_served(tmp_path) as served:
        told = await read(served, "/openapi.json", who=None)
    assert json.loads(told.response.body) == DOCUMENT
