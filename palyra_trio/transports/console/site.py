"""What every page passes before its handler: whose session it is, and whether they may. And what leaves it: rendered text.

A handler is written for a `Visit` and is added with `Site.page`, `Site.write` or `Site.live`, which name the scope that it
needs; there is no other way in. A refusal that a handler raises becomes a page, or a notice where htmx asked.
"""

from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus
from typing import Any, Concatenate, ParamSpec, cast
from urllib.parse import urlencode

import attrs
import trio
from markupsafe import Markup
from quart import Response, request
from quart_trio import QuartTrio
from werkzeug.exceptions import HTTPException

from palyra_trio import __version__
from palyra_trio.core.commands import NewAttachment
from palyra_trio.core.errors import Busy, PalyraError, PolicyError, Unauthenticated
from palyra_trio.core.identity import Caller, RequestContext, Scope
from palyra_trio.guard.web_session import WebSession, WebSessions
from palyra_trio.runtime.gateway import Gateway
from palyra_trio.transports.body_room import BodyRoom
from palyra_trio.transports.console.form_reading import FormReader
from palyra_trio.transports.console.live import Open, Streams
from palyra_trio.transports.console.rendering import environment, read_static
from palyra_trio.transports.console.security import HEADERS, Hosts, check_origin, local_path
from palyra_trio.transports.console.uploads import (
    FILES_BYTES,
    MULTIPART,
    BoundedBody,
    BoundedRequest,
    Sent,
    UploadReader,
)
from palyra_trio.transports.door import Access
from palyra_trio.transports.refusals import OF_CODE

BODY_BYTES = 1024 * 1024
STRANGERS_BYTES = 4096  # of a body from who is not signed in: a link or a token has less than 200
SILENCE_S = 15.0  # of a body that is to come
STRANGERS_SILENCE_S = 5.0  # of that of who is not signed in
UPLOADS = 4  # of files, at a time
UPLOADS_OF_ONE = 2  # principal
CSRF = "csrf"
FORM = "application/x-www-form-urlencoded"
THEMES = ("light", "dark")
P = ParamSpec("P")
Answer = str | Response


@attrs.frozen
class Visit:
    """One request of a person who has signed in.

    `here` is the path of the page that they are on, `query` and `form` the first value of each field. A `fragment` is for
    htmx, which wants a part of a page. `files` came with the form, where its page takes any.
    """

    session: WebSession
    here: str
    query: Mapping[str, str]
    form: Mapping[str, str] = attrs.field(repr=False)
    theme: str
    fragment: bool
    files: tuple[NewAttachment, ...] = attrs.field(default=(), repr=False)

    @property
    def caller(self) -> Caller:
        return self.session.caller

    @property
    def context(self) -> RequestContext:
        return self.session.caller.context

    def may(self, scope: Scope) -> bool:
        """Return whether a page offers what needs `scope`. It is checked again when it is asked for."""
        return scope in self.caller.scopes


Handler = Callable[Concatenate[Visit, P], Awaitable[Answer]]
Opener = Callable[Concatenate[Visit, P], Awaitable[Open]]


