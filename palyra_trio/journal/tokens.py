"""Bearer tokens as they are kept at hand beside the tape: read back, without the secrets, which nobody has."""

import sqlite3
from typing import Any

from palyra_trio.core.errors import NotFound
from palyra_trio.core.identity import Scope
from palyra_trio.core.tokens import Token

_TOKEN = "token_id, name, principal, scopes, hash, expires_ms, created_ms, created_by, revoked_ms"


def find_token(db: sqlite3.Connection, token_id: str) -> Token:
    """Return a token, revoked or not, by its whole id. Raises NotFound."""
    row = db.execute(f"SELECT {_TOKEN} FROM token WHERE token_id = ?", (token_id,)).fetchone()
    if row is None:
        raise NotFound(f"there is no token {token_id}", remedy="palyra-trio token list shows them")
    return _token(*row)


def list_tokens(db: sqlite3.Connection, before: str, revoked: bool, most: int) -> tuple[Token, ...]:
    rows = db.execute(
        f"SELECT {_TOKEN} FROM token WHERE (? = '' OR token_id < ?) AND (? OR revoked_ms IS NULL)"
        " ORDER BY token_id DESC LIMIT ?",
        (before, before, revoked, most),
    )
    return tuple(_token(*row) for row in rows)


def _token(token_id: str, name: str, principal: Any, scopes: str, *rest: Any) -> Token:
    """Return the token of a row, with the scopes that this program knows; one of a newer program opens nothing here."""
    known = tuple(Scope(word) for word in scopes.split() if word in list(Scope))
    return Token(token_id, name, principal, known, *rest)
