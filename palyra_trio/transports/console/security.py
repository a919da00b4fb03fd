"""What a request must show before a page looks at it, and what every response says to the browser.

Another site cannot write here: a write needs the session's token in the form, and its origin must be this one. It cannot
read either: the name that the browser called us by must be one of ours (DNS rebinding), and nothing may be framed. Whose
session it is, `site` decides.
"""

import re
from collections.abc import Iterable, Mapping
from ipaddress import ip_address
from urllib.parse import urlsplit

from palyra_trio.core.errors import PolicyError

LOOPBACK = ("localhost", "127.0.0.1", "::1")
_HOST = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([A-Za-z0-9._-]+))(?::([0-9]{1,5}))?")
HEADERS: Mapping[str, str] = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self';"
    " img-src 'self' data:; form-action 'self'; frame-ancestors 'none'; base-uri 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",  # with `no-referrer` a form's Origin would be null
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
}


class Hosts:
    """The names by which browsers may call this machine, whatever the port: who forwards a port has another one."""

    def __init__(self, names: Iterable[str]) -> None:
        self._names = frozenset(name.lower() for name in (*LOOPBACK, *names))

    def check(self, host: str | None) -> None:
        """Return for a Host header that is one of ours. Raises PolicyError."""
        found = _HOST.fullmatch(host or "")
        if found is None or (found[1] or found[2]).lower() not in self._names:
            raise PolicyError(
                "this address is not one of the console's", remedy="open it as 127.0.0.1, or set http.names"
            )


def check_origin(scheme: str, host: str, origin: str | None, fetch_site: str | None) -> None:
    """Return for a write that one of our own pages makes. `origin` and `fetch_site` are the headers. Raises PolicyError."""
    if origin != f"{scheme}://{host}" or fetch_site not in (None, "same-origin"):
        raise PolicyError("this was asked by another site, or by no page at all", remedy="use the console's own pages")


def local_path(target: str) -> str:
    """Return `target` if it is a path of this site, else `/`: nobody is sent elsewhere."""
    if not target.startswith("/") or target.startswith("//") or "\\" in target or not target.isprintable():
        return "/"
    parts = urlsplit(target)
    return "/" if parts.scheme or parts.netloc else target


def is_loopback(host: str) -> bool:
    """Return whether an address to listen on is reachable from this machine only."""
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False
