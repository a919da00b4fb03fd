"""Read the configuration: files, environment, command line, and the list of project files that a person accepted.

The core decides what the values mean; here they are found and read. A project's `palyra.toml` is read once, and what
was read is what is judged, hashed and used, so it cannot change in between. A file that was not accepted with exactly
these bytes may only narrow. Nothing here waits, and nothing imports Trio: `config` and `trust` must start at once.
"""

import hashlib
import json
import os
import stat
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import attrs

from palyra_trio.core.config import Config, Credentials
from palyra_trio.core.config_values import value_of
from palyra_trio.core.errors import ConfigInvalid, NotFound
from palyra_trio.core.layers import (
    STATE_DIR_VARIABLE,
    Layer,
    environment_layers,
    faults,
    merge,
    narrow,
    refuse,
)
from palyra_trio.core.text import visible
from palyra_trio.guard.private_file import replace_private

PROJECT_FILE = "palyra.toml"
POLICIES = "policies"
FILE_BYTES_MAX = 1024 * 1024  # a person's file; more is a mistake or an attack
_APP = "palyra-trio"
_STORE_FILE = "trusted.json"


@attrs.frozen
class ProjectFile:
    """A project's file as it was read. `digest` is the SHA-256 of its bytes in hex.

    `unsafe` says why it cannot be trusted whatever it says (others could change it), or is empty.
    """

    path: Path
    text: str
    layer: Layer
    digest: str
    unsafe: str


@attrs.frozen
class Sources:
    """What was written down apart from any project: the user's file below one, the environment and the flags above it."""

    below: tuple[Layer, ...]
    above: tuple[Layer, ...]
    state_dir: Path

    def with_project(self, project: ProjectFile | None) -> tuple[Config, dict[str, str], tuple[str, ...]]:
        """Return what holds in a project's folder, where each value comes from, and the warnings.

        A project's file that was not accepted, with exactly these bytes, may only narrow.
        """
        if project is None:
            return (*merge([*self.below, *self.above]), ())
        layer, warnings = project.layer, tuple[str, ...]()
        if why := _distrust(project, self.state_dir):
            layer, left_out = narrow(merge(self.below)[0], layer)
            if left_out:
                warnings = (visible(f"{project.path}: ignored {', '.join(left_out)}: {why}"),)
        return (*merge([*self.below, layer, *self.above]), warnings)

    def config_in(self, folder: str) -> Config:
        """Return what holds for a run in `folder`: its project's file is read now. Raises ConfigInvalid."""
        return self.with_project(read_project_file(Path(folder)))[0]


@attrs.frozen
class Settings:
    """All that was configured. `origins` names, for each `section.key`, where its value comes from.

    `config` is what holds in this folder, `base` what holds without a project, for a process that serves others too.
    `policies_dir` holds the user's policies. `files` are the configuration files that were read, lowest precedence first; `warnings` are for stderr.
    """

    config: Config
    base: Config
    origins: dict[str, str]
    credentials: Credentials
    state_dir: Path
    sources: Sources
    files: tuple[str, ...]
    warnings: tuple[str, ...]
    policies_dir: Path


def load_settings(flags: Mapping[str, Any], environ: Mapping[str, str], cwd: Path) -> Settings:
    """Read everything and return what holds. `flags` maps `section.key` to a value of the command line; None is unset.

    Flag > `PALYRA_*` > project > user > default. The user's file is `$XDG_CONFIG_HOME/palyra-trio/config.toml` (XDG
    Base Directory Specification); the project's is the one that `find_project_file` finds from `cwd`, which is the
    workspace. Raises ConfigInvalid with every fault of all of them at once.
    """
    found: list[str] = []
    user, state_dir = _read_user(user_file(environ), found), find_state_dir(environ, cwd)
    project = _read_project(cwd, found)
    from_environment, unknown_variables = environment_layers(environ)
    below = [user] if user else []
    above = [*from_environment, *_flag_layers(flags)]
    wrong = [fault for layer in (*below, *([project.layer] if project else []), *above) for fault in faults(layer)]
    refuse([visible(fault) for fault in (*found, *wrong, *unknown_variables)])

    sources = Sources(tuple(below), tuple(above), state_dir)
    config, origins, warnings = sources.with_project(project)
    files = (*(layer.origin for layer in below), *((project.layer.origin,) if project else ()))
    base = sources.with_project(None)[0]
    policies_dir = user_file(environ).with_name(POLICIES)
    return Settings(config, base, origins, credentials(environ), state_dir, sources, files, warnings, policies_dir)


