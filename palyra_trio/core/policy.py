"""What the gate knows of a call, and how it decides: allow, deny or ask. Pure; the engine that evaluates is handed in.

Every resource of a call is judged, and the strictest outcome holds. A resource is evaluated as if nobody had approved
the call; where that does not allow it, as if somebody had. Only what an approval would allow is asked for, so that
nobody is asked about a call that would be refused anyway.
"""

import glob
from collections.abc import Iterable, Mapping
from enum import StrEnum
from fnmatch import fnmatchcase
from typing import Any, Literal, Protocol

import attrs

from palyra_trio.core.chain import canonical_json, digest
from palyra_trio.core.errors import InvalidArgument

Action = Literal[
    "fs.read", "fs.write", "fs.delete", "net.fetch", "net.connect", "process.exec", "secret.use", "run.local"
]
Risk = Literal["low", "medium", "high"]
IpClass = Literal["public", "loopback", "private", "link_local", "metadata", "embedded_v4", "other"]
Approval = Literal["none", "once", "standing"]
Outcome = Literal["allow", "ask", "deny"]
GrantScope = Literal["once", "session", "time"]

_STRICTNESS: dict[Outcome, int] = {"allow": 0, "ask": 1, "deny": 2}


class Preset(StrEnum):
    """A set of policies that comes with the program."""

    DEFAULT = "default"
    STRICT = "strict"
    TRUSTED_WORKSPACE = "trusted-workspace"


@attrs.frozen
class PolicyRules:
    """What the configuration says of tools: the set of policies that it starts from, and, by name or by patterns such
    as `files.*`, those that it allows, asks for or denies beyond that.
    """

    preset: Preset = Preset.DEFAULT
    allow: tuple[str, ...] = ()
    ask: tuple[str, ...] = ()
    deny: tuple[str, ...] = ()


# --- what a call touches ---


@attrs.frozen
class PathResource:
    """A file or folder. `path` is relative to the workspace, or absolute when it lies outside.

    `exists` says that there is something to overwrite; `sensitive` why a call on it always asks (a key file), or "".
    """

    path: str
    inside_workspace: bool = True
    exists: bool = False
    sensitive: str = ""

    @property
    def name(self) -> str:
        return self.path


@attrs.frozen
class HostResource:
    """A place on the network. `ip_class` is the worst of all the addresses that the name stands for.

    What a program says there is its own affair: `scheme` is then `tcp` and `method` CONNECT.
    """

    host: str
    port: int
    scheme: str
    method: str
    ip_class: IpClass

    @property
    def name(self) -> str:
        return f"{self.host}:{self.port}"


def _tuple(names: Iterable[str]) -> tuple[str, ...]:
    return tuple(names)


@attrs.frozen
class SecretResource:
    """A secret of the vault, by reference, and where it would go: `host` is "" for a program that can reach none.

    `for_tools` and `for_hosts` are the only ones that it was set for, where it was.
    """

    name: str
    host: str = ""
    port: int = 0
    for_tools: tuple[str, ...] = attrs.field(default=(), converter=_tuple)
    for_hosts: tuple[str, ...] = attrs.field(default=(), converter=_tuple)


@attrs.frozen
class ToolResource:
    """The tool itself, where a call touches nothing else."""

    name: str


Resource = PathResource | HostResource | SecretResource | ToolResource


@attrs.frozen
class ProgramFacts:
    """A program that a call would start. An `opaque` one (a shell, an interpreter, a wrapper) may start any other."""

    path: str
    argv_length: int
    opaque: bool
    network: bool
    cwd_inside: bool


# --- who, and what ---


@attrs.frozen
class Subject:
    """Who acts: a session, for a user, as an agent. `tainted` once content from strangers has entered its context."""

    session_id: str
    user: str
    agent: str
    tainted: bool = False


