"""The description of what is served (OpenAPI 3.1), made of the routes themselves: their types are its schemas."""

import inspect
from collections.abc import Iterable, Iterator
from functools import cache
from http import HTTPStatus
from typing import Any

import attrs
import msgspec

from palyra_trio import __version__
from palyra_trio.transports.api.exchange import JSON, PROBLEM
from palyra_trio.transports.api.reading import KEY_CHARACTERS, KEY_PATTERN, strict
from palyra_trio.transports.api.route import Answered, Route
from palyra_trio.transports.refusals import OF_CODE

REFERENCE = "#/components/schemas/"
ABOUT = """\
Who asks says so with a bearer token (`palyra-trio token create NAME --scope SCOPE`); each operation names the scope that it
needs. A token with the scope admin may act as another principal, named in `x-palyra-principal`. What is not yours is not
found. A POST may carry an `Idempotency-Key`: it can then be sent again, and has its effect once.
"""

Plain = dict[str, Any]


@attrs.frozen
class Problem:
    """What is told of a refusal (RFC 9457). `code` is stable (docs/limits.md), `remedy` is for a person."""

    title: str
    status: int
    detail: str
    code: str
    remedy: str


@cache
def document(routes: tuple[Route, ...]) -> bytes:
    """Return the description of these routes, as JSON."""
    said = [strict(each.body) for each in routes if each.body]
    queries = [strict(each.query) for each in routes if each.query]
    answers = [each for route in routes for each in route.answers if each.type]
    types = list(dict.fromkeys([*said, *queries, *(each.type for each in answers), Problem]))
    made, components = msgspec.json.schema_components(types, ref_template=f"{REFERENCE}{{name}}")
    schemas = dict(zip(types, made, strict=True))
    for name in _reached([schemas[each.type] for each in answers if each.content_type == JSON], components):
        if "properties" in components[name]:
            components[name]["required"] = [*components[name]["properties"]]
    parameters = {each: components.pop(_named(schemas[each])) for each in dict.fromkeys(queries)}
    for each in components.values():
        each |= {"description": inspect.cleandoc(each["description"])} if "description" in each else {}
    paths: dict[str, Plain] = {}
    for route in routes:
        query = parameters[strict(route.query)] if route.query is not None else None
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route, query, schemas)
    return msgspec.json.encode(
        {
            "openapi": "3.1.0",
            "info": {"title": "palyra-trio", "version": __version__, "description": ABOUT},
            "servers": [{"url": "/"}],
            "paths": paths,
            "components": {
                "schemas": components,
                "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
            },
        }
    )


def _operation(route: Route, query: Plain | None, schemas: dict[Any, Plain]) -> Plain:
    responses = {str(each.status): _answer(each, schemas) for each in route.answers}
    for status in route.statuses:
        responses.setdefault(str(status), _refusal(route, status, schemas))
    operation = {
        "operationId": route.name,
        "summary": route.words.partition(".")[0].replace("\n", " "),
        "description": route.words + (f" Needs the scope {route.scope}." if route.scope is not None else ""),
        "parameters": [*_parameters(route, query)],
        "security": [{"token": []}] if route.scope is not None else [],
        "responses": responses,
    }
    if route.body is not None:
        needed = any(each.required for each in msgspec.structs.fields(strict(route.body)))
        content = {JSON: {"schema": schemas[strict(route.body)]}}
        operation["requestBody"] = {"required": needed, "content": content}
    return operation


def _parameters(route: Route, query: Plain | None) -> Iterator[Plain]:
    for name in route.variables:
        yield {"name": name, "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}}
    said: Plain = query or {"properties": {}}
    for name, schema in said["properties"].items():
        yield {"name": name, "in": "query", "required": name in said.get("required", ()), "schema": schema}
    if route.header is not None:
        yield {"name": route.header[0], "in": "header", "description": route.header[1], "schema": {"type": "string"}}
    if route.method == "POST":
        schema = {"type": "string", "minLength": 1, "maxLength": KEY_CHARACTERS, "pattern": KEY_PATTERN}
        words = "Makes it safe to send this again; a run is started once with one key."
        yield {"name": "Idempotency-Key", "in": "header", "description": words, "schema": schema}


def _answer(answered: Answered, schemas: dict[Any, Plain]) -> Plain:
    made: Plain = {"description": HTTPStatus(answered.status).phrase}
    if answered.type is not None:
        made["content"] = {answered.content_type: {"schema": schemas[answered.type]}}
    if answered.headers:
        made["headers"] = {
            name: {"description": words, "required": True, "schema": {"type": "string"}}
            for name, words in answered.headers
        }
    return made


def _refusal(route: Route, status: int, schemas: dict[Any, Plain]) -> Plain:
    codes = [code for code in route.codes if OF_CODE[code].http == status]
    made: Plain = {
        "description": ", ".join(codes) or HTTPStatus(status).phrase,
        "content": {PROBLEM: {"schema": schemas[Problem]}},
    }
    header = "WWW-Authenticate" if status == 401 else "Retry-After"
    if status == 401 or any(OF_CODE[code].retry_after_s for code in codes):
        made["headers"] = {header: {"schema": {"type": "string"}}}
    return made


def _reached(schemas: Iterable[Plain], components: dict[str, Plain]) -> set[str]:
    """Return the names of the components that these schemas stand on."""
    found: set[str] = set()
    left: list[Any] = [*schemas]
    while left:
        match left.pop():
            case {"$ref": str(ref)} if (name := ref.removeprefix(REFERENCE)) not in found:
                found.add(name)
                left.append(components[name])
            case dict() as schema:
                left += schema.values()
            case list() as several:
                left += several
    return found


def _named(schema: Plain) -> str:
    return str(schema["$ref"]).removeprefix(REFERENCE)