class Site:
    """The pages of one daemon. `name` is the cookie's, which only goes over TLS if `secure`."""

    def __init__(
        self, gateway: Gateway, access: Access, sessions: WebSessions, hosts: Hosts, cookie: str, *, secure: bool
    ) -> None:
        self.gateway = gateway
        self.access = access
        self.sessions = sessions
        self.streams = Streams()
        self.navigation: list[tuple[str, str]] = []
        self._hosts = hosts
        self._cookie = cookie
        self._secure = secure
        self._forms = FormReader()
        self._uploads = UploadReader(BODY_BYTES)
        self._uploading: Counter[str] = Counter()  # by principal
        self._bodies = BodyRoom()
        self._take_files: set[str] = set()  # the endpoints whose forms may bring files
        self._static = read_static()
        self.templates = environment(self._static)
        self.app = self._quart()

    def _quart(self) -> QuartTrio:
        app = QuartTrio("palyra_trio.console", static_folder=None)
        app.request_class = BoundedRequest
        app.config.update(MAX_CONTENT_LENGTH=BODY_BYTES + FILES_BYTES, PROVIDE_AUTOMATIC_OPTIONS=False)
        app.before_request(self._bound_body)
        app.before_request(self._check_host)
        app.teardown_request(self._let_others_send)
        app.after_request(_secured)
        app.register_error_handler(PalyraError, self._refused)
        app.register_error_handler(HTTPException, self._failed)
        app.register_error_handler(Exception, self._broken)
        app.add_url_rule("/static/<name>", "static", self._file)
        return app

    # --- adding pages ---

    def page(self, rule: str, scope: Scope = Scope.READ) -> Callable[[Handler[P]], Handler[P]]:
        """Add a page, or a part of one, that only reads."""
        return self._add(rule, ["GET"], scope)

    def write(self, rule: str, scope: Scope, *, files: bool = False) -> Callable[[Handler[P]], Handler[P]]:
        """Add what a form does, which may bring `files` of FILES_BYTES. The handler ends with `done`."""
        return self._add(rule, ["POST"], scope, files=files)

    def live(self, rule: str, scope: Scope = Scope.READ) -> Callable[[Opener[P]], Opener[P]]:
        """Add a stream of updates: the handler returns what opens its view (see `live`), or raises the refusal."""

        def add(handler: Opener[P]) -> Opener[P]:
            async def open_stream(visit: Visit, /, *args: P.args, **kwargs: P.kwargs) -> Answer:
                def check() -> None:
                    if not self.sessions.goes_on(visit.session, trio.current_time()):
                        raise Unauthenticated("you have signed out", remedy="sign in again")
                    self.access.require(visit.caller, scope)

                return self.streams.response(
                    await handler(visit, *args, **kwargs), check, visit.context.principal, visit.session.key
                )

            self._add(rule, ["GET"], scope)(open_stream)
            return handler

        return add

    def _add(
        self, rule: str, methods: list[str], scope: Scope, *, files: bool = False
    ) -> Callable[[Handler[P]], Handler[P]]:
        def add(handler: Handler[P]) -> Handler[P]:
            endpoint = f"{' '.join(methods)} {rule}"
            if files:
                self._take_files.add(endpoint)

            async def serve(*args: P.args, **kwargs: P.kwargs) -> Response:
                visit = await self._visit(scope)
                answer = await handler(visit, *args, **kwargs)
                return answer if isinstance(answer, Response) else Response(answer, mimetype="text/html")

            self.app.add_url_rule(rule, endpoint, serve, methods=methods)
            return handler

        return add

    # --- who it is ---

    async def _visit(self, scope: Scope) -> Visit:
        """Return the visit of this request. Raises Unauthenticated, PolicyError, Busy, and what `form` raises."""
        session = self.session()
        if session is None:
            raise Unauthenticated("you are not signed in", remedy="sign in")
        writes = request.method not in ("GET", "HEAD")
        if writes:
            self.check_origin()
        self.access.readmit(session.caller, scope)
        sent = await self._sent() if writes else Sent({})
        if writes and not session.vouches_for(sent.fields.get(CSRF, "")):
            raise PolicyError("the form is not of this session", remedy="load the page again, and then send it")
        return attrs.evolve(self.visit(session, sent.fields), files=sent.files)

    async def _sent(self) -> Sent:
        if not self._with_files():
            return Sent(await self.form())
        return await self._uploads.read(await self._body().whole(), request.mimetype_params.get("boundary", ""))

    def session(self) -> WebSession | None:
        """Return the session whose cookie came with this request."""
        return self.sessions.find(request.cookies.get(self._cookie, ""), trio.current_time())

    def had_session(self) -> bool:
        """Return whether this browser has been signed in, and has not signed out itself."""
        return self._cookie in request.cookies

    async def form(self) -> Mapping[str, str]:
        """Return the form that came with this request, empty where its body is none. Raises TooLarge, and HTTP's 413 and 408."""
        return await self._forms.read(await self._body().whole()) if request.mimetype == FORM else {}

    def visit(self, session: WebSession, form: Mapping[str, str] | None = None) -> Visit:
        here = request.full_path.rstrip("?")
        fragment = "HX-Request" in request.headers
        return Visit(session, here, dict(request.args.items()), form or {}, self.theme(), fragment)

    def theme(self) -> str:
        """Return which colours this browser asked for: `light`, `dark`, or empty for what the system says."""
        chosen = request.cookies.get("theme", "")
        return chosen if chosen in THEMES else ""

    def check_origin(self) -> None:
        """Return for a write that one of our own pages makes. Raises PolicyError."""
        headers = request.headers
        check_origin(request.scheme, request.host, headers.get("Origin"), headers.get("Sec-Fetch-Site"))

    def sign_in(self, response: Response, caller: Caller) -> None:
        """Begin a session, which takes the place of the one that this browser has, if any."""
        if (old := self.session()) is not None:
            self.sessions.end(old)
        secret, _ = self.sessions.begin(caller, trio.current_time())
        response.set_cookie(self._cookie, secret, secure=self._secure, httponly=True, samesite="Strict", path="/")

    def forget(self, response: Response) -> None:
        """Let the browser forget its session."""
        response.delete_cookie(self._cookie, secure=self._secure, httponly=True, samesite="Strict", path="/")

    async def _bound_body(self) -> None:
        most, session = self._most(), self.session()
        uploads = session is not None and most > BODY_BYTES
        silence_s = STRANGERS_SILENCE_S if session is None else SILENCE_S
        self._body().bound(most, silence_s, None if uploads else self._bodies)
        if session is not None and uploads:
            principal = session.caller.context.principal
            if self._uploading[principal] >= UPLOADS_OF_ONE or self._uploading.total() >= UPLOADS:
                self._body().bound(0, 0)
                raise Busy("too many others are sending files", remedy="send yours in a moment")
            self._uploading[principal] += 1
            cast("BoundedRequest", request).uploads = principal

    def _most(self) -> int:
        """Return how many bytes the body of this request may have."""
        if self.session() is None:
            return STRANGERS_BYTES
        return BODY_BYTES + FILES_BYTES if self._with_files() else BODY_BYTES

    async def _let_others_send(self, _error: BaseException | None) -> None:
        self._body().give_up()
        if principal := cast("BoundedRequest", request).uploads:
            self._uploading -= Counter([principal])

    def _body(self) -> BoundedBody:
        return cast("BoundedRequest", request).body

    def _with_files(self) -> bool:
        return request.mimetype == MULTIPART and request.endpoint in self._take_files

    async def _check_host(self) -> None:
        self._hosts.check(request.headers.get("Host"))

    # --- what is answered ---

    def render(self, template: str, visit: Visit | None = None, **values: Any) -> str:
        """Return a template filled in. Every one is given `visit`, `now_ms`, `navigation` and what it is told here."""
        return self.templates.get_template(template).render(
            visit=visit,
            theme=visit.theme if visit else self.theme(),
            now_ms=self.gateway.health().now_ms,
            navigation=self.navigation,
            version=__version__,
            Scope=Scope,
            **values,
        )

    def part(self, template: str, macro: str, *args: Any) -> Markup:
        """Return what a macro makes of its arguments: the same piece of a page, wherever it is shown."""
        made: Markup = getattr(self.templates.get_template(template).module, macro)(*args)
        return made

    def done(self, visit: Visit, to: str = "/") -> Response:
        """Return the answer to a write: back to the page `next` of the form, or `to`. htmx stays where it is."""
        target = local_path(visit.form.get("next", to))
        if visit.fragment:
            return Response("", 204, {"X-Next": target})
        return redirect(target)

    def lead(self, visit: Visit, to: str) -> Response:
        """Return the answer to a write that leads to another page, also who asked by htmx."""
        return Response("", 204, {"HX-Redirect": to}) if visit.fragment else redirect(to)

    def page_of(self, error: str, remedy: str, status: int) -> Response:
        """Return what a person is told of an error."""
        if "HX-Request" in request.headers:
            return Response(self.render("notice.html", message=error, remedy=remedy), status, mimetype="text/html")
        session = self.session()
        visit = self.visit(session) if session is not None else None
        text = self.render("error.html", visit, status=status, message=error, remedy=remedy)
        return Response(text, status, mimetype="text/html")

    async def _refused(self, error: PalyraError) -> Response:
        meaning = OF_CODE[error.code]
        sign_in = f"/sign-in?{urlencode({'next': local_path(request.full_path.rstrip('?'))})}"
        if meaning.http != 401:
            response = self.page_of(error.message, error.remedy, meaning.http)
        elif request.method == "GET" and "text/html" in request.headers.get("Accept", "") and not _by_script():
            response = redirect(sign_in)
        else:
            response = self.page_of(error.message, error.remedy, 401)
        if meaning.retry_after_s:
            response.headers["Retry-After"] = str(meaning.retry_after_s)
        return response

    async def _failed(self, error: HTTPException) -> Response:
        message, remedy = _HTTP_ERRORS.get(error.code or 500, (error.description or error.name, ""))
        if error.code == HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
            await self._body().pass_over()
            remedy = f"send {self._most() // 1024} KiB at most"
        response = self.page_of(message, remedy, error.code or 500)
        if (allow := dict(error.get_headers()).get("Allow")) is not None:
            response.headers["Allow"] = allow
        return response

    async def _broken(self, error: Exception) -> Response:
        self.app.logger.error("a page failed", exc_info=error)
        return self.page_of("this page failed", "this is a fault of palyra-trio; its log says where", 500)

    async def _file(self, name: str) -> Response:
        file = self._static.get(name)
        if file is None:
            return self.page_of(*_HTTP_ERRORS[404], 404)
        current = request.args.get("v") == file.digest
        headers = {"Cache-Control": "public, max-age=31536000, immutable" if current else "no-cache"}
        return Response(file.body, 200, headers, content_type=file.media_type)


_HTTP_ERRORS = {
    404: ("there is no such page", "the menu leads to those that there are"),
    405: ("this page does not do that", ""),
    408: ("that came too slowly", "send it again, over a better connection"),
    413: ("that is too long", ""),
}


def redirect(path: str) -> Response:
    """Send the browser to another page of this site, with GET."""
    return Response("", 303, {"Location": path})


def _by_script() -> bool:
    return "HX-Request" in request.headers or request.headers.get("Sec-Fetch-Mode", "navigate") != "navigate"


async def _secured(response: Response) -> Response:
    for name, value in HEADERS.items():
        response.headers.setdefault(name, value)
    response.headers.setdefault("Cache-Control", "no-store")
    return response
