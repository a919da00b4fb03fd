"""Every event survives the codec, old and new bodies stay readable, and docs/tape.md says what the classes say."""

import json
import types
import typing
from pathlib import Path
from typing import Any

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from palyra_trio.core.agents import AgentSpec, Limits
from palyra_trio.core.chain import canonical_json
from palyra_trio.core.codec import KIND_NAMES, TapeRow, decode, encode, plain
from palyra_trio.core.errors import JournalInvalid
from palyra_trio.core.messages import Attachment, FinishReason, Message, Role, ToolCall, ToolDefinition, Usage
from palyra_trio.core.run import RunState
from palyra_trio.core.tape import (
    EVENT_CLASSES,
    CancelRequested,
    FileChange,
    TapeEvent,
    run_stream,
)

ROOT = Path(__file__).parents[2]
FROZEN: dict[str, dict[str, str]] = json.loads((ROOT / "tests/golden/kinds.json").read_text("utf-8"))
GOLDEN_ROWS: list[dict[str, Any]] = json.loads((ROOT / "tests/golden/chain.json").read_text("utf-8"))["rows"]
OBJECTS = (Attachment, ToolCall, Usage, Limits, AgentSpec, FileChange, Message, ToolDefinition)
LONG_TEXT = 40

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=6,
)
SCALARS: dict[Any, st.SearchStrategy[Any]] = {
    str: TEXT,
    int: st.integers(-(2**63), 2**63 - 1),
    bool: st.booleans(),
    type(None): st.none(),
    RunState: st.sampled_from(RunState),
}


def values(annotation: Any) -> st.SearchStrategy[Any]:
    """Return a strategy for the values of a field that is annotated so."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if attrs.has(annotation):
        return instances(annotation)
    if origin is tuple:
        return st.lists(values(arguments[0]), max_size=3).map(tuple)
    if origin is dict:
        return st.dictionaries(TEXT, JSON, max_size=3)
    if origin is typing.Literal:
        return st.sampled_from(arguments)
    if origin is types.UnionType:
        return st.one_of(*map(values, arguments))
    return SCALARS[annotation]


def instances(cls: type[Any]) -> st.SearchStrategy[Any]:
    """Return a strategy for instances of an attrs class, every field drawn by its type."""
    hints = typing.get_type_hints(cls)
    return st.builds(cls, **{field.name: values(hints[field.name]) for field in attrs.fields(cls)})


def smallest(annotation: Any) -> Any:
    """Return one value of the type, so that an event can be made of its required fields alone."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if attrs.has(annotation):
        return annotation(**required(annotation))
    if origin is typing.Literal:
        return arguments[0]
    if origin is types.UnionType:
        return None
    return RunState.QUEUED if annotation is RunState else (origin or annotation)()


def required(cls: type[Any]) -> dict[str, Any]:
    hints = typing.get_type_hints(cls)
    return {f.name: smallest(hints[f.name]) for f in attrs.fields(cls) if f.default is attrs.NOTHING}


def body_of(value: Any) -> dict[str, Any]:
    body: dict[str, Any] = json.loads(canonical_json(value))
    return body


each_event_class = pytest.mark.parametrize("cls", EVENT_CLASSES, ids=lambda cls: cls.__name__)


@each_event_class
@settings(deadline=None, max_examples=40)
@given(st.data())
def test_an_event_comes_back_as_it_was_and_encodes_to_the_same_bytes(cls: type[TapeEvent], data: st.DataObject) -> None:
    event = data.draw(instances(cls))
    body = encode(event)
    assert decode(cls.kind, body) == event
    assert encode(typing.cast("TapeEvent", decode(cls.kind, body))) == body


@each_event_class
def test_a_body_holds_every_field_and_nothing_else(cls: type[TapeEvent]) -> None:
    assert list(body_of(cls(**required(cls)))) == sorted(field.name for field in attrs.fields(cls))


@each_event_class
def test_a_field_that_this_reader_does_not_know_is_ignored(cls: type[TapeEvent]) -> None:
    event = cls(**required(cls))
    newer = json.dumps(body_of(event) | {"a_later_field": {"deep": [1]}}).encode()
    assert decode(cls.kind, newer) == event


@each_event_class
def test_a_missing_field_takes_its_default(cls: type[TapeEvent]) -> None:
    assert decode(cls.kind, canonical_json(required(cls))) == cls(**required(cls))


@each_event_class
def test_a_body_without_a_required_field_is_refused(cls: type[TapeEvent]) -> None:
    for name in required(cls):
        short = {key: value for key, value in required(cls).items() if key != name}
        with pytest.raises(JournalInvalid, match=f"a {cls.__name__} body does not fit"):
            decode(cls.kind, canonical_json(short))


def test_every_class_of_an_event_is_listed() -> None:
    assert set(EVENT_CLASSES) == set(TapeEvent.__subclasses__())


def test_kind_numbers_and_names_are_the_frozen_ones() -> None:
    assert {str(kind): name for kind, name in KIND_NAMES.items()} == FROZEN["produced"]
    assert len(KIND_NAMES) == len(EVENT_CLASSES)


def test_a_reserved_number_or_name_is_not_in_use() -> None:
    assert not FROZEN["reserved"].keys() & FROZEN["produced"].keys()
    assert not set(FROZEN["reserved"].values()) & set(FROZEN["produced"].values())


@pytest.mark.parametrize("row", GOLDEN_ROWS, ids=lambda row: KIND_NAMES[row["kind"]])
def test_a_golden_body_is_still_read_as_it_was_written(row: dict[str, Any]) -> None:
    event = decode(row["kind"], row["body"].encode())
    assert type(event).__name__ == KIND_NAMES[row["kind"]]
    assert body_of(event).items() >= json.loads(row["body"]).items()


def test_a_kind_that_this_reader_does_not_know_has_no_event() -> None:
    assert decode(250, b'{"v":1}') is None


@pytest.mark.parametrize("body", [b"", b"[]", b'{"by":1}', b'{"by":"x"', b'{"by":"\xff"}'])
def test_a_body_that_is_no_such_event_is_refused(body: bytes) -> None:
    with pytest.raises(JournalInvalid):
        decode(CancelRequested.kind, body)


def test_a_row_tells_its_event_until_its_body_is_erased() -> None:
    event = CancelRequested("user:alice")
    row = TapeRow(7, run_stream("R"), 3, event.kind, 5, encode(event), bytes(32))
    assert row.event() == event
    assert attrs.evolve(row, body=None).event() is None


def test_a_plain_row_is_what_other_programs_read() -> None:
    row = TapeRow(7, run_stream("R"), 3, CancelRequested.kind, 5, encode(CancelRequested("user:alice")), bytes(32))
    shown = {"g": 7, "stream": "run:R", "seq": 3, "kind": "CancelRequested", "at_ms": 5, "hash": "00" * 32}
    assert plain(row) == shown | {"body": {"by": "user:alice", "reason": "", "v": 1}}
    assert plain(attrs.evolve(row, kind=250, body=None)) == shown | {"kind": "250", "body": None}


# --- the specification ---


def specified(section: str) -> list[list[str]]:
    """Return the cells of the first table after `section` in docs/tape.md."""
    text = (ROOT / "docs/tape.md").read_text("utf-8").partition(section)[2]
    lines = text[text.index("\n|") :].strip().split("\n\n")[0].splitlines()
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def type_word(annotation: Any) -> str:
    words = {str: "text", int: "int", bool: "bool", FinishReason: "FinishReason", Role: "Role"}
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
        "FinishReason": list(typing.get_args(FinishReason)),
        "Role": list(typing.get_args(Role)),
    }
