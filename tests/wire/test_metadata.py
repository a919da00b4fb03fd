import math

import pytest
from google.protobuf.duration_pb2 import Duration
from google.rpc.error_details_pb2 import ErrorInfo, RetryInfo
from grpclib.const import Status
from grpclib.exceptions import GRPCError
from hypothesis import given
from hypothesis import strategies as st

from palyra_trio.wire.metadata import (
    Headers,
    NotGrpc,
    RawHeaders,
    decode_metadata,
    decode_text,
    encode_details,
    encode_text,
    format_timeout,
    parse_request,
    parse_timeout,
    request_headers,
    response_headers,
    status_of,
    trailers,
)

printable = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), min_size=1)


def raw(headers: Headers) -> RawHeaders:
    return [(name.encode(), value.encode("latin-1")) for name, value in headers]


def asked(**changes: str) -> RawHeaders:
    headers = dict(request_headers("/a/b", "host", "http", math.inf, "me", {}))
    return raw([(name, value) for name, value in {**headers, **changes}.items() if value])


@given(st.text())
def test_a_status_message_survives_and_travels_as_printable_ascii(text: str) -> None:
    encoded = encode_text(text)
    assert all(" " <= char <= "~" for char in encoded)
    assert decode_text(encoded) == text.encode("utf-8", "replace").decode()


@pytest.mark.parametrize(("value", "text"), [("a%", "a%"), ("%zz", "%zz"), ("%ff", "�"), ("%C3%B1", "ñ")])
def test_a_badly_encoded_status_message_is_still_read(value: str, text: str) -> None:
    assert decode_text(value) == text


@given(st.floats(min_value=0, max_value=1e11))
def test_a_timeout_is_never_shortened_and_hardly_lengthened(timeout_s: float) -> None:
    value = format_timeout(timeout_s)
    assert len(value) <= 9
    assert timeout_s * (1 - 1e-9) <= parse_timeout(value) <= timeout_s * (1 + 1e-5) + 1e-9


@pytest.mark.parametrize(("timeout_s", "value"), [(-1, "0n"), (0.3, "300000u"), (1e12, "99999999H")])
def test_a_timeout_has_eight_digits_at_most(timeout_s: float, value: str) -> None:
    assert format_timeout(timeout_s) == value


@pytest.mark.parametrize("value", ["", "1", "S", "123456789S", "1.5S", "-1S", "1s", "1S ", "²S"])
def test_a_malformed_timeout_is_refused(value: str) -> None:
    with pytest.raises(ValueError, match="grpc-timeout"):
        parse_timeout(value)


@given(st.lists(st.tuples(st.from_regex(r"x-[a-z0-9_.-]{1,9}", fullmatch=True), printable)), st.binary())
def test_metadata_survives_both_ways(pairs: list[tuple[str, str]], blob: bytes) -> None:
    pairs = [each for each in pairs if not each[0].endswith("-bin")]
    headers = response_headers([*pairs, ("x-bin", blob)])
    read = decode_metadata(headers)
    assert list(read.items()) == [*pairs, ("x-bin", blob)]


@pytest.mark.parametrize(("value", "blobs"), [("aGk=", [b"hi"]), ("aGk", [b"hi"]), ("aGk=, aGk,", [b"hi", b"hi", b""])])
def test_binary_metadata_may_be_padded_and_joined(value: str, blobs: list[bytes]) -> None:
    assert decode_metadata([("x-bin", value)]).getall("x-bin") == blobs


def test_what_belongs_to_http_and_grpc_is_no_metadata() -> None:
    read = decode_metadata(
        [(":path", "/"), ("grpc-timeout", "1S"), ("te", "trailers"), ("user-agent", "a"), ("mine", "1")]
    )
    assert dict(read) == {"mine": "1"}


def test_a_request_says_its_method_and_deadline() -> None:
    request = parse_request(asked(**{"grpc-timeout": "250m", "mine": "1"}))
    assert (request.method, request.timeout_s, request.user_agent, dict(request.metadata)) == (
        "/a/b",
        0.25,
        "me",
        {"mine": "1"},
    )


@pytest.mark.parametrize("kind", ["application/grpc", "application/grpc+proto", "application/grpc;charset=utf-8"])
def test_a_grpc_content_type_is_taken(kind: str) -> None:
    assert parse_request(asked(**{"content-type": kind})).timeout_s == math.inf


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({":method": "GET"}, 405),
        ({"content-type": ""}, 415),
        ({"content-type": "application/json"}, 415),
        ({"content-type": "application/grpc-web"}, 415),
        ({"content-type": "application/grpc+json"}, 415),
        ({"te": ""}, 400),
    ],
)
def test_what_is_not_grpc_is_told_so_in_http(changes: dict[str, str], status: int) -> None:
    with pytest.raises(NotGrpc) as refused:
        parse_request(asked(**changes))
    assert refused.value.http_status == status


@pytest.mark.parametrize("changes", [{"grpc-timeout": "soon"}, {"x-bin": "***"}])
def test_malformed_headers_of_grpc_get_a_status(changes: dict[str, str]) -> None:
    with pytest.raises(GRPCError) as refused:
        parse_request(asked(**changes))
    assert refused.value.status is Status.INTERNAL


def test_a_status_survives_with_its_details() -> None:
    details = [ErrorInfo(reason="busy", domain="here"), RetryInfo(retry_delay=Duration(seconds=2)), Duration()]
    error = status_of(raw(trailers(Status.UNAVAILABLE, "später", details)), raw(response_headers()))
    assert (error.status, error.message, error.details) == (Status.UNAVAILABLE, "später", details[:2])


def test_details_may_be_encoded_already() -> None:
    encoded = encode_details(Status.ABORTED, "no", [ErrorInfo(reason="busy")])
    assert encode_details(Status.ABORTED, "no", encoded) == encoded
    assert status_of(raw(trailers(Status.ABORTED, "no", encoded))).details == [ErrorInfo(reason="busy")]


def test_details_that_cannot_be_read_leave_the_status() -> None:
    error = status_of([(b"grpc-status", b"5"), (b"grpc-status-details-bin", b"/////w")])
    assert (error.status, error.details) == (Status.NOT_FOUND, None)


@pytest.mark.parametrize(
    ("ended", "status"),
    [
        ([(b"grpc-status", b"0")], Status.OK),
        ([(b"grpc-status", b"99")], Status.UNKNOWN),
        ([(b"grpc-status", b"x")], Status.UNKNOWN),
        ([(b":status", b"503")], Status.UNAVAILABLE),
        ([(b":status", b"415")], Status.UNKNOWN),
        ([], Status.UNKNOWN),
    ],
)
def test_every_end_of_a_call_is_some_status(ended: RawHeaders, status: Status) -> None:
    assert status_of(ended).status is status


def test_a_long_status_message_is_cut_before_clients_refuse_the_trailers() -> None:
    assert sum(len(value) for _, value in trailers(Status.ABORTED, "ж" * 100_000)) < 8 * 1024
