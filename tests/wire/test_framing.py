import struct
from itertools import pairwise

import pytest
from grpclib.const import Status
from grpclib.exceptions import GRPCError
from hypothesis import given
from hypothesis import strategies as st

from palyra_trio.core.errors import TooLarge
from palyra_trio.wire.framing import MessageParser, encode_messages

LIMIT = 1000
bodies = st.lists(st.binary(max_size=60), max_size=8)


def cut(data: bytes, cuts: list[int]) -> list[bytes]:
    at = [0, *sorted(min(each, len(data)) for each in cuts), len(data)]
    return [data[start:end] for start, end in pairwise(at)]


@given(bodies, st.lists(st.integers(0, 600), max_size=12))
def test_messages_come_out_as_they_went_in_however_they_are_cut(messages: list[bytes], cuts: list[int]) -> None:
    parser = MessageParser(LIMIT)
    found = [message for chunk in cut(encode_messages(messages), cuts) for message in parser.feed(chunk)]
    assert found == messages
    assert parser.unfinished_bytes == 0


@given(st.binary(min_size=1, max_size=60), st.data())
def test_a_message_that_is_not_all_here_is_counted_as_unfinished(body: bytes, data: st.DataObject) -> None:
    encoded = encode_messages([body])
    here = data.draw(st.integers(0, len(encoded) - 1))
    parser = MessageParser(LIMIT)
    assert parser.feed(encoded[:here]) == []
    assert parser.unfinished_bytes == here


def test_a_message_is_a_flag_a_length_and_its_bytes() -> None:
    assert encode_messages([b"ab", b""]) == b"\0\0\0\0\2ab\0\0\0\0\0"


def test_a_message_of_the_limit_passes_and_one_over_it_is_refused_by_its_prefix() -> None:
    assert MessageParser(LIMIT).feed(encode_messages([bytes(LIMIT)])) == [bytes(LIMIT)]
    with pytest.raises(TooLarge, match="1001 bytes is over the limit of 1000"):
        MessageParser(LIMIT).feed(struct.pack(">BI", 0, LIMIT + 1))


@pytest.mark.parametrize(("flag", "status"), [(1, Status.UNIMPLEMENTED), (2, Status.INTERNAL), (255, Status.INTERNAL)])
def test_a_flagged_message_is_refused(flag: int, status: Status) -> None:
    with pytest.raises(GRPCError) as refused:
        MessageParser(LIMIT).feed(struct.pack(">BI", flag, 1) + b"x")
    assert refused.value.status is status
