"""What people say of whole tools, written as Cedar: postures (`tools allow|ask|disable`) and the configuration's lists.

A posture adds one policy to the set. `disable` beats `ask` and `ask` beats `allow`, whatever their scopes, and no
`allow` beats a `forbid` of another file: what always asks goes on asking. The managed file holds nothing but postures,
so that it can be read back; what a person writes by hand belongs into a file of its own.
"""

import re
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Literal, get_args
from urllib.parse import quote, unquote

import attrs

from palyra_trio.core.errors import ConfigInvalid, InvalidArgument
from palyra_trio.core.policy import PolicyRules
from palyra_trio.guard.policy_text import ID_CHARACTERS, PolicySource, quoted, statements, written

FILE_NAME = "posture.cedar"
CONFIG_NAME = "config"
TOOL_CHARACTERS = 128
UNTIL_S_MAX = 253_402_300_799  # the last second of the year 9999

PostureVerdict = Literal["allow", "ask", "disable"]
Scope = Literal["global", "workspace", "agent", "session"]

_HEAD = "// Written by `palyra-trio tools allow|ask|disable`. Put policies of your own into another file beside it.\n"
_ID = re.compile(r'@id\("posture:([^"\\]*)"\)')
_SAFE = " /!#$&'()*+,;=@~^[]{}|<>.-_"  # what stays readable in an id; a colon parts its fields
_PERMITTED = ("fs.read", "fs.write", "fs.delete", "net.fetch", "process.exec", "run.local")
_SAYS: dict[PostureVerdict, str] = {"allow": "is allowed", "ask": "is asked for", "disable": "is disabled"}
_IN_SCOPE: dict[Scope, str] = {
    "workspace": "context.common.workspace == {}",
    "agent": "principal.agent == {}",
    "session": "principal == Daemon::Session::{}",
}


@attrs.frozen
class Posture:
    """What holds for the tools that `tool` names: one, or several by `*`, which stands for any text.

    `name` says which workspace (absolute path), agent or session the scope is; it is empty for `global`. `until_s` is
    Unix time, None means for ever. Raises InvalidArgument for what cannot be meant.
    """

    tool: str
    verdict: PostureVerdict
    scope: Scope = "global"
    name: str = ""
    until_s: int | None = None

    def __attrs_post_init__(self) -> None:
        _check_pattern(self.tool)
        if self.verdict not in get_args(PostureVerdict) or self.scope not in get_args(Scope):
            raise InvalidArgument(f"there is no posture {self.verdict!r} for {self.scope!r}")
        if (self.scope == "global") is bool(self.name):
            raise InvalidArgument(f"the scope {self.scope} {'takes no name' if self.name else 'needs a name'}")
        if self.until_s is not None and not 0 <= self.until_s <= UNTIL_S_MAX:
            raise InvalidArgument(f"until_s is Unix time, not {self.until_s}")
        _check_utf8(self.name)
        if len(self.id) > ID_CHARACTERS:
            raise InvalidArgument(f"the name of the {self.scope} is too long: {self.name[:40]}…")

    @property
    def key(self) -> tuple[str, Scope, str]:
        """What it is about; another posture with the same key takes its place."""
        return self.tool, self.scope, self.name

    @property
    def id(self) -> str:
        """The id of its policy: all that there is to it, with a colon between."""
        fields = [self.verdict, self.scope, *([self.name] if self.name else []), self.tool]
        if self.until_s is not None:
            fields.append(str(self.until_s))
        return ":".join(["posture", *(_encoded(each) for each in fields)])


def with_posture(postures: Iterable[Posture], new: Posture) -> tuple[Posture, ...]:
    """Return `postures` with `new` in them, in place of one with the same key."""
    return (*(each for each in postures if each.key != new.key), new)


def without_posture(
    postures: Iterable[Posture], tool: str, scope: Scope = "global", name: str = ""
) -> tuple[Posture, ...]:
    """Return `postures` without the one for this tool (as it was written) and scope, if there is one."""
    return tuple(each for each in postures if each.key != (tool, scope, name))


