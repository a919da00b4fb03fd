"""The vault: secrets sealed one by one, and what finds out when somebody changed them. Pure; the format is in docs/vault.md.

Every secret is sealed with AES-256-GCM (NIST SP 800-38D) under one random data key, with a nonce of its own and bound to
its vault, name, version and scope. The data key is wrapped by a key that lies elsewhere. A seal over all rows tells an
older row from the newest one. The whole file put back as it once was cannot be told by the file alone.
"""

import hmac
from collections.abc import Callable, Iterable

import attrs
import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from palyra_trio.core.chain import canonical_json
from palyra_trio.core.errors import ConfigInvalid, InvalidArgument, NotFound
from palyra_trio.core.references import check_secret_name
from palyra_trio.guard.secret_value import SecretValue

FORMAT = 1
KEY_BYTES = 32
SECRET_BYTES = 64 * 1024
SECRETS = 1000
FILE_BYTES = 128 * 1024 * 1024  # what so many secrets of that size take, in base64
_NONCE_BYTES = 12

Random = Callable[[int], bytes]


@attrs.frozen
class Lock:
    """What the vault's key comes from: `key_file`, `passphrase` or `keyring`. `place` says where it is, `salt` is Argon2's."""

    kind: str
    place: str = ""
    salt: bytes = b""


@attrs.frozen
class Scope:
    """Whose a secret is, and, where they are given, the only tools and hosts that it may be used for."""

    principal: str
    tools: tuple[str, ...] = ()
    hosts: tuple[str, ...] = ()


@attrs.frozen
class Row:
    """A sealed secret. `version` counts how often it was set; `changed_ms` is Unix time."""

    name: str
    scope: Scope
    version: int
    changed_ms: int
    nonce: bytes
    sealed: bytes

    def bound_to(self, vault_id: str) -> bytes:
        scope = self.scope
        place = [vault_id, self.name, self.version, scope.principal, scope.tools, scope.hosts, self.changed_ms]
        return canonical_json(place)


@attrs.frozen
class VaultFile:
    """The vault as it is stored, with which nothing can be read but names, scopes and times. `revision` counts changes."""

    vault_id: str
    lock: Lock
    wrap_nonce: bytes
    wrapped_key: bytes
    seal_nonce: bytes = b""
    seal: bytes = b""
    revision: int = 0
    rows: tuple[Row, ...] = ()
    format: int = FORMAT

    def row(self, principal: str, name: str) -> Row | None:
        return next((row for row in self.rows if (row.scope.principal, row.name) == (principal, name)), None)


_decoder = msgspec.json.Decoder(VaultFile)


def encode_vault(file: VaultFile) -> bytes:
    return msgspec.json.format(canonical_json(file), indent=1) + b"\n"


def decode_vault(raw: bytes) -> VaultFile:
    """Return the vault that `encode_vault` wrote. Raises ConfigInvalid."""
    try:
        file = _decoder.decode(raw)
    except (ValueError, RecursionError) as error:
        raise ConfigInvalid(f"the vault is damaged: {error}", remedy="restore it from a copy") from error
    if file.format != FORMAT:
        raise ConfigInvalid(
            f"the vault has format {file.format}, and this program knows {FORMAT}", remedy="use the newer one"
        )
    return file


