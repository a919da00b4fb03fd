"""Claude-style permission rules (`{"permissions": {"allow": ["Read(src/**)"], …}}`) as policies of this program.

What cannot be said exactly is never silently dropped and never widened: an `allow` is refused or permits less, a `deny`
or an `ask` covers more, and a note says so each time. The policies only add to a set: its own `forbid`s hold on.
"""

import json
import re
from typing import Any, Literal, get_args

import attrs

from palyra_trio.core.errors import InvalidArgument
from palyra_trio.guard.claude_paths import EVERYTHING, at_least, at_most, is_outside, searched_from
from palyra_trio.guard.policy_text import PolicySource, literal_in_pattern, quoted, written

FILE_NAME = "claude-rules.cedar"
RULE_CHARACTERS = 128  # escaped, it has to fit into an @id

List = Literal["allow", "ask", "deny"]
Outcome = Literal["refused", "narrower", "wider"]

_RULE = re.compile(r"(?P<tool>[A-Za-z][\w*-]*)(?:\((?P<inside>.*)\))?", re.DOTALL)
_DOMAIN = re.compile(r"(\*\.)?[a-z0-9-]+(\.[a-z0-9-]+)*")
_EDITING = {"Edit": "", "Write": "files.write", "MultiEdit": "files.edit", "NotebookEdit": None}
_LOOKING = {"Grep": "files.search", "Glob": "files.list", "LS": "files.list"}
_COMMAND_TEXT = "the text of a command does not say which programs it starts"


@attrs.frozen
class Note:
    """A rule that was not carried over as it stands: `refused` altogether, or as a `narrower` or a `wider` one."""

    rule: str
    list: str
    outcome: Outcome
    reason: str


@attrs.frozen
class ClaudeImport:
    """The policies that the rules became, and what became of those that could not be kept to the letter."""

    source: PolicySource
    notes: tuple[Note, ...]


@attrs.frozen
class _Policy:
    """A rule in Cedar. An empty `when` covers all calls of the actions."""

    actions: tuple[str, ...]
    when: str = ""
    outcome: Outcome | None = None
    reason: str = ""


def import_claude_rules(document: str, home: str) -> ClaudeImport:
    """Return the policies for the rules in `document`, a settings file as JSON. `home` is what `~` means
    in paths: absolute, without links in it.

    Raises InvalidArgument for a document without permission rules.
    """
    settings = _settings(document)
    permissions = settings["permissions"]
    notes = [
        Note(key, "", "refused", "it is no permission rule")
        for key in settings
        if key not in ("permissions", "$schema")
    ]
    policies = []
    for key, rules in permissions.items():
        if key not in get_args(List):
            notes.append(Note(f"permissions.{key}", "", "refused", "it is no list of rules"))
            continue
        for rule in dict.fromkeys(rules):
            policy = _carried(key, rule, home)
            if policy.outcome:
                notes.append(Note(rule, key, policy.outcome, policy.reason))
            if policy.outcome != "refused":
                policies.append(_text(key, rule, policy))
    return ClaudeImport(PolicySource(FILE_NAME, "\n".join(policies)), tuple(notes))


def _settings(document: str) -> dict[str, Any]:
    try:
        settings: dict[str, Any] = json.loads(document, object_pairs_hook=_once_each)
    except (ValueError, RecursionError) as error:
        raise InvalidArgument(f"the rules are no JSON: {error}") from error
    permissions = settings.get("permissions") if isinstance(settings, dict) else None
    if not isinstance(permissions, dict):
        raise InvalidArgument(
            "there are no permissions in it", remedy='it looks like {"permissions": {"allow": [...]}}'
        )
    for key in get_args(List):
        rules = permissions.get(key, [])
        if not isinstance(rules, list) or not all(isinstance(each, str) and _sound(each) for each in rules):
            raise InvalidArgument(f"permissions.{key} is no list of rules of at most {RULE_CHARACTERS} characters")
    return settings


