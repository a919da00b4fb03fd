"""Diagnostics: how this daemon stands, what it says of itself, and what an operator does to it as a whole.

What concerns the machine and other people's work (checks, configuration, log, tasks) is for who may administer it.
"""

import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

import attrs
import trio
from markupsafe import Markup

from palyra_trio.core.codec import EVENT_CLASSES
from palyra_trio.core.commands import PauseAdmission, ResumeAdmission
from palyra_trio.core.config import Config
from palyra_trio.core.config_values import KEYS, value_of
from palyra_trio.core.identity import Scope
from palyra_trio.core.layers import DEFAULT_ORIGIN
from palyra_trio.runtime.counters import Counters
from palyra_trio.runtime.diagnosis import Check
from palyra_trio.runtime.gateway import Gateway, Health
from palyra_trio.runtime.task_tree import task_tree
from palyra_trio.runtime.verifying import Checked
from palyra_trio.transports.console.latency_plot import Picture, picture_of
from palyra_trio.transports.console.live import Open
from palyra_trio.transports.console.site import Answer, Site, Visit
from palyra_trio.transports.console.watching import Drawn, open_panels

EACH_S = 2.0  # the least between two updates: every event changes a number here
TEMPLATE = "diagnostics_panels.html"
PANELS = ("daemon", "journal", "latencies", "counters")
MASKED = "…"


@attrs.frozen
class Standing:
    """How the daemon stands. `size_bytes` is the journal's."""

    health: Health
    latencies: tuple[Picture, ...]
    counters: Counters
    size_bytes: int
    checked: Checked | None


@attrs.frozen
class Looked:
    """What was found at `at_ms` (Unix time)."""

    checks: tuple[Check, ...]
    at_ms: int


class Examination:
    """The checks as they came out last. To make them asks the model's server, starts a process and reads the vault."""

    def __init__(self, gateway: Gateway) -> None:
        self.newest: Looked | None = None
        self._gateway = gateway
        self._looking = trio.Lock()

    async def look(self) -> None:
        """Make the checks, one after another's."""
        async with self._looking:
            self.newest = Looked(await self._gateway.examine(), self._gateway.health().now_ms)


@attrs.frozen
class Setting:
    """A key of the configuration. `origin` is "" for a default."""

    key: str
    value: str
    origin: str


def add(site: Site) -> None:
    site.navigation.append(("Diagnostics", "/diagnostics"))

    @site.page("/diagnostics")
    async def diagnostics(visit: Visit) -> Answer:
        drawn = await draw(visit)
        return site.render("diagnostics.html", visit, panels=drawn.panels, place=str(drawn.g))

    @site.live("/diagnostics/live")
    async def live(visit: Visit) -> Open:
        visit = attrs.evolve(visit, here="/diagnostics")
        return open_panels(site.gateway.journal.feed, EVENT_CLASSES, lambda: draw(visit), EACH_S)

    async def draw(visit: Visit) -> Drawn:
        g, verified = site.gateway.journal.feed.g, site.gateway.verifying.changed
        standing = await _standing(site.gateway)
        return Drawn(g, _panels(site, visit, standing), changed=verified.wait)

    examination = Examination(site.gateway)

    @site.page("/diagnostics/checks", Scope.ADMIN)
    async def checks(visit: Visit) -> Answer:
        return site.render("diagnostics_checks.html", visit, looked=examination.newest)

    @site.write("/diagnostics/checks", Scope.ADMIN)
    async def look(visit: Visit) -> Answer:
        await examination.look()
        return site.done(visit, "/diagnostics/checks")

    @site.page("/diagnostics/configuration", Scope.ADMIN)
    async def configuration(visit: Visit) -> Answer:
        found = settings(site.gateway.config, site.gateway.origins)
        return site.render("diagnostics_configuration.html", visit, sections=found, known=bool(site.gateway.origins))

    @site.page("/diagnostics/log", Scope.ADMIN)
    async def log(visit: Visit) -> Answer:
        return site.render("diagnostics_log.html", visit, lines=site.gateway.recent_log.lines[::-1])

    @site.page("/diagnostics/tasks", Scope.ADMIN)
    async def tasks(visit: Visit) -> Answer:
        root = trio.lowlevel.current_root_task()
        assert root is not None
        return site.render("diagnostics_tasks.html", visit, lines=list(task_tree(root)))

    @site.write("/diagnostics/verify", Scope.ADMIN)
    async def verify(visit: Visit) -> Answer:
        site.gateway.verifying.begin(visit.context.principal)
        return site.done(visit, "/diagnostics")

    @site.write("/diagnostics/pause", Scope.ADMIN)
    async def pause(visit: Visit) -> Answer:
        await site.gateway.submit(PauseAdmission(visit.form.get("reason", "").strip()), visit.context)
        return site.done(visit, "/diagnostics")

    @site.write("/diagnostics/resume", Scope.ADMIN)
    async def resume(visit: Visit) -> Answer:
        await site.gateway.submit(ResumeAdmission(), visit.context)
        return site.done(visit, "/diagnostics")


async def _standing(gateway: Gateway) -> Standing:
    size_bytes = await trio.to_thread.run_sync(lambda: gateway.verifying.size_bytes)
    pictures = tuple(picture_of(each) for each in gateway.latencies.all)
    return Standing(gateway.health(), pictures, gateway.counters, size_bytes, gateway.verifying.newest)


def _panels(site: Site, visit: Visit, standing: Standing) -> Mapping[str, Markup]:
    return {name: site.part(TEMPLATE, name, visit, standing) for name in PANELS}


def settings(config: Config, origins: Mapping[str, str]) -> Mapping[str, list[Setting]]:
    """Return all keys of the configuration by section, what may hold a secret cut."""
    found: dict[str, list[Setting]] = {}
    for key in KEYS:
        section, _, name = key.partition(".")
        origin = origins.get(key, DEFAULT_ORIGIN)
        value = json.dumps(_without_secrets(key, value_of(config, key)), ensure_ascii=False)
        found.setdefault(section, []).append(Setting(name, value, "" if origin == DEFAULT_ORIGIN else origin))
    return found


def _without_secrets(key: str, value: Any) -> Any:
    """Return a value without what people put into addresses and commands to let themselves in."""
    if key == "notify.webhook_url" and value:
        parts = urlsplit(value)
        return f"{parts.scheme}://{parts.netloc}/{MASKED}"
    if key == "notify.command" and len(value) > 1:
        return [value[0], MASKED]
    return value