def credentials(environ: Mapping[str, str]) -> Credentials:
    return Credentials(
        openai_api_key=environ.get("OPENAI_API_KEY", ""),
        openai_base_url=environ.get("OPENAI_BASE_URL", ""),
        anthropic_api_key=environ.get("ANTHROPIC_API_KEY", ""),
        ollama_host=environ.get("OLLAMA_HOST", ""),
    )


def user_file(environ: Mapping[str, str]) -> Path:
    return _xdg(environ, "XDG_CONFIG_HOME", ".config") / "config.toml"


def current_folder() -> Path:
    """Return the current folder. Raises NotFound when it has been deleted."""
    try:
        return Path.cwd()
    except FileNotFoundError:
        raise NotFound("the current folder has been deleted", remedy="cd to one that exists") from None


def find_state_dir(environ: Mapping[str, str], cwd: Path) -> Path:
    """Return `PALYRA_STATE_DIR` (relative to `cwd`), or else `$XDG_STATE_HOME/palyra-trio`. It need not exist."""
    chosen = environ.get(STATE_DIR_VARIABLE)
    return cwd / chosen if chosen else _xdg(environ, "XDG_STATE_HOME", ".local/state")


def _xdg(environ: Mapping[str, str], variable: str, below_home: str) -> Path:
    base = environ.get(variable, "")
    if os.path.isabs(base):  # the specification: a relative path is invalid and ignored
        return Path(base, _APP)
    if not environ.get("HOME"):
        raise ConfigInvalid(f"neither {variable} nor HOME is set", remedy="set HOME to your home folder")
    return Path(environ["HOME"], below_home, _APP)


def _flag_layers(flags: Mapping[str, Any]) -> list[Layer]:
    set_flags = [(key.partition("."), value) for key, value in flags.items() if value is not None]
    return [Layer("command line", {section: {name: value}}) for (section, _, name), value in set_flags]


# --- files ---


def find_project_file(start: Path) -> Path | None:
    """Return the nearest `palyra.toml`: in `start`, or in its parents up to the root of the git work tree it is in.

    Outside a git work tree only `start` itself is looked at, so no file further up can speak for a folder by accident.
    """
    start = start.resolve()
    root = next((folder for folder in (start, *start.parents) if os.path.exists(folder / ".git")), start)
    for folder in (start, *start.parents):
        if os.path.lexists(folder / PROJECT_FILE):
            return folder / PROJECT_FILE
        if folder == root:
            return None
    return None


def read_project_file(folder: Path) -> ProjectFile | None:
    """Return the project's file as `find_project_file` finds it from `folder`, or None.

    Raises ConfigInvalid when it cannot be read or is not TOML, or when any of its keys is wrong.
    """
    found: list[str] = []
    project = _read_project(folder, found)
    wrong = faults(project.layer) if project else []
    refuse([visible(fault) for fault in (*found, *wrong)])
    return project


def _read_project(folder: Path, found: list[str]) -> ProjectFile | None:
    path = find_project_file(folder)
    read = _read(path, found) if path else None
    if path is None or read is None:
        return None
    raw, status = read
    layer = Layer(str(path), _parse(path, raw, found), of_project=True)
    return ProjectFile(
        path, raw.decode("utf-8", "replace"), layer, hashlib.sha256(raw).hexdigest(), _unsafe(path, status)
    )


def _read_user(path: Path, found: list[str]) -> Layer | None:
    read = _read(path, found)
    return Layer(str(path), _parse(path, read[0], found)) if read else None


