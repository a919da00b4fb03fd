"""Agents: who they are, what they may use, where they answer. A form that is refused comes back with what was typed in it."""

import json
from collections.abc import Iterable, Mapping
from typing import Any

import attrs
from quart import Response

from palyra_trio.core.agents import AS_CONFIGURED, AgentSpec, Limits
from palyra_trio.core.bindings import BindingPlace, Target
from palyra_trio.core.commands import BindAgent, DefineAgent, RemoveAgent, SetDefaultAgent, UnbindAgent
from palyra_trio.core.errors import InvalidArgument, PalyraError
from palyra_trio.core.identity import Scope
from palyra_trio.journal.queries import Reader
from palyra_trio.transports.console.site import Answer, Site, Visit, redirect
from palyra_trio.transports.refusals import OF_CODE

NEW = "/agents/_new"  # no agent can have that name
LIMITS = (
    ("turns", "Model calls of a run"),
    ("tool_calls", "Tool calls of a run"),
    ("active_s", "Seconds that a run may be at work"),
    ("tool_s", "Seconds that one tool call may take"),
)
_NEW = AgentSpec("", limits=AS_CONFIGURED)


@attrs.frozen
class Binding:
    """Where an agent answers. `title` is that of a session."""

    place: BindingPlace
    agent: str
    title: str = ""


def add(site: Site) -> None:
    site.navigation.append(("Agents", "/agents"))

    @site.page("/agents")
    async def listed(visit: Visit) -> Answer:
        agents = await site.gateway.agents()
        bindings = await site.gateway.ask(lambda reader: bindings_for(reader, visit))
        answering = await site.gateway.answering(None, visit.context)
        return site.render("agents.html", visit, agents=agents, bindings=bindings, answering=answering)

    @site.page(NEW, Scope.ADMIN)
    async def blank(visit: Visit) -> Answer:
        return await _blank(visit, typed_of(_NEW))

    async def _blank(visit: Visit, typed: Mapping[str, str], error: PalyraError | None = None) -> str:
        tools = site.gateway.tools.names()
        configured = attrs.asdict(site.gateway.config.limits)
        return site.render(
            "agent_new.html", visit, typed=typed, tools=tools, limits=LIMITS, configured=configured, error=error
        )

    @site.page("/agents/<name>")
    async def agent(visit: Visit, name: str) -> Answer:
        return await _agent(visit, name)

    async def _agent(
        visit: Visit,
        name: str,
        typed: Mapping[str, str] | None = None,
        error: PalyraError | None = None,
        binding_error: PalyraError | None = None,
    ) -> str:
        known = await site.gateway.agent(name)

        def read(reader: Reader) -> tuple[bool, list[Binding]]:
            defined = any(spec.name == name for spec, _ in reader.agents())
            return defined, [each for each in bindings_for(reader, visit) if each.agent == name]

        defined, bindings = await site.gateway.ask(read)
        return site.render(
            "agent.html",
            visit,
            agent=known,
            defined=defined,
            bindings=bindings,
            typed=typed or typed_of(known.spec),
            tools=site.gateway.tools.names(),
            limits=LIMITS,
            configured=attrs.asdict(site.gateway.config.limits),
            error=error,
            binding_error=binding_error,
            bound=visit.form if binding_error else {},
        )

    @site.write("/agents", Scope.ADMIN)
    async def define(visit: Visit) -> Answer:
        try:
            spec = spec_of(visit.form.get("name", "").strip(), visit.form, site.gateway.tools.names())
            await site.gateway.submit(DefineAgent(spec, replace=False), visit.context)
        except PalyraError as error:
            return _refused(await _blank(attrs.evolve(visit, here=NEW), _as_typed(visit), error), error)
        return redirect(f"/agents/{spec.name}")

    @site.write("/agents/<name>/define", Scope.ADMIN)
    async def change(visit: Visit, name: str) -> Answer:
        await site.gateway.agent(name)
        try:
            spec = spec_of(name, visit.form, site.gateway.tools.names())
            await site.gateway.submit(DefineAgent(spec), visit.context)
        except PalyraError as error:
            return _refused(await _agent(_at(visit, name), name, _as_typed(visit), error), error)
        return site.done(visit, f"/agents/{name}")

    @site.write("/agents/<name>/bindings", Scope.ADMIN)
    async def bind(visit: Visit, name: str) -> Answer:
        try:
            place = await _place(visit)
            await site.gateway.submit(BindAgent(place, name), visit.context)
        except PalyraError as error:
            return _refused(await _agent(_at(visit, name), name, binding_error=error), error)
        return site.done(visit, f"/agents/{name}")

    async def _place(visit: Visit) -> BindingPlace:
        target, name = visit.form.get("target", ""), visit.form.get("place", "").strip()
        if target not in list(Target):
            raise InvalidArgument(f"an agent cannot be bound to a {target}", remedy=f"choose {', '.join(Target)}")
        if target == Target.SESSION and name:
            session = await site.gateway.ask(lambda reader: reader.find_session(name, visit.context.principal))
            name = session.session_id
        return BindingPlace(Target(target), name)

    @site.write("/bindings/remove", Scope.ADMIN)
    async def unbind(visit: Visit) -> Answer:
        await site.gateway.submit(UnbindAgent(await _place(visit)), visit.context)
        return site.done(visit, "/agents")

    @site.write("/agents/<name>/remove", Scope.ADMIN)
    async def remove(visit: Visit, name: str) -> Answer:
        await site.gateway.submit(RemoveAgent(name), visit.context)
        return redirect("/agents")

    @site.write("/agents/<name>/default", Scope.ADMIN)
    async def make_default(visit: Visit, name: str) -> Answer:
        await site.gateway.submit(SetDefaultAgent(name), visit.context)
        return site.done(visit, f"/agents/{name}")


