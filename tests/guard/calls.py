"""Calls to put before an engine: made by action, each with a resource of its kind."""

import attrs

from palyra_trio.core.policy import (
    Action,
    CallFacts,
    HostResource,
    PathResource,
    ProgramFacts,
    Resource,
    Risk,
    SecretResource,
    Subject,
    ToolResource,
)

TOOLS: dict[Action, str] = {
    "fs.read": "files.read",
    "fs.write": "files.write",
    "fs.delete": "files.delete",
    "net.fetch": "fetch",
    "process.exec": "process.run",
    "secret.use": "secrets.use",
    "run.local": "clock.now",
}
RISKS: dict[Action, Risk] = {"fs.read": "low", "run.local": "low", "process.exec": "high", "fs.delete": "high"}
SUBJECT = Subject("01HSESSION", "user:alice", "main")
TAINTED = attrs.evolve(SUBJECT, tainted=True)
INSIDE = PathResource("notes/today.md")
HOST = HostResource("example.com", 443, "https", "GET", "public")
REACHED = attrs.evolve(HOST, scheme="tcp", method="CONNECT")
PROGRAM = ProgramFacts("/usr/bin/ls", 1, opaque=False, network=False, cwd_inside=True)
RESOURCES: dict[Action, Resource] = {
    "fs.read": INSIDE,
    "fs.write": INSIDE,
    "fs.delete": INSIDE,
    "net.fetch": HOST,
    "process.exec": ToolResource("process.run"),
    "secret.use": SecretResource("github"),
    "run.local": ToolResource("clock.now"),
}


def call(
    action: Action,
    *resources: Resource,
    tool: str = "",
    risk: Risk | None = None,
    workspace: str = "/home/alice/work",
    sandbox_tier: int = 0,
    program: ProgramFacts | None = None,
    now_s: int = 1_760_000_000,
) -> CallFacts:
    """Return a call of `action`; what is not said is what is usual for it."""
    return CallFacts(
        tool=tool or TOOLS[action],
        action=action,
        risk=risk or RISKS.get(action, "medium"),
        read_only=action in ("fs.read", "run.local"),
        resources=resources or (RESOURCES[action],),
        arguments_digest="5e" * 32,
        workspace=workspace,
        sandbox_tier=sandbox_tier,
        program=program if program is not None or action != "process.exec" else PROGRAM,
        calls_left=10,
        now_s=now_s,
    )
