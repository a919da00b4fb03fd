"""The Cedar engine behind `core.policy`: a set of policies, parsed once, that judges one resource of a call at a time.

A call is allowed only when Cedar says so without a single error: by itself Cedar leaves out a `forbid` that it cannot
evaluate. The policies are taken as they are: whoever builds an engine has had them checked (`policy_files`), because
the parser can take the process down with it.
"""

import functools
import re
from collections.abc import Iterable
from typing import Any

import attrs
import cedarpy
import msgspec
import trio

from palyra_trio.core.policy import (
    Approval,
    CallFacts,
    HostResource,
    PathResource,
    Resource,
    Risk,
    SecretResource,
    Subject,
    Verdict,
    action_on,
)
from palyra_trio.guard.policy_text import PolicySource
from palyra_trio.guard.presets import policy_hash, schema_text

POLICY_ERROR = "policy_error"
ACTORS_REMEMBERED = 64  # who acts with which tool: a few KiB each, and more only parse again
VERDICTS_REMEMBERED = 4096  # about 1 KiB each

_CHANGING: dict[str, Any] = {"arguments_digest": "", "now_s": 0, "calls_left": 0}
_RISKS: dict[Risk, int] = {"low": 1, "medium": 2, "high": 3}
_POLICY_NUMBER = re.compile(r"`(policy\d+)`")

Entity = dict[str, Any]


class CedarEngine:
    """A PolicyEngine (`core.policy`). Raises ValueError for sources that were not checked and do not parse."""

    def __init__(self, sources: Iterable[PolicySource]) -> None:
        sources = tuple(sources)
        self._hash = policy_hash(sources)
        self._schema = cedarpy.Schema.from_str(schema_text())
        self._policies = cedarpy.PolicySet.from_str("\n".join(source.text for source in sources))
        annotations = {number: policy.annotations for number, policy in self._policies.to_pst().static_policies.items()}
        self._ids = {number: each.get("id", number) for number, each in annotations.items()}
        self._words = {number: each.get("reason") or each.get("prompt", "") for number, each in annotations.items()}
        self._entities_of = functools.lru_cache(1)(self._make_entities)
        self._actors = functools.lru_cache(ACTORS_REMEMBERED)(self._make_actor)
        self._judged = functools.lru_cache(VERDICTS_REMEMBERED)(self._judge)
        self._ignored = {
            name: value for name, value in _CHANGING.items() if not any(_may_name(each.text, name) for each in sources)
        }

    @property
    def hash(self) -> str:
        return self._hash

    @property
    def ids(self) -> tuple[str, ...]:
        """The ids of the policies, in the order in which they were written."""
        return tuple(self._ids.values())

    def evaluate(self, subject: Subject, facts: CallFacts, resource: Resource, approval: Approval) -> Verdict:
        """Return what the policies say of one resource of a call. Never raises: what goes wrong does not allow.

        A verdict is a function of what the policies can see. It is remembered, without those facts that differ from call
        to call and that no policy so much as mentions.
        """
        try:
            return self._judged(subject, attrs.evolve(facts, **self._ignored), resource, approval)
        except (KeyboardInterrupt, SystemExit, trio.Cancelled):
            raise
        except BaseException as error:  # a panic of the engine is no Exception
            return Verdict(False, (), (POLICY_ERROR,), (str(error) or type(error).__name__,))

    def _judge(self, subject: Subject, facts: CallFacts, resource: Resource, approval: Approval) -> Verdict:
        request = {
            "principal": _reference("Session", subject.session_id),
            "action": _reference("Action", action_on(facts, resource)),
            "resource": _reference(*_identity(resource)),
            "context": _json(_context(facts, resource, approval)),
        }
        result = cedarpy.is_authorized(
            request, self._policies, self._entities_of(subject, facts.tool, resource), self._schema
        )
        return self._verdict(result)

    def _verdict(self, result: cedarpy.AuthzResult) -> Verdict:
        numbers = sorted(result.diagnostics.reasons, key=self._ids.__getitem__)
        policies = tuple(self._ids[number] for number in numbers)
        errors = tuple(_POLICY_NUMBER.sub(self._named, each) for each in result.diagnostics.errors)
        if errors or result.decision is cedarpy.Decision.NoDecision:
            return Verdict(False, policies, (POLICY_ERROR,), errors or ("the engine came to no decision",))
        reasons = tuple(self._words[number] for number in numbers if self._words[number])
        return Verdict(result.decision is cedarpy.Decision.Allow, policies, reasons)

    def _named(self, number: re.Match[str]) -> str:
        return f"`{self._ids.get(number[1], number[1])}`"

    def _make_entities(self, subject: Subject, tool: str, resource: Resource) -> cedarpy.Entities:
        """Return everything that a request refers to. The passes over one resource share it."""
        actor = self._actors(subject, tool)
        if _identity(resource) == ("Tool", tool):
            return actor
        return actor.with_added_json_str(_json(_resource(resource)), self._schema)

    def _make_actor(self, subject: Subject, tool: str) -> cedarpy.Entities:
        return cedarpy.Entities.from_json_str(_json([*_session(subject), *_tool(tool)]), self._schema)


