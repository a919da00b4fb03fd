"""When a read must be asked for: decided in the plan, and checked again on what is really opened."""

from palyra_trio.core.errors import StateConflict
from palyra_trio.tools.registry import Plan
from palyra_trio.tools.workspace import Found, Workspace
from palyra_trio.tools.workspace_rules import sensitive


def plan_read(workspace: Workspace, path: str) -> Plan:
    """Return what reading `path` would be. Costs a system call or four. Raises as Workspace.stat does."""
    why = why_ask(workspace.relative(path), workspace.stat(path))
    return Plan(sensitive=why) if why else Plan()


def why_ask(path: str, found: Found) -> str:
    """Return why reading what was found at `path` (as Workspace.relative spells it) is asked for, or ""."""
    if why := sensitive(path) or sensitive(found.path):
        return why if path == found.path else f"{path} leads to {found.path}: {why}"
    if found.kind == "file" and found.links > 1:
        return f"{found.path} is a hard link: its content may belong outside the workspace"
    return ""


def check_asked(path: str, found: Found, plan: Plan) -> None:
    """Raise StateConflict when `path` now leads to what would have been asked for, and was not."""
    if not plan.sensitive and (why := why_ask(path, found)):
        raise StateConflict(f"{path} has changed since it was planned: {why}", remedy="call again, to be asked")
