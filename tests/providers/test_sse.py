"""The event-stream parser against the WHATWG specification, and against every way to cut a stream into chunks."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from palyra_trio.providers.base import ProviderError
from palyra_trio.providers.sse import EventParser, ServerEvent

LINES = st.sampled_from(
    [
        *(b"data: one", b"data:two", b"data", b"data:  three", "data: \N{GRINNING FACE}".encode(), b"data: \xff\xfe"),
        *(b"event: tick", b"id: 7", b"id: \0", b"retry: 1", b"other: x", b": comment", b":", b"\xef\xbb\xbfdata: bom"),
        *(b"", b"", b""),
    ]
)
ENDS = st.sampled_from([b"\n", b"\r", b"\r\n"])
STREAMS = st.builds(
    lambda bom, lines: bom + b"".join(line + end for line, end in lines),
    st.sampled_from([b"", b"\xef\xbb\xbf"]),
    st.lists(st.tuples(LINES, ENDS), max_size=30),
) | st.binary(max_size=200)


def parse(*chunks: bytes) -> list[ServerEvent]:
    parser = EventParser()
    return [event for chunk in chunks for event in parser.feed(chunk)]


def cut(stream: bytes, places: list[int]) -> list[bytes]:
    edges = sorted({place % (len(stream) + 1) for place in places} | {0, len(stream)})
    return [stream[start:end] for start, end in pairwise(edges)]


@given(STREAMS, st.lists(st.integers(min_value=0)))
def test_how_a_stream_is_cut_into_chunks_makes_no_difference(stream: bytes, places: list[int]) -> None:
    assert parse(*cut(stream, places)) == parse(stream)
    assert parse(*(bytes([byte]) for byte in stream)) == parse(stream)


@given(STREAMS)
def test_line_ends_are_interchangeable(stream: bytes) -> None:
    plain = stream.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    assert parse(plain) == parse(stream) == parse(plain.replace(b"\n", b"\r\n"))


@pytest.mark.parametrize(
    ("stream", "events"),
    [
        (b"data: YHOO\ndata: +2\ndata: 10\n\n", [ServerEvent("YHOO\n+2\n10")]),
        (b": test stream\n\ndata: first event\nid: 1\n\n", [ServerEvent("first event", last_id="1")]),
        (
            b"data:second event\nid\n\ndata:  third event\n\n",
            [ServerEvent("second event"), ServerEvent(" third event")],
        ),
        (b"data\n\ndata\ndata\n\ndata:", [ServerEvent(""), ServerEvent("\n")]),
        (b"data:test\n\ndata: test\n\n", [ServerEvent("test"), ServerEvent("test")]),
        (b"event: add\ndata: 1\n\ndata: 2\n\n", [ServerEvent("1", "add"), ServerEvent("2")]),
        (b"event: add\n\ndata: 2\n\n", [ServerEvent("2")]),
        (b"\xef\xbb\xbfdata: a\n\n\xef\xbb\xbfdata: b\n\n", [ServerEvent("a")]),
        (b"id: 1\ndata: a\n\nid: 2\0\ndata: b\n\n", [ServerEvent("a", last_id="1"), ServerEvent("b", last_id="1")]),
        (b"data: a", []),
    ],
)
def test_the_examples_of_the_specification(stream: bytes, events: list[ServerEvent]) -> None:
    assert parse(stream) == events


@given(st.integers(min_value=1, max_value=40), st.lists(st.integers(min_value=0)))
def test_an_event_over_the_limit_is_refused_however_it_is_cut(length: int, places: list[int]) -> None:
    parser = EventParser(max_event_bytes=20)
    stream = b"data: ok\n\ndata: " + b"x" * length + b"\n\n"
    chunks = cut(stream, places)
    if length + len("data: ") <= 20:
        assert sum(len(parser.feed(chunk)) for chunk in chunks) == 2
    else:
        with pytest.raises(ProviderError, match="more than 20 bytes") as caught:
            [parser.feed(chunk) for chunk in chunks]
        assert caught.value.kind == "malformed"


def test_a_line_without_end_is_refused_too() -> None:
    parser = EventParser(max_event_bytes=1000)
    for _ in range(1000):
        parser.feed(b"x")
    with pytest.raises(ProviderError):
        parser.feed(b"x")