def _may_name(text: str, fact: str) -> bool:
    return fact in text or "\\" in text  # an attribute can also be named in brackets, with escapes


# --- the facts in Cedar's words ---


def _session(subject: Subject) -> list[Entity]:
    agent, user = _reference("Agent", subject.agent), _reference("User", subject.user)
    attributes = {"user": subject.user, "agent": subject.agent, "tainted": subject.tainted}
    return [_entity("Session", subject.session_id, attributes, [agent, user]), *map(_bare, (agent, user))]


def _tool(name: str) -> list[Entity]:
    parts = name.split(".")
    sets = [_reference("ToolSet", ".".join(parts[:count])) for count in range(1, len(parts))]
    return [_entity("Tool", name, {"name": name}, sets), *map(_bare, sets)]


def _resource(resource: Resource) -> list[Entity]:
    kind, identity = _identity(resource)
    if kind == "Tool":
        return _tool(identity)
    attributes = attrs.asdict(resource)
    if isinstance(resource, PathResource):
        attributes["sensitive"] = bool(resource.sensitive)
    if isinstance(resource, SecretResource):
        del attributes["host"], attributes["port"]
    return [_entity(kind, identity, attributes)]


def _identity(resource: Resource) -> tuple[str, str]:
    if isinstance(resource, PathResource):
        return "Path", resource.path
    if isinstance(resource, HostResource):
        return "Host", resource.name
    return ("Secret" if isinstance(resource, SecretResource) else "Tool"), resource.name


def _context(facts: CallFacts, resource: Resource, approval: Approval) -> dict[str, Any]:
    common = {
        "tool": _reference("Tool", facts.tool),
        "arguments_digest": facts.arguments_digest,
        "risk": _RISKS[facts.risk],
        "read_only": facts.read_only,
        "approved": approval != "none",
        "standing": approval == "standing",
        "sandbox_tier": facts.sandbox_tier,
        "workspace": facts.workspace,
        "calls_left": facts.calls_left,
        "now_s": facts.now_s,
    }
    context: dict[str, Any] = {"common": common}
    if facts.program is not None:
        context["program"] = attrs.asdict(facts.program)
    if isinstance(resource, SecretResource):
        context["destination"] = {"host": resource.host, "port": resource.port}
    return context


def _entity(kind: str, identity: str, attributes: dict[str, Any], parents: Iterable[Entity] = ()) -> Entity:
    return {"uid": _reference(kind, identity), "attrs": attributes, "parents": list(parents)}


def _bare(reference: Entity) -> Entity:
    return {"uid": reference, "attrs": {}, "parents": []}


def _json(value: object) -> str:
    """Return JSON. Raises ValueError where a text is no UTF-8 (a lone surrogate) or a number too large."""
    return msgspec.json.encode(value).decode()


def _reference(kind: str, identity: str) -> Entity:
    return {"type": f"Daemon::{kind}", "id": identity}
