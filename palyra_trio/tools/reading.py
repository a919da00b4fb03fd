"""What a read touches, as the gate judges it: decided in the plan, and checked again on what is really opened."""

from palyra_trio.core.errors import StateConflict
from palyra_trio.core.policy import PathResource
from palyra_trio.tools.registry import Plan
from palyra_trio.tools.workspace import Found, Workspace
from palyra_trio.tools.workspace_rules import sensitive


def plan_read(workspace: Workspace, path: str) -> Plan:
    """Return what reading `path` would touch: it, and what it leads to over symlinks. Raises as Workspace.stat does.

    Costs a system call or four.
    """
    asked, found = workspace.relative(path), workspace.stat(path)
    why = why_ask(asked, found)
    paths = dict.fromkeys((asked, found.path))
    return Plan(resources=tuple(PathResource(each, exists=True, sensitive=why) for each in paths))


def why_ask(path: str, found: Found) -> str:
    """Return why reading what was found at `path` (as Workspace.relative spells it) is asked for, or ""."""
    if why := sensitive(path) or sensitive(found.path):
        return why if path == found.path else f"{path} leads to {found.path}: {why}"
    if found.kind == "file" and found.links > 1:
        return f"{found.path} is a hard link: its content may belong outside the workspace"
    return ""


def asked_for(plan: Plan) -> bool:
    """Whether the plan touches a path that is always asked for."""
    return any(isinstance(each, PathResource) and each.sensitive for each in plan.resources)


def check_asked(path: str, found: Found, plan: Plan) -> None:
    """Raise StateConflict when `path` now leads to what the gate did not judge, or not as what it is."""
    why = "" if asked_for(plan) else why_ask(path, found)
    if not why and found.path not in (each.name for each in plan.resources):
        why = f"it leads to {found.path}"
    if why:
        raise StateConflict(f"{path} has changed since it was planned: {why}", remedy="call again, to be asked")
