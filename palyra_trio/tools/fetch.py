"""fetch.get and fetch.post: text from the public network, for a model that nobody trusts with the rest of it.

The plan resolves the host once and refuses what is not public; the call connects to the planned addresses and no
others. A redirect is followed on the same site; elsewhere it is refused, since what was decided on was this host: the
model is told to fetch that URL itself. No proxy, cookie or credential is used, and nothing from the environment, but for
the secrets that a header names: each is looked up anew for every request, and put in when that is sent.
"""

import functools
import re
import ssl
import zlib
from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Annotated

import attrs
import trio
from msgspec import Meta

from palyra_trio.core.errors import InvalidArgument, PolicyError
from palyra_trio.core.policy import HostResource
from palyra_trio.core.references import SecretReference
from palyra_trio.core.text import clean
from palyra_trio.tools.egress import Egress, IpAddress, Place, parse_url, refused
from palyra_trio.tools.fetch_body import Unpacker, content_type, decode
from palyra_trio.tools.fetch_headers import ALLOWED, MAX_HEADER_CHARACTERS, asked_headers, filled
from palyra_trio.tools.fetch_request import Answer, Method, Request, redirection, same_site
from palyra_trio.tools.html_text import page_text
from palyra_trio.tools.registry import Plan, Tool, ToolContext, ToolResult, ToolSpec
from palyra_trio.tools.secret_use import ToolSecrets

MAX_BYTES = 1024 * 1024  # of an answer, unpacked
MAX_BODY_BYTES = 64 * 1024  # of a request: a person is shown all of it
MAX_REDIRECTS = 5

_MEDIA_TYPE = re.compile(r"[\w!#$&^.+-]+/[\w!#$&^.+-]+(; ?[\w-]+=[\w.-]+)*", re.ASCII)

Url = Annotated[str, Meta(description="An absolute http or https URL of a public host.")]
Headers = Annotated[
    dict[str, str],
    Meta(
        description=(
            f"Any of: {', '.join(ALLOWED)}. Over https also others that a secret of the user fills, which you name:"
            ' {"authorization": "Bearer secret:NAME"}.'
        )
    ),
]
MostBytes = Annotated[int, Meta(description="Read no more than this of the answer.", ge=1, le=MAX_BYTES)]


@attrs.frozen
class GetArguments:
    url: Url
    headers: Headers = attrs.Factory(dict)
    max_bytes: MostBytes = MAX_BYTES


@attrs.frozen
class PostArguments:
    url: Url
    body: Annotated[str, Meta(description="What to send, as UTF-8.")]
    content_type: Annotated[str, Meta(description="The media type of the body.")] = "application/json"
    headers: Headers = attrs.Factory(dict)
    max_bytes: MostBytes = MAX_BYTES


@attrs.frozen(kw_only=True)
class FetchPlan(Plan):
    """Where the call would go: the addresses were resolved and checked, and no others may be connected to."""

    place: Place
    addresses: tuple[IpAddress, ...]
    request: Request
    secrets: Mapping[str, SecretReference]


def fetch_tools(egress: Egress | None = None, tls: Callable[[], ssl.SSLContext] | None = None) -> tuple[Tool, Tool]:
    """Return fetch.get and fetch.post. `tls` makes the context for https, once; else the machine's trust store does."""
    way_out = egress or Egress()
    context_for_tls = functools.cache(tls or _public_authorities)

    async def plan_get(arguments: GetArguments, context: ToolContext) -> FetchPlan:
        return await _plan(way_out, context.secrets, arguments, Request("GET", {}))

    async def plan_post(arguments: PostArguments, context: ToolContext) -> FetchPlan:
        return await _plan(way_out, context.secrets, arguments, _post(arguments))

    async def run(arguments: GetArguments | PostArguments, context: ToolContext, plan: Plan) -> ToolResult:
        assert isinstance(plan, FetchPlan)
        return await _run(way_out, context_for_tls, plan, context.secrets, arguments.max_bytes)

    return (
        Tool(
            ToolSpec(
                name="fetch.get",
                description=(
                    "GET a URL of the public network and return its text; a web page comes as Markdown with its"
                    " links. Only text, JSON and XML are taken. A redirect to another host is not followed but told."
                ),
                arguments=GetArguments,
                capability="net.fetch",
                risk="medium",
                read_only=True,
                idempotent=True,
                untrusted_output=True,
            ),
            plan_get,
            run,
        ),
        Tool(
            ToolSpec(
                name="fetch.post",
                description=(
                    "POST a body to a URL of the public network and return the answer's text, as fetch.get does."
                    " It may change something there."
                ),
                arguments=PostArguments,
                capability="net.fetch",
                risk="high",
                read_only=False,
                idempotent=False,
                untrusted_output=True,
            ),
            plan_post,
            run,
        ),
    )


# --- plan ---


async def _plan(
    egress: Egress, vault: ToolSecrets, arguments: GetArguments | PostArguments, bare: Request
) -> FetchPlan:
    place = parse_url(arguments.url)
    asked = asked_headers(arguments.headers, place)
    names = dict.fromkeys(each.name for each in asked.secrets.values())
    secrets = [vault.look(name, place.host, place.port) for name in names]
    addresses = await egress.check(place)
    request = attrs.evolve(bare, headers=asked.fields | bare.headers)
    return FetchPlan(
        preview=_preview(place, request),
        resources=(HostResource(place.host, place.port, place.scheme, request.method, "public"), *secrets),
        place=place,
        addresses=addresses,
        request=request,
        secrets=asked.secrets,
    )


