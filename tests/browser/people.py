"""The console in a real browser: a daemon that serves one, and people who look at it. What they do is what the tests tell.

Whatever a page says on the browser's console, a broken Content-Security-Policy first, fails the test of who saw it.
"""

import json
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import attrs
import trio
from axe_playwright_python.base import AXE_SCRIPT
from playwright.sync_api import Browser, ConsoleMessage, Locator, Page, expect

from palyra_trio.core.tape import ApprovalRequested
from palyra_trio.pb import runs_pb2
from palyra_trio.pb.console_grpc import ConsoleServiceStub
from palyra_trio.pb.console_pb2 import CreateSignInLinkRequest
from palyra_trio.pb.gateway_grpc import GatewayServiceStub
from palyra_trio.wire.h2_client import connect
from tests.faults.serving import HTTP, Server

PATIENCE_MS = 20_000
PHONE = {"viewport": {"width": 390, "height": 844}, "has_touch": True}
DARK = {"color_scheme": "dark"}
_CSP = "addEventListener('securitypolicyviolation', e => console.error('CSP', e.violatedDirective, e.blockedURI))"


def writes(path: str) -> dict[str, Any]:
    """A scripted turn that writes a file, which a person is asked about. The file says which it is."""
    return {"calls": [{"tool": "files.write", "arguments": {"path": path, "text": f"this is {path}\n"}}]}


@attrs.define
class Daemon:
    """A daemon with a console."""

    server: Server

    @classmethod
    def below(cls, root: Path, **environ: str) -> "Daemon":
        return cls(Server.below(root, **HTTP, **environ))

    @contextmanager
    def running(self) -> Generator["Daemon"]:
        try:
            self.start()
            yield self
        finally:
            self.server.kill()
        assert self.server.tracebacks == [], self.server.log

    def start(self) -> None:
        trio.run(self.server.start)

    @property
    def origin(self) -> str:
        return f"http://127.0.0.1:{self.server.http_port}"

    @property
    def folder(self) -> Path:
        return self.server.shell.folder

    def define(self, agent: str, *turns: Mapping[str, Any]) -> None:
        trio.run(self.server.define, agent, *turns)

    def link(self) -> str:
        """Return an address that signs one browser in."""

        async def ask() -> str:
            async with connect(await trio.open_unix_socket(str(self.server.shell.state_dir / "socket"))) as channel:
                stub = ConsoleServiceStub(channel)  # type: ignore[arg-type]
                return str((await stub.CreateSignInLink(CreateSignInLinkRequest())).url)

        return trio.run(ask)

    def begin(self, agent: str, *texts: str, wait: bool = False) -> list[str]:
        """Start a run of `agent` for each text, in sessions of their own, and return the paths of their pages.

        With `wait` each has ended, or asks a person, before the next begins.
        """

        async def start(stub: GatewayServiceStub, text: str) -> str:
            order = self.server.new_run(agent)
            order.text, order.detached, order.attended = text, True, True
            path = ""
            async with stub.RunStream.open() as call:
                await call.send_message(runs_pb2.RunStreamRequest(start=order), end=True)
                async for response in call:
                    if response.HasField("accepted"):
                        path = f"/sessions/{response.accepted.session_id}"
                    asked = any(item.kind_number == ApprovalRequested.kind for item in response.batch.items)
                    if asked or (path and not wait):
                        await call.cancel()
                        break
            return path

        async def start_all() -> list[str]:
            paths: list[str] = []
            async with connect(await trio.open_unix_socket(str(self.server.shell.state_dir / "socket"))) as channel:
                stub = GatewayServiceStub(channel)  # type: ignore[arg-type]
                with trio.fail_after(PATIENCE_MS / 1000):
                    for text in texts:
                        paths.append(await start(stub, text))
            return paths

        return trio.run(start_all)


@attrs.define
class Person:
    """Somebody at a browser of their own, signed in. `clicks` counts what they have clicked on."""

    page: Page
    daemon: Daemon
    clicks: int = 0
    said: list[str] = attrs.Factory(list)

    @classmethod
    @contextmanager
    def at(cls, chromium: Browser, daemon: Daemon, *, errors: bool, **options: Any) -> Generator["Person"]:
        """Sign in for the length of the block. A page that complains on the browser's console is a fault, unless `errors`."""
        context = chromium.new_context(base_url=daemon.origin, **options)
        context.set_default_timeout(PATIENCE_MS)
        context.add_init_script(_CSP)
        person = cls(context.new_page(), daemon)
        context.on("console", lambda message: person.note(message))
        context.on("weberror", lambda error: person.said.append(str(error.error)))
        try:
            person.page.goto(daemon.link())
            if options.get("java_script_enabled") is False:
                person.page.get_by_role("button", name="Sign in").click()
            expect(person.page.get_by_role("navigation", name="Pages")).to_be_visible()
            yield person
            assert errors or person.said == [], person.said
        finally:
            context.close()

    def note(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self.said.append(f"{message.text} at {message.page.url if message.page else ''}")

    # --- doing ---

    def open(self, path: str) -> None:
        self.page.goto(path)

    def click(self, what: str | Locator) -> None:
        """Click on a link, a button or a summary by its name, or on anything else."""
        self.clicks += 1
        self.named(what).click()

    def named(self, what: str | Locator) -> Locator:
        if not isinstance(what, str):
            return what
        page = self.page
        named = page.get_by_role("link", name=what, exact=True).or_(page.get_by_role("button", name=what, exact=True))
        return named.or_(page.locator("summary", has_text=what)).locator("visible=true").first

    def start(self, agent: str, text: str) -> str:
        """Start a run from the overview, and return its session's path."""
        self.open("/")
        self.page.get_by_label("What the agent is to do").fill(text)
        self.page.get_by_label("In the folder").fill(str(self.daemon.folder))
        self.page.get_by_label("Agent", exact=True).select_option(agent)
        self.click("Start")
        self.page.wait_for_url("**/sessions/*")
        return self.page.url.removeprefix(self.daemon.origin)

    def tab(self) -> "Person":
        """Return the same person at another tab, on the same page."""
        page = self.page.context.new_page()
        page.goto(self.page.url)
        return Person(page, self.daemon, said=self.said)

    # --- seeing ---

    def sees(self, text: str) -> None:
        expect(self.page.get_by_role("main")).to_contain_text(text)

    def sees_state(self, word: str) -> None:
        """See how the newest run of the session stands."""
        expect(self.page.locator(".end").last.locator(".state")).to_have_text(word)

    def is_live(self) -> None:
        expect(self.page.locator("#stream")).to_have_text("live")

    @property
    def transcript(self) -> str:
        return self.page.locator("#transcript").inner_html()

    @property
    def sideways(self) -> int:
        """How many pixels of the page are beyond the right edge."""
        return int(self.page.evaluate("document.documentElement.scrollWidth - innerWidth"))

    def violations(self) -> list[str]:
        """Return what axe finds serious or critical (WCAG, and good practice)."""
        self.page.evaluate(AXE_SCRIPT)
        found = self.page.evaluate("axe.run(document, {resultTypes: ['violations']})")
        return [
            f"{each['id']} ({each['impact']}): {json.dumps([node['target'] for node in each['nodes'][:3]])}"
            for each in found["violations"]
            if each["impact"] in ("serious", "critical")
        ]
