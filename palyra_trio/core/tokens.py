"""Bearer tokens: what is recorded of one, and the rules by which one is made and has ended.

A secret is shown once and never stored: a tape holds its SHA-256. It has 256 random bits, so a fast hash is enough.
Who may make tokens, and who a bearer is, is decided elsewhere (guard.auth).
"""

from base64 import urlsafe_b64encode
from collections.abc import Iterable
from typing import ClassVar

import attrs

from palyra_trio.core.chain import digest
from palyra_trio.core.errors import InvalidArgument
from palyra_trio.core.identity import Principal, Scope, parse_principal
from palyra_trio.core.tape import TapeEvent

SECRET_PREFIX = "plt_"  # by which the redactor, and people's own scanners, know one
SECRET_RANDOM_BYTES = 32
NAME_CHARACTERS = 200
LATEST_MS = 253_402_300_799_999  # the end of the year 9999: beyond it there is no date


@attrs.frozen
class TokenCreated(TapeEvent):
    """A token exists from now on. `hash` is the SHA-256 (hex) of its secret; `expires_ms` 0 means never."""

    kind: ClassVar[int] = 88
    token_id: str
    name: str
    principal: str
    scopes: tuple[str, ...]
    hash: str
    expires_ms: int
    by: str
    v: int = 1


@attrs.frozen
class TokenRevoked(TapeEvent):
    """The token opens nothing any more."""

    kind: ClassVar[int] = 89
    token_id: str
    by: str
    v: int = 1


@attrs.frozen
class ActedAs(TapeEvent):
    """An admin makes a request in the name of another. Durable before the request is carried out.

    `by` is the admin's own principal, `token_id` what proved it (empty for the local user), `method` what was asked.
    """

    kind: ClassVar[int] = 90
    token_id: str
    by: str
    principal: str
    device: str
    channel: str
    method: str = ""
    v: int = 1


@attrs.frozen
class Token:
    """A token as it is stored. `created_ms`, `expires_ms` (0: never) and `revoked_ms` are Unix milliseconds."""

    token_id: str
    name: str
    principal: Principal
    scopes: tuple[Scope, ...]
    hash: str = attrs.field(repr=False)
    expires_ms: int
    created_ms: int
    created_by: str
    revoked_ms: int | None = None

    def expired(self, now_ms: float) -> bool:
        return bool(self.expires_ms) and now_ms >= self.expires_ms

    def state(self, now_ms: float) -> str:
        """Return `active`, `expired` or `revoked`."""
        if self.revoked_ms is not None:
            return "revoked"
        return "expired" if self.expired(now_ms) else "active"


def secret_of(random: bytes) -> str:
    """Return the secret of a new token: the prefix and 32 random bytes in base64url (RFC 4648, section 5, no padding)."""
    if len(random) != SECRET_RANDOM_BYTES:
        raise ValueError(f"a secret takes {SECRET_RANDOM_BYTES} random bytes, not {len(random)}")
    return SECRET_PREFIX + urlsafe_b64encode(random).rstrip(b"=").decode()


def hash_of(secret: str) -> str:
    """Return the SHA-256 (hex) that a secret is known by."""
    return digest(secret.encode("utf-8", "surrogatepass"))


def check_new(name: str, principal: str, scopes: Iterable[str], expires_ms: int, now_ms: float) -> None:
    """Raise InvalidArgument for a token that may not be made: its name, principal, scopes or end are wrong."""
    if not 0 < len(name) <= NAME_CHARACTERS or not name.isprintable():
        raise InvalidArgument(f"a token's name has 1 to {NAME_CHARACTERS} visible characters, not {name!r}")
    parse_principal(principal)
    known = ", ".join(Scope)
    if not (asked := tuple(scopes)):
        raise InvalidArgument("a token needs at least one scope", remedy=f"the scopes are {known}")
    if unknown := [scope for scope in asked if scope not in list(Scope)]:
        raise InvalidArgument(f"there is no scope {unknown[0]!r}", remedy=f"the scopes are {known}")
    if expires_ms < 0 or 0 < expires_ms <= now_ms:
        raise InvalidArgument("the token would have expired already", remedy="pass a time to come, or 0 for never")
    if expires_ms > LATEST_MS:
        raise InvalidArgument("the token would expire after the year 9999", remedy="pass 0 for never")


def token_of(event: TokenCreated, at_ms: int) -> Token:
    """Return the token that an event of `at_ms` made. A scope that this program does not know opens nothing."""
    known = tuple(Scope(word) for word in event.scopes if word in list(Scope))
    principal = Principal(event.principal)
    return Token(event.token_id, event.name, principal, known, event.hash, event.expires_ms, at_ms, event.by)
