"""What is sealed comes back only whole, in its place, under its key and as it was written last."""

import os
from typing import Any

import attrs
import pytest

from palyra_trio.core.errors import ConfigInvalid, InvalidArgument, NotFound
from palyra_trio.guard.vault import SECRET_BYTES, Lock, Scope, Vault, VaultFile, decode_vault, encode_vault

KEY = bytes(range(32))
LOCK = Lock("key_file", "/keys/a.key")
MINE = Scope("user:me")
VALUE = "the value of A"


@pytest.fixture
def vault() -> Vault:
    empty = Vault.create("01VAULT", LOCK, KEY, os.urandom)
    return empty.with_secret("A", VALUE, Scope("user:me", ("fetch.*",), ("h",)), 5).with_secret("B", "of B", MINE, 6)


def opened(file: VaultFile, key: bytes = KEY) -> Vault:
    return Vault.unlock(decode_vault(encode_vault(file)), key, os.urandom)


def test_a_secret_comes_back_and_stands_nowhere_in_the_file(vault: Vault) -> None:
    stored = encode_vault(vault.file)
    assert opened(vault.file).value("user:me", "A").reveal() == VALUE
    assert VALUE.encode() not in stored
    assert b'"A"' in stored  # names are no secret
    assert VALUE not in repr(vault) + repr(vault.file) + str(vault.values())


def test_each_secret_has_its_own_nonce_and_each_change_new_ones(vault: Vault) -> None:
    again = vault.with_secret("A", VALUE, MINE, 5)
    nonces = [row.nonce for row in (*vault.file.rows, *again.file.rows)]
    assert len(set(nonces)) == 3  # B's row is the same
    assert again.file.seal_nonce != vault.file.seal_nonce


def test_one_name_is_a_secret_for_each_principal(vault: Vault) -> None:
    both = vault.with_secret("A", "of another", Scope("user:other"), 7)
    assert both.value("user:me", "A").reveal() == VALUE
    assert opened(both.file).value("user:other", "A").reveal() == "of another"


def test_a_secret_that_is_set_again_has_the_next_version(vault: Vault) -> None:
    new = vault.with_secret("A", "new", MINE, 9)
    row = new.file.row("user:me", "A")
    assert row is not None
    assert (row.version, row.changed_ms, row.scope) == (2, 9, MINE)
    assert opened(new.file).value("user:me", "A").reveal() == "new"


def test_what_was_removed_is_not_there(vault: Vault) -> None:
    less = vault.without("user:me", "A")
    for call in (lambda: opened(less.file).value("user:me", "A"), lambda: less.without("user:me", "A")):
        with pytest.raises(NotFound, match="there is no secret A"):
            call()


@pytest.mark.parametrize("value", ["", "x" * (SECRET_BYTES + 1), "é" * (SECRET_BYTES // 2 + 1)])
def test_a_secret_is_bounded(vault: Vault, value: str) -> None:
    with pytest.raises(InvalidArgument, match="1 to 65536 bytes"):
        vault.with_secret("A", value, MINE, 0)
    assert vault.with_secret("A", "x" * SECRET_BYTES, MINE, 0)


def test_rotation_seals_everything_anew_under_a_key_that_alone_opens_it(vault: Vault) -> None:
    other = bytes(32)
    rotated = vault.rotated(Lock("passphrase", salt=b"salt"), other)
    before, after = vault.file.rows, rotated.file.rows
    assert opened(rotated.file, other).value("user:me", "A").reveal() == VALUE
    assert not {row.sealed for row in before} & {row.sealed for row in after}
    assert [row.version for row in before] == [row.version for row in after]
    assert rotated.marker_key != vault.marker_key
    with pytest.raises(ConfigInvalid, match="the key does not open the vault"):
        opened(rotated.file)


# --- what somebody changed ---


def changed_row(file: VaultFile, **changes: Any) -> VaultFile:
    return attrs.evolve(file, rows=(attrs.evolve(file.rows[0], **changes), *file.rows[1:]))


def test_another_key_opens_nothing(vault: Vault) -> None:
    for key in (bytes(32), b"short"):
        with pytest.raises(ConfigInvalid, match="the key does not open the vault"):
            opened(vault.file, key)


@pytest.mark.parametrize(
    "changes",
    [
        {"name": "C"}, {"version": 2}, {"changed_ms": 6}, {"nonce": bytes(12)}, {"nonce": b""}, {"sealed": b""},
        {"scope": Scope("user:other", ("fetch.*",), ("h",))}, {"scope": Scope("user:me", ("fetch.*",), ())},
        {"scope": Scope("user:me", (), ("h",))}, {"sealed": bytes(30)},
    ],
    ids=str,
)  # fmt: skip
def test_a_row_that_was_changed_is_named(vault: Vault, changes: dict[str, Any]) -> None:
    name = changes.get("name", "A")
    with pytest.raises(ConfigInvalid, match=f"row of {name} is not what was written"):
        opened(changed_row(vault.file, **changes))


def test_two_rows_whose_values_were_swapped_are_found(vault: Vault) -> None:
    _, b = vault.file.rows
    with pytest.raises(ConfigInvalid, match="is not what was written"):
        opened(changed_row(vault.file, nonce=b.nonce, sealed=b.sealed))


def test_a_row_of_another_vault_is_found(vault: Vault) -> None:
    with pytest.raises(ConfigInvalid, match="the key does not open the vault"):
        opened(attrs.evolve(vault.file, vault_id="01OTHER"))


def test_a_row_that_was_put_back_as_it_once_was_is_found(vault: Vault) -> None:
    new = vault.with_secret("A", "new", MINE, 9)
    put_back = attrs.evolve(new.file, rows=(vault.file.rows[0], new.file.rows[1]))
    with pytest.raises(ConfigInvalid, match="put back as it once was, or left out"):
        opened(put_back)


def test_a_row_that_was_removed_and_set_again_is_not_the_old_one(vault: Vault) -> None:
    anew = vault.without("user:me", "A").with_secret("A", "new", vault.file.rows[0].scope, 5)
    put_back = attrs.evolve(anew.file, rows=(vault.file.rows[0], anew.file.rows[1]))
    with pytest.raises(ConfigInvalid, match="put back as it once was"):
        opened(put_back)


@pytest.mark.parametrize("rows", [slice(0, 1), slice(0, 0), slice(None, None, -1)])
def test_rows_that_were_left_out_or_moved_are_found(vault: Vault, rows: slice) -> None:
    with pytest.raises(ConfigInvalid, match="or left out"):
        opened(attrs.evolve(vault.file, rows=vault.file.rows[rows]))


@pytest.mark.parametrize(
    "change", [{"lock": Lock("key_file", "/elsewhere")}, {"wrapped_key": bytes(48)}, {"wrap_nonce": b""}]
)
def test_what_the_vault_says_of_its_key_cannot_be_changed(vault: Vault, change: dict[str, Any]) -> None:
    with pytest.raises(ConfigInvalid, match="the key does not open the vault"):
        opened(attrs.evolve(vault.file, **change))


@pytest.mark.parametrize(
    "raw", [b"", b"{}", b"[]", b"\xff", b'{"vault_id": 1}', b'{"x": ' + b"[" * 20_000], ids=range(6)
)
def test_what_is_no_vault_is_said_to_be_damaged(raw: bytes) -> None:
    with pytest.raises(ConfigInvalid, match="the vault is damaged"):
        decode_vault(raw)


def test_a_vault_of_another_format_is_left_alone(vault: Vault) -> None:
    with pytest.raises(ConfigInvalid, match="has format 2"):
        decode_vault(encode_vault(attrs.evolve(vault.file, format=2)))
