import pytest
from hypothesis import given
from hypothesis import strategies as st

from palyra_trio.wire.h3_frames import (
    Code,
    Frame,
    Http3Error,
    StreamKind,
    request_reader,
)
from palyra_trio.wire.h3_headers import HeaderCodec, content_length, decode_request, decode_response, decode_trailers
from palyra_trio.wire.metadata import Headers

LIMIT = 1000
REQUEST: Headers = [(":method", "GET"), (":scheme", "https"), (":authority", "x"), (":path", "/")]


def block_of(headers: Headers) -> bytes:
    """Return what a HEADERS frame carries."""
    ((kind, block),) = request_reader(LIMIT).feed(HeaderCodec(LIMIT).encode(headers))
    assert kind == Frame.HEADERS
    return block


def test_headers_that_are_large_only_when_unpacked_are_refused() -> None:
    """A byte of QPACK may stand for a field of a hundred, and each field of them for as much again in memory."""
    block = block_of([*REQUEST, *[("accept", "*/*")] * (LIMIT // 10)])
    assert len(block) < LIMIT
    with pytest.raises(Http3Error) as refused:
        decode_request(HeaderCodec(LIMIT), block)
    assert refused.value.code is Code.EXCESSIVE_LOAD


def test_headers_come_back_without_a_table() -> None:
    headers: Headers = [*REQUEST, ("authorization", "Bearer x"), ("x-text", "ü")]
    first, again = HeaderCodec(LIMIT), HeaderCodec(LIMIT)
    block = first.encode(headers)
    assert block == first.encode(headers) == again.encode(headers)
    decoded = [(name.decode(), value.decode("latin-1")) for name, value in decode_request(again, block_of(headers))]
    assert decoded == headers


@pytest.mark.parametrize(
    "headers",
    [
        REQUEST[1:],
        REQUEST[:3],
        [REQUEST[0], REQUEST[1], REQUEST[3]],
        [("x", "y"), *REQUEST],
        [*REQUEST, REQUEST[0]],
        [*REQUEST, (":status", "200")],
        [*REQUEST, ("X-Upper", "y")],
        [*REQUEST, ("x y", "z")],
        [*REQUEST, ("x", "a\r\nb")],
        [*REQUEST, ("x", " a")],
        [*REQUEST, ("connection", "close")],
        [*REQUEST, ("te", "gzip")],
        [REQUEST[0], (":scheme", "http"), *REQUEST[2:]],
        [REQUEST[0], *REQUEST[2:]],
        [*REQUEST, ("host", "y")],
        [*REQUEST, ("host", "x"), ("host", "y")],
        [REQUEST[0], REQUEST[1], REQUEST[3], ("host", "")],
        [REQUEST[0], REQUEST[1], (":authority", "root@x"), REQUEST[3]],
    ],
    ids=str,
)
def test_a_malformed_request_is_refused(headers: Headers) -> None:
    with pytest.raises(Http3Error) as refused:
        decode_request(HeaderCodec(LIMIT), block_of(headers))
    assert refused.value.code is Code.MESSAGE_ERROR


@pytest.mark.parametrize(
    "headers", [[*REQUEST, ("host", "x")], [REQUEST[0], REQUEST[1], REQUEST[3], ("host", "x")]], ids=str
)
def test_the_host_may_be_said_in_either_way(headers: Headers) -> None:
    assert dict(decode_request(HeaderCodec(LIMIT), block_of(headers)))[b"host"] == b"x"


@pytest.mark.parametrize(
    ("said", "length"), [([], None), ([b"0"], 0), ([b"17"], 17), ([b"17", b"17"], 17), ([b"9" * 19], 10**19 - 1)]
)
def test_the_length_of_a_body_is_what_was_said(said: list[bytes], length: int | None) -> None:
    assert content_length([(b"x", b"5"), *((b"content-length", each) for each in said)]) == length


@pytest.mark.parametrize("said", [[b""], [b"-1"], [b"+1"], [b"1, 1"], [b"1", b"2"], [b"1" * 20], ["\u0661".encode()]])
def test_a_length_that_is_none_is_refused(said: list[bytes]) -> None:
    with pytest.raises(Http3Error) as refused:
        content_length([(b"content-length", each) for each in said])
    assert refused.value.code is Code.MESSAGE_ERROR


@pytest.mark.parametrize("headers", [[("x", "y")], [(":status", "2x0")], [(":status", "200"), (":path", "/")]])
def test_a_malformed_response_is_refused(headers: Headers) -> None:
    with pytest.raises(Http3Error):
        decode_response(HeaderCodec(LIMIT), block_of(headers))


def test_trailers_have_no_pseudo_headers() -> None:
    assert list(decode_trailers(HeaderCodec(LIMIT), block_of([("grpc-status", "0")]))) == [(b"grpc-status", b"0")]
    with pytest.raises(Http3Error):
        decode_trailers(HeaderCodec(LIMIT), block_of([(":status", "200")]))


@given(st.binary(max_size=60))
def test_any_bytes_for_headers_are_headers_or_refused(block: bytes) -> None:
    try:
        decode_request(HeaderCodec(LIMIT), block)
    except Http3Error:
        return


@pytest.mark.parametrize(
    ("kind", "data", "code"),
    [
        (StreamKind.QPACK_ENCODER, b"\x3f\xe1\x1f", Code.QPACK_ENCODER_STREAM_ERROR),
        (StreamKind.QPACK_DECODER, b"\x81", Code.QPACK_DECODER_STREAM_ERROR),
    ],
)
def test_a_table_is_refused(kind: StreamKind, data: bytes, code: Code) -> None:
    with pytest.raises(Http3Error) as refused:
        HeaderCodec(LIMIT).feed(kind, data)
    assert refused.value.code is code