def _once_each(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a key stands there twice")
    return found


def _sound(rule: str) -> bool:
    return len(rule) <= RULE_CHARACTERS and not any("\ud800" <= each <= "\udfff" for each in rule)


def _text(key: List, rule: str, policy: _Policy) -> str:
    permit = key == "allow"
    return written(
        "permit" if permit else "forbid",
        f"claude:{key}:{_visible(rule)}",
        f"the imported rule {key} {rule}",
        actions=policy.actions,
        when=policy.when,
        unless="context.common.approved" if key == "ask" else "",
    )


def _visible(rule: str) -> str:
    return "".join(each if each.isprintable() else f"%{ord(each):x}" for each in rule)


# --- one rule ---


def _carried(key: List, rule: str, home: str) -> _Policy:
    found = _RULE.fullmatch(rule.strip())
    if found is None:
        if key == "allow":
            return _refused("it is no rule: a rule looks like Tool or Tool(what)")
        return _Policy((), "", "wider", "it cannot be read, so it covers every call")
    tool, inside = found["tool"], found["inside"] or ""
    if tool == "Read":
        return _paths(key, ("fs.read",), inside, home)
    if tool in _EDITING:
        return _edits(key, tool, inside, home)
    if tool in _LOOKING:
        return _looks(key, tool, inside)
    if tool == "WebFetch":
        return _fetches(key, inside)
    if tool == "Bash":
        return _programs(key, inside)
    if tool.startswith("mcp__"):
        return _server_tools(key, tool)
    return _refused("there is no such tool here, so there is nothing to " + key)


def _paths(key: List, actions: tuple[str, ...], inside: str, home: str) -> _Policy:
    if key == "allow":
        condition = at_most(inside)
        if condition is None:
            return _refused(
                "Cedar cannot say this pattern exactly" if not is_outside(inside) else "it is outside the workspace"
            )
        when = _both("resource.inside_workspace", condition)
        if inside and "/" not in inside and condition != EVERYTHING:
            return _Policy(actions, when, "narrower", "only in the workspace's own folder, not in those beneath")
        return _Policy(actions, when)
    condition = at_least(inside, home)
    if condition == EVERYTHING:
        return _Policy(
            actions, "", *(("wider", "the pattern cannot be kept, so it covers every path") if inside else ())
        )
    if "fs.read" not in actions:
        return _Policy(actions, condition, "wider", "* crosses folders, and what is beneath counts too")
    searching = _both('context.common.tool.name == "files.search"', searched_from(inside, home))
    return _Policy(actions, f"{condition} || ({searching})", "wider", "a search through a folder above counts too")


def _edits(key: List, tool: str, inside: str, home: str) -> _Policy:
    if key != "allow":
        return _paths(key, ("fs.write", "fs.delete"), inside, home)
    name = _EDITING[tool]
    if name is None:
        return _refused("there is no such tool here")
    policy = _paths(key, ("fs.write",), inside, home)
    return attrs.evolve(policy, when=_both(_named(name), policy.when)) if name else policy


def _looks(key: List, tool: str, inside: str) -> _Policy:
    if key == "allow":
        if inside:
            return _refused("what a search looks at is only known by its folder")
        return _Policy(("fs.read",), _both("resource.inside_workspace", _named(_LOOKING[tool])))
    return _Policy(
        ("fs.read",),
        f"{_named('files.search')} || {_named('files.list')}",
        "wider",
        "it covers all of files.list and files.search",
    )


def _fetches(key: List, inside: str) -> _Policy:
    domain = inside.removeprefix("domain:").lower()
    known = inside.startswith("domain:") and _DOMAIN.fullmatch(domain)
    if key == "allow":
        when = 'resource.method == "GET" && resource.scheme == "https"'
        if not inside or domain == "*":
            return _Policy(("net.fetch",), when, "narrower", "only GET, over https")
        if not known:
            return _refused("it is no domain:NAME")
        return _Policy(("net.fetch",), f"{_host(domain)} && {when}", "narrower", "only GET, over https")
    if not inside:
        return _Policy(("net.fetch",))
    if not known:
        return _Policy(("net.fetch",), "", "wider", "it is no domain:NAME, so it covers every address")
    name = domain.removeprefix("*.")
    spellings = (name, f"*.{name}", f"{name}.", f"*.{name}.")
    return _Policy(("net.fetch",), " || ".join(map(_host, spellings)), "wider", "the domains beneath it count too")


def _programs(key: List, inside: str) -> _Policy:
    if inside in ("", "*"):
        return _Policy(("process.exec",))
    if key == "allow":
        return _refused(_COMMAND_TEXT)
    return _Policy(("process.exec",), "", "wider", f"{_COMMAND_TEXT}, so it covers every program")


def _server_tools(key: List, tool: str) -> _Policy:
    if key == "allow":
        return _refused("tools of MCP servers have other names here")
    words = [literal_in_pattern(each) for each in re.split(r"__|\*", tool.removeprefix("mcp__")) if each]
    when = f'context.common.tool.name like "*{"*".join(words)}*"'
    return _Policy((), when, "wider", "it covers every tool whose name contains these words")


def _refused(reason: str) -> _Policy:
    return _Policy((), "", "refused", reason)


def _named(tool: str) -> str:
    return f"context.common.tool.name == {quoted(tool)}"


def _host(domain: str) -> str:
    return f'resource.host {"like" if "*" in domain else "=="} "{domain}"'


def _both(one: str, other: str) -> str:
    return " && ".join(each for each in (one, other) if each and each != EVERYTHING)