@attrs.frozen
class CallFacts:
    """What the daemon knows of a call; the model has no say in any of it. `now_s` is Unix time.

    `sandbox_tier` 0 means that the tool runs in the daemon's own process. `calls_left` is what remains of the run's budget
    of tool calls.
    """

    tool: str
    action: Action
    risk: Risk
    read_only: bool
    resources: tuple[Resource, ...]
    arguments_digest: str
    workspace: str = ""
    sandbox_tier: int = 0
    program: ProgramFacts | None = None
    calls_left: int = 0
    now_s: int = 0


def action_on(facts: CallFacts, resource: Resource) -> Action:
    """Return what a call does to one of its resources, where that is something else than what its tool is for.

    A program may be given hosts to talk to, and whatever leaves the daemon may take a secret along.
    """
    if isinstance(resource, HostResource) and facts.action == "process.exec":
        return "net.connect"
    if isinstance(resource, SecretResource) and facts.action in ("process.exec", "net.fetch"):
        return "secret.use"
    return facts.action


_RESOURCES: dict[str, type[Resource]] = {
    "path": PathResource,
    "host": HostResource,
    "secret": SecretResource,
    "tool": ToolResource,
}
_RESOURCE_KINDS = {kind: name for name, kind in _RESOURCES.items()}


def plain_facts(facts: CallFacts) -> dict[str, Any]:
    """Return the facts as plain values for the tape; what the record holds elsewhere is left out."""
    resources = [{"kind": _RESOURCE_KINDS[type(each)], **attrs.asdict(each)} for each in facts.resources]
    rest = {"resources": resources, "arguments_digest": None, "program": facts.program and attrs.asdict(facts.program)}
    plain = {field.name: getattr(facts, field.name) for field in attrs.fields(CallFacts)} | rest
    return {name: value for name, value in plain.items() if value is not None}


def facts_from(plain: Mapping[str, Any], arguments_digest: str) -> CallFacts:
    """Return the facts that `plain_facts` gave. Raises InvalidArgument when they are of another form."""
    try:
        resources = tuple(
            _RESOURCES[each["kind"]](**{name: value for name, value in each.items() if name != "kind"})
            for each in plain["resources"]
        )
        program = ProgramFacts(**plain["program"]) if plain.get("program") else None
        rest = {"resources": resources, "program": program, "arguments_digest": arguments_digest}
        return CallFacts(**{**plain, **rest})
    except (KeyError, TypeError) as error:
        raise InvalidArgument(f"these are no facts of a tool call: {error}") from error


# --- the decision ---


@attrs.frozen
class Verdict:
    """What an engine says of one resource. `policies` are the ids that determined it, `reasons` what they say of it."""

    allowed: bool
    policies: tuple[str, ...] = ()
    reasons: tuple[str, ...] = ()
    errors: tuple[str, ...] = ()


class PolicyEngine(Protocol):
    """A set of policies in force. `evaluate` never raises: an error is a verdict that does not allow."""

    @property
    def hash(self) -> str: ...

    def evaluate(self, subject: Subject, facts: CallFacts, resource: Resource, approval: Approval) -> Verdict: ...


@attrs.frozen
class Decision:
    """What happens to a call. `standing`: a person may allow it for longer than once; only for `ask`.

    `policies` are the ids of those that decided, `reason` says it in words.
    """

    outcome: Outcome
    policies: tuple[str, ...]
    reason: str
    policy_hash: str = ""
    standing: bool = False


def decide_tool_call(subject: Subject, facts: CallFacts, engine: PolicyEngine) -> Decision:
    """Return what happens to a call: the strictest outcome over its resources."""
    decisions = [_decide(subject, facts, resource, engine) for resource in facts.resources]
    strictest = max(decisions, key=lambda each: _STRICTNESS[each.outcome])
    alike = [each for each in decisions if each.outcome == strictest.outcome]
    return attrs.evolve(
        strictest,
        policies=_merged(each.policies for each in alike),
        reason="; ".join(_merged([each.reason] for each in alike)),
        standing=all(each.standing for each in alike),
    )


