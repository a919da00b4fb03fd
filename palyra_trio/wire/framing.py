"""The body of a gRPC call, sans-IO: length-prefixed messages (gRPC over HTTP/2, "Length-Prefixed-Message"), no compression.

Headers and trailers are in `metadata`; what the messages mean is the caller's.
"""

import struct
from collections.abc import Iterable

from grpclib.const import Status
from grpclib.exceptions import GRPCError

from palyra_trio.core.errors import TooLarge

PREFIX_BYTES = 5
_PREFIX = struct.Struct(">BI")  # compressed flag, length of the message in bytes


def encode_messages(bodies: Iterable[bytes]) -> bytes:
    """Return serialised messages, each behind its prefix, as one run of bytes."""
    parts: list[bytes] = []
    for body in bodies:
        parts.append(_PREFIX.pack(0, len(body)))
        parts.append(body)
    return b"".join(parts)


class MessageParser:
    """Cuts a call's bytes into messages, however they were chunked. Holds at most one unfinished message."""

    def __init__(self, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes
        self._buffer = bytearray()

    def limit(self, limit_bytes: int) -> None:
        """Take messages of at most `limit_bytes` from now on."""
        self._limit_bytes = limit_bytes

    @property
    def unfinished_bytes(self) -> int:
        """How many bytes of the next message, its prefix included, are here."""
        return len(self._buffer)

    def feed(self, data: bytes) -> list[bytes]:
        """Take bytes and return the messages that they complete, without their prefixes.

        Raises TooLarge for a message over the limit, as soon as its prefix is here, and GRPCError: UNIMPLEMENTED for a
        compressed one, INTERNAL for an undefined flag. The parser is of no use after that.
        """
        buffer = self._buffer
        buffer += data
        messages: list[bytes] = []
        start, end = 0, len(buffer)
        with memoryview(buffer) as view:
            while end - start >= PREFIX_BYTES:
                flag, length = _PREFIX.unpack_from(view, start)
                if flag:
                    raise _flagged(flag)
                if length > self._limit_bytes:
                    raise TooLarge(
                        f"a message of {length} bytes is over the limit of {self._limit_bytes}",
                        remedy=f"send at most {self._limit_bytes} bytes in one message",
                    )
                body = start + PREFIX_BYTES
                if end - body < length:
                    break
                start = body + length
                messages.append(view[body:start].tobytes())
        del buffer[:start]
        return messages


class Chunks:
    """Stands where a MessageParser does, and leaves the bytes as they come."""

    unfinished_bytes = 0

    def limit(self, limit_bytes: int) -> None:
        """Chunks are as small as the window."""

    def feed(self, data: bytes) -> list[bytes]:
        """Return the bytes as one."""
        return [data] if data else []


def _flagged(flag: int) -> GRPCError:
    if flag == 1:
        return GRPCError(Status.UNIMPLEMENTED, "compressed messages are not supported")
    return GRPCError(Status.INTERNAL, f"a message has the undefined flag {flag}")
