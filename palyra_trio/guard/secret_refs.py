"""Find what a reference to a key stands for: in the environment, a file, the desktop's keyring, the vault, or systemd.

Every look is a new one, so that a key that was changed meanwhile is found. Nothing is kept, and no message quotes a value.
"""

import os
import stat
from collections.abc import Callable, Mapping
from pathlib import Path

import attrs

from palyra_trio.core.errors import ConfigInvalid
from palyra_trio.core.references import Reference, parse_reference
from palyra_trio.guard.secret_value import SecretValue
from palyra_trio.guard.vault import SECRET_BYTES
from palyra_trio.guard.vault_key import open_keyring

CREDENTIALS_VARIABLE = "CREDENTIALS_DIRECTORY"  # systemd.exec(5), LoadCredential=


@attrs.frozen
class References:
    """Where references lead. `vault` returns a secret of the process's user by its name; it raises what the vault raises."""

    environ: Mapping[str, str] = attrs.field(repr=False)
    vault: Callable[[str], SecretValue]

    def resolve(self, text: str) -> SecretValue:
        """Return the key that a reference stands for, without a line break at its end. Reads files; may ask the keyring.

        Raises InvalidArgument for what is no reference, and ConfigInvalid or NotFound, naming the reference, where it leads
        to nothing.
        """
        reference = parse_reference(text)
        found = self._look(reference).rstrip("\r\n")
        if not found:
            raise ConfigInvalid(f"{reference} is empty", remedy="put the key there, or refer to another place")
        return SecretValue(found)

    def _look(self, reference: Reference) -> str:
        name = reference.name
        match reference.kind:
            case "env":
                if name not in self.environ:
                    raise ConfigInvalid(
                        f"{reference}: the variable is not set", remedy=f"export {name}, or refer to another place"
                    )
                return self.environ[name]
            case "file":
                return _read(Path(name), reference)
            case "systemd-creds":
                folder = self.environ.get(CREDENTIALS_VARIABLE)
                if not folder:
                    raise ConfigInvalid(
                        f"{reference}: systemd has passed no credentials",
                        remedy=f"add LoadCredential={name}:PATH to the unit",
                    )
                return _read(Path(folder, name), reference)
            case "keyring":
                service, _, user = name.partition("/")
                kept = open_keyring().get_password(service, user)
                if kept is None:
                    raise ConfigInvalid(
                        f"{reference}: the keyring holds no such entry", remedy=f"keyring set {service} {user}"
                    )
                return str(kept)
            case _:
                return self.vault(name).reveal()


def _read(path: Path, reference: Reference) -> str:
    """Return what a file holds that only its owner may read; root's may be read by others, as those of containers are."""
    try:
        with open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK | os.O_CLOEXEC)) as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise ConfigInvalid(f"{reference}: it is no regular file")
            others = stat.S_IWGRP | stat.S_IWOTH if status.st_uid == 0 else stat.S_IRWXG | stat.S_IRWXO
            if status.st_uid not in {0, os.geteuid()}:
                raise ConfigInvalid(f"{reference}: the file belongs to another user", remedy="make it your own")
            if status.st_mode & others:
                raise ConfigInvalid(f"{reference}: others may get at the file", remedy=f"chmod go-rwx {path}")
            raw = file.read(SECRET_BYTES + 1)
    except OSError as error:
        raise ConfigInvalid(f"{reference}: {error.strerror}", remedy="look at the path, and who may read it") from error
    if len(raw) > SECRET_BYTES:
        raise ConfigInvalid(f"{reference}: the file is larger than {SECRET_BYTES} bytes")
    try:
        return raw.decode()
    except UnicodeDecodeError:
        raise ConfigInvalid(f"{reference}: the file is not UTF-8") from None
