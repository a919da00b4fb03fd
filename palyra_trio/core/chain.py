"""Canonical JSON and the hash chain. The format is fixed in docs/tape.md; nothing here may change what it says.

A row's header names its place and the digest of its salted body; the row's hash links the header to the hash of the
row before it. A body and its salt can therefore be erased later, and the chain still verifies from the digest.
"""

import hashlib
from collections.abc import Iterable
from typing import Any

import attrs
import msgspec

FORMAT_VERSION = 1
GENESIS = bytes(32)
SALT_BYTES = 16

_encoder = msgspec.json.Encoder(order="sorted")


def canonical_json(value: Any) -> bytes:
    """Return the canonical JSON of plain values or attrs instances: keys sorted by code point, no white space, UTF-8.

    NaN and the infinities become null. Raises UnicodeEncodeError for a lone surrogate (see core.text), TypeError for
    a key that is no string and for what JSON cannot say.
    """
    return _encoder.encode(value)


def digest(data: bytes) -> str:
    """Return the SHA-256 of `data` as 64 hexadecimal digits: the name of a blob, a message or a payload."""
    return hashlib.sha256(data).hexdigest()


def body_digest(salt: bytes, body: bytes) -> bytes:
    return hashlib.sha256(salt + body).digest()


def header(g: int, stream: str, seq: int, kind: int, at_ms: int, salted_body: bytes) -> bytes:
    """Return a row's header: the canonical JSON of its place, its kind, its time and its body's digest.

    The kind is its number, so that a row verifies where its kind has no name yet. Stream names are ASCII without
    quotes or backslashes, so the template is the canonical encoding.
    """
    return (
        f'{{"at_ms":{at_ms},"body_digest":"{salted_body.hex()}","g":{g},"kind":{kind},'
        f'"seq":{seq},"stream":"{stream}","v":{FORMAT_VERSION}}}'
    ).encode()


def link(previous: bytes, row_header: bytes) -> bytes:
    """Return the hash of a row: SHA-256 of the previous row's hash followed by this row's header."""
    return hashlib.sha256(previous + row_header).digest()


@attrs.frozen
class ChainRow:
    """A row as it is stored. `salt` and `body` are None once erased; `erased_digest` then stands in for them."""

    g: int
    stream: str
    seq: int
    kind: int
    at_ms: int
    salt: bytes | None
    body: bytes | None
    hash: bytes
    erased_digest: bytes | None = None


@attrs.frozen
class Verification:
    """What a walk over the chain found. `fault` is empty when every row is what it was when it was written."""

    rows: int
    head: bytes
    erased: int
    fault: str = ""


def verify(rows: Iterable[ChainRow]) -> Verification:
    """Re-derive every hash and every sequence number, in order of `g`, and stop at the first fault.

    Rows that are missing from the end leave no trace in what remains: compare `rows` and `head` with a head that was
    noted earlier.
    """
    previous, count, erased = GENESIS, 0, 0
    next_seq: dict[str, int] = {}
    for row in rows:
        belongs = next_seq.get(row.stream, 1)
        if row.g != count + 1:
            return Verification(count, previous, erased, f"row g={count + 1} is missing (found g={row.g})")
        if row.seq != belongs:
            fault = f"row g={row.g}: stream {row.stream} has seq {row.seq} where {belongs} belongs"
            return Verification(count, previous, erased, fault)
        salted_body = _body_digest(row)
        if salted_body is None:
            fault = f"row g={row.g} ({row.stream} seq {row.seq}) is neither whole nor erased"
            return Verification(count, previous, erased, fault)
        if link(previous, header(row.g, row.stream, row.seq, row.kind, row.at_ms, salted_body)) != row.hash:
            fault = f"row g={row.g} ({row.stream} seq {row.seq}) is not what was written"
            return Verification(count, previous, erased, fault)
        previous, count = row.hash, count + 1
        erased += row.body is None
        next_seq[row.stream] = row.seq + 1
    return Verification(count, previous, erased)


def _body_digest(row: ChainRow) -> bytes | None:
    """Return the digest of the row's body: derived while it is there, the kept one once it is erased, else None.

    A salt of another length is refused, since bytes could otherwise be moved between the salt and the body.
    """
    if row.salt is None and row.body is None:
        return row.erased_digest
    if row.salt is None or row.body is None or row.erased_digest is not None or len(row.salt) != SALT_BYTES:
        return None
    return body_digest(row.salt, row.body)
