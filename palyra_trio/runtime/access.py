"""Letting requests in: who asks is decided by `guard.auth`, how often they may by `guard.rates`; what must be on the tape
before they act is put there.

An admin who acts as another principal leaves ActedAs on the system's tape first. The local user's own token, for
clients that come over TCP, lies in a file of the state directory that only they can read.
"""

from pathlib import Path

import attrs
import trio

from palyra_trio.core.commands import CreateToken, TokenIssued
from palyra_trio.core.identity import Caller, Peer, RequestContext, Scope
from palyra_trio.core.tape import SYSTEM_STREAM
from palyra_trio.core.tokens import ActedAs, hash_of
from palyra_trio.guard.auth import PRINCIPAL, Authenticator, Metadata
from palyra_trio.guard.private_file import replace_private
from palyra_trio.guard.rates import Rates
from palyra_trio.journal.store import entry
from palyra_trio.runtime.checks import check_no_secret
from palyra_trio.runtime.gateway import Gateway

TOKEN_FILE = "token"
LOCAL_SCOPES = (Scope.RUN, Scope.APPROVE, Scope.READ, Scope.ADMIN)


class Access:
    """The door of a process that serves clients. Every request of every transport passes `admit`, once."""

    def __init__(self, authenticator: Authenticator, gateway: Gateway) -> None:
        self._authenticator = authenticator
        self._gateway = gateway
        self._rates = Rates()

    async def admit(self, metadata: Metadata, peer: Peer, scope: Scope, method: str = "") -> Caller:
        """Return who asks for `method`, which needs `scope`. Where they act as another, that is durable when this returns.

        Raises what the Authenticator raises, InvalidArgument for a secret in the principal's place, Busy when their token
        asks too often, and JournalStopped. If cancelled, the record may still be written.
        """
        caller = self._authenticator.authenticate(metadata, peer)
        channel = self._gateway.redactor.recordable(caller.context.channel)
        caller = attrs.evolve(caller, context=attrs.evolve(caller.context, channel=channel))
        self.readmit(caller, scope)
        if caller.acting:
            context = caller.context
            check_no_secret(context.principal, PRINCIPAL, self._gateway.redactor)
            acted = ActedAs(caller.token_id, caller.acting, context.principal, context.device, context.channel, method)
            await self._gateway.journal.append((entry(SYSTEM_STREAM, acted),))
        return caller

    def readmit(self, caller: Caller, scope: Scope) -> None:
        """Return if a caller who was let in earlier, and has a session since, may ask for what needs `scope`.

        Raises Unauthenticated, PolicyError, and Busy when their token asks too often.
        """
        self._authenticator.require(caller, scope)
        self._rates.take(caller, scope, self._gateway.config.rates, trio.current_time())

    def require(self, caller: Caller, scope: Scope) -> None:
        """Return if the caller may ask for what needs `scope`, now. Raises Unauthenticated and PolicyError."""
        self._authenticator.require(caller, scope)


async def keep_local_token(gateway: Gateway, state_dir: Path, context: RequestContext, now_ms: float) -> None:
    """See to it that `token` in the state directory (mode 0600) holds a token that opens, of the context's principal.

    One that opens is left as it is. If cancelled between the token and its file, the next start makes another one.
    """
    path = state_dir / TOKEN_FILE
    found = gateway.tokens.find(hash_of(_read(path)))
    if found is not None and found.principal == context.principal and not found.expired(now_ms):
        return
    issued = await gateway.submit(CreateToken("local user", context.principal, LOCAL_SCOPES), context)
    assert isinstance(issued, TokenIssued)
    await trio.to_thread.run_sync(replace_private, path, f"{issued.secret}\n".encode())


def _read(path: Path) -> str:
    try:
        return path.read_text("utf-8", "replace").strip()
    except FileNotFoundError:
        return ""