def in_force(postures: Iterable[Posture], now_s: float) -> tuple[Posture, ...]:
    """Return those that have not run out; the policies of the others no longer match anything."""
    return tuple(each for each in postures if each.until_s is None or now_s < each.until_s)


def posture_file(postures: Iterable[Posture]) -> PolicySource:
    """Return the managed file that says `postures`, of which no two may have the same key."""
    return PolicySource(FILE_NAME, "\n".join([_HEAD, *map(_policy, postures)]))


def parse_postures(text: str) -> tuple[Posture, ...]:
    """Return the postures that a managed file says. Raises ConfigInvalid when it is not as `posture_file` writes it."""
    try:
        postures = tuple(_parse_id(found[1]) for each in statements(text) if (found := _ID.match(each.text)))
    except (InvalidArgument, LookupError, ValueError):
        postures = ()
    if text.strip() and posture_file(postures).text != text:
        raise ConfigInvalid(
            f"{FILE_NAME} was changed by hand",
            remedy="move what you wrote to another file beside it, or delete the file",
        )
    return postures


def config_policies(rules: PolicyRules) -> PolicySource:
    """Return the policies that the configuration's lists of tools stand for. Raises ConfigInvalid for a wrong name."""
    verdicts: tuple[tuple[PostureVerdict, str, tuple[str, ...]], ...] = (
        ("allow", "allow", rules.allow),
        ("ask", "ask", rules.ask),
        ("disable", "deny", rules.deny),
    )
    policies = []
    for verdict, key, tools in verdicts:
        for tool in dict.fromkeys(tools):
            try:
                _check_pattern(tool)
            except InvalidArgument as error:
                raise ConfigInvalid(f"policy.{key}: {error.message}", remedy=error.remedy) from error
            words = f"{tool} {_SAYS[verdict]} by the configuration"
            policies.append(_rule(verdict, f"config:{key}:{_encoded(tool)}", words, [_matches(tool)]))
    return PolicySource(CONFIG_NAME, "\n".join(policies))


def _policy(posture: Posture) -> str:
    conditions = [_matches(posture.tool)]
    words = f"{posture.tool} {_SAYS[posture.verdict]}"
    if posture.name:
        words += f" for the {posture.scope} {posture.name}"
        conditions.append(_IN_SCOPE[posture.scope].format(quoted(posture.name)))
    if posture.until_s is not None:
        conditions.append(f"context.common.now_s < {posture.until_s}")
        words += f" until {_utc(posture.until_s)}"
    return _rule(posture.verdict, posture.id, words, conditions)


def _rule(verdict: PostureVerdict, identity: str, reason: str, conditions: Iterable[str]) -> str:
    when = " && ".join(conditions)
    if verdict == "allow":
        return written("permit", identity, reason, actions=_PERMITTED, when=when)
    return written("forbid", identity, reason, when=when, unless="context.common.approved" if verdict == "ask" else "")


def _matches(tool: str) -> str:
    return f"context.common.tool.name {'like' if '*' in tool else '=='} {quoted(tool)}"


def _check_pattern(tool: str) -> None:
    if not tool or len(tool) > TOOL_CHARACTERS or not tool.isprintable() or not tool.isascii():
        raise InvalidArgument(f"a tool's name has 1 to {TOOL_CHARACTERS} visible ASCII characters, not {tool!r}")
    if set(tool) & set("?[]"):
        raise InvalidArgument(f"{tool!r} is no pattern of tools", remedy="only * stands for other characters")


def _check_utf8(name: str) -> None:
    try:
        name.encode()
    except UnicodeEncodeError as error:
        raise InvalidArgument(f"{name!r} is no UTF-8 text") from error


def _parse_id(fields: str) -> Posture:
    verdict, scope, *rest = map(unquote, fields.split(":"))
    name = "" if scope == "global" else rest.pop(0)
    tool, *until = rest
    return Posture(tool, verdict, scope, name, int(until[0]) if until else None)  # type: ignore[arg-type]


def _encoded(text: str) -> str:
    return quote(text, safe=_SAFE)


def _utc(moment_s: int) -> str:
    return datetime.fromtimestamp(moment_s, UTC).strftime("%Y-%m-%d %H:%M UTC")
