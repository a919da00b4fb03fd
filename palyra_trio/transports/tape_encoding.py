"""Rows of a tape as the bytes of RunStreamResponse, with no message made in between: followers are sent little else.

The bytes are those that the generated class makes of the same rows; the tests compare the two.
"""

from collections.abc import Iterable, Iterator
from functools import lru_cache

from palyra_trio.core.codec import TapeRow
from palyra_trio.transports.convert import BATCH_BYTES, kind_name

_BYTES = tuple(bytes((number,)) for number in range(256))


def encoded_batches(run_id: str, rows: Iterable[TapeRow]) -> Iterator[bytes]:
    """Yield responses that hold the rows in batches of at most 1 MiB of bodies; a larger body is spread over several."""
    name = _text(b"\x0a", run_id)
    items: list[bytes] = []
    size = 0
    for g, _, seq, kind, at_ms, body, row_hash in rows:
        head = b"%b\x10%b%b%b\x38%b" % (name, _varint(seq), _constant(kind, at_ms), row_hash, _varint(g))
        for piece, more in _pieces(body) if body and len(body) > BATCH_BYTES else ((body, b""),):
            piece_bytes = len(piece or b"")
            if size and size + piece_bytes > BATCH_BYTES:
                yield _response(items)
                items, size = [], 0
            item = head if piece is None else b"%b\x42%b%b%b" % (head, _known_varint(piece_bytes), piece, more)
            items += (b"\x0a", _known_varint(len(item)), item)
            size += piece_bytes
    if items:
        yield _response(items)


def _pieces(body: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield the parts of a large body, each with its field `more`."""
    for begin in range(0, len(body), BATCH_BYTES):
        yield body[begin : begin + BATCH_BYTES], b"\x48\x01" if begin + BATCH_BYTES < len(body) else b""


def _response(items: list[bytes]) -> bytes:
    batch = b"".join(items)
    return b"\x12%b%b" % (_varint(len(batch)), batch)


def _text(tag: bytes, text: str) -> bytes:
    encoded = text.encode()
    return b"%b%b%b" % (tag, _varint(len(encoded)), encoded)


@lru_cache(1024)
def _constant(kind: int, at_ms: int) -> bytes:
    """Return the fields between `seq` and the hash, which the rows of a commit have in common, and the hash's tag."""
    at = b"\x28" + _varint(at_ms) if at_ms else b""
    return b"%b\x20%b%b\x32\x20" % (_text(b"\x1a", kind_name(kind)), _varint(kind), at)


def _varint(number: int) -> bytes:
    return _BYTES[number] if number < 0x80 else _BYTES[number & 0x7F | 0x80] + _known_varint(number >> 7)


@lru_cache(4096)
def _known_varint(number: int) -> bytes:
    """Return the same for a number that comes again: a length, and what neighbouring numbers have in common."""
    return _varint(number)
