"""A call that nobody made: described in a few words, completed with what the daemon knows of its tool, and judged.

Nothing is looked up: whether a path exists or leads elsewhere, and what a host's name stands for, is as it is described.
"""

import os.path
from collections.abc import Mapping
from typing import Any, get_args

import attrs
import msgspec

from palyra_trio.core.errors import InvalidArgument, NotFound
from palyra_trio.core.policy import (
    Action,
    Approval,
    CallFacts,
    Decision,
    HostResource,
    IpClass,
    PathResource,
    PolicyEngine,
    ProgramFacts,
    Resource,
    Risk,
    SecretResource,
    Subject,
    ToolResource,
    Verdict,
    decide_tool_call,
)
from palyra_trio.tools.registry import Registry
from palyra_trio.tools.workspace_rules import sensitive

_NEEDS: dict[Action, tuple[str, ...]] = {
    "fs.read": ("path",),
    "fs.write": ("path",),
    "fs.delete": ("path",),
    "net.fetch": ("host",),
    "net.connect": ("host", "program"),
    "secret.use": ("secret",),
    "process.exec": ("program",),
}
_MAY_HAVE: dict[Action, tuple[str, ...]] = {"secret.use": ("host", "program")}


@attrs.frozen
class Hypothetical:
    """Who calls which tool on what. `action` and `risk` are the tool's own where it exists; else they must be given.

    `path` is relative to the workspace or absolute; `inside_workspace` and `sensitive` follow from it unless they are
    given. `now_s` is Unix time. A `secret` goes to `host`, or, without one, to a program that reaches none; `for_tools` and
    `for_hosts` are what it was set for. With a `host` a program is judged for talking to it.
    """

    tool: str
    path: str = ""
    host: str = ""
    secret: str = ""
    for_tools: tuple[str, ...] = ()
    for_hosts: tuple[str, ...] = ()
    program: str = ""
    action: Action | None = None
    risk: Risk | None = None
    inside_workspace: bool | None = None
    exists: bool = False
    sensitive: bool | None = None
    port: int = 443
    scheme: str = "https"
    method: str = "GET"
    ip_class: IpClass = "public"
    argv_length: int = 1
    opaque: bool = False
    network: bool = False
    cwd_inside: bool = True
    sandbox_tier: int = 0
    user: str = "user:someone"
    agent: str = "default"
    session: str = "01HZZZZZZZZZZZZZZZZZZZZZZZ"
    tainted: bool = False
    workspace: str = ""
    calls_left: int = 200
    now_s: int = 0

    def subject(self) -> Subject:
        return Subject(self.session, self.user, self.agent, self.tainted)

    def facts(self, tools: Registry) -> CallFacts:
        """Return the facts of such a call. Raises InvalidArgument where something is missing or does not belong to it."""
        action, risk, read_only = self._kind(tools)
        needed, possible = _NEEDS.get(action, ()), _MAY_HAVE.get(action, ())
        for name in ("path", "host", "secret", "program"):
            if name not in possible and bool(getattr(self, name)) is not (name in needed):
                problem = f"needs a {name}" if name in needed else f"has no {name}"
                raise InvalidArgument(f"{self.tool} ({action}) {problem}")
        program = None
        if self.program:
            network = self.network or bool(self.host)
            program = ProgramFacts(self.program, self.argv_length, self.opaque, network, self.cwd_inside)
        return CallFacts(
            tool=self.tool,
            action=action,
            risk=risk,
            read_only=read_only,
            resources=(self._resource(action),),
            arguments_digest="",
            workspace=self.workspace,
            sandbox_tier=self.sandbox_tier,
            program=program,
            calls_left=self.calls_left,
            now_s=self.now_s,
        )

    def _kind(self, tools: Registry) -> tuple[Action, Risk, bool]:
        try:
            spec = tools.get(self.tool).spec
        except NotFound as error:
            if self.action is None or self.risk is None:
                raise InvalidArgument(
                    f"there is no tool {self.tool!r}", remedy="say what one it would be: an action and a risk"
                ) from error
            return self.action, self.risk, self.action in ("fs.read", "run.local")
        return self.action or self._on_a_resource(spec.capability), self.risk or spec.risk, spec.read_only

    def _on_a_resource(self, capability: Action) -> Action:
        """Return what is done to the resource that is judged, of those that a call of this kind may have several of."""
        if self.secret and capability in ("net.fetch", "process.exec"):
            return "secret.use"
        return "net.connect" if self.host and capability == "process.exec" else capability

    def _resource(self, action: Action) -> Resource:
        if self.path:
            path, inside = self._place()
            why = sensitive(path, writing=action != "fs.read")
            if self.sensitive is not None:
                why = (why or "the path is said to be sensitive") if self.sensitive else ""
            return PathResource(path, inside, self.exists, why)
        if self.secret:
            port = self.port if self.host else 0
            return SecretResource(self.secret, self.host, port, self.for_tools, self.for_hosts)
        if self.host and self.program:
            return HostResource(self.host, self.port, "tcp", "CONNECT", self.ip_class)
        if self.host:
            return HostResource(self.host, self.port, self.scheme, self.method, self.ip_class)
        return ToolResource(self.tool)

    def _place(self) -> tuple[str, bool]:
        """Return the path as the gate would name it, and whether it is in the workspace."""
        root = self.workspace or "/workspace"
        path = os.path.normpath(os.path.join(root, self.path))
        inside = path == root or path.startswith(f"{root}/")
        if self.inside_workspace is not None:
            inside = self.inside_workspace
        return (os.path.relpath(path, root) if inside else path), inside


def described(plain: Mapping[str, Any]) -> Hypothetical:
    """Return the call that these values describe, by the names of the class. Raises InvalidArgument."""
    known = {field.name for field in attrs.fields(Hypothetical)}
    if unknown := sorted(plain.keys() - known):
        raise InvalidArgument(
            f"{', '.join(unknown)} says nothing of a call", remedy=f"known are {', '.join(sorted(known))}"
        )
    try:
        return msgspec.convert(dict(plain), Hypothetical)
    except msgspec.ValidationError as error:
        raise InvalidArgument(f"this describes no call: {error}") from error


@attrs.frozen
class Explanation:
    """What is decided of a call, and what each pass over its resource says."""

    facts: CallFacts
    decision: Decision
    passes: tuple[tuple[Approval, Verdict], ...]


def explain(call: Hypothetical, tools: Registry, engine: PolicyEngine) -> Explanation:
    """Judge the call: as if nobody had approved it, as if somebody had for once, and for longer. Raises InvalidArgument."""
    subject, facts = call.subject(), call.facts(tools)
    (resource,) = facts.resources
    approvals: tuple[Approval, ...] = get_args(Approval)
    passes = tuple((each, engine.evaluate(subject, facts, resource, each)) for each in approvals)
    return Explanation(facts, decide_tool_call(subject, facts, engine), passes)
