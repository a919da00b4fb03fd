"""The chain against vectors made without this code, and against every way to tamper with it."""

import json
import math
from pathlib import Path
from typing import Any

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from palyra_trio.core.chain import (
    GENESIS,
    SALT_BYTES,
    ChainRow,
    Verification,
    body_digest,
    canonical_json,
    digest,
    header,
    link,
    verify,
)
from palyra_trio.core.messages import Message, ToolCall

ROOT = Path(__file__).parents[2]
GOLDEN: dict[str, Any] = json.loads((ROOT / "tests/golden/chain.json").read_text("utf-8"))

TEXT = st.text(st.characters(exclude_categories=["Cs"]))
JSON_WITHOUT_FLOATS = st.recursive(
    st.none() | st.booleans() | st.integers() | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=12,
)
EVENTS = st.tuples(
    st.sampled_from(["run:A", "run:B", "session:A", "system"]),
    st.integers(1, 255),
    st.integers(0, 2**62),
    st.binary(min_size=SALT_BYTES, max_size=SALT_BYTES),
    st.binary(min_size=1, max_size=40),
)


def chained(events: list[tuple[str, int, int, bytes, bytes]]) -> list[ChainRow]:
    """Return the rows that a journal would hold after these events (stream, kind, at_ms, salt, body)."""
    rows: list[ChainRow] = []
    seqs: dict[str, int] = {}
    previous = GENESIS
    for g, (stream, kind, at_ms, salt, body) in enumerate(events, 1):
        seqs[stream] = seqs.get(stream, 0) + 1
        previous = link(previous, header(g, stream, seqs[stream], kind, at_ms, body_digest(salt, body)))
        rows.append(ChainRow(g, stream, seqs[stream], kind, at_ms, salt, body, previous))
    return rows


def erase(row: ChainRow) -> ChainRow:
    assert row.salt is not None
    assert row.body is not None
    return attrs.evolve(row, salt=None, body=None, erased_digest=body_digest(row.salt, row.body))


CHAINS = st.lists(EVENTS, min_size=1, max_size=6).map(chained)
CHAIN = chained(
    [("system", 80, 5, bytes(16), b"{}"), ("run:A", 1, 6, bytes(16), b"{1}"), ("run:A", 2, 6, bytes(16), b"{}")]
)


def golden_rows() -> list[ChainRow]:
    return [
        ChainRow(
            row["g"],
            row["stream"],
            row["seq"],
            row["kind"],
            row["at_ms"],
            bytes.fromhex(row["salt"]),
            row["body"].encode(),
            bytes.fromhex(row["hash"]),
        )
        for row in GOLDEN["rows"]
    ]


def test_the_golden_rows_have_the_golden_hashes() -> None:
    previous = bytes.fromhex(GOLDEN["genesis"])
    assert previous == GENESIS
    for row in GOLDEN["rows"]:
        salted_body = body_digest(bytes.fromhex(row["salt"]), row["body"].encode())
        assert salted_body.hex() == row["body_digest"]
        own_header = header(row["g"], row["stream"], row["seq"], row["kind"], row["at_ms"], salted_body)
        assert own_header.decode() == row["header"]
        previous = link(previous, own_header)
        assert previous.hex() == row["hash"]
    assert previous.hex() == GOLDEN["head"]


def test_the_golden_rows_verify() -> None:
    assert verify(golden_rows()) == Verification(4, bytes.fromhex(GOLDEN["head"]), 0)


def test_a_header_is_the_canonical_json_of_its_fields() -> None:
    for row in GOLDEN["rows"]:
        fields = {name: row[name] for name in ("g", "stream", "seq", "kind", "at_ms", "body_digest")}
        assert canonical_json(fields | {"v": 1}).decode() == row["header"]


@pytest.mark.parametrize("vector", GOLDEN["canonical_json"], ids=lambda vector: vector["value"][:24])
def test_canonical_json_is_the_golden_bytes(vector: dict[str, str]) -> None:
    assert canonical_json(json.loads(vector["value"])).hex() == vector["canonical"]


