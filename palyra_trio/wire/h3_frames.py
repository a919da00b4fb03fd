"""HTTP/3 frames, sans-IO (RFC 9114).

What the frames of a request mean to a call is `h3_connection`'s. Errors end the connection, as section 8 allows for all.
"""

from collections.abc import Iterable
from enum import IntEnum


class Code(IntEnum):
    """RFC 9114, section 8.1, and RFC 9204, section 6."""

    NO_ERROR = 0x100
    GENERAL_PROTOCOL_ERROR = 0x101
    INTERNAL_ERROR = 0x102
    STREAM_CREATION_ERROR = 0x103
    CLOSED_CRITICAL_STREAM = 0x104
    FRAME_UNEXPECTED = 0x105
    FRAME_ERROR = 0x106
    EXCESSIVE_LOAD = 0x107
    ID_ERROR = 0x108
    SETTINGS_ERROR = 0x109
    MISSING_SETTINGS = 0x10A
    REQUEST_REJECTED = 0x10B
    REQUEST_CANCELLED = 0x10C
    REQUEST_INCOMPLETE = 0x10D
    MESSAGE_ERROR = 0x10E
    QPACK_DECOMPRESSION_FAILED = 0x200
    QPACK_ENCODER_STREAM_ERROR = 0x201
    QPACK_DECODER_STREAM_ERROR = 0x202


class Frame(IntEnum):
    """RFC 9114, section 7.2."""

    DATA = 0x0
    HEADERS = 0x1
    CANCEL_PUSH = 0x3
    SETTINGS = 0x4
    PUSH_PROMISE = 0x5
    GOAWAY = 0x7
    MAX_PUSH_ID = 0xD


class StreamKind(IntEnum):
    """The first number on a unidirectional stream: RFC 9114, section 6.2, and RFC 9204, section 4.2."""

    CONTROL = 0
    PUSH = 1
    QPACK_ENCODER = 2
    QPACK_DECODER = 3


MAX_FIELD_SECTION_SIZE = 0x6
CONTROL_FRAME_BYTES = 4096  # of SETTINGS or GOAWAY; they are small

_OF_HTTP2 = {0x2, 0x6, 0x8, 0x9}  # RFC 9114, section 7.2.8
_SETTINGS_OF_HTTP2 = {0x0, 0x2, 0x3, 0x4, 0x5}  # section 7.2.4.1
_NOT_ON_REQUESTS = {Frame.CANCEL_PUSH, Frame.SETTINGS, Frame.PUSH_PROMISE, Frame.GOAWAY, Frame.MAX_PUSH_ID, *_OF_HTTP2}
_NOT_ON_CONTROL = {Frame.DATA, Frame.HEADERS, Frame.PUSH_PROMISE, *_OF_HTTP2}


class Http3Error(Exception):
    """The peer has broken the rules; `code` ends the connection."""

    def __init__(self, code: Code, why: str) -> None:
        super().__init__(why)
        self.code = code


def encode_number(number: int) -> bytes:
    """Return a variable-length integer (RFC 9000, section 16)."""
    if number < 1 << 6:
        return bytes([number])
    if number < 1 << 14:
        return (number | 1 << 14).to_bytes(2, "big")
    if number < 1 << 30:
        return (number | 2 << 30).to_bytes(4, "big")
    return (number | 3 << 62).to_bytes(8, "big")


def decode_number(data: bytes | bytearray, place: int) -> tuple[int, int] | None:
    """Return the number at a place and the place after it, or None when its end is not here yet."""
    if place >= len(data):
        return None
    first = data[place]
    end = place + (1 << (first >> 6))
    if end > len(data):
        return None
    return int.from_bytes(data[place:end], "big") & ((1 << 8 * (end - place) - 2) - 1), end


def encode_frame(kind: int, payload: bytes) -> bytes:
    """Return a frame."""
    return b"".join((encode_number(kind), encode_number(len(payload)), payload))


def encode_settings(header_bytes: int) -> bytes:
    """Return our SETTINGS frame: header sections up to a size, and no table for them."""
    return encode_frame(Frame.SETTINGS, encode_number(MAX_FIELD_SECTION_SIZE) + encode_number(header_bytes))


class FrameReader:
    """Cuts a stream into frames: those of `whole` in one piece of at most `most_bytes`, the others as they come.

    `unfinished` says whether the stream must not end here.
    """

    def __init__(self, whole: Iterable[int], most_bytes: int, forbidden: Iterable[int]) -> None:
        self._whole = frozenset(whole)
        self._most_bytes = most_bytes
        self._forbidden = frozenset(forbidden)
        self._buffer = b""
        self._kind = -1  # of the frame that goes on; -1 between frames
        self._left_bytes = 0

    @property
    def unfinished(self) -> bool:
        return bool(self._buffer) or self._kind >= 0

    @property
    def kept_bytes(self) -> int:
        """How much of a piece that is to be whole is here."""
        return len(self._buffer)

    def feed(self, data: bytes) -> list[tuple[int, bytes]]:
        """Return frames, or pieces of them, with their kind. Raises Http3Error."""
        if self._buffer:
            data = self._buffer + data
        frames: list[tuple[int, bytes]] = []
        place, end = 0, len(data)
        while True:
            if self._kind < 0:
                if (kind := decode_number(data, place)) is None or (size := decode_number(data, kind[1])) is None:
                    break
                self._begin(kind[0], size[0])
                place = size[1]
            here = min(self._left_bytes, end - place)
            if self._kind in self._whole and here < self._left_bytes:
                break
            if here or not self._left_bytes:
                frames.append((self._kind, data[place : place + here]))
            place += here
            self._left_bytes -= here
            if self._left_bytes:
                break
            self._kind = -1
        self._buffer = data[place:]
        return frames

    def _begin(self, kind: int, size: int) -> None:
        if kind in self._forbidden:
            raise Http3Error(Code.FRAME_UNEXPECTED, f"a frame of kind {kind:#x} does not belong here")
        if kind in self._whole and size > self._most_bytes:
            raise Http3Error(Code.EXCESSIVE_LOAD, f"a frame of {size} bytes is over the limit of {self._most_bytes}")
        self._kind, self._left_bytes = kind, size


def request_reader(header_bytes: int) -> FrameReader:
    """Return a reader of one direction of a request."""
    return FrameReader((Frame.HEADERS,), header_bytes, _NOT_ON_REQUESTS)


def control_reader() -> FrameReader:
    """Return a reader of a control stream."""
    return FrameReader((Frame.SETTINGS, Frame.GOAWAY), CONTROL_FRAME_BYTES, _NOT_ON_CONTROL)


def check_settings(payload: bytes) -> None:
    """Return if SETTINGS are well-formed; none of them matters to us. Raises Http3Error."""
    place, seen = 0, set[int]()
    while place < len(payload):
        if (name := decode_number(payload, place)) is None or (value := decode_number(payload, name[1])) is None:
            raise Http3Error(Code.FRAME_ERROR, "SETTINGS are cut short")
        if name[0] in _SETTINGS_OF_HTTP2 or name[0] in seen:
            raise Http3Error(Code.SETTINGS_ERROR, f"the setting {name[0]:#x} does not belong here")
        seen.add(name[0])
        place = value[1]


def parse_goaway(payload: bytes) -> int:
    """Return the first id that the sender of a GOAWAY does not take. Raises Http3Error."""
    if (number := decode_number(payload, 0)) is None or number[1] != len(payload):
        raise Http3Error(Code.FRAME_ERROR, "GOAWAY is malformed")
    return number[0]
