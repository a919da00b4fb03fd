"""`palyra-trio connect`: get to know a daemon elsewhere once, and pin what it shows."""

import os
from collections.abc import Generator
from contextlib import contextmanager
from typing import TextIO

import attrs
import click
import trio

from palyra_trio.cli.open import confirm
from palyra_trio.cli.profiles import Profile, parse_url, save
from palyra_trio.cli.remote import open_remote
from palyra_trio.core.errors import InvalidArgument, NoDaemon, PeerError


@click.command()
@click.argument("url")
@click.option("--name", default="default", help="Save it under this name, for --daemon NAME.")
@click.option(
    "--token-file", type=click.File(), help="Read the token from this file (- for stdin); else it is asked for."
)
@click.option("--yes", is_flag=True, help="Pin the certificate without asking.")
def connect(url: str, name: str, token_file: TextIO | None, yes: bool) -> None:
    """Try the daemon at URL (grpcs://HOST:PORT) and save it as a profile.

    A certificate that no authority of this system vouches for is shown by its fingerprint, and pinned if you accept it.
    """
    token = token_file.read().strip() if token_file is not None else click.prompt("token", hide_input=True, err=True)
    if not token.isascii() or not token.isprintable():
        raise InvalidArgument("that is no token", remedy="a token is what `palyra-trio token create` printed, one line")
    profile = attrs.evolve(parse_url(url), token=token)
    with _answering(profile):
        if profile.tls and not trio.run(_vouched_for, profile):
            profile = attrs.evolve(profile, fingerprint=_fingerprint(profile, yes))
    version = trio.run(_version, profile)
    path = save(os.environ, name, profile)
    click.echo(f"connected to {profile.address} (version {version}); saved as {name} in {path}", err=True)


async def _version(profile: Profile) -> str:
    async with open_remote(profile.dial, profile.address, profile.metadata) as remote:
        return (await remote.health()).version


async def _vouched_for(profile: Profile) -> bool:
    try:
        await trio.aclose_forcefully(await profile.dial())
    except PeerError:
        return False
    return True


def _fingerprint(profile: Profile, yes: bool) -> str:
    shown = trio.run(profile.shown_fingerprint)
    pairs = ":".join(shown[place : place + 2] for place in range(0, len(shown), 2)).upper()
    click.echo(
        f"{profile.address} shows a certificate that no authority here vouches for:\n  SHA-256 {pairs}", err=True
    )
    confirm("Is this the daemon that you mean?", yes)
    return shown


@contextmanager
def _answering(profile: Profile) -> Generator[None, None, None]:
    try:
        yield
    except OSError as error:
        raise NoDaemon(f"{profile.address} does not answer: {error}") from error
