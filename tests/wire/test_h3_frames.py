import pytest
from hypothesis import given
from hypothesis import strategies as st

from palyra_trio.wire.h3_frames import (
    Code,
    Frame,
    Http3Error,
    check_settings,
    control_reader,
    decode_number,
    encode_frame,
    encode_number,
    encode_settings,
    parse_goaway,
    request_reader,
)

LIMIT = 1000


@given(st.integers(0, (1 << 62) - 1))
def test_a_number_comes_back(number: int) -> None:
    encoded = encode_number(number)
    assert decode_number(b"x" + encoded, 1) == (number, 1 + len(encoded))
    assert decode_number(encoded[:-1], 0) is None


frames = st.lists(st.tuples(st.sampled_from([Frame.HEADERS, Frame.DATA, 0x21]), st.binary(max_size=80)), max_size=6)


@given(frames, st.lists(st.integers(1, 20), max_size=40))
def test_frames_are_the_same_however_they_were_cut(sent: list[tuple[int, bytes]], cuts: list[int]) -> None:
    left = b"".join(encode_frame(kind, payload) for kind, payload in sent)
    reader, got = request_reader(LIMIT), list[tuple[int, bytes]]()
    for cut in [*cuts, len(left)]:
        got += reader.feed(left[:cut])
        left = left[cut:]
    assert not reader.unfinished
    assert b"".join(data for kind, data in got if kind == Frame.DATA) == b"".join(
        data for kind, data in sent if kind == Frame.DATA
    )
    assert [data for kind, data in got if kind == Frame.HEADERS] == [
        data for kind, data in sent if kind == Frame.HEADERS
    ]


@pytest.mark.parametrize("cut", [1, 2, 5])
def test_a_frame_that_is_cut_short_is_unfinished(cut: int) -> None:
    reader = request_reader(LIMIT)
    reader.feed(encode_frame(Frame.DATA, b"12345678")[:cut])
    assert reader.unfinished


def test_the_beginning_of_headers_is_kept_and_of_a_body_it_is_not() -> None:
    reader = request_reader(LIMIT)
    reader.feed(encode_frame(Frame.HEADERS, bytes(100))[:50])
    assert reader.kept_bytes > 40
    reader = request_reader(LIMIT)
    reader.feed(encode_frame(Frame.DATA, bytes(100))[:50])
    assert reader.kept_bytes == 0


def test_headers_over_the_limit_are_refused_before_they_are_here() -> None:
    with pytest.raises(Http3Error) as refused:
        request_reader(LIMIT).feed(encode_number(Frame.HEADERS) + encode_number(1 << 40))
    assert refused.value.code is Code.EXCESSIVE_LOAD


@pytest.mark.parametrize("kind", [Frame.SETTINGS, Frame.GOAWAY, Frame.PUSH_PROMISE, 0x2, 0x9])
def test_frames_that_do_not_belong_on_a_request_are_refused(kind: int) -> None:
    with pytest.raises(Http3Error) as refused:
        request_reader(LIMIT).feed(encode_frame(kind, b""))
    assert refused.value.code is Code.FRAME_UNEXPECTED


@pytest.mark.parametrize("kind", [Frame.DATA, Frame.HEADERS, 0x8])
def test_frames_that_do_not_belong_on_a_control_stream_are_refused(kind: int) -> None:
    with pytest.raises(Http3Error) as refused:
        control_reader().feed(encode_frame(kind, b""))
    assert refused.value.code is Code.FRAME_UNEXPECTED


def test_settings_are_checked() -> None:
    ((kind, payload),) = control_reader().feed(encode_settings(LIMIT))
    assert kind == Frame.SETTINGS
    check_settings(payload)
    check_settings(b"")
    for wrong, code in (
        (payload + payload, Code.SETTINGS_ERROR),
        (b"\x02\x00", Code.SETTINGS_ERROR),
        (b"\x40", Code.FRAME_ERROR),
    ):
        with pytest.raises(Http3Error) as refused:
            check_settings(wrong)
        assert refused.value.code is code


def test_goaway_names_an_id() -> None:
    assert parse_goaway(encode_number(400)) == 400
    for wrong in (b"", b"\x40", b"\x00\x00"):
        with pytest.raises(Http3Error):
            parse_goaway(wrong)
