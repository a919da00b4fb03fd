"""Asking the API of a fake runtime without a port. Whatever is answered must be what the published description says."""

import json
from collections.abc import Mapping
from typing import Any

import attrs
from jsonschema import Draft202012Validator

from palyra_trio.core.identity import Peer
from palyra_trio.transports.api.exchange import PROBLEM, HttpRequest, HttpResponse
from palyra_trio.transports.api.openapi import document
from palyra_trio.transports.api.resources import Resources
from palyra_trio.transports.api.table import ROUTES, Table
from tests.transports.served import Served
from tests.transports.test_run_events import access_of

AT = Peer(None, "192.0.2.1:1")
DOCUMENT: dict[str, Any] = json.loads(document(ROUTES))


@attrs.frozen
class Answer:
    """What came back; `said` is its JSON."""

    response: HttpResponse

    @property
    def status(self) -> int:
        return self.response.status

    @property
    def headers(self) -> dict[str, str]:
        return dict(self.response.headers)

    @property
    def said(self) -> Any:
        return json.loads(self.response.body)

    @property
    def code(self) -> str:
        assert self.headers["content-type"] == "application/problem+json"
        assert self.said["status"] == self.status
        return str(self.said.get("code", ""))


async def ask(
    served: Served,
    method: str,
    path: str,
    body: Any = None,
    who: str | None = "alice",
    headers: Mapping[str, str] | None = None,
) -> Answer:
    """Send a request and return its answer. `body` is sent as it is if it is bytes, and else as JSON; `who` None is nobody."""
    sent = {} if who is None else served.metadata(who)
    parts = [] if body is None else [body if isinstance(body, bytes) else json.dumps(body).encode()]
    if parts:
        sent["content-type"] = "application/json"
    left = iter(parts)

    async def receive() -> bytes | None:
        return next(left, None)

    resources = Resources(served.runtime.gateway, access_of(served))
    target, _, query = path.partition("?")
    sent |= {name.replace("_", "-"): value for name, value in (headers or {}).items()}
    response = await resources.respond(HttpRequest(method, target, sent, AT, query, receive))
    check(method, target, response)
    return Answer(response)


async def say(served: Served, path: str, body: Any = None, **rest: Any) -> Answer:
    """Send a POST below /api/v1."""
    return await ask(served, "POST", f"/api/v1{path}", body, **rest)


async def read(served: Served, path: str, **rest: Any) -> Answer:
    """Send a GET below /api/v1."""
    return await ask(served, "GET", f"/api/v1{path}", **rest)


def check(method: str, path: str, response: HttpResponse) -> None:
    """Check that the description has this answer, and that its body is of the type that is said there."""
    if dict(response.headers).get("content-type") == PROBLEM and response.body:
        told = json.loads(response.body)
        assert told["code"], told
        assert told["remedy"], told
    methods, _ = Table().find(path)
    if method not in methods:
        return
    described = DOCUMENT["paths"][methods[method].path][method.lower()]["responses"]
    assert str(response.status) in described, f"{method} {path} is not said to answer {response.status}"
    answer, headers = described[str(response.status)], dict(response.headers)
    for name, header in answer.get("headers", {}).items():
        assert name.lower() in headers or not header.get("required")
    if "content" not in answer:
        assert response.body == b""
        return
    schema = answer["content"][headers["content-type"]]["schema"]
    if headers["content-type"].endswith("json"):
        Draft202012Validator({**schema, "components": DOCUMENT["components"]}).validate(json.loads(response.body))