@pytest.mark.parametrize("vector", GOLDEN["messages"], ids=lambda vector: vector["digest"][:8])
def test_a_golden_message_has_its_golden_digest(vector: dict[str, str]) -> None:
    fields = json.loads(vector["message"])
    fields["calls"] = tuple(ToolCall(**call) for call in fields["calls"])
    assert digest(canonical_json(Message(**fields))) == vector["digest"]


def test_the_specification_shows_the_golden_vectors() -> None:
    specification = (ROOT / "docs/tape.md").read_text("utf-8")
    for row in GOLDEN["rows"]:
        for shown in (row["salt"], row["body"].encode().hex(), row["header"], row["hash"], row["leaf_hash"]):
            assert shown in specification
    for vector in GOLDEN["canonical_json"]:
        assert f"{vector['value']}\n    {vector['canonical']}\n" in specification
    for vector in GOLDEN["messages"]:
        assert f"{vector['message']}\n    {vector['digest']}\n" in specification


@given(JSON_WITHOUT_FLOATS)
def test_canonical_json_is_what_the_standard_library_writes_sorted_and_compact(value: Any) -> None:
    assert (
        canonical_json(value) == json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":")).encode()
    )


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_a_float_is_written_by_the_rule_of_the_specification(value: float) -> None:
    assert canonical_json(value).decode() == specified_float(value)
    assert json.loads(canonical_json(value)).hex() == value.hex()


@pytest.mark.parametrize(
    "value", [1e-5, 9.999999999999999e-6, 1e15, 9999999999999998.0, 1e16, 5e-324, -0.0, 1e22, 1e23]
)
def test_a_float_at_an_edge_is_written_by_the_rule_of_the_specification(value: float) -> None:
    assert canonical_json(value).decode() == specified_float(value)


def specified_float(value: float) -> str:
    """Write a finite float as docs/tape.md says, from the shortest digits that Python's repr gives."""
    mantissa, _, exponent = repr(abs(value)).partition("e")
    whole, _, fraction = mantissa.partition(".")
    digits = (whole + fraction).lstrip("0")
    e = len(whole) - 1 + int(exponent or 0) - (len(whole + fraction) - len(digits))
    digits = digits.rstrip("0")
    sign = "-" if math.copysign(1, value) < 0 else ""
    if not digits:
        return sign + "0.0"
    if not -5 <= e <= 15:
        return f"{sign}{digits[0]}{'.' if len(digits) > 1 else ''}{digits[1:]}e{e}"
    if e < 0:
        return f"{sign}0.{'0' * (-e - 1)}{digits}"
    digits = digits.ljust(e + 1, "0")
    return f"{sign}{digits[: e + 1]}.{digits[e + 1 :] or '0'}"


@pytest.mark.parametrize("value", ["\ud800", {"\udcff": 1}])
def test_canonical_json_refuses_a_lone_surrogate(value: Any) -> None:
    with pytest.raises(UnicodeEncodeError):
        canonical_json(value)


@pytest.mark.parametrize("value", [{1: 2}, {1: 1, "1": 2}, 1j, object()])
def test_canonical_json_refuses_what_json_cannot_say(value: Any) -> None:
    with pytest.raises(TypeError):
        canonical_json(value)


def test_an_empty_chain_verifies_with_the_genesis_as_its_head() -> None:
    assert verify([]) == Verification(0, GENESIS, 0)


@given(CHAINS)
def test_an_untouched_chain_verifies(rows: list[ChainRow]) -> None:
    assert verify(rows) == Verification(len(rows), rows[-1].hash, 0)


@settings(deadline=None, max_examples=500)
@given(st.data(), CHAINS)
def test_any_single_byte_change_of_any_stored_field_is_found_at_its_row(
    data: st.DataObject, rows: list[ChainRow]
) -> None:
    index = data.draw(st.integers(0, len(rows) - 1), label="row")
    if data.draw(st.booleans(), label="erased"):
        rows[index] = erase(rows[index])
    stored = [each.name for each in attrs.fields(ChainRow) if getattr(rows[index], each.name) is not None]
    field = data.draw(st.sampled_from(stored), label="field")
    before = getattr(rows[index], field)
    raw = bytearray(as_stored(before))
    raw[data.draw(st.integers(0, len(raw) - 1), label="at")] ^= data.draw(st.integers(1, 255), label="flip")
    rows[index] = attrs.evolve(rows[index], **{field: as_read(bytes(raw), before)})

    found = verify(rows)

    assert found.fault
    assert found.rows == index
    assert found.head == (rows[index - 1].hash if index else GENESIS)


