"""From layers of plain values to a configuration: later layers win, and every fault of all of them is told at once.

Nothing is coerced: "8080" is no number and true is no 1. A project's file that nobody has accepted is a layer that may
only narrow. Reading files and the environment is the loader's part (cli.settings).
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from difflib import get_close_matches
from enum import StrEnum
from typing import Any, get_origin
from urllib.parse import urlsplit

import attrs
import cattrs

from palyra_trio.core.config import Config
from palyra_trio.core.errors import ConfigInvalid, InvalidArgument
from palyra_trio.core.identity import PRINCIPAL_PATTERN, parse_principal
from palyra_trio.core.references import parse_reference

DEFAULT_ORIGIN = "default"
STATE_DIR_VARIABLE = "PALYRA_STATE_DIR"
DEBUG_VARIABLE = "PALYRA_DEBUG"


@attrs.frozen
class Layer:
    """Values by section and key, and where they come from: a file, a variable, the command line.

    One `of_project` is of a file that came with a folder. Even one that was accepted has no say in what is the user's own.
    """

    origin: str
    values: Mapping[str, Any]
    of_project: bool = False


# --- what each key takes ---


_SECTIONS = tuple(section.name for section in attrs.fields(Config))
_TYPES: dict[str, Any] = {
    f"{section}.{key.name}": key.type for section in _SECTIONS for key in attrs.fields(type(getattr(Config(), section)))
}
KEYS = tuple(_TYPES)
_MAY_BE_ZERO = frozenset({"journal.min_free_bytes", "daemon.drain_s", "grpc.port"})
_NUMBER_MAX = 2**53 - 1  # what every JSON reader keeps exact
_SECRET_NAME = re.compile(r"(?i)(key|token|secret|password|authorization)$")
# A command of a project's choice would run outside of every policy, and a key of its choice leave for its base URL.
_OF_THE_USER = frozenset({"notify", "sandbox", "model.api_key"})
_TOOL_PATTERN = r"^[A-Za-z0-9_.:/-]*\*?$"
TOOL_PATTERNS_MAX = 200  # each is a policy; a project may add some, and more would hold up who decides
_LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})
_VARIABLE_PATTERN = "^[A-Za-z_][A-Za-z0-9_]*$"
_FOLDER_PATTERN = "^/"


def _whole_number(value: Any, _: Any) -> int:
    if type(value) is not int:
        raise ValueError(f"expected a whole number, not {value!r}")
    return value


def _true_or_false(value: Any, _: Any) -> bool:
    if type(value) is not bool:
        raise ValueError(f"expected true or false, not {value!r}")
    return value


def _text(value: Any, _: Any) -> str:
    if not isinstance(value, str):
        raise ValueError(f"expected a text, not {value!r}")
    return value


def _is_list(kind: Any) -> bool:
    return get_origin(kind) is tuple


def _is_choice(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, StrEnum)


def _choice(value: Any, kind: type[StrEnum]) -> StrEnum:
    if value not in list(kind):
        raise ValueError(f"expected one of {', '.join(kind)}, not {value!r}{_meant(value, kind)}")
    return kind(value)


def _texts(value: Any, _: Any) -> tuple[str, ...]:
    if not isinstance(value, (list, tuple)) or not all(isinstance(item, str) for item in value):
        raise ValueError(f"expected a list of texts, not {value!r}")
    return tuple(value)


def _is_table(kind: Any) -> bool:
    return get_origin(kind) is Mapping


def _folders(value: Any, _: Any) -> dict[str, tuple[str, ...]]:
    if not isinstance(value, Mapping):
        raise ValueError(f'expected a table such as {{ "user:alice" = ["/srv/alice"] }}, not {value!r}')
    for principal, folders in value.items():
        try:
            parse_principal(principal)
        except InvalidArgument as error:
            raise ValueError(str(error)) from error
        if not isinstance(folders, (list, tuple)):
            raise ValueError(f"expected a list of folders for {principal}, not {folders!r}")
        for folder in folders:
            if not isinstance(folder, str) or not re.search(_FOLDER_PATTERN, folder) or "\0" in folder:
                raise ValueError(f"expected absolute paths for {principal}, not {folder!r}")
    return {principal: tuple(folders) for principal, folders in value.items()}


def _converter() -> cattrs.Converter:
    converter = cattrs.Converter(forbid_extra_keys=True)
    converter.register_structure_hook(int, _whole_number)
    converter.register_structure_hook(bool, _true_or_false)
    converter.register_structure_hook(str, _text)
    converter.register_structure_hook_func(_is_list, _texts)
    converter.register_structure_hook_func(_is_table, _folders)
    for kind in filter(_is_choice, _TYPES.values()):
        converter.register_structure_hook(kind, _choice)
    return converter


_CONVERTER = _converter()


def _check_range(key: str, value: int) -> None:
    least = 0 if key in _MAY_BE_ZERO else 1
    if not least <= value <= _NUMBER_MAX:
        raise ValueError(f"expected {least} or more, not {value}" if value < least else f"{value} is too large")


def _check_model_name(value: str) -> None:
    provider, slash, model = value.partition("/")
    if value and not (provider and slash and model):
        raise ValueError(f"expected provider/model, such as openai/NAME, not {value!r}")


def _check_base_url(value: str) -> None:
    if not value:
        return
    url = urlsplit(value)
    if url.scheme not in ("http", "https") or not url.hostname or url.port == 0:
        raise ValueError(f"expected http://HOST… or https://HOST…, not {value!r}")
    if "@" in url.netloc:
        raise ValueError("a user or password does not belong in the address")


def _check_tool_patterns(value: tuple[str, ...]) -> None:
    if len(value) > TOOL_PATTERNS_MAX:
        raise ValueError(f"expected at most {TOOL_PATTERNS_MAX} names of tools, not {len(value)}")
    for item in value:
        if not item or not re.search(_TOOL_PATTERN, item):
            raise ValueError(f"expected names of tools, * only at their end, not {item!r}")


def _check_command(value: tuple[str, ...]) -> None:
    if any("\0" in word for word in value):
        raise ValueError("a command cannot hold the character 0")
    if value and (not value[0] or ("/" in value[0] and not value[0].startswith("/"))):
        raise ValueError(f"expected a program's name, or its absolute path, not {value[0]!r}")


def _check_webhook_url(value: str) -> None:
    _check_base_url(value)
    url = urlsplit(value)
    if url.scheme == "http" and url.hostname not in _LOOPBACK:
        raise ValueError(f"expected https://HOST…, or http:// to this machine, not {value!r}")


def _check_variable(value: str) -> None:
    if value and not re.search(_VARIABLE_PATTERN, value):
        raise ValueError("expected the name of a variable of the environment, not what it holds")


def _check_folders(value: tuple[str, ...]) -> None:
    for folder in value:
        if not re.search(_FOLDER_PATTERN, folder):
            raise ValueError(f"expected absolute paths of folders, not {folder!r}")


def _check_reference(value: str) -> None:
    if value:
        try:
            parse_reference(value)
        except InvalidArgument as error:
            raise ValueError(str(error)) from error


_CHECKS: dict[str, Callable[[Any], None]] = {
    "model.name": _check_model_name,
    "model.base_url": _check_base_url,
    "model.api_key": _check_reference,
    **dict.fromkeys(("policy.allow", "policy.ask", "policy.deny"), _check_tool_patterns),
    "notify.command": _check_command,
    "notify.webhook_url": _check_webhook_url,
    "notify.webhook_secret_env": _check_variable,
    **dict.fromkeys(("sandbox.read_only", "sandbox.path"), _check_folders),
}


def _checked(key: str, value: Any) -> Any:
    """Return the value as the tree holds it. Raises ValueError saying what was expected."""
    typed = _CONVERTER.structure(value, _TYPES[key])
    if isinstance(typed, int) and not isinstance(typed, bool):
        _check_range(key, typed)
    elif key in _CHECKS:
        _CHECKS[key](typed)
    return typed


def _meant(word: Any, known: Iterable[str]) -> str:
    close = get_close_matches(str(word), list(known), n=1)
    return f"; did you mean {close[0]}?" if close else ""


def _unknown_key(section: str, key: str) -> str:
    keys = [known.partition(".")[2] for known in KEYS if known.startswith(f"{section}.")]
    if _SECRET_NAME.search(key):
        return "secrets do not belong in files; set OPENAI_API_KEY in the environment, or model.api_key to a reference"
    return f"there is no such key{_meant(key, keys) or f'; {section} has ' + ', '.join(keys)}"


def _spell(*names: str) -> str:
    return ".".join(name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else repr(name) for name in names)


def faults(layer: Layer) -> list[str]:
    """Return every fault of a layer as `ORIGIN: section.key: what is wrong`; an empty list if there is none."""
    found = []
    for section, body in layer.values.items():
        if section not in _SECTIONS:
            found.append(f"{_spell(section)}: there is no such section{_meant(section, _SECTIONS)}")
        elif not isinstance(body, Mapping):
            found.append(f"{section}: expected a table, not {body!r}")
        elif layer.of_project and section in _OF_THE_USER:
            found.append(f"{section}: only your own configuration may say this, no project's")
        else:
            for key, value in body.items():
                if f"{section}.{key}" not in _TYPES:
                    found.append(f"{_spell(section, key)}: {_unknown_key(section, key)}")
                    continue
                if layer.of_project and f"{section}.{key}" in _OF_THE_USER:
                    found.append(f"{section}.{key}: only your own configuration may say this, no project's")
                    continue
                try:
                    _checked(f"{section}.{key}", value)
                except ValueError as error:
                    found.append(f"{section}.{key}: {error}")
    return [f"{layer.origin}: {fault}" for fault in found]


def refuse(found: Sequence[str]) -> None:
    """Raise ConfigInvalid with one line for each fault; return if there is none."""
    if found:
        count = "1 fault" if len(found) == 1 else f"{len(found)} faults"
        raise ConfigInvalid(f"{count} in the configuration:\n" + "\n".join(f"  {fault}" for fault in found))


def merge(layers: Iterable[Layer]) -> tuple[Config, dict[str, str]]:
    """Return the tree and the origin of each key, `section.key`. A later layer overrides an earlier one, key by key.

    Raises ConfigInvalid with every fault of every layer, those that would have been overridden too.
    """
    layers = tuple(layers)
    refuse([fault for layer in layers for fault in faults(layer)])
    values: dict[str, dict[str, Any]] = {}
    origins = dict.fromkeys(KEYS, DEFAULT_ORIGIN)
    for layer in layers:
        for section, body in layer.values.items():
            values.setdefault(section, {}).update(body)
            origins.update({f"{section}.{key}": layer.origin for key in body})
    return _CONVERTER.structure(values, Config), origins


def value_of(config: Config, key: str) -> Any:
    """Return the value of `section.key`, one of KEYS."""
    section, _, name = key.partition(".")
    return getattr(getattr(config, section), name)


# --- the environment as layers ---

_SHORT_CUTS = {"PALYRA_MODEL": "model.name"}
_VARIABLES = _SHORT_CUTS | {f"PALYRA_{key.upper().replace('.', '__')}": key for key in KEYS}


def environment_layers(environ: Mapping[str, str]) -> tuple[list[Layer], list[str]]:
    """Return one layer for each `PALYRA_SECTION__KEY` that is set and not empty, and the faults of unknown names.

    Numbers are decimal digits, lists are separated by commas. Other variables are not looked at.
    """
    layers, found = [], []
    for name, text in sorted(environ.items()):
        if not name.startswith("PALYRA_") or name in {STATE_DIR_VARIABLE, DEBUG_VARIABLE} or not text:
            continue
        if name not in _VARIABLES:
            found.append(
                f"{name}: there is no such variable{_meant(name, (*_VARIABLES, STATE_DIR_VARIABLE, DEBUG_VARIABLE))}"
            )
            continue
        section, _, key = _VARIABLES[name].partition(".")
        layers.append(Layer(name, {section: {key: _from_text(text, _TYPES[_VARIABLES[name]])}}))
    return layers, found


def _from_text(text: str, kind: Any) -> Any:
    if kind is int and re.fullmatch("[0-9]{1,18}", text):
        return int(text)
    if kind is bool and text in ("true", "false"):
        return text == "true"
    if _is_list(kind):
        return [item.strip() for item in text.split(",")]
    return text


# --- a project's file that nobody has accepted ---

_LOWERED = frozenset(key for key in KEYS if key.startswith(("limits.", "attachments."))) | {"approval.expires_s"}
_ADDED_TO = frozenset({"policy.ask", "policy.deny"})


def narrow(base: Config, project: Layer) -> tuple[Layer, tuple[str, ...]]:
    """Return the part of a faultless layer that only narrows `base`, and the keys that were left out.

    A limit, an attachment bound or an approval's expiry may be lowered; tools may be added to those that ask or are
    denied, and none taken away. Everything else needs trust. A key that says what holds anyway is neither.
    """
    kept: dict[str, dict[str, Any]] = {}
    left_out = []
    for section, body in project.values.items():
        for name, value in body.items():
            key = f"{section}.{name}"
            current, wanted = value_of(base, key), _checked(key, value)
            if key in _ADDED_TO:
                kept.setdefault(section, {})[name] = [*current, *(tool for tool in wanted if tool not in current)]
                if not set(current) <= set(wanted):
                    left_out.append(key)
            elif key in _LOWERED and wanted < current:
                kept.setdefault(section, {})[name] = wanted
            elif wanted != current:
                left_out.append(key)
    return Layer(project.origin, kept), tuple(left_out)


def schema() -> dict[str, Any]:
    """Return the JSON Schema (draft 2020-12) of a configuration file read as an object."""
    sections = {name: {"type": "object", "properties": {}, "additionalProperties": False} for name in _SECTIONS}
    for key, kind in _TYPES.items():
        section, _, name = key.partition(".")
        properties: Any = sections[section]["properties"]
        properties[name] = {**_schema_of(key, kind), "default": value_of(Config(), key)}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "palyra-trio configuration",
        "type": "object",
        "properties": sections,
        "additionalProperties": False,
    }


def _schema_of(key: str, kind: Any) -> dict[str, Any]:
    if kind is bool:
        return {"type": "boolean"}
    if kind is int:
        return {"type": "integer", "minimum": 0 if key in _MAY_BE_ZERO else 1, "maximum": _NUMBER_MAX}
    if kind is str:
        return {"type": "string"}
    if _is_choice(kind):
        return {"enum": list(kind)}
    if _is_table(kind):
        folders = {"type": "array", "items": {"type": "string", "pattern": _FOLDER_PATTERN}}
        return {"type": "object", "propertyNames": {"pattern": PRINCIPAL_PATTERN}, "additionalProperties": folders}
    if key == "notify.command":
        return {"type": "array", "items": {"type": "string"}}
    if key in ("sandbox.read_only", "sandbox.path"):
        return {"type": "array", "items": {"type": "string", "pattern": _FOLDER_PATTERN}}
    tool = {"type": "string", "minLength": 1, "pattern": _TOOL_PATTERN}
    return {"type": "array", "items": tool, "maxItems": TOOL_PATTERNS_MAX}