def _at(visit: Visit, name: str) -> Visit:
    return attrs.evolve(visit, here=f"/agents/{name}")


def _refused(page: str, error: PalyraError) -> Response:
    return Response(page, OF_CODE[error.code].http, mimetype="text/html")


def bindings_for(reader: Reader, visit: Visit) -> list[Binding]:
    """Return the bindings that a visitor may see: their own, those of channels, and to an administrator those of principals."""
    found = []
    for place, agent in reader.bindings():
        match place.target:
            case Target.SESSION:
                session = reader.session(place.name)
                if session is not None and session.principal == visit.context.principal:
                    found.append(Binding(place, agent, session.title))
            case Target.PRINCIPAL if place.name != visit.context.principal and not visit.may(Scope.ADMIN):
                pass
            case _:
                found.append(Binding(place, agent))
    return found


# --- the form ---


def typed_of(spec: AgentSpec) -> dict[str, str]:
    """Return the fields of a form that says `spec`."""
    schema = "" if spec.answer_schema is None else json.dumps(spec.answer_schema, indent=2, ensure_ascii=False)
    fields = {"name": spec.name, "model": spec.model, "instructions": spec.instructions, "answer_schema": schema}
    fields |= {name: str(value or "") for name, value in attrs.asdict(spec.limits).items()}
    if spec.tools is None:
        return fields | {"tools": "all"}
    return fields | {"tools": "some"} | {f"tool.{name}": "yes" for name in spec.tools}


def _as_typed(visit: Visit) -> dict[str, str]:
    """Return what a form said, and of what it left out what holds without it."""
    return {**typed_of(_NEW), **visit.form}


def spec_of(name: str, form: Mapping[str, str], tools: Iterable[str]) -> AgentSpec:
    """Return what a form says of the agent `name`. Raises InvalidArgument; what else must hold of an agent is not checked."""
    chosen = tuple(each for each in tools if f"tool.{each}" in form)
    return AgentSpec(
        name,
        model=form.get("model", "").strip(),
        instructions=form.get("instructions", "").replace("\r\n", "\n"),
        tools=chosen if form.get("tools") == "some" else None,
        limits=Limits(**{limit: _count(words, form.get(limit)) for limit, words in LIMITS}),
        answer_schema=_schema(form.get("answer_schema", "")),
    )


def _count(words: str, text: str | None) -> int:
    """Return a limit, 0 where the field is empty. Raises InvalidArgument for any other text, and without the field."""
    if text == "":
        return 0
    if text is None or not (text.strip().isascii() and text.strip().isdigit() and len(text) < 10):
        raise InvalidArgument(
            f"{words}: {text!r} is no number", remedy="write a whole number, or nothing for the configured one"
        )
    return int(text)


def _schema(text: str) -> dict[str, Any] | None:
    if not text.strip():
        return None
    try:
        schema = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InvalidArgument(f"the answer's schema is no JSON: {error}") from error
    if not isinstance(schema, dict):
        raise InvalidArgument("the answer's schema is no JSON object", remedy="write a JSON Schema, or nothing")
    return schema
