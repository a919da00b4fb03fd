"""Who a request comes from, decided from what it carries and from what the operating system says of its sender.

A bearer token counts wherever it is sent. Without one, whoever connects over a Unix socket as the very user that this
process runs as is that user, with every scope; nobody else is anybody. Nothing is written here, and nothing waits.
"""

import hmac
import pwd
from collections.abc import Callable, Mapping
from typing import Protocol

from palyra_trio.core.errors import InvalidArgument, PolicyError, Unauthenticated
from palyra_trio.core.identity import Caller, Peer, Principal, RequestContext, Scope, parse_principal, parse_ulid
from palyra_trio.core.tokens import Token, hash_of

AUTHORIZATION = "authorization"
PRINCIPAL = "x-palyra-principal"
DEVICE = "x-palyra-device-id"
CHANNEL = "x-palyra-channel"
DEFAULT_CHANNEL = "grpc"
CHANNEL_CHARACTERS = 64

Metadata = Mapping[str, str | bytes]
"""Names in lower case. A mapping that holds several values under a name gives each of them in `items()`."""


class TokenLookup(Protocol):
    """The tokens that were not revoked, in memory."""

    def find(self, hash: str) -> Token | None:
        """Return the token whose secret has this SHA-256 (hex)."""
        ...

    def get(self, token_id: str) -> Token | None: ...

    def __len__(self) -> int: ...


class Authenticator:
    """Turns a request's metadata and its peer into a Caller. `now_s` is Unix time."""

    def __init__(self, tokens: TokenLookup, local_uid: int, local_user: Principal, now_s: Callable[[], float]) -> None:
        self._tokens = tokens
        self._local_uid = local_uid
        self._local_user = local_user
        self._now_s = now_s

    def authenticate(self, metadata: Metadata, peer: Peer) -> Caller:
        """Return who asks, in whose name.

        Raises Unauthenticated when that is not known, PolicyError for the name of another principal without the scope
        admin, and InvalidArgument for a device that is no ULID or a channel without a name.
        """
        authorization = _sent(metadata, AUTHORIZATION)
        if authorization is None and peer.uid == self._local_uid:
            token_id, own, scopes = "", self._local_user, frozenset(Scope)
        else:
            token = self._bearer(authorization)
            token_id, own, scopes = token.token_id, token.principal, frozenset(token.scopes)
        principal = _named(_sent(metadata, PRINCIPAL), own, scopes)
        acting = own if principal != own else ""
        device = _sent(metadata, DEVICE)
        context = RequestContext(
            principal,
            device="" if device is None else parse_ulid(device, DEVICE),
            channel=_channel(_sent(metadata, CHANNEL)),
            local=not token_id and not acting,
        )
        return Caller(context, scopes, token_id, acting)

    def require(self, caller: Caller, scope: Scope) -> None:
        """Return if the caller may ask for what needs `scope`, now: also in the middle of a long call.

        Raises Unauthenticated when the caller's token was revoked or has expired since, and PolicyError.
        """
        if caller.token_id:
            self._check_live(self._tokens.get(caller.token_id))
        if scope not in caller.scopes:
            raise PolicyError(
                f"this needs the scope {scope}",
                remedy=f"use a token that has it: palyra-trio token create NAME --scope {scope}",
            )

    def _bearer(self, authorization: str | None) -> Token:
        if not len(self._tokens):
            raise Unauthenticated(
                "no token is configured, so nobody can come in", remedy="make one: palyra-trio token create NAME"
            )
        if authorization is None:
            raise Unauthenticated("no token was sent", remedy="send `authorization: Bearer TOKEN`")
        scheme, _, secret = authorization.partition(" ")
        if scheme.lower() != "bearer" or not (secret := secret.strip()):
            raise Unauthenticated("the authorization is no bearer token", remedy="send `authorization: Bearer TOKEN`")
        hash = hash_of(secret)
        token = self._tokens.find(hash)
        return self._check_live(token if token is not None and hmac.compare_digest(token.hash, hash) else None)

    def _check_live(self, token: Token | None) -> Token:
        if token is None:
            raise Unauthenticated(
                "the token is unknown, or was revoked", remedy="palyra-trio token create NAME makes another one"
            )
        if token.expired(self._now_s() * 1000):
            raise Unauthenticated(
                f"token {token.token_id} has expired", remedy="palyra-trio token create NAME makes another one"
            )
        return token


def user_principal(uid: int) -> Principal:
    """Return the principal of a user of this machine: `user:` and the login name, or the number where there is none."""
    try:
        return Principal(f"user:{pwd.getpwuid(uid).pw_name}")
    except KeyError:
        return Principal(f"user:{uid}")


def _sent(metadata: Metadata, name: str) -> str | None:
    """Return the one value that was sent under `name`. Raises InvalidArgument for several, which could contradict."""
    values = [value for key, value in metadata.items() if key == name]
    if not values:
        return None
    if len(values) > 1 or not isinstance(values[0], str):
        raise InvalidArgument(f"{name} must be one text", remedy="send it once, or leave it out")
    return values[0]


def _named(named: str | None, own: Principal, scopes: frozenset[Scope]) -> Principal:
    if named is None or named == own:
        return own
    if Scope.ADMIN not in scopes:
        raise PolicyError(
            f"{PRINCIPAL} is not the token's principal",
            remedy=f"leave it out; acting as another principal needs the scope {Scope.ADMIN}",
        )
    return parse_principal(named)


def _channel(sent: str | None) -> str:
    if sent is None:
        return DEFAULT_CHANNEL
    if not sent.strip() or len(sent) > CHANNEL_CHARACTERS or not sent.isprintable():
        raise InvalidArgument(
            f"{CHANNEL} has 1 to {CHANNEL_CHARACTERS} visible characters, not {sent!r}", remedy="leave it out"
        )
    return sent
