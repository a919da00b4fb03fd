"""A path pattern of a Claude-style permission rule as a Cedar condition on `resource.path`.

The patterns are those of .gitignore, Cedar's `like` has one wildcard that crosses folders. So there are two readings:
`at_most` matches nothing that the pattern would not, and is None where that cannot be said; `at_least` matches
everything that the pattern could. Paths are compared as the daemon shows them: relative inside the workspace.
"""

import re
from collections.abc import Iterable

from palyra_trio.guard.policy_text import literal_in_pattern, quoted

EVERYTHING = "true"
_ALL = frozenset(("", ".", "*", "**", "**/*"))
_ODD = set("?[]{}!\\")
_UNREADABLE = set("{}!\\")


def is_outside(pattern: str) -> bool:
    """Return whether the pattern is of the whole file system (`//etc`) or of the home folder (`~/x`)."""
    return pattern.startswith(("//", "~"))


def at_most(pattern: str) -> str | None:
    """Return a condition that is true only for paths of the workspace that the pattern matches, or None."""
    if is_outside(pattern) or ("*" in pattern and pattern.endswith("/")):
        return None
    pattern = _beneath(pattern)
    if pattern in _ALL:
        return EVERYTHING
    if set(pattern) & _ODD or "" in pattern.split("/"):
        return None
    *folders, last = pattern.split("/")
    anywhere = folders[-1:] == ["**"]
    folder = "".join(f"{each}/" for each in (folders[:-1] if anywhere else folders))
    if "*" in folder:
        return None
    here = literal_in_pattern(folder)
    if last == "**":
        return _like(f"{here}*")
    name = literal_in_pattern(last)
    if "*" not in last:
        one = _is(folder + last)
        return _any([one, _like(f"{here}*/{name}")]) if anywhere else one
    if anywhere:
        rest = literal_in_pattern(last[1:])
        return _like(f"{here}*{rest}") if last.count("*") == 1 and last.startswith("*") else None
    if "**" in last:
        return None
    return f"({_like(here + _starred(last))} && !({_like(here + '*/*')}))"


def at_least(pattern: str, home: str) -> str:
    """Return a condition that is true for every path that the pattern matches, inside the workspace or not.

    `home` is the absolute path of the home folder that `~` means, without links in it.
    """
    if set(pattern) & _UNREADABLE:
        return EVERYTHING
    if is_outside(pattern):
        return _outside(_absolute(pattern, home))
    if _beneath(pattern) in _ALL:
        return EVERYTHING
    anywhere = "/" not in pattern.rstrip("/")
    pattern = _beneath(pattern).removesuffix("/**").rstrip("/")
    wide = _starred(pattern.partition("[")[0] + ("*" if "[" in pattern else ""))
    starts = [wide, f"*/{wide}"] if anywhere else [wide]
    return _any(_like(each + end) for each in starts for end in ("", "/*"))


def searched_from(pattern: str, home: str) -> str:
    """Return a condition that is true for every folder from which a search beneath it may reach what matches.

    Folders that match the pattern themselves are left to `at_least`.
    """
    if set(pattern) & _UNREADABLE:
        return EVERYTHING
    if is_outside(pattern):
        parts = _parts(_absolute(pattern, home))
        above = ["/" + "/".join(parts[:count]) for count in range(len(parts))]
        return _any(f"context.common.workspace == {quoted(each)}" for each in above) if above else EVERYTHING
    plain = _beneath(pattern).removesuffix("/**")
    if "/" not in pattern or set(plain) & _ODD or "*" in plain:
        return EVERYTHING
    parts = plain.split("/")
    return _any(_is(each) for each in (".", "", *("/".join(parts[:count]) for count in range(1, len(parts)))))


def _outside(pattern: str) -> str:
    """Return a condition that is true for all beneath the folder before the first wildcard of an absolute `pattern`.

    A workspace above, at or beneath that folder shows the paths there relative to itself.
    """
    parts = _parts(pattern)
    if not parts:
        return EVERYTHING
    whole = "/" + "/".join(parts)
    found = [_beneath_or_is("resource.path", whole), _beneath_or_is("context.common.workspace", whole)]
    for count in range(len(parts)):
        above = "/" + "/".join(parts[:count])
        rest = "/".join(parts[count:])
        found.append(f"(context.common.workspace == {quoted(above)} && {_beneath_or_is('resource.path', rest)})")
    return _any(found)


def _absolute(pattern: str, home: str) -> str:
    return pattern[1:] if pattern.startswith("//") else home + pattern[1:]


def _parts(pattern: str) -> list[str]:
    """Return the folders of an absolute pattern up to its first wildcard; none when they cannot be told."""
    plain = re.split(r"[*?\[]", pattern)[0]
    folder = plain if plain == pattern else plain.rpartition("/")[0]
    parts = [each for each in folder.split("/") if each not in ("", ".")]
    return [] if ".." in parts else parts


def _beneath_or_is(attribute: str, folder: str) -> str:
    return f'({attribute} == {quoted(folder)} || {attribute} like "{literal_in_pattern(folder)}/*")'


def _beneath(pattern: str) -> str:
    """Return the pattern as of the workspace's own folder; a trailing slash means all beneath."""
    pattern = re.sub(r"^(\./|/)+", "", pattern)
    return f"{pattern}**" if pattern.endswith("/") else pattern


def _starred(pattern: str) -> str:
    """Return the inside of a `like` that matches at least what the pattern does."""
    return "*".join(literal_in_pattern(each) for each in re.split(r"(?:\*\*/|\*|\?)+", pattern))


def _is(path: str) -> str:
    return f"resource.path == {quoted(path)}"


def _like(inside: str) -> str:
    return f'resource.path like "{inside}"'


def _any(conditions: Iterable[str]) -> str:
    return f"({' || '.join(conditions)})"
