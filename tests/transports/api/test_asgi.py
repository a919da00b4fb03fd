"""The API on the console's port, over the wire: beside the pages, and safe from other sites and from bad clients."""

import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio

from palyra_trio.core.commands import CreateToken, TokenIssued
from palyra_trio.core.config import HttpConfig, RatesConfig, WorkspacesConfig
from palyra_trio.core.identity import Principal, RequestContext, Scope
from palyra_trio.core.tape import ModelDelta
from palyra_trio.guard.auth import Authenticator
from palyra_trio.runtime.access import Access
from palyra_trio.transports.api.asgi import Beside
from palyra_trio.transports.api.resources import Resources
from palyra_trio.transports.console.security import Hosts
from palyra_trio.transports.http_listener import HEADER_BYTES, open_http
from tests.fakes import CONFIG, ME, FakeProvider, open_fake_runtime, says
from tests.transports.test_http_listener import Served

PRINCIPAL = Principal("user:me")


@attrs.frozen
class Reply:
    """What came back over the wire."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def said(self) -> Any:
        return json.loads(self.body)


@attrs.frozen
class Port:
    """A served port, and a token with every scope."""

    served: Served
    secret: str

    async def ask(
        self, method: str, path: str, body: bytes = b"", token: bool = True, host: str = "", **headers: str
    ) -> Reply:
        """Send a request on a connection of its own; a header that is given as "" is left out."""
        sent = {"host": host or f"127.0.0.1:{self.served.port}", "connection": "close"}
        if token:
            sent["authorization"] = f"Bearer {self.secret}"
        if body:
            sent |= {"content-length": str(len(body)), "content-type": "application/json"}
        sent |= {name.replace("_", "-"): value for name, value in headers.items()}
        head = "".join(f"{name}: {value}\r\n" for name, value in sent.items() if value)
        raw = await self.exchange(f"{method} {path} HTTP/1.1\r\n{head}\r\n".encode() + body)
        top, _, rest = raw.partition(b"\r\n\r\n")
        if not top:
            return Reply(0, {}, b"")
        lines = top.decode().split("\r\n")
        return Reply(int(lines[0].split()[1]), dict(line.lower().split(": ", 1) for line in lines[1:]), rest)

    async def exchange(self, data: bytes) -> bytes:
        """Send bytes, and return all that comes until the other end closes."""
        heard = b""
        async with await self.served.connect() as stream:
            with trio.move_on_after(10):
                try:
                    await stream.send_all(data)
                    async for some in stream:
                        heard += some
                except trio.BrokenResourceError:
                    pass  # it answered before it had all
        return heard


@asynccontextmanager
async def port(folder: Path, http: HttpConfig | None = None, **fields: Any) -> AsyncGenerator[Port, None]:
    config = attrs.evolve(
        CONFIG,
        workspaces=WorkspacesConfig({PRINCIPAL: (str(folder / "work"),)}),
        rates=RatesConfig(100_000, 100_000),
    )
    async with open_fake_runtime(folder, config=config, **fields) as runtime:
        gateway = runtime.gateway
        access = Access(Authenticator(gateway.tokens, -1, PRINCIPAL, runtime.state.now_s), gateway)
        command = CreateToken("test", PRINCIPAL, tuple(Scope))
        issued = await gateway.submit(command, RequestContext(PRINCIPAL, local=True))
        assert isinstance(issued, TokenIssued)
        async with open_http(gateway, access, http or HttpConfig(port=0)) as served:
            yield Port(Served(runtime, served), issued.secret)


def start(at: Port) -> bytes:
    return json.dumps({"text": "hello", "workspace": str(at.served.runtime.workspace)}).encode()


async def test_a_run_is_started_and_followed_over_the_port(tmp_path: Path) -> None:
    go_on = trio.Event()
    async with port(tmp_path, provider=FakeProvider(["Well. ", go_on.wait, *says("b")])) as at:
        started = await at.ask("POST", "/api/v1/runs", start(at))
        assert started.status == 201
        run_id = started.said["run_id"]
        await at.served.runtime.until(run_id, ModelDelta)
        async with await at.served.connect() as stream:
            lines = (
                f"GET {started.headers['location']}/events HTTP/1.1".replace(run_id.lower(), run_id),
                f"Host: 127.0.0.1:{at.served.port}",
                f"Authorization: Bearer {at.secret}",
                "Connection: close",
            )
            await stream.send_all("\r\n".join((*lines, "", "")).encode())
            heard = b""
            while b"ModelDelta" not in heard:
                heard += await stream.receive_some()
            go_on.set()
            async for some in stream:
                heard += some
        assert b"content-type: text/event-stream" in heard
        assert heard.count(b"event: RunFinished") == 1
        assert heard.count(b"event: Input") == 1


async def test_who_leaves_a_stream_ends_the_following_and_not_the_run(tmp_path: Path) -> None:
    go_on = trio.Event()
    async with port(tmp_path, provider=FakeProvider(["Well. ", go_on.wait, *says("b")])) as at:
        run_id = (await at.ask("POST", "/api/v1/runs", start(at))).said["run_id"]
        async with await at.served.connect() as stream:
            head = f"GET /api/v1/runs/{run_id}/events HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {at.secret}\r\n\r\n"
            await stream.send_all(head.encode())
            assert await stream.receive_some()
        go_on.set()
        await at.served.runtime.ended(run_id)


async def test_a_stream_whose_reader_is_gone_is_followed_no_more(tmp_path: Path) -> None:
    async with port(tmp_path, provider=FakeProvider(["Well. ", trio.sleep_forever]), left=["waiting"]) as at:
        run_id = (await at.ask("POST", "/api/v1/runs", start(at))).said["run_id"]
        gateway, streaming = at.served.runtime.gateway, trio.Event()
        access = Access(Authenticator(gateway.tokens, -1, PRINCIPAL, at.served.runtime.state.now_s), gateway)
        asked = iter([{"type": "http.request", "body": b"", "more_body": False}, {"type": "http.disconnect"}])

        async def receive() -> dict[str, Any]:
            message = next(asked)
            if message["type"] == "http.disconnect":
                await streaming.wait()
            return message

        async def send(message: dict[str, Any]) -> None:
            if message["type"] == "http.response.body":
                streaming.set()

        headers = [(b"host", b"localhost"), (b"authorization", f"Bearer {at.secret}".encode())]
        scope = {
            "type": "http",
            "method": "GET",
            "path": f"/api/v1/runs/{run_id}/events",
            "query_string": b"",
            "headers": headers,
        }
        with trio.fail_after(5):
            await Beside(Resources(gateway, access), Hosts(()), no_page)(scope, receive, send)


async def no_page(scope: Any, receive: Any, send: Any) -> None:
    raise AssertionError("a page was asked for")


async def test_a_connection_is_used_again(tmp_path: Path) -> None:
    async with port(tmp_path) as at:
        one = f"POST /api/v1/policy/explain HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {at.secret}\r\n"
        one += 'Content-Type: application/json\r\nContent-Length: 20\r\n\r\n{"tool":"clock.now"}'
        last = "GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
        heard = await at.exchange((one * 3 + last).encode())
        assert heard.count(b"HTTP/1.1 200") == 4


async def test_pages_are_pages_still(tmp_path: Path) -> None:
    async with port(tmp_path) as at:
        page = await at.ask("GET", "/sign-in", token=False)
        assert (page.status, page.headers["content-type"]) == (200, "text/html; charset=utf-8")
        assert (await at.ask("GET", "/none", token=False)).headers["content-type"].startswith("text/html")


async def test_a_token_opens_no_page_and_a_session_no_api(tmp_path: Path) -> None:
    async with port(tmp_path) as at:
        assert (await at.ask("GET", "/sessions")).status in (303, 401)
        cookie = await at.served.cookie()
        assert (await at.ask("GET", "/api/v1/runs", token=False, cookie=cookie)).status == 401
        body = start(at)
        assert (await at.ask("POST", "/api/v1/runs", body, token=False, cookie=cookie)).status == 401


# --- other sites ---


@pytest.mark.parametrize(
    "host", ["evil.example", "127.0.0.1.evil.example", "127.0.0.1@evil.example", "localhost.", "[::2]"]
)
async def test_a_name_that_is_not_ours_is_refused_also_with_a_token(tmp_path: Path, host: str) -> None:
    async with port(tmp_path) as at:
        for path in ("/api/v1/status", "/api/v1/openapi.json", "/metrics"):
            refused = await at.ask("GET", path, host=host)
            assert (refused.status, refused.headers["content-type"]) == (403, "application/problem+json")


async def test_names_of_ours_are_taken_and_probes_come_by_any(tmp_path: Path) -> None:
    async with port(tmp_path, HttpConfig(port=0, names=("palyra.example",))) as at:
        for host in ("localhost", "[::1]:1234", "PALYRA.example"):
            assert (await at.ask("GET", "/api/v1/status", host=host)).status == 200
        for path in ("/healthz", "/readyz"):
            assert (await at.ask("GET", path, token=False, host="10.0.0.7")).status == 200


async def test_another_site_is_told_nothing_that_its_browser_would_let_it_read(tmp_path: Path) -> None:
    async with port(tmp_path) as at:
        asked = {"origin": "https://evil.example", "access_control_request_method": "POST",
                 "access_control_request_headers": "authorization"}  # fmt: skip
        preflight = await at.ask("OPTIONS", "/api/v1/runs", token=False, **asked)
        assert preflight.status == 405
        plain = await at.ask("GET", "/api/v1/status", origin="https://evil.example")
        for each in (preflight, plain):
            assert not [name for name in each.headers if name.startswith("access-control-")]
            assert each.headers["cross-origin-resource-policy"] == "same-origin"


@pytest.mark.parametrize("path", ["/", "/api/v1/runs"])
async def test_no_websocket_is_opened(tmp_path: Path, path: str, caplog: pytest.LogCaptureFixture) -> None:
    async with port(tmp_path) as at:
        reply = await at.ask(
            "GET", path, connection="Upgrade", upgrade="websocket", origin="https://evil.example",
            sec_websocket_version="13", sec_websocket_key="A" * 22 + "==",
        )  # fmt: skip
        assert reply.status == 403
    assert not caplog.records


async def test_what_a_form_of_another_site_can_send_does_nothing(tmp_path: Path) -> None:
    async with port(tmp_path) as at:
        for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"):
            refused = await at.ask("POST", "/api/v1/runs", start(at), content_type=kind)
            assert refused.status == 415
        assert (await at.ask("GET", "/api/v1/runs")).said["runs"] == []


# --- bad clients ---


async def test_ten_megabytes_are_refused_and_others_go_on(tmp_path: Path) -> None:
    async with port(tmp_path) as at:
        body = b'{"text":"' + b"x" * (10 * 1024 * 1024) + b'"}'
        for token, status in ((True, 413), (False, 401)):
            refused = await at.ask("POST", "/api/v1/runs", body, token=token)
            assert refused.status in (0, status)
        assert (await at.ask("GET", "/api/v1/status")).status == 200


async def test_a_body_that_ends_early_does_nothing(tmp_path: Path) -> None:
    async with port(tmp_path) as at:
        head = f"POST /api/v1/runs HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {at.secret}\r\n"
        head += "Content-Type: application/json\r\nContent-Length: 5000\r\n\r\n"
        async with await at.served.connect() as stream:
            await stream.send_all(head.encode() + start(at))
        assert (await at.ask("GET", "/api/v1/runs")).said["runs"] == []


async def test_header_bombs_are_refused_and_others_go_on(tmp_path: Path) -> None:
    async with port(tmp_path) as at:
        for bomb in ({"x_bomb": "x" * 2 * HEADER_BYTES}, {f"x_{number}": "x" * 100 for number in range(1000)}):
            assert (await at.ask("GET", "/api/v1/status", **bomb)).status in (0, 400, 431)
        assert (await at.ask("GET", "/api/v1/status")).status == 200


@pytest.mark.parametrize(
    "path",
    ["/api/v1/../../etc/passwd", "/api/v1/runs/..%2f..%2fetc%2fpasswd", "/api/v1/runs/%2e%2e/tape", "/api/v1/%00",
     "/api/v1/runs/%00", "/api//v1/runs", "/api/v1/runs/%c0%ae%c0%ae", "/api/v1/runs/a%0d%0aset-cookie:%20x=y/tape",
     "/api/v1/sessions/%27%20OR%201=1--", "/api/v1/approvals/%25", "/api/v1/agents/../../token"],
)  # fmt: skip
async def test_a_path_leads_nowhere_else(tmp_path: Path, path: str) -> None:
    async with port(tmp_path) as at:
        refused = await at.ask("GET", path)
        assert refused.status in (400, 404)
        assert refused.headers["content-type"] == "application/problem+json"
        assert "set-cookie" not in refused.headers


async def test_anothers_runs_are_not_found_over_the_port(tmp_path: Path) -> None:
    async with port(tmp_path) as at:
        tape = await at.served.runtime.run(context=attrs.evolve(ME, principal=Principal("user:other")))
        run_id = tape.rows[0].stream.partition(":")[2]
        for path in ("", "/why", "/tape", "/events", "/calls"):
            assert (await at.ask("GET", f"/api/v1/runs/{run_id}{path}")).status == 404
        assert (await at.ask("POST", f"/api/v1/runs/{run_id}/cancel", b"{}")).status == 404
        assert (await at.ask("GET", "/api/v1/runs")).said["runs"] == []


async def test_a_stream_that_is_open_does_not_hold_up_the_end(tmp_path: Path) -> None:
    async with port(tmp_path, provider=FakeProvider(["Well. ", trio.sleep_forever]), left=["waiting"]) as at:
        run_id = (await at.ask("POST", "/api/v1/runs", start(at))).said["run_id"]
        stream = await at.served.connect()
        head = (
            f"GET /api/v1/runs/{run_id}/events HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {at.secret}\r\n\r\n"
        )
        await stream.send_all(head.encode())
        await stream.receive_some()
        began = trio.current_time()
        at.served.http.drain(began + 0.5)
    assert trio.current_time() - began < 5
    await stream.aclose()
