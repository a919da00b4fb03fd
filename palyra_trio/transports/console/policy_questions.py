"""Questions to the policies: why a call of a run went as it did, and what would be decided of one that nobody made."""

from collections.abc import Mapping
from typing import Any, get_args

import attrs

from palyra_trio.core.errors import ConfigInvalid, InvalidArgument, PalyraError
from palyra_trio.core.policy import Approval, IpClass, PolicyRules, Verdict
from palyra_trio.core.tape import (
    ApprovalDecided,
    ApprovalRequested,
    PolicyDecision,
    ToolFinished,
    ToolStarted,
)
from palyra_trio.core.words import IF_APPROVED, arguments_in_words
from palyra_trio.guard.policy_diff import outcome_words
from palyra_trio.guard.policy_places import Place, ids_in, named, places_of
from palyra_trio.guard.policy_set import sources
from palyra_trio.journal.queries import Reader, RunSummary, whole_tape
from palyra_trio.runtime.call_stories import Event, Story, call_stories, in_words
from palyra_trio.runtime.hypothetical import Explanation, Hypothetical, described
from palyra_trio.transports.console.overview import run_line
from palyra_trio.transports.console.site import Answer, Site, Visit

WORDS = ("tool", "path", "host", "secret", "program", "method", "ip_class", "agent", "workspace")
YES_OR_NO = ("exists", "opaque", "tainted")
TIERS = range(5)


@attrs.frozen
class Said:
    """One step of a call. `state` is the word that a page colours it by; `changed`: other policies are in force now."""

    state: str
    words: str
    at_ms: int
    places: tuple[Place, ...] = ()
    changed: bool = False


@attrs.frozen
class Told:
    """A call, and what became of it."""

    call_id: str
    tool: str
    arguments: str
    steps: tuple[Said, ...]


@attrs.frozen
class Pass:
    """What the policies say under one condition, and which of them."""

    condition: str
    verdict: Verdict
    places: tuple[Place, ...]


@attrs.frozen
class Explained:
    """What would be decided."""

    explanation: Explanation
    outcome: str
    passes: tuple[Pass, ...]


def add(site: Site) -> None:
    @site.page("/policy/why")
    async def why(visit: Visit) -> Answer:
        run_id, call_id = (visit.query.get(name, "").strip() for name in ("run", "call"))
        run: RunSummary | None = None
        told: tuple[Told, ...] = ()
        error: PalyraError | None = None
        if run_id:
            try:
                run, told = await _why(visit, run_id, call_id)
            except PalyraError as refusal:
                error = refusal
        runs = await site.gateway.ask(lambda reader: reader.runs(visit.context.principal, most=12))
        return site.render(
            "policy_why.html",
            visit,
            run_id=run_id,
            call_id=call_id,
            run=run,
            told=told,
            error=error,
            runs=[run_line(each) for each in runs],
        )

    async def _why(visit: Visit, run_id: str, call_id: str) -> tuple[RunSummary, tuple[Told, ...]]:
        def read(reader: Reader) -> tuple[RunSummary, tuple[Story, ...]]:
            run = reader.find_run(run_id, visit.context.principal)
            return run, call_stories(whole_tape(reader, run.run_id), call_id)

        run, stories = await site.gateway.ask(read)
        rules = await _rules_now(visit, run.workspace)
        policies = site.gateway.policies
        places, now = places_of(sources(policies.files, rules)), policies.hash_under(rules)
        return run, tuple(_told(each, places, now) for each in stories)

    async def _rules_now(visit: Visit, workspace: str) -> PolicyRules:
        """Return the rules of the run's folder, or, should its own file say nothing that holds now, those of none."""
        try:
            return await site.gateway.policies.rules_in(workspace, visit.context)
        except ConfigInvalid:
            return site.gateway.config.policy

    @site.page("/policy/test")
    async def test(visit: Visit) -> Answer:
        explained: Explained | None = None
        error: PalyraError | None = None
        tools = site.gateway.tools
        if visit.query.get("tool"):
            try:
                explained = await _explain(visit, call_of(visit.query))
            except PalyraError as refusal:
                only_named = visit.query["tool"] in tools.names() and len(visit.query) == 1
                error = None if only_named else refusal  # as a link does: nothing is wrong yet
        last = await site.gateway.ask(lambda reader: reader.runs(visit.context.principal, most=1))
        return site.render(
            "policy_test.html",
            visit,
            typed={"workspace": last[0].workspace if last else "", **visit.query},
            tools=[tools.get(name).spec for name in tools.names()],
            agents=await site.gateway.agents(),
            ip_classes=get_args(IpClass),
            tiers=TIERS,
            tier=site.gateway.health().sandbox.tier,
            explained=explained,
            error=error,
        )

    async def _explain(visit: Visit, call: Hypothetical) -> Explained:
        explanation, deciding = await site.gateway.policies.explain(call, visit.context)
        places = places_of(deciding)
        passes = tuple(_pass(approval, verdict, places) for approval, verdict in explanation.passes)
        return Explained(explanation, outcome_words(explanation.decision), passes)


def call_of(query: Mapping[str, str]) -> Hypothetical:
    """Return the call that a form describes. Raises InvalidArgument."""
    plain: dict[str, Any] = {name: text for name in WORDS if (text := query.get(name, "").strip())}
    host, colon, port = plain.get("host", "").rpartition(":")
    if colon and port.isascii() and port.isdigit():
        if not 0 < (number := int(port[:6])) < 65536:
            raise InvalidArgument(f"{port} is no port", remedy="write a number from 1 to 65535")
        plain |= {"host": host, "port": number}
    tier = query.get("sandbox_tier", "")
    if tier in map(str, TIERS):
        plain["sandbox_tier"] = int(tier)
    return described(plain | {name: True for name in YES_OR_NO if query.get(name)})


def _told(story: Story, places: Mapping[str, Place], now: str) -> Told:
    call, steps = story.call, tuple(_said(step.event, step.at_ms, places, now) for step in story.steps)
    return Told(call.call_id, call.tool, call.malformed or arguments_in_words(call), steps)


def _said(event: Event, at_ms: int, places: Mapping[str, Place], now: str) -> Said:
    words = in_words(event)
    match event:
        case PolicyDecision(outcome=outcome, rule=rule, policy_hash=decided_by):
            state = {"allow": "done", "ask": "asked", "deny": "denied"}.get(outcome, "")
            return Said(state, words, at_ms, named(ids_in(rule, places), places), decided_by not in ("", now))
        case ApprovalRequested():
            return Said("asked", words, at_ms)
        case ApprovalDecided(outcome=outcome):
            return Said("done" if outcome == "granted" else "denied", words, at_ms)
        case ToolStarted():
            return Said("", words, at_ms)
        case ToolFinished(error=error):
            return Said("failed" if error else "done", words, at_ms)


def _pass(approval: Approval, verdict: Verdict, places: Mapping[str, Place]) -> Pass:
    return Pass(IF_APPROVED[approval], verdict, named(verdict.policies, places))