def still_allowed(subject: Subject, facts: CallFacts, engine: PolicyEngine, approval: Approval) -> Verdict:
    """Return whether an approved call may run now: the first verdict that does not allow it, or the last one."""
    verdict = Verdict(False)
    for resource in facts.resources:
        verdict = engine.evaluate(subject, facts, resource, approval)
        if not verdict.allowed:
            break
    return verdict


def _decide(subject: Subject, facts: CallFacts, resource: Resource, engine: PolicyEngine) -> Decision:
    alone = engine.evaluate(subject, facts, resource, "none")
    if alone.allowed:
        return Decision("allow", alone.policies, _words(alone, f"{facts.tool} is allowed"), engine.hash)
    approved = engine.evaluate(subject, facts, resource, "once")
    if not approved.allowed:
        return Decision("deny", approved.policies, _words(approved, _nameless(approved)), engine.hash)
    standing = engine.evaluate(subject, facts, resource, "standing").allowed
    policies = _merged([alone.policies, approved.policies])
    reasons = [getattr(resource, "sensitive", ""), *alone.reasons, *approved.reasons]
    reason = "; ".join(_merged([[each for each in reasons if each]])) or "a person decides"
    return Decision("ask", policies, reason, engine.hash, standing)


def _nameless(verdict: Verdict) -> str:
    return f"{', '.join(verdict.policies)} forbids it" if verdict.policies else "no policy allows it"


def _words(verdict: Verdict, otherwise: str) -> str:
    return "; ".join((*verdict.errors, *verdict.reasons)) or otherwise


def _merged(groups: Iterable[Iterable[str]]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(each for group in groups for each in group))


# --- approvals and grants ---


@attrs.frozen
class Pattern:
    """What a standing grant covers: a tool, on resources whose name matches the glob `resource`.

    `*` and `?` stay within one part of a path, `**` crosses; a host is matched as a whole, with its port.
    """

    tool: str
    resource: str

    def covers(self, facts: CallFacts) -> bool:
        """Return whether the pattern covers the call with all its resources."""
        return fnmatchcase(facts.tool, self.tool) and all(
            _glob_matches(self.resource, each.name) for each in facts.resources
        )

    def __str__(self) -> str:
        return f"{self.tool} {self.resource}"


def _glob_matches(pattern: str, name: str) -> bool:
    parts, names = pattern.split("/"), name.split("/")
    if parts[-1] == "**" and len(names) >= len(parts):
        parts, names = parts[:-1], names[: len(parts) - 1]
    return len(parts) == len(names) and all(fnmatchcase(each, part) for each, part in zip(names, parts, strict=True))


def pattern_for(facts: CallFacts) -> Pattern | None:
    """Return what a standing grant of this call would cover: its tool, in the folder or on the host that it names.

    None when it names several folders, or starts a program: what covers that would cover more than was asked for.
    """
    if facts.program is not None:
        return None
    reaches = {_reach(each) for each in facts.resources}
    return Pattern(facts.tool, reaches.pop()) if len(reaches) == 1 else None


def _reach(resource: Resource) -> str:
    if not isinstance(resource, PathResource):
        return glob.escape(resource.name)
    folder, slash, _ = resource.path.rpartition("/")
    return f"{glob.escape(folder)}{slash}*"


def binding(subject: Subject, facts: CallFacts, preview: str, changes: object) -> str:
    """Return the digest of all that a person approves: should any of it differ afterwards, it is another call."""
    return digest(
        canonical_json(
            {
                "session": subject.session_id,
                "tool": facts.tool,
                "action": facts.action,
                "arguments": facts.arguments_digest,
                "resources": [[type(each).__name__, attrs.asdict(each)] for each in facts.resources],
                "workspace": facts.workspace,
                "sandbox_tier": facts.sandbox_tier,
                "program": None if facts.program is None else attrs.asdict(facts.program),
                "preview": preview,
                "changes": changes,
            }
        )
    )
