"""Access tokens over the API, for whoever may administer them. A secret is told once: in the answer that makes the token."""

import attrs
import msgspec

from palyra_trio.core.commands import CreateToken, Reply, RevokeToken, RotateToken, TokenIssued
from palyra_trio.core.identity import Principal, Scope
from palyra_trio.core.tokens import Token
from palyra_trio.transports.api.approvals import Nothing
from palyra_trio.transports.api.exchange import JSON, HttpResponse, answer
from palyra_trio.transports.api.reading import Number, Paged, Said, token_id_of
from palyra_trio.transports.api.route import API, Answered, Ask, get, post
from palyra_trio.transports.paging import next_page


class TokensQuery(Paged, frozen=True):
    """With `revoked`, also those that open nothing any more."""

    revoked: bool = False


class NewToken(Said, frozen=True):
    """A token, of whom it is to be (you, where that is not said), until `expires_ms` (Unix time), 0 for ever."""

    name: str
    scopes: tuple[Scope, ...]
    principal: str = ""
    expires_ms: Number = 0


@attrs.frozen
class KnownToken:
    """A token without its secret. `expires_ms` is 0 for one that does not expire, `revoked_ms` null until it is revoked."""

    token_id: str
    name: str
    principal: Principal
    scopes: tuple[Scope, ...]
    expires_ms: int
    created_ms: int
    created_by: str
    revoked_ms: int | None


@attrs.frozen
class IssuedToken:
    """A token that was made, and its `secret`, which is told this once."""

    token: KnownToken
    secret: str


@attrs.frozen
class TokenPage:
    tokens: tuple[KnownToken, ...]
    next_page_token: str


@get(f"{API}/tokens", Scope.ADMIN)
async def list_tokens(ask: Ask, query: TokensQuery) -> TokenPage:
    """Everybody's tokens."""
    found = await ask.gateway.ask(
        lambda reader: reader.tokens(before=query.page_token, revoked=query.revoked, most=query.page_size)
    )
    return TokenPage(tuple(map(_told, found)), next_page(found, query.page_size, lambda each: each.token_id))


@post(f"{API}/tokens", Scope.ADMIN, answers=(Answered(201, IssuedToken),), refuses=("state_conflict",))
async def create_token(ask: Ask, body: NewToken) -> HttpResponse:
    """Make a token. With an Idempotency-Key that has made one this is refused: its secret was told then."""
    principal = body.principal or ask.context.principal
    token_id = token_id_of(ask.context.principal, ask.key) if ask.key else ""
    command = CreateToken(body.name, principal, body.scopes, body.expires_ms, token_id)
    issued = _issued(await ask.gateway.submit(command, ask.context))
    return answer(201, JSON, msgspec.json.encode(issued))


@post(f"{API}/tokens/{{token}}/rotate", Scope.ADMIN, refuses=("state_conflict",))
async def rotate_token(ask: Ask, token: str, body: Nothing) -> IssuedToken:
    """Make a token that opens what this one does, and revoke this one: both or neither."""
    return _issued(await ask.gateway.submit(RotateToken(token), ask.context))


@post(f"{API}/tokens/{{token}}/revoke", Scope.ADMIN, refuses=("state_conflict",))
async def revoke_token(ask: Ask, token: str, body: Nothing) -> KnownToken:
    """Let a token open nothing from now on. One that was revoked already is answered the same."""
    if ask.gateway.tokens.get(token) is not None:
        await ask.gateway.submit(RevokeToken(token), ask.context)
    return _told(await ask.gateway.ask(lambda reader: reader.find_token(token)))


def _issued(reply: Reply) -> IssuedToken:
    assert isinstance(reply, TokenIssued)
    return IssuedToken(_told(reply.token), reply.secret)


def _told(token: Token) -> KnownToken:
    return KnownToken(
        token.token_id,
        token.name,
        token.principal,
        token.scopes,
        token.expires_ms,
        token.created_ms,
        token.created_by,
        token.revoked_ms,
    )


ROUTES = (list_tokens, create_token, rotate_token, revoke_token)
