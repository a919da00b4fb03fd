"""The policies in force: what they are made of, their text with line numbers, who put them there and when; reloaded on demand."""

import attrs
from quart import Response

from palyra_trio.core.errors import ConfigInvalid, NotFound
from palyra_trio.core.identity import Scope
from palyra_trio.core.policy import PolicyRules
from palyra_trio.core.system_events import PolicyLoaded
from palyra_trio.core.tape import SYSTEM_STREAM
from palyra_trio.guard.policy_set import sources
from palyra_trio.guard.policy_text import PolicySource, statements
from palyra_trio.transports.console.site import Answer, Site, Visit, redirect
from palyra_trio.transports.refusals import OF_CODE

LOADS = 20  # of those that were put in force, the newest
BOOT = "boot"


@attrs.frozen
class Part:
    """A file of policies, or what stands for one, and how many policies it has."""

    name: str
    policies: int


@attrs.frozen
class Load:
    """A set that was put in force. `by` is "" for a principal whose name is not the visitor's to know."""

    hash: str
    files: tuple[str, ...]
    by: str
    at_ms: int


def add(site: Site) -> None:
    site.navigation.append(("Policy", "/policy"))

    @site.page("/policy")
    async def policy(visit: Visit) -> Answer:
        return await _policy(visit)

    async def _policy(visit: Visit, fault: ConfigInvalid | None = None) -> str:
        policies, workspace = site.gateway.policies, visit.query.get("workspace", "").strip()
        rules, wrong = site.gateway.config.policy, None
        try:
            rules = await policies.rules_in(workspace, visit.context)
        except ConfigInvalid as error:
            wrong = error
        rows = await site.gateway.ask(lambda reader: reader.newest(SYSTEM_STREAM, PolicyLoaded.kind, LOADS))
        loads = [_load(event, row.at_ms, visit) for row in rows if isinstance(event := row.event(), PolicyLoaded)]
        return site.render(
            "policy.html",
            visit,
            rules=rules,
            hash=policies.hash_under(rules),
            own_hash=policies.hash,
            parts_in_force=[_part(each) for each in sources(policies.files, rules) if each.text.strip()],
            own=len(policies.files),
            loads=loads,
            workspace=workspace,
            wrong=wrong,
            fault=fault,
            reloaded=visit.query.get("reloaded", ""),
        )

    @site.page("/policy/text")
    async def text(visit: Visit) -> Answer:
        name, workspace = visit.query.get("of", ""), visit.query.get("workspace", "")
        found = await _source(visit, name, workspace)
        return site.render("policy_text.html", visit, name=found.name, lines=found.text.splitlines())

    async def _source(visit: Visit, name: str, workspace: str) -> PolicySource:
        rules: PolicyRules = await site.gateway.policies.rules_in(workspace, visit.context)
        known = {each.name: each for each in sources(site.gateway.policies.files, rules)}
        if name not in known:
            raise NotFound(f"no policies {name!r} are in force", remedy=f"there are {', '.join(known)}")
        return known[name]

    @site.write("/policy/reload", Scope.ADMIN)
    async def reload(visit: Visit) -> Answer:
        try:
            changed = await site.gateway.policies.reload(visit.context.principal)
        except ConfigInvalid as error:
            page = await _policy(attrs.evolve(visit, here="/policy"), error)
            return Response(page, OF_CODE[error.code].http, mimetype="text/html")
        return redirect(f"/policy?reloaded={'changed' if changed else 'same'}")


def _part(source: PolicySource) -> Part:
    return Part(source.name, sum(1 for _ in statements(source.text)))


def _load(event: PolicyLoaded, at_ms: int, visit: Visit) -> Load:
    known = event.by in (BOOT, visit.context.principal) or visit.may(Scope.ADMIN)
    return Load(event.hash, event.files, event.by if known else "", at_ms)