class Vault:
    """An open vault. A change makes another one; whoever stores its `file` makes it last."""

    def __init__(self, file: VaultFile, data_key: bytes, values: Iterable[SecretValue], random: Random) -> None:
        self.file = file
        self._data_key = data_key
        self._values = tuple(values)
        self._random = random

    @classmethod
    def create(cls, vault_id: str, lock: Lock, key: bytes, random: Random) -> "Vault":
        """Return an empty vault that `key` opens."""
        return cls(VaultFile(vault_id, lock, b"", b""), b"", (), random).rotated(lock, key)

    @classmethod
    def unlock(cls, file: VaultFile, key: bytes, random: Random) -> "Vault":
        """Open the vault and check all of it. Raises ConfigInvalid for a wrong key and for whatever was changed."""
        try:
            data_key = AESGCM(key).decrypt(file.wrap_nonce, file.wrapped_key, _bound(file))
        except (InvalidTag, ValueError):
            raise ConfigInvalid(
                "the key does not open the vault: it is another one, or what the vault says of it was changed",
                remedy="look at which key file, passphrase or keyring this vault was made with",
            ) from None
        cipher, values = AESGCM(data_key), []
        for row in file.rows:
            try:
                raw = cipher.decrypt(row.nonce, row.sealed, row.bound_to(file.vault_id))
            except (InvalidTag, ValueError):
                raise ConfigInvalid(
                    f"the vault's row of {row.name} is not what was written: it was changed, moved or comes from elsewhere",
                    remedy="restore the vault from a copy, or remove the row and set the secret again",
                ) from None
            values.append(SecretValue(raw.decode()))
        try:
            cipher.decrypt(file.seal_nonce, file.seal, _sealed(file))
        except (InvalidTag, ValueError):
            raise ConfigInvalid(
                "the vault's rows are not those that were written last: one was put back as it once was, or left out",
                remedy="restore the vault from a copy",
            ) from None
        return cls(file, data_key, values, random)

    def __repr__(self) -> str:
        return f"<vault {self.file.vault_id}, {len(self._values)} secrets>"

    @property
    def marker_key(self) -> bytes:
        """What redaction markers are made with: another one after `rotated`."""
        return hmac.digest(self._data_key, b"redaction markers", "sha256")

    def values(self) -> tuple[SecretValue, ...]:
        """Return every secret, in the order of `file.rows`."""
        return self._values

    def value(self, principal: str, name: str) -> SecretValue:
        """Return one secret. Raises NotFound."""
        for row, value in zip(self.file.rows, self._values, strict=True):
            if (row.scope.principal, row.name) == (principal, name):
                return value
        raise missing(name)

    def with_secret(self, name: str, value: str, scope: Scope, now_ms: int) -> "Vault":
        """Return the vault with a secret set, in the place of the one of that name. Raises InvalidArgument."""
        size = len(value.encode())
        if not 0 < size <= SECRET_BYTES:
            raise InvalidArgument(f"a secret has 1 to {SECRET_BYTES} bytes, not {size}")
        old = self.file.row(scope.principal, check_secret_name(name))
        if old is None and len(self.file.rows) == SECRETS:
            raise InvalidArgument(f"the vault holds {SECRETS} secrets already", remedy="remove one with secrets rm")
        row = self._seal(Row(name, scope, old.version + 1 if old else 1, now_ms, b"", b""), value)
        kept = [each for each in zip(self.file.rows, self._values, strict=True) if each[0] is not old]
        return self._with([*kept, (row, SecretValue(value))])

    def without(self, principal: str, name: str) -> "Vault":
        """Return the vault without a secret. Raises NotFound."""
        old = self.file.row(principal, name)
        if old is None:
            raise missing(name)
        return self._with([each for each in zip(self.file.rows, self._values, strict=True) if each[0] is not old])

    def rotated(self, lock: Lock, key: bytes) -> "Vault":
        """Return the vault with a new data key, wrapped by `key`, and every secret sealed anew. Versions stay."""
        data_key, nonce = self._random(KEY_BYTES), self._random(_NONCE_BYTES)
        file = attrs.evolve(self.file, lock=lock)
        wrapped = AESGCM(key).encrypt(nonce, data_key, _bound(file))
        file = attrs.evolve(file, wrap_nonce=nonce, wrapped_key=wrapped)
        new = Vault(file, data_key, self._values, self._random)
        return new._with(
            [(new._seal(row, value.reveal()), value) for row, value in zip(file.rows, self._values, strict=True)]
        )

    def _seal(self, row: Row, value: str) -> Row:
        nonce = self._random(_NONCE_BYTES)
        sealed = AESGCM(self._data_key).encrypt(nonce, value.encode(), row.bound_to(self.file.vault_id))
        return attrs.evolve(row, nonce=nonce, sealed=sealed)

    def _with(self, secrets: Iterable[tuple[Row, SecretValue]]) -> "Vault":
        ordered = sorted(secrets, key=lambda each: (each[0].scope.principal, each[0].name))
        nonce = self._random(_NONCE_BYTES)
        file = attrs.evolve(
            self.file,
            revision=self.file.revision + 1,
            rows=tuple(row for row, _ in ordered),
            seal_nonce=nonce,
            seal=b"",
        )
        file = attrs.evolve(file, seal=AESGCM(self._data_key).encrypt(nonce, b"", _sealed(file)))
        return Vault(file, self._data_key, (value for _, value in ordered), self._random)


def missing(name: str) -> NotFound:
    return NotFound(f"there is no secret {name}", remedy=f"palyra-trio secrets set {name}")


def _bound(file: VaultFile) -> bytes:
    """What the wrapped key is bound to."""
    return canonical_json([file.format, file.vault_id, file.lock])


def _sealed(file: VaultFile) -> bytes:
    """What the seal is over: every row as it is, and how many changes led there."""
    return canonical_json([file.format, file.vault_id, file.revision, file.rows])
