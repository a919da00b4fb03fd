"""Signing in, by a one-time link or a token, and out, here or everywhere; and which colours this browser wants.

Opening a link changes nothing: its page sends the form, so who only looks at an address has not used it up. Where another
site opened it, a person must: else that site could sign them in as somebody else.
"""

import trio
from quart import Response, request

from palyra_trio.core.errors import Busy, InvalidArgument, PalyraError, PolicyError, Unauthenticated
from palyra_trio.core.identity import Caller, Peer, Scope
from palyra_trio.guard.auth import AUTHORIZATION, CHANNEL
from palyra_trio.guard.web_session import Failures
from palyra_trio.transports.console.security import local_path
from palyra_trio.transports.console.site import THEMES, Answer, Site, Visit, redirect

THEME_S = 365 * 24 * 3600
ENDED = "The daemon was restarted, or you were signed out."
METHOD = "POST /sign-in"  # as the system's tape names it


def add(site: Site) -> None:
    failures = Failures()

    async def show() -> Response:
        link, target = request.args.get("link", ""), local_path(request.args.get("next", "/"))
        if not link and signed_in():
            return redirect(target)
        message = ENDED if site.had_session() and not link else ""
        at_once = request.headers.get("Sec-Fetch-Site", "none") in ("none", "same-origin")  # else a person says so
        text = site.render("sign_in.html", link=link, next=target, message=message, at_once=at_once)
        return Response(text, mimetype="text/html")

    def signed_in() -> bool:
        session = site.session()
        try:
            if session is not None:
                site.access.require(session.caller, Scope.READ)
        except (Unauthenticated, PolicyError):  # their token has ended, and every page would lead back here
            return False
        return session is not None

    async def enter() -> Response:
        site.check_origin()
        form = await site.form()
        now_s, address = trio.current_time(), request.remote_addr or ""
        target = local_path(form.get("next", "/"))
        try:
            caller = site.sessions.take_link(form.get("link", ""), now_s)  # what opens does, whoever else failed here
            if caller is None:
                caller = await with_token(form.get("token", "").strip())
        except (Unauthenticated, PolicyError, InvalidArgument, Busy) as error:
            refusal = error if isinstance(error, Busy) else failed(error, address, now_s)
            status = 429 if isinstance(refusal, Busy) else 403
            message = f"{refusal.message}: {refusal.remedy}"
            text = site.render("sign_in.html", link="", next=target, message=message, at_once=False)
            return Response(text, status, mimetype="text/html")
        response = redirect(target)
        site.sign_in(response, caller)
        return response

    def failed(error: PalyraError, address: str, now_s: float) -> PalyraError:
        """Return what one who failed to sign in is told: the error, or that their address did so too often."""
        try:
            failures.check(address, now_s)
        except Busy as too_often:
            return too_often
        failures.add(address, now_s)
        return error

    async def with_token(token: str) -> Caller:
        """Return whose token this is. Raises Unauthenticated, PolicyError, InvalidArgument and Busy."""
        if not token:
            raise Unauthenticated("this link was used, or is too old", remedy="get another one: palyra-trio console")
        metadata = {AUTHORIZATION: f"Bearer {token}", CHANNEL: "console"}
        return await site.access.admit(metadata, Peer(), Scope.READ, METHOD)

    site.app.add_url_rule("/sign-in", "sign-in", show)
    site.app.add_url_rule("/sign-in", "enter", enter, methods=["POST"])

    @site.write("/sign-out", Scope.READ)
    async def sign_out(visit: Visit) -> Answer:
        if visit.form.get("everywhere"):
            site.sessions.end_all(visit.context.principal)
        site.sessions.end(visit.session)
        response = redirect("/sign-in")
        site.forget(response)
        return response

    @site.write("/theme", Scope.READ)
    async def theme(visit: Visit) -> Answer:
        response = redirect(local_path(visit.form.get("next", "/")))
        chosen = visit.form.get("theme", "")
        response.set_cookie("theme", chosen if chosen in THEMES else "", max_age=THEME_S, samesite="Strict", path="/")
        return response
