"""What each key of the configuration takes: its type, its range, its pattern, and the JSON Schema that says the same.

Nothing is coerced: "8080" is no number and true is no 1. Where values come from, and which one wins, is in `core.layers`.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from difflib import get_close_matches
from enum import StrEnum
from ipaddress import ip_address
from typing import Any, get_origin
from urllib.parse import urlsplit

import attrs
import cattrs

from palyra_trio.core.config import Config
from palyra_trio.core.errors import InvalidArgument
from palyra_trio.core.identity import PRINCIPAL_PATTERN, parse_principal
from palyra_trio.core.references import parse_reference

SECTIONS = tuple(section.name for section in attrs.fields(Config))
TYPES: dict[str, Any] = {
    f"{section}.{key.name}": key.type for section in SECTIONS for key in attrs.fields(type(getattr(Config(), section)))
}
KEYS = tuple(TYPES)
_MAY_BE_ZERO = frozenset({"journal.min_free_bytes", "daemon.drain_s", "grpc.port", "http.port", "quic.port"})
_NUMBER_MAX = 2**53 - 1  # what every JSON reader keeps exact
_TOOL_PATTERN = r"^[A-Za-z0-9_.:/-]*\*?$"
TOOL_PATTERNS_MAX = 200  # each is a policy; a project may add some, and more would hold up who decides
_LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})
_VARIABLE_PATTERN = "^[A-Za-z_][A-Za-z0-9_]*$"
_FOLDER_PATTERN = "^/"
_HOST_PATTERN = r"^[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?$"
_IPV6_PATTERN = "^[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*$"


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


def is_list(kind: Any) -> bool:
    return get_origin(kind) is tuple


def _is_choice(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, StrEnum)


def _choice(value: Any, kind: type[StrEnum]) -> StrEnum:
    if value not in list(kind):
        raise ValueError(f"expected one of {', '.join(kind)}, not {value!r}{meant(value, kind)}")
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
    converter.register_structure_hook_func(is_list, _texts)
    converter.register_structure_hook_func(_is_table, _folders)
    for kind in filter(_is_choice, TYPES.values()):
        converter.register_structure_hook(kind, _choice)
    return converter


CONVERTER = _converter()


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


def _check_private_url(value: str) -> None:
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


def _check_file(value: str) -> None:
    if value and (not value.startswith("/") or "\0" in value):
        raise ValueError(f"expected the absolute path of a file, not {value!r}")


def _check_hosts(value: tuple[str, ...]) -> None:
    for name in value:
        if not re.search(_HOST_PATTERN, name):
            raise ValueError(f"expected names of hosts without a port, not {name!r}")


def _check_names(value: tuple[str, ...]) -> None:
    for name in value:
        try:
            ip_address(name)
        except ValueError:
            if not re.search(_HOST_PATTERN, name):
                raise ValueError(f"expected names or addresses of hosts without a port, not {name!r}") from None


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
    "otel.endpoint": _check_private_url,
    "otel.authorization": _check_reference,
    **dict.fromkeys(("policy.allow", "policy.ask", "policy.deny"), _check_tool_patterns),
    "notify.command": _check_command,
    "notify.webhook_url": _check_private_url,
    "notify.webhook_secret_env": _check_variable,
    **dict.fromkeys(("sandbox.read_only", "sandbox.path"), _check_folders),
    "log.file": _check_file,
    "http.names": _check_hosts,
    "quic.names": _check_names,
}


def checked(key: str, value: Any) -> Any:
    """Return the value as the tree holds it. Raises ValueError saying what was expected."""
    typed = CONVERTER.structure(value, TYPES[key])
    if isinstance(typed, int) and not isinstance(typed, bool):
        _check_range(key, typed)
    elif key in _CHECKS:
        _CHECKS[key](typed)
    return typed


def meant(word: Any, known: Iterable[str]) -> str:
    """Return a hint at the known word that is close to one, or ""."""
    close = get_close_matches(str(word), list(known), n=1)
    return f"; did you mean {close[0]}?" if close else ""


def value_of(config: Config, key: str) -> Any:
    """Return the value of `section.key`, one of KEYS."""
    section, _, name = key.partition(".")
    return getattr(getattr(config, section), name)


def schema() -> dict[str, Any]:
    """Return the JSON Schema (draft 2020-12) of a configuration file read as an object."""
    sections = {name: {"type": "object", "properties": {}, "additionalProperties": False} for name in SECTIONS}
    for key, kind in TYPES.items():
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
    if key in ("http.names", "quic.names"):
        pattern = _HOST_PATTERN if key == "http.names" else f"{_HOST_PATTERN}|{_IPV6_PATTERN}"
        return {"type": "array", "items": {"type": "string", "pattern": pattern}}
    tool = {"type": "string", "minLength": 1, "pattern": _TOOL_PATTERN}
    return {"type": "array", "items": tool, "maxItems": TOOL_PATTERNS_MAX}
