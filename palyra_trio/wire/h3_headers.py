"""Header sections of HTTP/3, sans-IO (RFC 9114, section 4, and RFC 9204), without a dynamic table in either direction.

What is malformed ends the connection, as section 8 of RFC 9114 allows for all errors.
"""

import re
from collections.abc import Iterable

import pylsqpack

from palyra_trio.wire.h3_frames import Code, Frame, Http3Error, StreamKind, encode_frame
from palyra_trio.wire.metadata import Headers, RawHeaders

FIELD_BYTES = 32  # that a field counts beside its name and value (section 4.2.2): packed, it may take a single one

_NAME = re.compile(rb":?[!#$%&'*+\-.^_`|~0-9a-z]+")
_VALUE = re.compile(rb"(?:[^\0\r\n\t ](?:[^\0\r\n]*[^\0\r\n\t ])?)?")
_OF_A_CONNECTION = {b"connection", b"keep-alive", b"proxy-connection", b"transfer-encoding", b"upgrade"}  # section 4.2
_OF_REQUESTS = {b":method", b":scheme", b":authority", b":path"}
_AUTHORITY = (b":authority", b"host")
_LENGTH_DIGITS = 19  # more bytes than QUIC can carry on a stream


class HeaderCodec:
    """Encodes header sections, and decodes those of at most `most_bytes`; each stands for itself."""

    def __init__(self, most_bytes: int) -> None:
        self._most_bytes = most_bytes
        self._encoder = pylsqpack.Encoder()
        self._decoder = pylsqpack.Decoder(0, 0)

    def encode(self, headers: Headers) -> bytes:
        """Return a HEADERS frame."""
        _, block = self._encoder.encode(0, [(name.encode(), value.encode("latin-1")) for name, value in headers])
        return encode_frame(Frame.HEADERS, block)

    def decode(self, block: bytes, pseudo: Iterable[bytes]) -> RawHeaders:
        """Return the headers of a HEADERS frame, which may have the pseudo-headers `pseudo`. Raises Http3Error."""
        try:
            _, headers = self._decoder.feed_header(0, block)
        except (pylsqpack.DecompressionFailed, pylsqpack.StreamBlocked) as error:
            raise Http3Error(Code.QPACK_DECOMPRESSION_FAILED, "headers cannot be decoded") from error
        if sum(len(name) + len(value) + FIELD_BYTES for name, value in headers) > self._most_bytes:
            raise Http3Error(Code.EXCESSIVE_LOAD, f"headers are over the limit of {self._most_bytes} bytes")
        _check(headers, set(pseudo))
        return headers

    def feed(self, kind: StreamKind, data: bytes) -> None:
        """Take what the peer says about its tables, which must come to nothing. Raises Http3Error."""
        try:
            if kind is StreamKind.QPACK_ENCODER:
                self._decoder.feed_encoder(data)
            else:
                self._encoder.feed_decoder(data)
        except pylsqpack.EncoderStreamError as error:
            raise Http3Error(Code.QPACK_ENCODER_STREAM_ERROR, "there is no table") from error
        except pylsqpack.DecoderStreamError as error:
            raise Http3Error(Code.QPACK_DECODER_STREAM_ERROR, "there is no table") from error


def decode_request(codec: HeaderCodec, block: bytes) -> RawHeaders:
    """Return the headers of a request. Raises Http3Error, also for one without what every request has (section 4.3.1)."""
    headers = codec.decode(block, _OF_REQUESTS)
    first = dict(headers)
    if not first.get(b":method") or not first.get(b":path"):
        raise Http3Error(Code.MESSAGE_ERROR, "a request lacks its method or path")
    if first.get(b":scheme") != b"https":
        raise Http3Error(Code.MESSAGE_ERROR, "the scheme of a request is not https")
    (authority, *others) = {value for name, value in headers if name in _AUTHORITY} or {b""}
    if others or not authority or b"@" in authority:
        raise Http3Error(Code.MESSAGE_ERROR, "a request has no authority, several, or a user in it")
    return headers


def content_length(headers: RawHeaders) -> int | None:
    """Return how long a request says its body is, if it does (RFC 9110, section 8.6). Raises Http3Error."""
    said = {value for name, value in headers if name == b"content-length"}
    if not said:
        return None
    (value, *others) = said
    if others or not value.isdigit() or len(value) > _LENGTH_DIGITS:
        raise Http3Error(Code.MESSAGE_ERROR, "a content-length is no number, or there are several")
    return int(value)


def decode_response(codec: HeaderCodec, block: bytes) -> RawHeaders:
    """Return the headers of a response. Raises Http3Error, also for one without a status (section 4.3.2)."""
    headers = codec.decode(block, [b":status"])
    if not any(name == b":status" and len(value) == 3 and value.isdigit() for name, value in headers):
        raise Http3Error(Code.MESSAGE_ERROR, "a response lacks its status")
    return headers


def decode_trailers(codec: HeaderCodec, block: bytes) -> RawHeaders:
    """Return headers after a body. Raises Http3Error."""
    return codec.decode(block, ())


def _check(headers: Iterable[tuple[bytes, bytes]], pseudo: set[bytes]) -> None:
    """RFC 9114, sections 4.2 and 4.3."""
    regular = False
    for name, value in headers:
        if _NAME.fullmatch(name) is None or _VALUE.fullmatch(value) is None:
            raise Http3Error(Code.MESSAGE_ERROR, "a header has characters that it may not have")
        if name[0] == 0x3A:
            if regular or name not in pseudo:
                raise Http3Error(Code.MESSAGE_ERROR, "a pseudo-header is out of its place")
            pseudo.discard(name)
        else:
            regular = True
            if name in _OF_A_CONNECTION or (name == b"te" and value != b"trailers"):
                raise Http3Error(Code.MESSAGE_ERROR, "a header is not for HTTP/3")
