"""Diagnostics: what a daemon says of itself, to whom, and what an operator does to it."""

import logging
from pathlib import Path

import attrs
import pytest
import trio

from palyra_trio.core.config import Config, NotifyConfig
from palyra_trio.core.errors import Busy, ConfigInvalid
from palyra_trio.core.identity import Scope
from palyra_trio.providers.choose import Choice
from palyra_trio.transports.console.diagnostics import settings
from tests.fakes import CONFIG
from tests.transports.console.browsing import Console, open_console
from tests.transports.console.dom import Node, apply, parse

XSS = "<script>alert(1)</script>"
OF_ADMINS = ("checks", "configuration", "log", "tasks")


async def test_the_first_page_tells_how_the_daemon_stands(tmp_path: Path) -> None:
    async with open_console(tmp_path) as console:
        runtime, browser = console.runtime, console.visitor()
        await runtime.ended((await runtime.start()).run_id)
        runtime.gateway.latencies.gate.observe(0.004)
        runtime.gateway.latencies.first_event.observe(9)
        runtime.gateway.counters.runs_ended[XSS] += 1234
        page = await browser.get("/diagnostics")
        for words in ("ready", "no sandbox", "1 observed", "half ≤ 5 ms", "1 over budget", "> 5 s", "1 234", "kB"):
            assert words in page
        assert "within budget" in page
        assert "<script>alert" not in page.text
        assert "It was not verified since this daemon began." in page


async def test_what_concerns_the_machine_is_for_administrators(tmp_path: Path) -> None:
    async with open_console(tmp_path) as console:
        looks = console.visitor(scopes=frozenset({Scope.READ}))
        page = await looks.get("/diagnostics")
        assert page.status == 200
        for name in OF_ADMINS:
            assert f"/diagnostics/{name}" not in page.text
            assert (await looks.get(f"/diagnostics/{name}")).status == 403
        for name in ("verify", "pause", "resume", "checks"):
            assert f"/diagnostics/{name}" not in page.text
            assert (await looks.post(f"/diagnostics/{name}")).status == 403


async def test_the_checks_are_those_of_the_doctor(tmp_path: Path) -> None:
    async with open_console(tmp_path) as console:
        console.runtime.state_dir.chmod(0o755)
        browser = console.visitor()
        done = await browser.post("/diagnostics/checks", {"next": "/diagnostics/checks"})
        assert (done.status, done.headers["Location"]) == (303, "/diagnostics/checks")
        page = await browser.get("/diagnostics/checks")
        for words in (
            "No fault, 2 warnings",
            "Python",
            "Sqlite",
            "State folder",
            "chmod 700",
            "Policies",
            "Model",
            "Sandbox",
        ):
            assert words in page


async def test_who_opens_the_checks_makes_none(tmp_path: Path) -> None:
    asked: list[str] = []

    async def choose(model: str, _base_url: str) -> Choice:
        asked.append(model)
        raise ConfigInvalid("there is none")

    async with open_console(tmp_path, choose=choose) as console:
        browser = console.visitor()
        assert "Not looked yet" in await browser.get("/diagnostics/checks")
        assert not asked
        assert (await browser.post("/diagnostics/checks", {"csrf": ""})).status == 403
        assert not asked
        await browser.post("/diagnostics/checks")
        assert len(asked) == 1
        assert "1 fault" in await browser.get("/diagnostics/checks")


async def test_new_runs_are_refused_for_as_long_as_the_pause_lasts(tmp_path: Path) -> None:
    async with open_console(tmp_path) as console:
        browser = console.visitor()
        await browser.post("/diagnostics/pause", {"reason": f"upgrade {XSS}"})
        page = await browser.get("/diagnostics")
        assert "paused" in page
        assert "upgrade <script>" in page
        assert "<script>alert" not in page.text
        with pytest.raises(Busy):
            await console.runtime.start()
        await browser.post("/diagnostics/resume")
        assert "ready" in await browser.get("/diagnostics")
        await console.runtime.ended((await console.runtime.start()).run_id)


async def verified(console: Console) -> str:
    """Verify while a page is open that shows all there was to show, and return what it reads after a reload."""
    browser = console.visitor()
    async with browser.stream("/diagnostics/live?after=0") as stream:
        assert "It was not verified" in (await stream.event())[1]
        await browser.post("/diagnostics/verify")
        with trio.fail_after(20):
            while "Every row" not in (await stream.event())[1]:
                pass
    return (await browser.get("/diagnostics")).words


async def test_the_journal_is_verified_on_demand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("palyra_trio.transports.console.diagnostics.EACH_S", 0.0)
    async with open_console(tmp_path) as console:
        runtime = console.runtime
        await runtime.ended((await runtime.start()).run_id)
        assert "Every row is what was written" in await verified(console)


async def test_the_live_page_becomes_what_a_reload_shows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("palyra_trio.transports.console.diagnostics.EACH_S", 0.0)
    async with open_console(tmp_path) as console:
        browser = console.visitor()
        shown = parse((await browser.get("/diagnostics")).text)
        async with browser.stream("/diagnostics/live?after=0") as stream:
            await console.runtime.ended((await console.runtime.start()).run_id)
            await browser.post("/diagnostics/pause")
            with trio.fail_after(5):
                while True:
                    now = parse((await browser.get("/diagnostics")).text)
                    if all(panel_of(shown, name) == panel_of(now, name) for name in ("daemon", "latencies")):
                        break
                    apply(shown, (await stream.event())[1])
        await browser.post("/diagnostics/resume")
        assert "paused" in panel_of(shown, "daemon")


def panel_of(root: Node, name: str) -> str:
    return (root.find(name) or Node("", {})).html()


async def test_the_newest_lines_of_the_log_are_shown_first_and_inert(tmp_path: Path) -> None:
    async with open_console(tmp_path) as console:
        browser, log = console.visitor(), console.runtime.gateway.recent_log
        assert "Nothing was logged yet." in await browser.get("/diagnostics/log")
        for text in ("first", f"second {XSS}"):
            log.handle(logging.LogRecord("palyra_trio.x", logging.WARNING, "", 0, text, (), None))
        page = await browser.get("/diagnostics/log")
        assert page.words.index("second") < page.words.index("first")
        assert "<script>alert" not in page.text


async def test_the_tasks_are_shown_with_where_they_wait(tmp_path: Path) -> None:
    async with open_console(tmp_path) as console:
        page = await console.visitor().get("/diagnostics/tasks")
        assert "in runtime.bus.Bus.route" in page or "Bus" in page


async def test_every_key_is_shown_with_where_it_comes_from(tmp_path: Path) -> None:
    async with open_console(tmp_path) as console:
        browser = console.visitor()
        assert "not known to this process" in await browser.get("/diagnostics/configuration")
        console.runtime.gateway.reload(CONFIG, lambda _workspace: CONFIG, {"limits.turns": f"/etc/{XSS}"})
        page = await browser.get("/diagnostics/configuration")
        assert "active_s 60" in page
        assert f"turns 6 /etc/{XSS}" in page
        assert "<script>alert" not in page.text


def test_what_may_let_somebody_in_is_cut() -> None:
    notify = NotifyConfig(("notify-send", "--token", "s3cret"), "https://hooks.example/T000/s3cret", "KEY_ENV")
    shown = {each.key: each.value for each in settings(attrs.evolve(Config(), notify=notify), {})["notify"]}
    assert shown == {
        "command": '["notify-send", "…"]',
        "webhook_url": '"https://hooks.example/…"',
        "webhook_secret_env": '"KEY_ENV"',
    }
