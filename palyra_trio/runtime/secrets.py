"""The secrets of this installation, for the runtime: kept in step with the vault, looked up, and masked everywhere else.

A vault that is locked is no reason to stop: what was asked of it fails, and says so.
"""

import logging
import os
from collections.abc import Mapping

import trio

from palyra_trio.core.errors import ConfigInvalid, PalyraError
from palyra_trio.guard.auth import user_principal
from palyra_trio.guard.secret_refs import References
from palyra_trio.guard.secret_value import SecretValue
from palyra_trio.guard.vault_keeper import VaultKeeper

_log = logging.getLogger(__name__)


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

    def _of_the_user(self, name: str) -> SecretValue:
        if self._keeper is None:
            raise ConfigInvalid(f"vault:{name}: this process has no vault", remedy="refer to another place")
        return self._keeper.value(user_principal(os.getuid()), name)
