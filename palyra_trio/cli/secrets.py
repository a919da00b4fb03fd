"""`palyra-trio secrets`: keep secrets for tools and providers. A value goes in, and no command ever shows one.

The vault is this machine's, whether or not a daemon runs: a daemon takes up what was changed.
"""

import sys
import time

import click

from palyra_trio.cli.open import principal
from palyra_trio.cli.profiles import chosen
from palyra_trio.cli.tables import json_option, print_json, print_table
from palyra_trio.cli.vault_place import vault_store
from palyra_trio.core.errors import ConfigInvalid, InvalidArgument, NotFound
from palyra_trio.core.identity import mint_ulid, parse_principal
from palyra_trio.core.references import USE_PREFIX, check_secret_name
from palyra_trio.core.words import age
from palyra_trio.guard.redact_known import MIN_BYTES
from palyra_trio.guard.vault import SECRET_BYTES, Lock, Scope, Vault, VaultFile
from palyra_trio.guard.vault_key import (
    SALT_BYTES,
    find_key,
    forget_key,
    leave_open,
    lock_again,
    new_key,
    passphrase_key,
)
from palyra_trio.guard.vault_store import VaultStore

_KINDS = ("key_file", "passphrase", "keyring")
_PASSPHRASE_CHARACTERS = 12
_PIPED = "pipe it in, with --stdin"

_owner_option = click.option("--principal", "owner", metavar="KIND:NAME", help="Whose secret it is. Without: yours.")
_kind_option = click.option("--key", "kind", type=click.Choice(_KINDS), help="What the vault is to be opened with.")
_stdin_option = click.option("--stdin", "from_stdin", is_flag=True, help="Read it from standard input, and do not ask.")


@click.group()
def secrets() -> None:
    """Keep, list, rotate and remove secrets.

    A tool gets a secret by reference (secret:NAME), where the policy allows it and the secret was set for it; the
    configuration names one as vault:NAME. Neither ever says it, and where it turns up all the same it is masked. See
    docs/vault.md.
    """
    if chosen() is not None:
        raise InvalidArgument(
            "secrets are kept on the machine of the daemon that uses them", remedy="leave out --daemon"
        )


@secrets.command("set")
@click.argument("name")
@click.option(
    "--for-tool", "tools", multiple=True, metavar="TOOL", help="Only for this tool, or those of NAME.*; may repeat."
)
@click.option(
    "--for-host", "hosts", multiple=True, metavar="HOST", help="Only for HOST, HOST:PORT or *.DOMAIN; may repeat."
)
@_stdin_option
@_owner_option
@_kind_option
def set_secret(
    name: str, tools: tuple[str, ...], hosts: tuple[str, ...], from_stdin: bool, owner: str | None, kind: str | None
) -> None:
    """Keep a secret under NAME, in the place of the one that has it. Asks for its value, which is not shown.

    The first one makes the vault, with a key file beside your configuration, unless --key says otherwise.
    """
    check_secret_name(name)
    store, scope = vault_store(), Scope(_owner(owner), tools, hosts)
    file = store.read()
    if file is not None and kind is not None and kind != file.lock.kind:
        raise InvalidArgument(
            f"the vault is opened with a {file.lock.kind}", remedy="palyra-trio secrets rotate changes that"
        )
    value = _from_stdin() if from_stdin else _ask(f"value of {name}", remedy=_PIPED)
    key = _key(store, file) if file is not None else _make(store, kind or "key_file")
    changed = store.change(lambda vault: vault.with_secret(name, value, scope, _now_ms()), key)
    row = changed.file.row(scope.principal, name)
    assert row is not None
    click.echo(f"set {name}, version {row.version}; a tool's argument refers to it as {USE_PREFIX}{name}")
    if len(value.encode()) < MIN_BYTES:
        click.echo(f"warning: it is shorter than {MIN_BYTES} bytes, and so is not masked where it turns up", err=True)


@secrets.command("list")
@json_option
def list_secrets(as_json: bool) -> None:
    """List what is kept: names, and for what. Works while the vault is locked."""
    file = vault_store().read()
    rows = file.rows if file else ()
    if as_json:
        shown = [
            {
                "name": row.name,
                "principal": row.scope.principal,
                "tools": row.scope.tools,
                "hosts": row.scope.hosts,
                "version": row.version,
                "changed_ms": row.changed_ms,
            }
            for row in rows
        ]
        print_json({"secrets": shown, "key": file and file.lock.kind})
        return
    now_ms = _now_ms()
    cells = [
        (
            row.name,
            str(row.version),
            age(row.changed_ms, now_ms),
            row.scope.principal,
            *map(_any, (row.scope.tools, row.scope.hosts)),
        )
        for row in rows
    ]
    print_table(("NAME", "VERSION", "AGE", "PRINCIPAL", "TOOLS", "HOSTS"), cells)
    if not rows:
        click.echo("no secrets yet", err=True)


