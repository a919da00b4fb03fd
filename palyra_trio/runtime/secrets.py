"""The secrets of this installation, for the runtime: kept in step with the vault, looked up, and masked everywhere else.

A vault that is locked is no reason to stop: what was asked of it fails, and says so.
"""

import logging
import os
from collections.abc import Callable, Mapping

import attrs
import trio

from palyra_trio.core.errors import ConfigInvalid, InvalidArgument, NotFound, PalyraError
from palyra_trio.core.policy import SecretResource
from palyra_trio.core.references import SecretReference
from palyra_trio.guard.auth import user_principal
from palyra_trio.guard.redact_known import MIN_BYTES
from palyra_trio.guard.secret_refs import References
from palyra_trio.guard.secret_value import SecretValue
from palyra_trio.guard.vault import Row, Scope, Vault
from palyra_trio.guard.vault_keeper import SecretUse, VaultKeeper
from palyra_trio.tools.secret_use import NO_SECRETS, ToolSecrets

MAKE_A_VAULT = "palyra-trio secrets set NAME makes one"

_log = logging.getLogger(__name__)


@attrs.frozen
class Kept:
    """What the vault holds of a principal's: names and scopes, no values. `rows` is None without a vault.

    `locked` says why none of it is to be had, or is "".
    """

    rows: tuple[Row, ...] | None
    locked: str


class Secrets:
    """What the vault holds, where there is one, and where the references of the configuration lead."""

    def __init__(self, keeper: VaultKeeper | None, environ: Mapping[str, str]) -> None:
        self._keeper = keeper
        self._references = References(environ, self._of_the_user)

    async def refresh(self) -> None:
        """Take up what was changed in the vault, so that it is masked from now on. Costs two `stat` when nothing was."""
        if self._keeper is None or not self._keeper.stale:
            return
        try:
            if await trio.to_thread.run_sync(self._keeper.refresh) and self._keeper.locked:
                _log.warning("the vault is locked: %s", self._keeper.locked)
        except PalyraError as error:
            _log.warning("the vault cannot be read: %s", error)

    async def kept(self, principal: str) -> Kept:
        """Return what the vault holds of a principal's. Raises ConfigInvalid for a vault that cannot be read."""
        keeper = self._keeper
        rows = None if keeper is None else await trio.to_thread.run_sync(keeper.kept, principal)
        return Kept(rows, keeper.locked if keeper is not None else "")

    async def keep(self, name: str, value: str, scope: Scope, now_ms: int) -> None:
        """Keep a secret, in the place of the one of that name. It is masked from now on.

        Raises InvalidArgument, NotFound without a vault, and ConfigInvalid while it is locked.
        """
        if len(value.encode()) < MIN_BYTES:
            raise InvalidArgument(
                f"a secret of less than {MIN_BYTES} bytes could not be masked where it turns up",
                remedy="use a longer one",
            )
        await self._change(lambda vault: vault.with_secret(name, value, scope, now_ms))

    async def remove(self, principal: str, name: str) -> None:
        """Remove a secret of a principal's. Raises NotFound, and ConfigInvalid while the vault is locked."""
        await self._change(lambda vault: vault.without(principal, name))

    async def _change(self, edit: Callable[[Vault], Vault]) -> None:
        if self._keeper is None:
            raise NotFound("this process has no vault", remedy=MAKE_A_VAULT)
        await trio.to_thread.run_sync(self._keeper.change, edit)

    @property
    def locked(self) -> str:
        """Why the vault cannot be opened, or "" where it can, or there is none."""
        return self._keeper.locked if self._keeper is not None else ""

    def key(self, reference: str) -> str:
        """Return the provider's key that a reference stands for, and have it masked. Reads files: for a thread.

        Raises what `guard.secret_refs` and the vault raise.
        """
        if self._keeper is not None:
            self._keeper.refresh()
        value = self._references.resolve(reference)
        if self._keeper is not None:
            self._keeper.mask_too(value)
        return value.reveal()

    def of(self, principal: str, tool: str) -> ToolSecrets:
        """Return what a call of `tool` may see of the secrets, in a run of `principal`'s."""
        return NO_SECRETS if self._keeper is None else CallSecrets(self._keeper, principal, tool)

    def _of_the_user(self, name: str) -> SecretValue:
        if self._keeper is None:
            raise ConfigInvalid(f"vault:{name}: this process has no vault", remedy="refer to another place")
        return self._keeper.value(user_principal(os.getuid()), name)


@attrs.frozen
class CallSecrets:
    """The secrets of a principal, for the calls of one tool. See `tools.secret_use`."""

    _keeper: VaultKeeper
    _principal: str
    _tool: str

    def look(self, name: str, host: str, port: int) -> SecretResource:
        scope = self._keeper.scope(name, SecretUse(self._principal, self._tool, host, port))
        return SecretResource(name, host, port, scope.tools, scope.hosts)

    def reveal(self, reference: SecretReference, host: str, port: int) -> str:
        return self._keeper.resolve(reference, SecretUse(self._principal, self._tool, host, port)).reveal()
