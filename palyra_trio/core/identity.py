"""Who asks and what they may ask for, and the names of things: ULIDs minted from an explicit time and randomness.

Nothing here reads a clock or a random source; callers pass both, so that every identifier in a test is repeatable.
Who somebody is gets decided elsewhere (guard.auth).
"""

import re
from enum import StrEnum
from typing import NewType

import attrs

from palyra_trio.core.errors import InvalidArgument

RunId = NewType("RunId", str)
SessionId = NewType("SessionId", str)
Principal = NewType("Principal", str)

ULID_RANDOM_BYTES = 10
_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
ULID_LENGTH = 26
PRINCIPAL_PATTERN = r"^[a-z][a-z0-9_-]{0,31}:[!-~]{1,128}$"


class Scope(StrEnum):
    """What a caller may ask for. No scope implies another: a token that may run and read says both.

    `run` starts, steers, cancels and undoes runs; `approve` answers questions; `read` reads tapes and lists; `admin`
    manages tokens, agents and policy and may act as another principal (with the token's scopes, no more); `worker`
    executes leased calls.
    """

    RUN = "run"
    APPROVE = "approve"
    READ = "read"
    ADMIN = "admin"
    WORKER = "worker"


@attrs.frozen
class RequestContext:
    """On whose behalf a command or a query is made, and over which channel.

    `principal` is whom the caller proved to be (such as `user:alice`), `device` which of that principal's devices
    it is, `channel` the way it came in by its own word (`cli`, `grpc`, `console`). `local` is no word of the
    caller's: it is the user of this process, on this machine, and so may work in any folder.
    """

    principal: Principal
    device: str = ""
    channel: str = "cli"
    local: bool = False


@attrs.frozen
class Peer:
    """Who is at the other end of a connection, as the operating system says: `uid` over a Unix socket, else None.

    `subject` is that of the certificate that a client has shown, where one was asked for (RFC 4514), and else empty.
    """

    uid: int | None = None
    address: str = ""
    subject: str = ""


@attrs.frozen
class Caller:
    """Who a request was found to come from, and what they may ask for.

    `token_id` names the token that proved it, and is empty for the local user. `acting` is the caller's own principal
    where the request is made in the name of another, who then is `context.principal`; otherwise it is empty.
    """

    context: RequestContext
    scopes: frozenset[Scope]
    token_id: str = ""
    acting: str = ""


def parse_principal(text: str) -> Principal:
    """Return `text` as a principal, `KIND:NAME` such as `user:alice`. Raises InvalidArgument when it is none."""
    if not re.fullmatch(PRINCIPAL_PATTERN, text):
        raise InvalidArgument(
            f"{text!r} is no principal", remedy="pass KIND:NAME, such as user:alice, in visible ASCII characters"
        )
    return Principal(text)


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
    if len(canonical) != ULID_LENGTH or canonical[0] > "7" or any(char not in _ALPHABET for char in canonical):
        raise InvalidArgument(
            f"{what} {text!r} is not a ULID", remedy="pass the 26 characters that the id was shown with"
        )
    return canonical


def ulid_number(ulid: str) -> int:
    """Return the 128 bits that a canonical ULID stands for."""
    number = 0
    for char in ulid:
        number = number << 5 | _ALPHABET.index(char)
    return number