def _preview(place: Place, request: Request) -> str:
    """Return all that is sent. The addresses are left out: many a name has others each time, and it is approved once."""
    lines = [f"{request.method} {place.url}"]
    if place.written:
        lines.append(f"host, in its own script: {place.written}")
    lines += [f"{name}: {value}" for name, value in request.headers.items()]
    if request.method == "POST":
        lines += [f"body, {len(request.body)} bytes:", request.body.decode()]
    return "\n".join(lines)


def _post(arguments: PostArguments) -> Request:
    body = clean(arguments.body).encode()
    if len(body) > MAX_BODY_BYTES:
        raise InvalidArgument(f"the body has {len(body)} bytes, and at most {MAX_BODY_BYTES} are sent")
    if len(arguments.content_type) > MAX_HEADER_CHARACTERS or not _MEDIA_TYPE.fullmatch(arguments.content_type):
        raise refused("header", f"{arguments.content_type!r} is no media type", remedy="write it as TYPE/SUBTYPE")
    return Request("POST", {"content-type": arguments.content_type}, body)


# --- run ---


async def _run(
    egress: Egress, tls: Callable[[], ssl.SSLContext], plan: FetchPlan, vault: ToolSecrets, most_bytes: int
) -> ToolResult:
    from palyra_trio.tools.fetch_exchange import exchange  # an HTTP library: only when something is fetched

    place, request = plan.place, plan.request

    def body_for(answer: Answer) -> Unpacker:
        taken = not _not_taken(answer) and redirection(place, request, answer) is None
        return Unpacker(most_bytes if taken else 0, gzip=taken and _coding(answer) != "identity")

    for _ in range(MAX_REDIRECTS + 1):
        context = await trio.to_thread.run_sync(tls) if place.scheme == "https" else None  # a trust store is large
        try:
            sent = filled(request, plan.secrets, place, vault)
            answer, body = await exchange(place, plan.addresses, sent, context, body_for)
        except zlib.error as error:
            return _refusal(place, "content_encoding", f"it is no valid gzip ({error})")
        onward = redirection(place, request, answer)
        if onward is None:
            return await _result(place, answer, body)
        if not same_site(plan.place, onward[0]):
            await egress.check(onward[0])
            raise _elsewhere(request.method, place, onward[0])
        place, request = onward
    raise refused("redirect_loop", f"{plan.place.url} redirects more than {MAX_REDIRECTS} times")


def _elsewhere(method: Method, place: Place, onward: Place) -> PolicyError:
    how = " with fetch.get, unless the body must be sent again" if method == "POST" else ""
    return refused(
        "redirect_elsewhere",
        f"{place.url} redirects to {onward.url}, which is another host than was decided on",
        remedy=f"to go there, fetch that URL itself{how}",
    )


def _public_authorities() -> ssl.SSLContext:
    import httpx2

    return httpx2.create_ssl_context(trust_env=False)


def _coding(answer: Answer) -> str:
    return answer.headers.get("content-encoding", "identity").lower()


def _not_taken(answer: Answer) -> tuple[str, str] | None:
    """Return why a body is not taken, as a name and in words, or None."""
    size = answer.headers.get("content-length")
    of_size = f"of {size} bytes" if size else "of a size that is not said"
    kind = content_type(answer.headers.get("content-type", ""))
    if not kind.is_text:
        return "content_type", f"it is {kind.media}, {of_size}"
    if _coding(answer) not in ("identity", "gzip", "x-gzip"):
        return "content_encoding", f"it is packed as {_coding(answer)}, {of_size}"
    return None


def _refusal(place: Place, reason: str, why: str) -> ToolResult:
    text = f"refused as {reason}: what {place.url} sent is not taken: {why}; only text, JSON, XML and web pages are"
    return ToolResult(text, reason)


async def _result(place: Place, answer: Answer, body: Unpacker) -> ToolResult:
    """Return the answer as text. An answer without a body is taken whatever type it claims."""
    await trio.lowlevel.checkpoint()
    if (why := _not_taken(answer)) and body.full:
        return _refusal(place, *why)
    if body.broken:
        return _refusal(place, "content_encoding", "its gzip breaks off")
    kind = content_type(answer.headers.get("content-type", ""))
    read = decode(bytes(body.body), kind, cut=body.full)
    if "\0" in read.text:
        return _refusal(place, "content_type", f"it is no text, though it is called {kind.media}")
    remarks, text, title = [read.remark], read.text, ""
    if body.full:
        remarks.append(f"cut after {len(body.body)} bytes; the answer is longer")
    if kind.is_html and text:
        page = await page_text(text, place.url)
        if page is None:
            return _refusal(place, "page", "it cannot be read within the bounds of memory and time")
        text, title = page.text, page.title
        if page.hidden_characters:
            remarks.append(f"about {page.hidden_characters} characters that the page hides from people were left out")
        if page.cut:
            remarks.append("the page is too long or too deeply nested, so some of it is missing")
    lines = [f"{_status(answer.status)} from {place.url} ({kind.media}, {read.codec}, {len(body.body)} bytes)"]
    lines += [f"note: {remark}" for remark in remarks if remark]
    lines += [f"title: {' '.join(title.split())}"] if title else []
    return ToolResult("\n".join([*lines, "", text]), "http_status" if answer.status >= 400 else "")


def _status(status: int) -> str:
    try:
        return f"{status} {HTTPStatus(status).phrase}"
    except ValueError:
        return str(status)