def as_stored(value: int | str | bytes) -> bytes:
    if isinstance(value, int):
        return value.to_bytes(8, "big", signed=True)
    return value.encode() if isinstance(value, str) else value


def as_read(raw: bytes, like: int | str | bytes) -> Any:
    if isinstance(like, int):
        return int.from_bytes(raw, "big", signed=True)
    return raw.decode("latin-1") if isinstance(like, str) else raw


@given(st.data(), CHAINS)
def test_erased_bodies_leave_every_hash_verifiable(data: st.DataObject, rows: list[ChainRow]) -> None:
    gone = data.draw(st.sets(st.integers(0, len(rows) - 1)))
    left = [erase(row) if index in gone else row for index, row in enumerate(rows)]
    assert verify(left) == Verification(len(rows), rows[-1].hash, len(gone))


@pytest.mark.parametrize(
    "changes",
    [
        {"body": None, "salt": None},
        {"body": None},
        {"salt": None},
        {"salt": None, "erased_digest": body_digest(bytes(16), b"{1}")},
        {"salt": None, "body": b"forged", "erased_digest": body_digest(bytes(16), b"{1}")},
        {"erased_digest": body_digest(bytes(16), b"{1}")},
        {"salt": bytes(15), "body": b"\x00{1}"},
        {"salt": bytes(16) + b"{", "body": b"1}"},
    ],
    ids=[
        "body and salt gone unaccounted",
        "body gone",
        "salt gone",
        "salt alone erased",
        "forged body without a salt",
        "erased and whole at once",
        "a byte moved from salt to body",
        "a byte moved from body to salt",
    ],
)
def test_a_row_that_is_neither_whole_nor_erased_is_a_fault(changes: dict[str, Any]) -> None:
    found = verify([CHAIN[0], attrs.evolve(CHAIN[1], **changes), CHAIN[2]])
    assert found == Verification(1, CHAIN[0].hash, 0, "row g=2 (run:A seq 1) is neither whole nor erased")


@given(st.data(), st.lists(EVENTS, min_size=2, max_size=6).map(chained))
def test_missing_repeated_and_swapped_rows_are_found(data: st.DataObject, rows: list[ChainRow]) -> None:
    index = data.draw(st.integers(0, len(rows) - 2))
    missing = rows[:index] + rows[index + 1 :]
    repeated = [*rows[: index + 1], rows[index], *rows[index + 1 :]]
    swapped = [*rows[:index], rows[index + 1], rows[index], *rows[index + 2 :]]
    assert verify(missing).fault.startswith(f"row g={index + 1} is missing")
    assert verify(repeated).fault.startswith(f"row g={index + 2} is missing")
    assert verify(swapped).fault.startswith(f"row g={index + 1} is missing")


def test_a_missing_row_is_found_even_when_the_rest_was_numbered_anew() -> None:
    renumbered = attrs.evolve(CHAIN[2], g=2)
    assert "seq 2 where 1 belongs" in verify([CHAIN[0], renumbered]).fault


def test_a_row_of_one_stream_cannot_be_given_to_another() -> None:
    assert verify([CHAIN[0], attrs.evolve(CHAIN[1], stream="run:B")]).fault


def test_a_cut_end_shows_only_against_an_earlier_head() -> None:
    found = verify(CHAIN[:-1])
    assert not found.fault
    assert (found.rows, found.head) != (len(CHAIN), CHAIN[-1].hash)


def test_a_kind_that_has_no_name_yet_verifies() -> None:
    rows = chained([("run:A", 200, 5, bytes(16), b'{"v":1}')])
    assert not verify(rows).fault


def test_a_chain_is_verified_as_it_is_read() -> None:
    def rows() -> Any:
        yield attrs.evolve(CHAIN[0], at_ms=0)
        raise AssertionError("a row after the fault was asked for")

    assert verify(rows()).rows == 0
