"""What .gitignore files leave out: a walk over the files that a person means by "the files here".

The rules are git's (gitignore(5)), nested files included, whether or not the folder is a repository; the repository's
own exclude file and the person's global one are not read. `.git` is never walked into.
"""

from collections.abc import Iterator

from pathspec import GitIgnoreSpec

from palyra_trio.core.errors import PalyraError
from palyra_trio.core.text import name_to_text, text_to_name
from palyra_trio.tools.workspace import Entry, Workspace
from palyra_trio.tools.workspace_rules import sensitive

_MAX_GITIGNORE_BYTES = 256 * 1024

_Rules = tuple[tuple[int, GitIgnoreSpec], ...]
"""The .gitignore files on the way down, innermost first, each with the length of its folder's path in bytes."""


def walk(workspace: Workspace, folder: str, depth: int) -> Iterator[Entry]:
    """Yield what is in `folder` and down to `depth` folders, sorted, each folder before what is in it.

    A symlink is yielded, not followed; a folder for secrets is yielded, not entered, unless the walk begins in one.
    A folder that is itself ignored shows all that it holds, for whoever asks for it by name. A folder that cannot be
    read shows nothing, except the first: raises as Workspace.list_dir does.
    """
    entries = workspace.list_dir(folder, follow=False)
    base = text_to_name(workspace.relative(folder))
    rules = _rules_above(workspace, b"" if base == b"." else base)
    yield from _walk(workspace, entries, rules, depth, enter_secrets=bool(sensitive(folder)))


def compile_patterns(lines: list[str]) -> GitIgnoreSpec:
    """Compile with RE2, whose time is linear: a hostile pattern cannot hang the process. Raises ValueError."""
    return GitIgnoreSpec.from_lines(lines, backend="re2")


def _walk(
    workspace: Workspace, entries: list[Entry], rules: _Rules, depth: int, *, enter_secrets: bool
) -> Iterator[Entry]:
    rules = _with_own(workspace, entries, rules)
    for entry in entries:
        if entry.name == ".git" or _ignored(text_to_name(entry.path), entry.kind == "folder", rules):
            continue
        yield entry
        if entry.kind == "folder" and depth > 1 and (enter_secrets or not sensitive(entry.path)):
            try:
                below = workspace.list_dir(entry.path, follow=False)
            except PalyraError:
                continue
            yield from _walk(workspace, below, rules, depth - 1, enter_secrets=enter_secrets)


def _rules_above(workspace: Workspace, folder: bytes) -> _Rules:
    """Return the rules of the folders above `folder`; none when those ignore it."""
    rules: _Rules = ()
    above = b""
    for part in filter(None, folder.split(b"/")):
        rules = _added(workspace, above, rules)
        above = above + b"/" + part if above else part
        if _ignored(above, True, rules):
            return ()
    return rules


def _with_own(workspace: Workspace, entries: list[Entry], rules: _Rules) -> _Rules:
    for entry in entries:
        if entry.name == ".gitignore" and entry.kind == "file":
            return _added(workspace, text_to_name(entry.path)[: -len("/.gitignore")], rules)
    return rules


def _added(workspace: Workspace, folder: bytes, rules: _Rules) -> _Rules:
    path = folder + b"/.gitignore" if folder else b".gitignore"
    try:
        text = workspace.read_bytes(name_to_text(path), _MAX_GITIGNORE_BYTES, follow=False).decode("utf-8", "replace")
    except PalyraError:
        return rules
    lines = [line.removesuffix("\r") for line in text.split("\n")]
    try:
        spec = compile_patterns(lines)
    except ValueError:
        spec = compile_patterns([line for line in lines if _compiles(line)])
    return ((len(folder) + 1 if folder else 0, spec), *rules)


def _compiles(line: str) -> bool:
    try:
        compile_patterns([line])
    except ValueError:
        return False
    return True


def _ignored(path: bytes, is_folder: bool, rules: _Rules) -> bool:
    for skip, spec in rules:
        verdict = spec.check_file(path[skip:].decode("utf-8", "replace") + ("/" if is_folder else "")).include
        if verdict is not None:
            return verdict
    return False
