"""Where the vault of this machine's user lies, and what it is opened with. Nothing is read here."""

import os
from collections.abc import Mapping
from pathlib import Path

from palyra_trio.cli.settings import current_folder, find_state_dir, user_file
from palyra_trio.guard.vault_key import KeyPlaces
from palyra_trio.guard.vault_store import VaultStore


def vault_store(environ: Mapping[str, str] = os.environ) -> VaultStore:
    """Return the vault of the state directory: key files beside the user's configuration, opened keys in XDG_RUNTIME_DIR."""
    runtime = environ.get("XDG_RUNTIME_DIR", "")
    keys = KeyPlaces(user_file(environ).parent, Path(runtime) if os.path.isabs(runtime) else None)
    return VaultStore(find_state_dir(environ, current_folder()), keys)
