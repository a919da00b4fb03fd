"""The key that opens a vault, from exactly one place: a key file, a passphrase (Argon2id), or the keyring of the desktop.

A key file lies outside of the data directory, so that a copy of that alone opens nothing. A passphrase is asked for by
whoever can ask; the key that comes of it may be left in the user's runtime directory (which is memory, and gone with
the last log-out) for a daemon to find. A keyring is used only when asked for, and only one that encrypts.
"""

import os
from collections.abc import Callable
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Any

import attrs
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

from palyra_trio.core.errors import ConfigInvalid
from palyra_trio.guard.private_file import create_private, private_folder, read_private, replace_private
from palyra_trio.guard.vault import KEY_BYTES, Lock

SALT_BYTES = 16
PASSPHRASE_MEMORY_KIB = (
    64 * 1024
)  # with PASSPHRASE_PASSES and PASSPHRASE_LANES the second choice of RFC 9106, section 4
PASSPHRASE_PASSES = 3
PASSPHRASE_LANES = 4
KEYRING_SERVICE = "palyra-trio"
_UNSAFE_KEYRINGS = ("keyring.backends.fail", "keyring.backends.null", "keyrings.alt")


@attrs.frozen
class KeyPlaces:
    """Where keys lie: key files in `keys_dir`, made only when there is one to make; opened keys in `runtime_dir`, if there is one."""

    keys_dir: Path
    runtime_dir: Path | None = None

    def opened(self, vault_id: str) -> Path | None:
        """Return where the key of an unlocked passphrase vault lies."""
        return self.runtime_dir / "palyra-trio" / f"vault-{vault_id}.key" if self.runtime_dir else None


def new_key(kind: str, places: KeyPlaces, name: str, random: Callable[[int], bytes]) -> tuple[Lock, bytes]:
    """Make and keep a key file or a keyring's entry with this name; return what the vault must say of it, and the key."""
    key = random(KEY_BYTES)
    if kind == "keyring":
        open_keyring().set_password(KEYRING_SERVICE, name, key.hex())
        return Lock(kind, name), key
    path = private_folder(places.keys_dir / "keys") / f"{name}.key"
    try:
        create_private(path, key.hex().encode() + b"\n")
    except OSError as error:
        raise ConfigInvalid(f"the key file {path} cannot be written: {error.strerror}") from error
    return Lock("key_file", str(path)), key


def forget_key(lock: Lock) -> None:
    """Remove a key file or a keyring's entry that opens nothing any more."""
    if lock.kind == "key_file":
        with suppress(FileNotFoundError):
            os.unlink(lock.place)
    elif lock.kind == "keyring":
        open_keyring().delete_password(KEYRING_SERVICE, lock.place)


def passphrase_key(passphrase: str, salt: bytes) -> bytes:
    """Return the key that a passphrase stands for (Argon2id, RFC 9106). Takes 64 MiB and a few tenths of a second."""
    derive = Argon2id(
        salt=salt,
        length=KEY_BYTES,
        iterations=PASSPHRASE_PASSES,
        lanes=PASSPHRASE_LANES,
        memory_cost=PASSPHRASE_MEMORY_KIB,
    )
    return derive.derive(passphrase.encode())


def find_key(lock: Lock, places: KeyPlaces, vault_id: str) -> bytes:
    """Return the key that a vault's lock names, without asking anybody. Raises ConfigInvalid where it is not to be had."""
    if lock.kind == "key_file":
        return _key_of(read_private(Path(lock.place), 1024), f"the key file {lock.place}", "restore it from a copy")
    if lock.kind == "keyring":
        kept = open_keyring().get_password(KEYRING_SERVICE, lock.place)
        return _key_of(kept.encode() if kept else None, "the keyring's entry", "unlock the keyring of your desktop")
    path = places.opened(vault_id)
    if lock.kind != "passphrase" or path is None:
        raise ConfigInvalid(
            f"the vault is locked by a {lock.kind}, and there is no runtime directory to find its key in",
            remedy="set XDG_RUNTIME_DIR to a folder in memory that only you may enter, then palyra-trio secrets unlock",
        )
    return _key_of(read_private(path, 1024), "the passphrase", "palyra-trio secrets unlock")


def leave_open(places: KeyPlaces, vault_id: str, key: bytes) -> None:
    """Leave the key of a passphrase vault where a daemon finds it, until `lock_again` or the last log-out."""
    path = places.opened(vault_id)
    if path is None:
        raise ConfigInvalid(
            "there is no runtime directory to leave the vault's key in",
            remedy="set XDG_RUNTIME_DIR to a folder in memory that only you may enter",
        )
    private_folder(path.parent)
    replace_private(path, key.hex().encode() + b"\n")


def lock_again(places: KeyPlaces, vault_id: str) -> bool:
    """Remove the key that `leave_open` left; return whether there was one."""
    path = places.opened(vault_id)
    if path is None or not path.exists():
        return False
    path.unlink()
    return True


def _key_of(raw: bytes | None, what: str, remedy: str) -> bytes:
    if raw is None:
        raise ConfigInvalid(f"the vault is locked: {what} is missing", remedy=remedy)
    with suppress(ValueError):
        key = bytes.fromhex(raw.decode("ascii", "replace"))
        if len(key) == KEY_BYTES:
            return key
    raise ConfigInvalid(f"the vault is locked: {what} holds no key", remedy=remedy)


def open_keyring() -> Any:
    """Return the keyring of the desktop, which cannot be found where there is none. Raises ConfigInvalid."""
    try:
        keyring: Any = import_module("keyring")
    except ImportError:
        raise ConfigInvalid("the package keyring is not installed", remedy="pip install palyra-trio[keyring]") from None
    module = type(keyring.get_keyring()).__module__
    if module.startswith(_UNSAFE_KEYRINGS):
        raise ConfigInvalid(
            f"there is no keyring here that keeps secrets (found {module})", remedy="use a key file or a passphrase"
        )
    return keyring
