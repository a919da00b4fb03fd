"""The secrets of the visitor: names, versions and what each is for. A value goes in and is never shown, and never comes back."""

from collections.abc import Mapping

import attrs
from quart import Response

from palyra_trio.core.errors import ConfigInvalid, PalyraError
from palyra_trio.core.identity import Principal
from palyra_trio.core.identity import Scope as Needed
from palyra_trio.guard.vault import Scope
from palyra_trio.runtime.secrets import Kept
from palyra_trio.transports.console.site import Answer, Site, Visit
from palyra_trio.transports.refusals import OF_CODE

VALUE = "value"


def add(site: Site) -> None:
    site.navigation.append(("Secrets", "/secrets"))

    @site.page("/secrets")
    async def listed(visit: Visit) -> Answer:
        return await _listed(visit)

    async def _listed(visit: Visit, error: PalyraError | None = None) -> str:
        try:
            kept = await site.gateway.secrets.kept(visit.context.principal)
        except ConfigInvalid as fault:
            kept = Kept((), str(fault))
        typed = {name: text for name, text in visit.form.items() if name != VALUE} if error else {}
        return site.render("secrets.html", visit, kept=kept, typed=typed, error=error)

    @site.write("/secrets", Needed.ADMIN)
    async def keep(visit: Visit) -> Answer:
        scope, now_ms = scope_of(visit.context.principal, visit.form), site.gateway.health().now_ms
        name, value = visit.form.get("name", "").strip(), visit.form.get(VALUE, "")
        try:
            await site.gateway.secrets.keep(name, value, scope, now_ms)
        except PalyraError as error:
            page = await _listed(attrs.evolve(visit, here="/secrets"), error)
            return Response(page, OF_CODE[error.code].http, mimetype="text/html")
        return site.done(visit, "/secrets")

    @site.write("/secrets/<name>/remove", Needed.ADMIN)
    async def remove(visit: Visit, name: str) -> Answer:
        await site.gateway.secrets.remove(visit.context.principal, name)
        return site.done(visit, "/secrets")


def scope_of(principal: Principal, form: Mapping[str, str]) -> Scope:
    """Return whose a secret is to be and what for: tools and hosts are parted by blanks or commas, and none means any."""
    tools, hosts = (tuple(form.get(name, "").replace(",", " ").split()) for name in ("tools", "hosts"))
    return Scope(principal, tools, hosts)