@secrets.command("rm")
@click.argument("name")
@_owner_option
def remove(name: str, owner: str | None) -> None:
    """Remove a secret. What it opened is to be revoked where it was issued."""
    store, who = vault_store(), _owner(owner)
    store.change(lambda vault: vault.without(who, name), _key(store, _there(store)))
    click.echo(f"removed {name}")


@secrets.command()
@_kind_option
def rotate(kind: str | None) -> None:
    """Give the vault new keys: every secret is sealed anew, and the old key opens nothing any more. Copies of it still do."""
    store = vault_store()
    file = _there(store)
    key = _key(store, file)
    lock, fresh = _new_lock(store, kind or file.lock.kind)
    try:
        store.change(lambda vault: vault.rotated(lock, fresh), key)
    except BaseException:
        forget_key(lock)
        raise
    forget_key(file.lock)
    if lock_again(store.places, file.vault_id) and lock.kind == "passphrase":
        leave_open(store.places, file.vault_id, fresh)
    click.echo(f"the vault has new keys, and is opened with {_in_words(lock)}")


@secrets.command()
@_stdin_option
def unlock(from_stdin: bool) -> None:
    """Open a vault with its passphrase, for the daemon and for this command, until you lock it or log out."""
    store = vault_store()
    file = _there(store)
    if file.lock.kind != "passphrase":
        store.open()
        click.echo(f"the vault is open: it is opened with {_in_words(file.lock)}")
        return
    key = passphrase_key(
        _from_stdin() if from_stdin else _ask("passphrase", twice=False, remedy=_PIPED), file.lock.salt
    )
    store.open(key)
    leave_open(store.places, file.vault_id, key)
    click.echo("the vault is open until you lock it or log out")


@secrets.command()
def lock() -> None:
    """Forget the passphrase that `unlock` was given. A daemon that runs has no secrets from then on."""
    store = vault_store()
    file = _there(store)
    if file.lock.kind != "passphrase":
        raise InvalidArgument(f"the vault is opened with {_in_words(file.lock)}, and has no passphrase to forget")
    click.echo("the vault is locked" if lock_again(store.places, file.vault_id) else "the vault was locked already")


def _owner(text: str | None) -> str:
    return parse_principal(text) if text is not None else principal()


def _there(store: VaultStore) -> VaultFile:
    file = store.read()
    if file is None:
        raise NotFound("there is no vault yet", remedy="palyra-trio secrets set NAME makes one")
    return file


def _key(store: VaultStore, file: VaultFile) -> bytes:
    """Return the vault's key: what can be found, or else what the person's passphrase makes."""
    try:
        return find_key(file.lock, store.places, file.vault_id)
    except ConfigInvalid:
        if file.lock.kind != "passphrase" or not sys.stdin.isatty():
            raise
    return passphrase_key(_ask("passphrase of the vault", twice=False), file.lock.salt)


def _make(store: VaultStore, kind: str) -> bytes:
    lock, key = _new_lock(store, kind)
    try:
        store.create(Vault.create(_new_id(store), lock, key, store.random))
    except BaseException:
        forget_key(lock)
        raise
    click.echo(f"made a vault that is opened with {_in_words(lock)}", err=True)
    return key


def _new_lock(store: VaultStore, kind: str) -> tuple[Lock, bytes]:
    if kind != "passphrase":
        return new_key(kind, store.places, _new_id(store), store.random)
    passphrase = _ask("new passphrase of the vault")
    if len(passphrase) < _PASSPHRASE_CHARACTERS:
        raise InvalidArgument(
            f"a passphrase has {_PASSPHRASE_CHARACTERS} characters or more", remedy="take several words"
        )
    salt = store.random(SALT_BYTES)
    return Lock(kind, salt=salt), passphrase_key(passphrase, salt)


def _ask(what: str, *, twice: bool = True, remedy: str = "run this at a terminal") -> str:
    if not sys.stdin.isatty():
        raise InvalidArgument(f"the {what} is asked for at a terminal, and there is none", remedy=remedy)
    said: str = click.prompt(what, hide_input=True, confirmation_prompt=twice, err=True)
    return said


def _from_stdin() -> str:
    raw = sys.stdin.buffer.read(SECRET_BYTES + 3).removesuffix(b"\n").removesuffix(b"\r")
    try:
        return raw.decode()
    except UnicodeDecodeError:
        raise InvalidArgument("a secret is text in UTF-8", remedy="pass bytes in base64") from None


def _in_words(lock: Lock) -> str:
    return {"key_file": f"the key file {lock.place}", "passphrase": "a passphrase"}.get(lock.kind, "your keyring")


def _any(names: tuple[str, ...]) -> str:
    return ", ".join(names) or "any"


def _new_id(store: VaultStore) -> str:
    return mint_ulid(_now_ms(), store.random(10))


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
