"""Every event survives the codec, and old and new bodies stay readable."""

import json
import typing
from pathlib import Path
from typing import Any

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from palyra_trio.core.chain import canonical_json
from palyra_trio.core.codec import EVENT_CLASSES, KIND_NAMES, TapeRow, decode, encode, plain
from palyra_trio.core.errors import JournalInvalid
from palyra_trio.core.tape import CancelRequested, TapeEvent, run_stream
from tests.core.instances import instances, required

ROOT = Path(__file__).parents[2]
GOLDEN_ROWS: list[dict[str, Any]] = json.loads((ROOT / "tests/golden/chain.json").read_text("utf-8"))["rows"]
DEEP = pytest.param(b'{"x":' + b"[" * 100_000, id="deep")


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


@pytest.mark.parametrize("row", GOLDEN_ROWS, ids=lambda row: KIND_NAMES[row["kind"]])
def test_a_golden_body_is_still_read_as_it_was_written(row: dict[str, Any]) -> None:
    event = decode(row["kind"], row["body"].encode())
    assert type(event).__name__ == KIND_NAMES[row["kind"]]
    assert body_of(event).items() >= json.loads(row["body"]).items()


def test_a_kind_that_this_reader_does_not_know_has_no_event() -> None:
    assert decode(250, b'{"v":1}') is None


@pytest.mark.parametrize("body", [b"", b"[]", b'{"by":1}', b'{"by":"x"', b'{"by":"\xff"}', DEEP])
def test_a_body_that_is_no_such_event_is_refused(body: bytes) -> None:
    with pytest.raises(JournalInvalid):
        decode(CancelRequested.kind, body)


def test_a_row_tells_its_event_until_its_body_is_erased() -> None:
    event = CancelRequested("user:alice")
    row = TapeRow(7, run_stream("R"), 3, event.kind, 5, encode(event), bytes(32))
    assert row.event() == event
    assert row._replace(body=None).event() is None


def test_a_plain_row_is_what_other_programs_read() -> None:
    row = TapeRow(7, run_stream("R"), 3, CancelRequested.kind, 5, encode(CancelRequested("user:alice")), bytes(32))
    shown = {"g": 7, "stream": "run:R", "seq": 3, "kind": "CancelRequested", "at_ms": 5, "hash": "00" * 32}
    assert plain(row) == shown | {"body": {"by": "user:alice", "reason": "", "v": 1}}
    assert plain(row._replace(kind=250, body=None)) == shown | {"kind": "250", "body": None}


def test_every_kind_has_the_name_of_its_class() -> None:
    assert {cls.kind: cls.__name__ for cls in EVENT_CLASSES} == KIND_NAMES


def test_a_lone_surrogate_cannot_be_encoded() -> None:
    with pytest.raises(UnicodeEncodeError):
        encode(CancelRequested("\udc80"))
