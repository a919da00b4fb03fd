"""A request and its answer as data, and where a redirect leads. Nothing is sent here (see fetch_exchange)."""

from typing import Literal
from urllib.parse import urljoin

import attrs

from palyra_trio.tools.egress import DEFAULT_PORTS, Place, parse_url, refused

Method = Literal["GET", "POST"]

_REDIRECTS = (301, 302, 303, 307, 308)
_KEEP_METHOD = (307, 308)
_ABOUT_BODY = ("content-type", "content-length")


@attrs.frozen
class Request:
    """What is asked of a place. The names of `headers` are in lower case; Host and the length are added on the wire."""

    method: Method
    headers: dict[str, str]
    body: bytes = b""


@attrs.frozen
class Answer:
    """A status, and the header fields by lower-case name (repeated ones joined by ", ")."""

    status: int
    headers: dict[str, str]


def redirection(place: Place, request: Request, answer: Answer) -> tuple[Place, Request] | None:
    """Return where the answer sends the client and what to ask there, or None (RFC 9110, section 15.4).

    A POST becomes a GET without a body, except after 307 and 308. Raises PolicyError for a way from https to http, and
    what `parse_url` raises.
    """
    location = answer.headers.get("location")
    if answer.status not in _REDIRECTS or location is None:
        return None
    onward = parse_url(urljoin(place.url, location))
    if (place.scheme, onward.scheme) == ("https", "http"):
        raise refused("redirect_downgrade", f"{place.url} redirects to {onward.url}, which is not encrypted")
    if request.method == "GET" or answer.status in _KEEP_METHOD:
        return onward, request
    kept = {name: value for name, value in request.headers.items() if name not in _ABOUT_BODY}
    return onward, Request("GET", kept)


def same_site(place: Place, onward: Place) -> bool:
    """Return whether what was decided on `place` holds for `onward`: one host and port, or http turned into https."""
    return onward.host == place.host and (
        onward.port == place.port or all(each.port == DEFAULT_PORTS[each.scheme] for each in (place, onward))
    )
