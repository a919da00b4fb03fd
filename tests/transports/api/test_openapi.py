"""The description says what is so: valid OpenAPI 3.1, every route, every type, and the scope that each needs."""

import json
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from palyra_trio.transports.api.openapi import REFERENCE
from palyra_trio.transports.api.route import Route
from palyra_trio.transports.api.table import ROUTES
from tests.transports.api.asking import DOCUMENT

SCHEMAS: dict[str, Any] = DOCUMENT["components"]["schemas"]


def operation(route: Route) -> dict[str, Any]:
    found: dict[str, Any] = DOCUMENT["paths"][route.path][route.method.lower()]
    return found


def references(value: Any) -> set[str]:
    if isinstance(value, dict):
        own = {value["$ref"]} if isinstance(value.get("$ref"), str) else set[str]()
        return own.union(*map(references, value.values()))
    return set[str]().union(*map(references, value)) if isinstance(value, list) else set()


def test_every_reference_leads_somewhere_and_every_schema_is_one_and_is_used() -> None:
    assert references(DOCUMENT) == {REFERENCE + name for name in SCHEMAS}
    for schema in SCHEMAS.values():
        Draft202012Validator.check_schema(schema)


def test_no_name_tells_of_our_modules() -> None:
    assert all(name.isalnum() for name in SCHEMAS)
    assert "palyra_trio." not in json.dumps(DOCUMENT)


def test_every_operation_has_a_name_of_its_own() -> None:
    operations = [each for path in DOCUMENT["paths"].values() for each in path.values()]
    assert len({each["operationId"] for each in operations}) == len(operations) == len(ROUTES)


@pytest.mark.parametrize("route", ROUTES, ids=lambda each: f"{each.method} {each.path}")
def test_an_operation_says_what_its_route_does(route: Route) -> None:
    said = operation(route)
    assert said["summary"]
    assert said["security"] == ([{"token": []}] if route.scope else [])
    assert route.scope is None or f"Needs the scope {route.scope}." in said["description"]
    assert {each["name"] for each in said["parameters"] if each["in"] == "path"} == {*route.variables}
    assert {int(status) for status in said["responses"]} == {*route.statuses, *(each.status for each in route.answers)}
    assert ("requestBody" in said) is (route.body is not None)
    keys = [each["name"] for each in said["parameters"] if each["in"] == "header"]
    assert ("Idempotency-Key" in keys) is (route.method == "POST")


def test_a_refusal_is_a_problem_with_the_codes_that_it_may_have() -> None:
    refusals = DOCUMENT["paths"]["/api/v1/runs"]["post"]["responses"]
    assert refusals["409"]["content"]["application/problem+json"]["schema"] == {"$ref": f"{REFERENCE}Problem"}
    assert refusals["409"]["description"] == "run_conflict, session_conflict, state_conflict, session_busy"
    assert "Retry-After" in refusals["429"]["headers"]
    assert "WWW-Authenticate" in refusals["401"]["headers"]


def test_what_is_sent_has_no_more_than_it_may_and_what_is_answered_has_all() -> None:
    assert SCHEMAS["NewRun"]["additionalProperties"] is False
    assert sorted(SCHEMAS["NewRun"]["required"]) == ["text", "workspace"]
    assert SCHEMAS["Approval"]["required"] == [*SCHEMAS["Approval"]["properties"]]


def test_the_parameters_of_a_list_have_their_bounds() -> None:
    (size,) = [each for each in DOCUMENT["paths"]["/api/v1/runs"]["get"]["parameters"] if each["name"] == "page_size"]
    assert (size["schema"]["minimum"], size["schema"]["maximum"], size["schema"]["default"]) == (1, 500, 100)
