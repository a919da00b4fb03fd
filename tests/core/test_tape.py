"""The kinds keep their numbers and names, and docs/tape.md says what the classes say."""

import gc
import json
import types
import typing
from pathlib import Path
from typing import Any

import attrs

from palyra_trio.core.agents import AgentSpec, Limits
from palyra_trio.core.chain import canonical_json
from palyra_trio.core.codec import EVENT_CLASSES
from palyra_trio.core.messages import Attachment, FinishReason, Message, Role, ToolCall, ToolDefinition, Usage
from palyra_trio.core.policy import GrantScope, Pattern
from palyra_trio.core.run import RunState
from palyra_trio.core.session_events import JobEnding
from palyra_trio.core.tape import FileChange, TapeEvent
from tests.core.instances import required

ROOT = Path(__file__).parents[2]
FROZEN: dict[str, dict[str, str]] = json.loads((ROOT / "tests/golden/kinds.json").read_text("utf-8"))
OBJECTS = (Attachment, ToolCall, Usage, Limits, AgentSpec, FileChange, Pattern, Message, ToolDefinition)
LONG_TEXT = 40


def test_every_class_of_an_event_is_listed() -> None:
    gc.collect()  # the classes that attrs made slotted ones of
    assert set(EVENT_CLASSES) == set(TapeEvent.__subclasses__())


def test_kind_numbers_and_names_are_the_frozen_ones() -> None:
    assert {str(cls.kind): cls.__name__ for cls in EVENT_CLASSES} == FROZEN["produced"]
    assert len({cls.kind for cls in EVENT_CLASSES}) == len(EVENT_CLASSES)


def test_a_reserved_number_or_name_is_not_in_use() -> None:
    assert not FROZEN["reserved"].keys() & FROZEN["produced"].keys()
    assert not set(FROZEN["reserved"].values()) & set(FROZEN["produced"].values())


# --- the specification ---


def specified(section: str) -> list[list[str]]:
    """Return the cells of the first table after `section` in docs/tape.md."""
    text = (ROOT / "docs/tape.md").read_text("utf-8").partition(section)[2]
    lines = text[text.index("\n|") :].strip().split("\n\n")[0].splitlines()
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def type_word(annotation: Any) -> str:
    words = {
        str: "text",
        int: "int",
        bool: "bool",
        FinishReason: "FinishReason",
        Role: "Role",
        GrantScope: "GrantScope",
        JobEnding: "JobEnding",
    }
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is tuple:
        return f"[{type_word(arguments[0])}]"
    if origin is types.UnionType:
        return type_word(arguments[0]) + "?"
    return "object" if origin is dict else words.get(annotation) or annotation.__name__


def default_word(field: "attrs.Attribute[Any]") -> str:
    default: Any = field.default
    if default is attrs.NOTHING:
        return ""
    if hasattr(default, "factory"):
        default = default.factory()
    if isinstance(default, str) and len(default) > LONG_TEXT:
        return " = `…`"
    if attrs.has(type(default)):
        cls: type[Any] = type(default)
        short = {key: getattr(default, key) for key in required(cls)}
        assert default == cls(**short)
        return f" = `{canonical_json(short).decode()}`"
    return f" = `{json.dumps(default)}`"


def field_words(cls: type[Any]) -> str:
    hints = typing.get_type_hints(cls)
    return ", ".join(f"`{f.name}` {type_word(hints[f.name])}{default_word(f)}" for f in attrs.fields(cls))


def test_the_specification_lists_every_kind_with_its_fields() -> None:
    table = specified("## Event kinds")
    assert [(int(number), name, fields) for number, name, _, _, fields in table] == [
        (cls.kind, cls.__name__, field_words(cls)) for cls in sorted(EVENT_CLASSES, key=lambda cls: cls.kind)
    ]
    assert {stream for _, _, stream, _, _ in table} == {"run", "session", "system"}


def test_the_specification_lists_every_reserved_number() -> None:
    assert {number: name for number, name, _, _ in specified("Reserved:")} == FROZEN["reserved"]


def test_the_specification_lists_every_object_inside_a_body() -> None:
    assert [(name, fields) for name, _, fields in specified("Objects inside bodies:")] == [
        (cls.__name__, field_words(cls)) for cls in OBJECTS
    ]
    assert set().union(*map(nested, EVENT_CLASSES)) <= set(OBJECTS)


def nested(cls: type[Any]) -> set[type[Any]]:
    """Return the attrs classes that the fields of `cls` hold, at any depth."""
    found: set[type[Any]] = set()
    for annotation in typing.get_type_hints(cls).values():
        for each in (annotation, *typing.get_args(annotation)):
            if attrs.has(each):
                found |= {each} | nested(each)
    return found


def test_the_specification_lists_the_words_of_closed_fields() -> None:
    listed = {name: words.replace("`", "").split(", ") for name, words in specified("Words:\n")}
    assert listed == {
        "RunState": [str(state) for state in RunState],
        "GrantScope": list(typing.get_args(GrantScope)),
        "JobEnding": list(typing.get_args(JobEnding)),
        "FinishReason": list(typing.get_args(FinishReason)),
        "Role": list(typing.get_args(Role)),
    }
