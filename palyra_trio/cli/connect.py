"""`palyra-trio connect`: get to know a daemon elsewhere once, and pin what it shows."""

import os
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

import attrs
import click
import trio

from palyra_trio.cli.open import confirm
from palyra_trio.cli.profiles import Profile, parse_url, save, save_authority
from palyra_trio.cli.remote import open_remote
from palyra_trio.cli.ways import Transport
from palyra_trio.core.errors import InvalidArgument, NoDaemon, PeerError
from palyra_trio.pb.gateway_pb2 import GetHealthResponse
from palyra_trio.wire.authority import fingerprint, is_authority, pem_of, spelled


@click.command()
@click.argument("url")
@click.option("--name", default="default", help="Save it under this name, for --daemon NAME.")
@click.option(
    "--token-file", type=click.File(), help="Read the token from this file (- for stdin); else it is asked for."
)
@click.option(
    "--ca",
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    help="Trust this authority (PEM) and no other.",
)
@click.option(
    "--client",
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    help="A certificate with its key (PEM), for a daemon that asks its clients for one over HTTP/3.",
)
@click.option("--yes", is_flag=True, help="Pin what is shown without asking.")
def connect(url: str, name: str, token_file: TextIO | None, ca: Path | None, client: Path | None, yes: bool) -> None:
    """Try the daemon at URL (grpcs://HOST:PORT) and save it as a profile, with the port at which it serves HTTP/3.

    A daemon shows a certificate of its own authority, unless it was given files. That authority is pinned: by --ca, with
    `tls/ca.pem` of the daemon's state directory, or by its fingerprint, if you accept it; `status` there says the same one.
    A certificate whose authority is not shown, or does not vouch for HOST, is pinned itself, until it is replaced.
    """
    token = token_file.read().strip() if token_file is not None else click.prompt("token", hide_input=True, err=True)
    if not token.isascii() or not token.isprintable():
        raise InvalidArgument("that is no token", remedy="a token is what `palyra-trio token create` printed, one line")
    profile = attrs.evolve(parse_url(url), token=token, client_file=str(client.resolve()) if client else "")
    if ca is not None:
        if not profile.tls:
            raise InvalidArgument(f"--ca has no meaning without TLS, and {url} has none", remedy="write grpcs://")
        profile = attrs.evolve(profile, ca_file=save_authority(os.environ, ca.read_bytes()))
    with _answering(profile):
        if profile.tls and ca is None and not trio.run(_is_vouched_for, profile):
            profile = _pinned(profile, yes)
    health = trio.run(_health, profile)
    if health.quic_port:
        authority = save_authority(os.environ, health.authority_pem.encode())
        profile = attrs.evolve(profile, quic_port=health.quic_port, quic_ca_file=authority)
    path = save(os.environ, name, profile)
    http_3 = f", HTTP/3 on UDP port {health.quic_port}" if health.quic_port else ""
    click.echo(
        f"connected to {profile.address} (version {health.version}{http_3}); saved as {name} in {path}", err=True
    )


async def _health(profile: Profile) -> GetHealthResponse:
    async with open_remote(*profile.ways(Transport.H2)) as remote:
        return await remote.health()


async def _is_vouched_for(profile: Profile) -> bool:
    try:
        await trio.aclose_forcefully(await profile.dial())
    except PeerError:
        return False
    return True


def _pinned(profile: Profile, yes: bool) -> Profile:
    """Return the profile with what it shows, if the person accepts that: the authority, or else the certificate itself."""
    own, *above = trio.run(profile.shown)
    for der in above:
        if is_authority(der):
            by_authority = attrs.evolve(profile, ca_file=save_authority(os.environ, pem_of(der)))
            if trio.run(_is_vouched_for, by_authority):
                _accept(profile, "a certificate of an authority that nobody here vouches for", fingerprint(der), yes)
                return by_authority
    _accept(profile, "a certificate that no authority here vouches for", fingerprint(own), yes)
    return attrs.evolve(profile, fingerprint=fingerprint(own))


def _accept(profile: Profile, what: str, shown: str, yes: bool) -> None:
    click.echo(f"{profile.address} shows {what}:\n  SHA-256 {spelled(shown)}", err=True)
    confirm("Is this the daemon that you mean?", yes)


@contextmanager
def _answering(profile: Profile) -> Generator[None, None, None]:
    try:
        yield
    except OSError as error:
        raise NoDaemon(f"{profile.address} does not answer: {error}") from error
