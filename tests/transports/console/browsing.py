"""A console over a fake runtime, and browsers that visit it: they keep cookies, send forms as pages do, and follow streams."""

import re
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from html import unescape
from pathlib import Path
from typing import Any

import attrs
import trio
from quart.typing import TestClientProtocol

from palyra_trio.core.identity import Caller, RequestContext, Scope
from palyra_trio.guard.auth import Authenticator
from palyra_trio.guard.web_session import WebSessions
from palyra_trio.runtime.access import Access
from palyra_trio.transports.console.app import console
from palyra_trio.transports.console.site import Site
from tests.fakes import ME, Runtime, open_fake_runtime

ORIGIN = "http://localhost"
EVERY_SCOPE = frozenset(Scope)


@attrs.frozen
class Page:
    """What a request was answered with."""

    status: int
    text: str
    headers: Mapping[str, str]

    def __contains__(self, text: str) -> bool:
        """Whether a person who reads the page sees `text`, be it over several elements."""
        return text in self.words

    @property
    def words(self) -> str:
        """What there is to read, its blanks made one each."""
        return " ".join(unescape(re.sub(r"<(script|style)\b.*?</\1>|<[^>]*>", " ", self.text, flags=re.DOTALL)).split())


class Browser:
    """A browser, signed in or not."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self.client: TestClientProtocol = site.app.test_client()
        self.csrf = ""

    async def get(self, path: str, **headers: str) -> Page:
        return await self._answer(self.client.get(path, headers={"Accept": "text/html", **_spelled(headers)}))

    async def post(self, path: str, form: Mapping[str, str] | None = None, **headers: str) -> Page:
        """Send a form of a page of the session. A header that is "" is left out."""
        sent = {"Origin": ORIGIN, "Sec-Fetch-Site": "same-origin", **_spelled(headers)}
        sent = {name: value for name, value in sent.items() if value}
        return await self._answer(self.client.post(path, form={"csrf": self.csrf, **(form or {})}, headers=sent))

    async def send(self, path: str, form: Mapping[str, str], *files: tuple[str, bytes], **headers: str) -> Page:
        """Send a form with files (name and bytes) as a page does (RFC 7578)."""
        parts = [(f'name="{name}"', value.encode()) for name, value in {"csrf": self.csrf, **form}.items()]
        parts += [(f'name="files"; filename="{name}"', data) for name, data in files]
        parts += [] if files else [('name="files"; filename=""', b"")]
        body = b"".join(
            b"--of-parts\r\nContent-Disposition: form-data; %b\r\n\r\n%b\r\n" % (said.encode(), data)
            for said, data in parts
        )
        sent = {"Origin": ORIGIN, "Content-Type": "multipart/form-data; boundary=of-parts", **_spelled(headers)}
        return await self._answer(self.client.post(path, data=body + b"--of-parts--\r\n", headers=sent))

    async def _answer(self, asking: Any) -> Page:
        response = await asking
        return Page(response.status_code, await response.get_data(as_text=True), response.headers)

    @asynccontextmanager
    async def stream(self, path: str) -> AsyncGenerator["Stream", None]:
        """Follow a live view for the length of the block; it is left as a browser leaves one."""
        target, _, query = path.partition("?")
        cookies = "; ".join(f"{each.name}={each.value}" for each in self.client.cookie_jar or ())
        headers = [(b"host", b"localhost"), (b"accept", b"text/event-stream"), (b"cookie", cookies.encode())]
        scope = {
            "type": "http", "http_version": "1.1", "method": "GET", "scheme": "http", "path": target, "root_path": "",
            "query_string": query.encode(), "headers": headers, "client": ("127.0.0.1", 1), "server": None, "extensions": {},
        }  # fmt: skip
        came, taken = trio.open_memory_channel[bytes](0)
        asked = iter([{"type": "http.request", "body": b"", "more_body": False}])

        async def receive() -> dict[str, Any]:
            if (message := next(asked, None)) is not None:
                return message
            await trio.sleep_forever()
            raise AssertionError

        async def send(message: dict[str, Any]) -> None:
            if body := message.get("body"):
                await came.send(body)

        async def serve() -> None:
            async with came:
                await self.site.app(scope, receive, send)  # type: ignore[arg-type]

        async with trio.open_nursery() as nursery:
            nursery.start_soon(serve)
            yield Stream(taken)
            nursery.cancel_scope.cancel()


@attrs.define
class Stream:
    """A live view as a browser's EventSource gets it."""

    _taken: trio.MemoryReceiveChannel[bytes]
    _read: bytes = b""

    async def event(self) -> tuple[str, str, str]:
        """Return the next event: its name, its data and its id. Beats are passed over; at the end it is ("", "", "")."""
        while True:
            while b"\n\n" not in self._read:
                try:
                    self._read += await self._taken.receive()
                except trio.EndOfChannel:
                    return "", "", ""
            block, _, self._read = self._read.partition(b"\n\n")
            fields: dict[str, list[str]] = {}
            for line in block.decode().split("\n"):
                name, _, value = line.partition(": ")
                fields.setdefault(name, []).append(value)
            if "event" in fields and fields["event"] != ["beat"]:
                return fields["event"][0], "\n".join(fields["data"]), fields.get("id", [""])[0]


@attrs.frozen
class Console:
    """A runtime, its console, and how to visit it."""

    runtime: Runtime
    site: Site

    def visitor(self, context: RequestContext = ME, scopes: frozenset[Scope] = EVERY_SCOPE) -> Browser:
        """Return a browser that has signed in."""
        browser = Browser(self.site)
        secret, session = self.site.sessions.begin(Caller(context, scopes), trio.current_time())
        browser.client.set_cookie("localhost", "palyra-7142", secret)
        browser.csrf = session.csrf
        return browser

    def stranger(self) -> Browser:
        """Return a browser that has not signed in."""
        return Browser(self.site)


@asynccontextmanager
async def open_console(folder: Path, *args: Any, **fields: Any) -> AsyncGenerator[Console, None]:
    """Run a console over a fake runtime (`tests.fakes.open_fake_runtime`, which the rest is for)."""
    async with open_fake_runtime(folder, *args, **fields) as runtime:
        authenticator = Authenticator(runtime.gateway.tokens, -1, ME.principal, runtime.state.now_s)
        access = Access(authenticator, runtime.gateway)
        yield Console(
            runtime,
            console(runtime.gateway, access, WebSessions(runtime.state.random), (), 7142, secure=False),
        )


def _spelled(headers: Mapping[str, str]) -> dict[str, str]:
    return {name.replace("_", "-"): value for name, value in headers.items()}
