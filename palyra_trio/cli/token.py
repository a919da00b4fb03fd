"""`palyra-trio token`: what lets clients in that do not come over the Unix socket of this machine's user."""

import time
from datetime import UTC, datetime
from typing import Any

import attrs
import click

from palyra_trio.cli.door import submit
from palyra_trio.cli.open import has_journal, principal, reading
from palyra_trio.cli.profiles import chosen
from palyra_trio.cli.spans import span_option
from palyra_trio.cli.tables import json_option, print_json, print_newest
from palyra_trio.core.commands import CreateToken, RevokeToken, RotateToken, TokenCommand, TokenIssued
from palyra_trio.core.identity import Scope, parse_ulid
from palyra_trio.core.tokens import Token
from palyra_trio.core.words import age, one_line
from palyra_trio.journal.queries import LIST_ROWS


@click.group()
def token() -> None:
    """Make, list, rotate and revoke access tokens.

    A client sends a token as `authorization: Bearer TOKEN`. It speaks for one principal, and opens what its scopes say:
    none of them implies another. Over the Unix socket in the state directory you need none.
    """


@token.command()
@click.argument("name")
@click.option(
    "--scope",
    "scopes",
    type=click.Choice([each.value for each in Scope]),
    multiple=True,
    required=True,
    help="May repeat.",
)
@click.option(
    "--expires", "expires_in_ms", callback=span_option, metavar="TIME", help="Such as 30d or 12h. Without: never."
)
@click.option("--principal", "speaks_for", metavar="KIND:NAME", help="Whom it speaks for. Without: you.")
@json_option
def create(name: str, scopes: tuple[str, ...], expires_in_ms: int, speaks_for: str | None, as_json: bool) -> None:
    """Make a token, and print its secret. It is shown this once."""
    expires_ms = _now_ms() + expires_in_ms if expires_in_ms else 0
    _print_issued(CreateToken(name, speaks_for or ("" if chosen() else principal()), scopes, expires_ms), as_json)


@token.command("list")
@click.option("--all", "everything", is_flag=True, help="Also those that were revoked.")
@json_option
def list_tokens(everything: bool, as_json: bool) -> None:
    """List the tokens of every principal, newest first."""
    found: tuple[Token, ...] = ()
    if has_journal():
        with reading() as reader:
            found = reader.tokens(revoked=everything)
    now_ms = _now_ms()
    if as_json:
        print_json({"tokens": [_plain(each, now_ms) for each in found]})
        return
    rows = [
        (
            each.token_id,
            age(each.created_ms, now_ms),
            each.state(now_ms),
            _end(each.expires_ms),
            each.principal,
            " ".join(each.scopes),
            each.name,
        )
        for each in found
    ]
    print_newest(("TOKEN", "AGE", "STATE", "EXPIRES", "PRINCIPAL", "SCOPES", "NAME"), rows, LIST_ROWS, "no tokens yet")


@token.command()
@click.argument("token_id", metavar="TOKEN")
@json_option
def revoke(token_id: str, as_json: bool) -> None:
    """End a token now. TOKEN is its id, not its secret."""
    token_id = parse_ulid(token_id, "token id")
    submit(RevokeToken(token_id))
    if as_json:
        print_json({"token_id": token_id, "revoked": True})
    else:
        click.echo(f"revoked token {token_id}")


@token.command()
@click.argument("token_id", metavar="TOKEN")
@json_option
def rotate(token_id: str, as_json: bool) -> None:
    """Give a token a new id and a new secret, and end the old one now. All else stays, its end too."""
    _print_issued(RotateToken(parse_ulid(token_id, "token id")), as_json)


def _print_issued(command: TokenCommand, as_json: bool) -> None:
    issued = submit(command)
    assert isinstance(issued, TokenIssued)
    made = issued.token
    if as_json:
        print_json({**_plain(made, _now_ms()), "secret": issued.secret})
        return
    click.echo(issued.secret)
    click.echo(
        f"token {made.token_id} ({one_line(made.name)}) speaks for {made.principal}, may {', '.join(made.scopes)},"
        f" expires: {_end(made.expires_ms)}; its secret is shown this once",
        err=True,
    )


def _plain(each: Token, now_ms: int) -> dict[str, Any]:
    return {**attrs.asdict(each, filter=lambda field, _: field.name != "hash"), "state": each.state(now_ms)}


def _end(expires_ms: int) -> str:
    return datetime.fromtimestamp(expires_ms / 1000, UTC).strftime("%Y-%m-%d %H:%MZ") if expires_ms else "never"


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
