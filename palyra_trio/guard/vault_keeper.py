"""The secrets of a running process: the vault as it is now, or why it is locked, and who may use which secret for what.

A vault that cannot be opened stops nothing: there are then no secrets, and `locked` says why. The redactor is told every
value. A tool gets a secret by reference only, for what the secret was set for; whether it may ask for one is policy's.
"""

import os
from collections.abc import Callable

import attrs

from palyra_trio.core.errors import ConfigInvalid, NotFound, PalyraError, PolicyError
from palyra_trio.core.references import SecretReference
from palyra_trio.guard.redact_known import MIN_BYTES
from palyra_trio.guard.redactor import Redactor
from palyra_trio.guard.secret_value import SecretValue
from palyra_trio.guard.vault import Row, Scope, Vault, missing
from palyra_trio.guard.vault_store import VaultStore

OTHERS = 64  # more keys than one process uses at a time; the automaton is built anew for each

_Seen = tuple[tuple[int, int, int] | None, ...]


@attrs.frozen
class SecretUse:
    """What a secret is wanted for: by whose run, by which tool, and to be sent to which host ("" if to none)."""

    principal: str
    tool: str
    host: str = ""
    port: int = 0


class VaultKeeper:
    """Keeps the vault open, and the redactor told. `refresh` looks whether it was changed; the rest takes it as it is."""

    def __init__(self, store: VaultStore, redactor: Redactor) -> None:
        self._store = store
        self._redactor = redactor
        self._vault: Vault | None = None
        self._seen: _Seen | None = None
        self._others: dict[str, None] = {}
        self.locked = ""

    @property
    def stale(self) -> bool:
        """Whether the vault was changed since the last look: two `stat`."""
        return self._look() != self._seen

    def refresh(self) -> bool:
        """Take up the vault as it is on the disk; return whether it had changed. Reads files, a look alone is two `stat`."""
        seen = self._look()
        if seen == self._seen:
            return False
        self._seen, self._vault, self.locked = seen, None, ""
        try:
            self._vault = self._store.open()
        except NotFound:
            pass
        except PalyraError as error:
            self.locked = str(error)
        self._tell()
        return True

    def kept(self, principal: str) -> tuple[Row, ...] | None:
        """Return what is stored of a principal's, also while the vault is locked; None without a vault. Reads files."""
        file = self._store.read()
        return None if file is None else tuple(row for row in file.rows if row.scope.principal == principal)

    def change(self, edit: Callable[[Vault], Vault]) -> None:
        """Store what `edit` makes of the vault, and take it up, so that what is new is masked. Reads and writes files.

        Raises NotFound without a vault, ConfigInvalid while it is locked, and what `edit` raises.
        """
        self._store.change(edit)
        self.refresh()

    def mask_too(self, value: SecretValue) -> None:
        """Have a secret masked that the vault does not hold, such as a provider's key; the newest OTHERS are."""
        if value.reveal() not in self._others:
            self._others = dict.fromkeys([value.reveal(), *self._others][:OTHERS])
            self._tell()

    def _tell(self) -> None:
        opened = self._vault
        kept = [each.reveal() for each in opened.values()] if opened else []
        self._redactor.know([*kept, *self._others], opened.marker_key if opened else b"")

    def _look(self) -> _Seen:
        path = self._store.path
        keys = self._store.places.runtime_dir
        return tuple(_identity(each) for each in (path, *([keys / "palyra-trio"] if keys else [])))

    def value(self, principal: str, name: str) -> SecretValue:
        """Return a secret of a principal's. Raises NotFound, and ConfigInvalid while the vault is locked."""
        if self.locked:
            raise ConfigInvalid(f"the secret {name} is not to be had: {self.locked}")
        if self._vault is None:
            raise missing(name)
        return self._vault.value(principal, name)

    def scope(self, name: str, use: SecretUse) -> Scope:
        """Return what a secret was set for. Raises PolicyError where that is not this use, and what `value` raises.

        A value that is too short to be found in an answer is given to no tool.
        """
        value = self.value(use.principal, name)
        row = self._vault.file.row(use.principal, name) if self._vault else None
        if row is None:
            raise missing(name)
        _check_use(name, row.scope, use)
        if len(value.reveal().encode()) < MIN_BYTES:
            raise PolicyError(
                f"the secret {name} has less than {MIN_BYTES} bytes, and could not be masked where it turns up",
                remedy="use a longer one",
            )
        return row.scope

    def resolve(self, reference: SecretReference, use: SecretUse) -> SecretValue:
        """Return what a reference stands for in this use, with what stands before it. Raises what `scope` raises."""
        self.scope(reference.name, use)
        return SecretValue(reference.before + self.value(use.principal, reference.name).reveal())


def _check_use(name: str, scope: Scope, use: SecretUse) -> None:
    if scope.tools and not any(_fits_tool(use.tool, pattern) for pattern in scope.tools):
        raise PolicyError(
            f"the secret {name} was set for {', '.join(scope.tools)}, not for {use.tool}",
            remedy=f"palyra-trio secrets set {name} --for-tool {use.tool}",
        )
    if scope.hosts and not any(_fits_host(use, pattern) for pattern in scope.hosts):
        raise PolicyError(
            f"the secret {name} was set for {', '.join(scope.hosts)}, not for {use.host or 'use without a host'}",
            remedy=f"palyra-trio secrets set {name} --for-host HOST",
        )


def _fits_tool(tool: str, pattern: str) -> bool:
    return tool.startswith(pattern[:-1]) if pattern.endswith("*") else tool == pattern


def _fits_host(use: SecretUse, pattern: str) -> bool:
    """Tell whether a host is that of the pattern (`NAME` or `NAME:PORT`), or beneath it where that begins with `*.`."""
    name, _, port = pattern.lower().rpartition(":")
    if not port.isdigit() or (":" in name and not name.endswith("]")):  # no port, or an IPv6 address
        name, port = pattern.lower(), ""
    host, name = use.host.lower().rstrip(".").strip("[]"), name.strip("[]")
    return (host.endswith(name[1:]) if name.startswith("*.") else host == name) and port in {"", str(use.port)}


def _identity(path: os.PathLike[str]) -> tuple[int, int, int] | None:
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_ino, status.st_mtime_ns, status.st_size
