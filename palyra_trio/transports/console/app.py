"""The console put together: one site, and every group of pages added to it. Where it listens is `http_listener`'s part."""

from collections.abc import Callable, Iterable

from palyra_trio.guard.web_session import WebSessions
from palyra_trio.runtime.gateway import Gateway
from palyra_trio.transports.api.asgi import Beside
from palyra_trio.transports.api.resources import Resources
from palyra_trio.transports.console import (
    agents,
    approvals,
    deciding,
    diagnostics,
    overview,
    policy,
    policy_questions,
    results,
    runs,
    secrets,
    session_search,
    sessions,
    sign_in,
    tools,
    usage,
)
from palyra_trio.transports.console.security import Hosts
from palyra_trio.transports.console.site import Site
from palyra_trio.transports.door import Access

PAGES: tuple[Callable[[Site], None], ...] = (
    sign_in.add,
    overview.add,
    sessions.add,
    session_search.add,
    runs.add,
    approvals.add,
    deciding.add,
    results.add,
    agents.add,
    policy.add,
    policy_questions.add,
    tools.add,
    secrets.add,
    usage.add,
    diagnostics.add,
)  # in the order of the menu


def console(
    gateway: Gateway, access: Access, sessions: WebSessions, names: Iterable[str], port: int, *, secure: bool
) -> Site:
    """Return the console of a daemon that listens on `port`, over TLS if `secure`, and the API beside it.

    `names` are hosts that browsers may call it by, besides those of loopback. `sessions` are shared with whoever makes links.
    """
    cookie = (
        f"__Host-palyra-{port}" if secure else f"palyra-{port}"
    )  # cookies know no port; two daemons may have one host
    hosts = Hosts(names)
    site = Site(gateway, access, sessions, hosts, cookie, secure=secure)
    for add in PAGES:
        add(site)
    site.app.asgi_app = Beside(Resources(gateway, access), hosts, site.app.asgi_app)  # type: ignore[assignment, method-assign]
    return site
