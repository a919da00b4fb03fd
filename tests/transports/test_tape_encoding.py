"""The bytes of a batch are those of the generated class, and every row is in them, byte for byte."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from palyra_trio.core.codec import TapeRow
from palyra_trio.pb import runs_pb2
from palyra_trio.transports.convert import BATCH_BYTES, put_row
from palyra_trio.transports.tape_encoding import encoded_batches

RUN = "01RUN"
BODIES = st.none() | st.binary(max_size=50) | st.integers(0, 3 * BATCH_BYTES).map(lambda size: b"x" * size)


def row(seq: int, body: bytes | None, kind: int = 20, at_ms: int = 5, g: int = 0) -> TapeRow:
    return TapeRow(g or seq + 100, f"run:{RUN}", seq, kind, at_ms, body, bytes([seq % 256]) * 32)


def generated(run_id: str, rows: list[TapeRow]) -> bytes:
    response = runs_pb2.RunStreamResponse()
    for each in rows:
        put_row(response.batch.items.add(), run_id, each)
    return response.SerializeToString()


PLACES = st.integers(1, 2**63 - 1) | st.integers(1, 300)


@given(
    st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=200),
    st.lists(
        st.builds(row, PLACES, st.none() | st.binary(max_size=300), st.integers(1, 300), st.integers(0, 2**62), PLACES),
        min_size=1,
        max_size=20,
    ),
)
def test_the_bytes_are_those_of_the_generated_class(run_id: str, rows: list[TapeRow]) -> None:
    assert list(encoded_batches(run_id, rows)) == [generated(run_id, rows)]


@given(st.lists(BODIES, max_size=8))
def test_batches_hold_every_row_byte_for_byte_and_none_is_too_large(bodies: list[bytes | None]) -> None:
    rows = [row(seq, body) for seq, body in enumerate(bodies, 1)]
    found: list[tuple[int, bytes | None]] = []
    begun = b""
    for encoded in encoded_batches(RUN, rows):
        response = runs_pb2.RunStreamResponse.FromString(encoded)
        assert response.SerializeToString() == encoded
        assert response.batch.items
        assert sum(len(item.body) for item in response.batch.items) <= BATCH_BYTES
        for item in response.batch.items:
            begun += item.body
            if not item.more:
                found.append((item.seq, begun if item.HasField("body") else None))
                begun = b""
    assert found == list(enumerate(bodies, 1))


@pytest.mark.parametrize("size", [BATCH_BYTES, BATCH_BYTES + 1, 2 * BATCH_BYTES])
def test_a_part_of_a_body_says_that_there_is_more(size: int) -> None:
    items = [
        item
        for encoded in encoded_batches(RUN, [row(1, b"x" * size)])
        for item in runs_pb2.RunStreamResponse.FromString(encoded).batch.items
    ]
    assert [item.more for item in items] == [True] * (len(items) - 1) + [False]
    assert [len(item.body) for item in items[:-1]] == [BATCH_BYTES] * (len(items) - 1)