def _read(path: Path, found: list[str]) -> tuple[bytes, os.stat_result] | None:
    """Return a file's bytes and its status, or None when there is no such file; note a fault when it is unreadable."""
    try:
        with open(path, "rb", opener=_open_without_waiting) as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                found.append(f"{path}: is not a regular file")
                return None
            raw = file.read(FILE_BYTES_MAX + 1)
    except FileNotFoundError:
        return None
    except OSError as error:
        found.append(f"{path}: cannot be read: {error.strerror}")
        return None
    if len(raw) > FILE_BYTES_MAX:
        found.append(f"{path}: is larger than {FILE_BYTES_MAX} bytes")
        return None
    return raw, status


def _open_without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK)  # opening a FIFO would wait for its writer


def _parse(path: Path, raw: bytes, found: list[str]) -> dict[str, Any]:
    try:
        return tomllib.loads(raw.decode())
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        found.append(f"{path}: line {line} is not UTF-8")
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        found.append(f"{path}: is not TOML: {error}")
    return {}


# --- trust ---


def _unsafe(path: Path, status: os.stat_result) -> str:
    if path.is_symlink():
        return "it is a symbolic link"
    if status.st_uid != os.geteuid():
        return "it belongs to another user"
    if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        return "others may write to it; chmod go-w it first"
    return ""


def _distrust(project: ProjectFile, state_dir: Path) -> str:
    """Return why the file may only narrow, or ""."""
    if project.unsafe:
        return f"the file cannot be trusted: {project.unsafe}"
    accepted = trusted_files(state_dir).get(str(project.path))
    if accepted == project.digest:
        return ""
    state = "has changed since it was trusted" if accepted else "is not trusted"
    return f"the file {state} (to look at it and accept it: palyra-trio trust {project.path.parent})"


def widenings(project: ProjectFile, environ: Mapping[str, str]) -> list[str]:
    """Return what the file would change only when trusted, as `section.key = value (now value)`, over the user's file."""
    found: list[str] = []
    user = _read_user(user_file(environ), found)
    refuse(found)
    base, _ = merge([user] if user else [])
    _, left_out = narrow(base, project.layer)
    trusted, _ = merge([*([user] if user else []), project.layer])
    return [f"{key} = {json.dumps(value_of(trusted, key))} (now {json.dumps(value_of(base, key))})" for key in left_out]


def trust_state(path: Path, digest: str) -> Literal["current", "changed", "missing"]:
    """Return how an accepted file is now: an unreadable one counts as changed."""
    found: list[str] = []
    read = _read(path, found)
    if read is None:
        return "changed" if found else "missing"
    return "current" if hashlib.sha256(read[0]).hexdigest() == digest and not _unsafe(path, read[1]) else "changed"


def trusted_files(state_dir: Path) -> dict[str, str]:
    """Return the accepted project files: absolute path to SHA-256. Raises ConfigInvalid when the list is damaged."""
    path = state_dir / _STORE_FILE
    found: list[str] = []
    read = _read(path, found)
    if read is None:
        refuse(found)
        return {}
    raw, status = read
    if unsafe := _unsafe(path, status):
        raise ConfigInvalid(f"{path}: the list of trusted files is not safe: {unsafe}", remedy="restore or delete it")
    try:
        listed = json.loads(raw)
        return {str(file): str(digest) for file, digest in listed.items()}
    except (ValueError, AttributeError) as error:
        raise ConfigInvalid(f"{path}: the list of trusted files is damaged: {error}", remedy="delete it") from error


def set_trust(state_dir: Path, path: Path, digest: str | None) -> bool:
    """Accept `path` with `digest`, or forget it (None); return whether it was listed before.

    The list is replaced as a whole, mode 0600: a crash leaves the old one or the new one.
    """
    listed = trusted_files(state_dir)
    known = listed.pop(str(path), None) is not None
    if digest is not None:
        listed[str(path)] = digest
    state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    replace_private(state_dir / _STORE_FILE, json.dumps(listed, indent=2, sort_keys=True).encode())
    return known
