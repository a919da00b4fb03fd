"""The bearer tokens of this process: made, rotated and revoked as events, looked up in memory.

What is in memory moves when the journal has committed, on the Trio thread and before anybody is answered: a token that
was revoked opens nothing from then on, and no request asks the disk who it is.
"""

from collections.abc import Callable, Iterable

from palyra_trio.core.codec import TapeRow
from palyra_trio.core.commands import Applied, CreateToken, Reply, RevokeToken, RotateToken, TokenCommand, TokenIssued
from palyra_trio.core.errors import NotFound, PalyraError, StateConflict
from palyra_trio.core.identity import Principal
from palyra_trio.core.tape import SYSTEM_STREAM, TapeEvent
from palyra_trio.core.tokens import (
    SECRET_RANDOM_BYTES,
    Token,
    TokenCreated,
    TokenRevoked,
    check_new,
    hash_of,
    secret_of,
    token_of,
)
from palyra_trio.journal.store import entry
from palyra_trio.journal.writer import Ticket
from palyra_trio.runtime.state import RuntimeState

Answer = Callable[[Reply | PalyraError], None]


class Tokens:
    """The tokens that were not revoked. `known` are those that the journal held when this process began."""

    def __init__(self, state: RuntimeState, known: Iterable[Token]) -> None:
        self._state = state
        self._by_id = {token.token_id: token for token in known}
        self._by_hash = {token.hash: token for token in self._by_id.values()}

    def find(self, hash: str) -> Token | None:
        """Return the token whose secret has this SHA-256 (hex)."""
        return self._by_hash.get(hash)

    def get(self, token_id: str) -> Token | None:
        return self._by_id.get(token_id)

    def __len__(self) -> int:
        return len(self._by_id)

    def carry_out(self, command: TokenCommand, by: Principal, answer: Answer) -> None:
        """Record what the command asks for, and answer once it is durable. That `by` may ask is checked before.

        Raises InvalidArgument, NotFound and StateConflict. The journal refuses what two such commands contradict in.
        """
        now_ms = self._state.now_s() * 1000
        match command:
            case CreateToken(name, principal, scopes, expires_ms, token_id):
                check_new(name, principal, scopes, expires_ms, now_ms)
                token_id = token_id or self._state.new_id()
                self._issue(token_id, name, principal, scopes, expires_ms, by, answer)
            case RevokeToken(token_id):
                self._record((TokenRevoked(self._known(token_id).token_id, by),), lambda _rows: Applied(), answer)
            case RotateToken(token_id):
                old = self._known(token_id)
                if old.expired(now_ms):
                    raise StateConflict(f"token {token_id} has expired", remedy="make another one")
                revoked = TokenRevoked(token_id, by)
                new_id = self._state.new_id()
                self._issue(new_id, old.name, old.principal, old.scopes, old.expires_ms, by, answer, revoked)

    def _issue(
        self,
        token_id: str,
        name: str,
        principal: str,
        scopes: Iterable[str],
        expires_ms: int,
        by: Principal,
        answer: Answer,
        *revoked: TokenRevoked,
    ) -> None:
        secret = secret_of(self._state.random(SECRET_RANDOM_BYTES))
        each_once = tuple(dict.fromkeys(map(str, scopes)))
        made = TokenCreated(token_id, name, principal, each_once, hash_of(secret), expires_ms, by)
        self._record((made, *revoked), lambda rows: TokenIssued(token_of(made, rows[0].at_ms), secret), answer)

    def _record(
        self, events: tuple[TapeEvent, ...], reply: Callable[[tuple[TapeRow, ...]], Reply], answer: Answer
    ) -> None:
        def committed(rows: tuple[TapeRow, ...]) -> None:
            for event, row in zip(events, rows, strict=True):
                self._fold(event, row.at_ms)
            answer(reply(rows))

        entries = tuple(entry(SYSTEM_STREAM, event) for event in events)
        self._state.journal.submit(Ticket(entries, on_commit=committed, on_refusal=answer))

    def _fold(self, event: TapeEvent, at_ms: int) -> None:
        match event:
            case TokenCreated():
                token = token_of(event, at_ms)
                self._by_id[token.token_id] = self._by_hash[token.hash] = token
            case TokenRevoked():
                del self._by_hash[self._by_id.pop(event.token_id).hash]

    def _known(self, token_id: str) -> Token:
        if (token := self._by_id.get(token_id)) is None:
            raise NotFound(
                f"there is no token {token_id}, or it was revoked", remedy="palyra-trio token list shows them"
            )
        return token
