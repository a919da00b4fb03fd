"""From layers of plain values to a configuration: later layers win, and every fault of all of them is told at once.

What a key takes is in `core.config_values`. A project's file that nobody has accepted is a layer that may only narrow.
Reading files and the environment is the loader's part (cli.settings).
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import attrs

from palyra_trio.core.config import Config
from palyra_trio.core.config_values import CONVERTER, KEYS, SECTIONS, TYPES, checked, is_list, meant, value_of
from palyra_trio.core.errors import ConfigInvalid

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


_SECRET_NAME = re.compile(r"(?i)(key|token|secret|password|authorization)$")
# A command of a project's choice would run outside of every policy, and a key of its choice leave for its base URL.
_OF_THE_USER = frozenset({"notify", "sandbox", "http", "quic", "otel", "model.api_key", "log.file"})


def _unknown_key(section: str, key: str) -> str:
    keys = [known.partition(".")[2] for known in KEYS if known.startswith(f"{section}.")]
    if _SECRET_NAME.search(key):
        return "secrets do not belong in files; set OPENAI_API_KEY in the environment, or model.api_key to a reference"
    return f"there is no such key{meant(key, keys) or f'; {section} has ' + ', '.join(keys)}"


def _spell(*names: str) -> str:
    return ".".join(name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else repr(name) for name in names)


def faults(layer: Layer) -> list[str]:
    """Return every fault of a layer as `ORIGIN: section.key: what is wrong`; an empty list if there is none."""
    found = []
    for section, body in layer.values.items():
        if section not in SECTIONS:
            found.append(f"{_spell(section)}: there is no such section{meant(section, SECTIONS)}")
        elif not isinstance(body, Mapping):
            found.append(f"{section}: expected a table, not {body!r}")
        elif layer.of_project and section in _OF_THE_USER:
            found.append(f"{section}: only your own configuration may say this, no project's")
        else:
            for key, value in body.items():
                if f"{section}.{key}" not in TYPES:
                    found.append(f"{_spell(section, key)}: {_unknown_key(section, key)}")
                    continue
                if layer.of_project and f"{section}.{key}" in _OF_THE_USER:
                    found.append(f"{section}.{key}: only your own configuration may say this, no project's")
                    continue
                try:
                    checked(f"{section}.{key}", value)
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
    return CONVERTER.structure(values, Config), origins


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
                f"{name}: there is no such variable{meant(name, (*_VARIABLES, STATE_DIR_VARIABLE, DEBUG_VARIABLE))}"
            )
            continue
        section, _, key = _VARIABLES[name].partition(".")
        layers.append(Layer(name, {section: {key: _from_text(text, TYPES[_VARIABLES[name]])}}))
    return layers, found


def _from_text(text: str, kind: Any) -> Any:
    if kind is int and re.fullmatch("[0-9]{1,18}", text):
        return int(text)
    if kind is bool and text in ("true", "false"):
        return text == "true"
    if is_list(kind):
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
            current, wanted = value_of(base, key), checked(key, value)
            if key in _ADDED_TO:
                kept.setdefault(section, {})[name] = [*current, *(tool for tool in wanted if tool not in current)]
                if not set(current) <= set(wanted):
                    left_out.append(key)
            elif key in _LOWERED and wanted < current:
                kept.setdefault(section, {})[name] = wanted
            elif wanted != current:
                left_out.append(key)
    return Layer(project.origin, kept), tuple(left_out)
