"""The tools: what each is for and takes, what is said of it and by whom it may be changed, and what programs run in."""

import json
from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from typing import Any, get_args

import attrs
from quart import Response

from palyra_trio.core.errors import InvalidArgument, PalyraError
from palyra_trio.core.identity import Scope
from palyra_trio.core.policy import PolicyRules
from palyra_trio.guard.posture import Posture, PostureVerdict
from palyra_trio.guard.posture import Scope as PostureScope
from palyra_trio.tools.registry import ToolSpec
from palyra_trio.transports.console.site import Answer, Site, Visit
from palyra_trio.transports.refusals import OF_CODE

SPANS_S = {"": 0, "1h": 3600, "8h": 8 * 3600, "1d": 24 * 3600, "7d": 7 * 24 * 3600}
SPANS = (("", "for ever"), ("1h", "for 1 hour"), ("8h", "for 8 hours"), ("1d", "for 1 day"), ("7d", "for 7 days"))
SCOPES = (
    ("global", "everywhere"),
    ("workspace", "in the folder"),
    ("agent", "for the agent"),
    ("session", "in the session"),
)


@attrs.frozen
class Argument:
    """An argument of a tool. `kind` says in words what it may be; `otherwise` is what holds without it, or None: it must be given."""

    name: str
    kind: str
    otherwise: str | None


@attrs.frozen
class Shown:
    """A tool, and what is said of it: by postures and by the configuration's lists. `mode` is the strictest of it, or ""."""

    spec: ToolSpec
    arguments: tuple[Argument, ...]
    postures: tuple[Posture, ...]
    configured: tuple[str, ...]
    mode: str


def add(site: Site) -> None:
    site.navigation.append(("Tools", "/tools"))

    @site.page("/tools")
    async def listed(visit: Visit) -> Answer:
        return _listed(visit)

    def _listed(visit: Visit, error: PalyraError | None = None) -> str:
        registry, policies = site.gateway.tools, site.gateway.policies
        postures, rules = policies.postures(), site.gateway.config.policy
        tools = [shown(registry.get(name).spec, postures, rules) for name in registry.names()]
        return site.render(
            "tools.html",
            visit,
            tools=tools,
            several=[each for each in postures if each.tool not in registry.names()],
            report=site.gateway.health().sandbox,
            spans=SPANS,
            scopes=SCOPES,
            typed=visit.form if error else {},
            error=error,
        )

    @site.write("/tools/say", Scope.ADMIN)
    async def say(visit: Visit) -> Answer:
        try:
            new = posture_of(visit.form, site.gateway.health().now_ms // 1000)
            await site.gateway.policies.set_posture(new, visit.context.principal)
        except PalyraError as error:
            return _refused(visit, error)
        return site.done(visit, "/tools")

    @site.write("/tools/unsay", Scope.ADMIN)
    async def unsay(visit: Visit) -> Answer:
        try:
            scope, name = place_of(visit.form)
            tool, by = visit.form.get("tool", ""), visit.context.principal
            await site.gateway.policies.remove_posture(tool, scope, name, by)
        except PalyraError as error:
            return _refused(visit, error)
        return site.done(visit, "/tools")

    def _refused(visit: Visit, error: PalyraError) -> Response:
        page = _listed(attrs.evolve(visit, here="/tools"), error)
        return Response(page, OF_CODE[error.code].http, mimetype="text/html")


def shown(spec: ToolSpec, postures: Iterable[Posture], rules: PolicyRules) -> Shown:
    """Return what a page shows of a tool."""
    said = tuple(each for each in postures if fnmatchcase(spec.name, each.tool))
    lists = (("allow", rules.allow), ("ask", rules.ask), ("deny", rules.deny))
    configured = tuple(word for word, patterns in lists if any(fnmatchcase(spec.name, each) for each in patterns))
    words = {*(each.verdict for each in said), *("disable" if word == "deny" else word for word in configured)}
    mode = next((word for word in ("disable", "ask", "allow") if word in words), "")
    return Shown(spec, _arguments(spec), said, configured, mode)


def posture_of(form: Mapping[str, str], now_s: int) -> Posture:
    """Return what a form says of a tool. Raises InvalidArgument."""
    span = form.get("span", "")
    verdicts: tuple[PostureVerdict, ...] = get_args(PostureVerdict)
    verdict = next((each for each in verdicts if each == form.get("verdict")), None)
    if verdict is None or span not in SPANS_S:
        raise InvalidArgument("that says nothing of a tool", remedy="choose allow, ask or disable")
    scope, name = place_of(form)
    return Posture(form.get("tool", "").strip(), verdict, scope, name, now_s + SPANS_S[span] if span else None)


def place_of(form: Mapping[str, str]) -> tuple[PostureScope, str]:
    """Return where what a form says is to hold. Raises InvalidArgument."""
    scope = form.get("scope", "global")
    known: tuple[PostureScope, ...] = get_args(PostureScope)
    for each in known:
        if each == scope:
            return each, "" if each == "global" else form.get("name", "").strip()
    raise InvalidArgument(f"{scope!r} is no scope", remedy=f"choose {', '.join(known)}")


# --- what a tool takes ---


def _arguments(spec: ToolSpec) -> tuple[Argument, ...]:
    schema = spec.definition().parameters
    required = schema.get("required", ())
    return tuple(
        Argument(name, _kind(each), None if name in required else _otherwise(each))
        for name, each in schema.get("properties", {}).items()
    )


def _kind(schema: Mapping[str, Any]) -> str:
    if "enum" in schema:
        return " | ".join(map(str, schema["enum"]))
    if "anyOf" in schema:
        return " or ".join(dict.fromkeys(map(_kind, schema["anyOf"])))
    match schema.get("type"):
        case "array":
            return f"list of {_kind(schema.get('items', {}))}"
        case str() as word:
            return "nothing" if word == "null" else word
    return "any"


def _otherwise(schema: Mapping[str, Any]) -> str:
    default = schema.get("default")
    return "" if default in (None, "", (), [], {}) else default if isinstance(default, str) else json.dumps(default)
