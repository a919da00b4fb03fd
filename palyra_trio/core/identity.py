"""Who asks, and the names of things: ULIDs minted from an explicit time and explicit randomness.

Nothing here reads a clock or a random source; callers pass both, so that every identifier in a test is repeatable.
"""

from typing import NewType

import attrs

from palyra_trio.core.errors import InvalidArgument

RunId = NewType("RunId", str)
SessionId = NewType("SessionId", str)
Principal = NewType("Principal", str)

ULID_RANDOM_BYTES = 10
_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_ULID_LENGTH = 26


@attrs.frozen
class RequestContext:
    """On whose behalf a command or a query is made, and over which channel.

    `principal` is whom the caller proved to be (such as `user:alice`), `device` which of that principal's devices
    it is, `channel` the way it came in (`cli`, `grpc`, `console`).
    """

    principal: Principal
    device: str = ""
    channel: str = "cli"


def mint_ulid(now_ms: int, random: bytes) -> str:
    """Return the ULID (github.com/ulid/spec) of `now_ms` (Unix milliseconds, 48 bits) and 10 random bytes.

    Raises ValueError when either is out of its range.
    """
    if not 0 <= now_ms < 1 << 48:
        raise ValueError(f"a ULID holds 48 bits of milliseconds, not {now_ms}")
    if len(random) != ULID_RANDOM_BYTES:
        raise ValueError(f"a ULID takes {ULID_RANDOM_BYTES} random bytes, not {len(random)}")
    number = (now_ms << 80) | int.from_bytes(random, "big")
    return "".join(_ALPHABET[(number >> shift) & 31] for shift in range(125, -5, -5))


def parse_ulid(text: str, what: str = "id") -> str:
    """Return `text` in its canonical upper-case form. Raises InvalidArgument when it is not a ULID."""
    canonical = text.upper() if text.isascii() else ""
    if len(canonical) != _ULID_LENGTH or canonical[0] > "7" or any(char not in _ALPHABET for char in canonical):
        raise InvalidArgument(
            f"{what} {text!r} is not a ULID", remedy="pass the 26 characters that the id was shown with"
        )
    return canonical


def ulid_ms(ulid: str) -> int:
    """Return the Unix time in milliseconds that a canonical ULID was minted at."""
    number = 0
    for char in ulid[:10]:
        number = number << 5 | _ALPHABET.index(char)
    return number
