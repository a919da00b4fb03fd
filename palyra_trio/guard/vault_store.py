"""The vault's file in the data directory: read, opened with the key that can be found, changed under a lock.

Nobody is asked for a passphrase here; whoever can ask passes the key.
"""

import os
from collections.abc import Callable
from pathlib import Path

import attrs

from palyra_trio.core.errors import ConfigInvalid, NotFound
from palyra_trio.guard.private_file import changing, private_folder, read_private, replace_private
from palyra_trio.guard.vault import FILE_BYTES, Random, Vault, VaultFile, decode_vault, encode_vault
from palyra_trio.guard.vault_key import KeyPlaces, find_key

FOLDER = "vault"
FILE_NAME = "vault.json"


@attrs.frozen
class VaultStore:
    """A vault's place below `state_dir`, and where its keys are looked for."""

    state_dir: Path
    places: KeyPlaces
    random: Random = os.urandom

    @property
    def path(self) -> Path:
        return self.state_dir / FOLDER / FILE_NAME

    def read(self) -> VaultFile | None:
        """Return the vault as it is stored, None where there is none. Raises ConfigInvalid."""
        if not os.path.lexists(self.path.parent):
            return None
        private_folder(self.path.parent)
        raw = read_private(self.path, FILE_BYTES)
        return decode_vault(raw) if raw is not None else None

    def open(self, key: bytes | None = None) -> Vault:
        """Open the vault, with the key that can be found where none is given. Raises NotFound, and ConfigInvalid."""
        file = self.read()
        if file is None:
            raise NotFound("there is no vault yet", remedy="palyra-trio secrets set NAME makes one")
        return Vault.unlock(file, key or find_key(file.lock, self.places, file.vault_id), self.random)

    def change(self, change: Callable[[Vault], Vault], key: bytes | None = None) -> Vault:
        """Store what `change` makes of the vault, which nobody else changes meanwhile, and return it."""
        with changing(self.path.parent):
            changed = change(self.open(key))
            replace_private(self.path, encode_vault(changed.file))
            return changed

    def create(self, vault: Vault) -> None:
        """Store a new vault. Raises ConfigInvalid when there is one already."""
        self.state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        with changing(self.path.parent):
            if os.path.lexists(self.path):
                raise ConfigInvalid(
                    "there is a vault already", remedy="palyra-trio secrets rotate gives it another key"
                )
            replace_private(self.path, encode_vault(vault.file))
