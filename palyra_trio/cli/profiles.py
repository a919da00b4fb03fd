"""Daemons elsewhere, by name: where they listen, which authority or certificate is theirs, and the token for them.

The file holds tokens, so it is this user's alone. What is pinned is all that is trusted: a daemon that shows another
certificate is not talked to. The certificates of pinned authorities lie beside the file, named by their SHA-256.
"""

import json
import os
import re
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

import attrs
import click
import trio

from palyra_trio.cli.settings import user_file
from palyra_trio.cli.ways import Transport, Way, over_quic, over_stream
from palyra_trio.core.errors import ConfigInvalid, InvalidArgument, NotFound
from palyra_trio.core.text import visible
from palyra_trio.guard.private_file import replace_private
from palyra_trio.wire.tls import client_context, handshake, open_pinned, shown_chain

FILE_NAME = "daemons.json"
AUTHORITIES = "authorities"
DIAL_S = 10.0  # until the connection and its TLS stand
_LOOPBACK = ("127.0.0.1", "::1", "localhost")

T = TypeVar("T")


@attrs.frozen
class Profile:
    """A daemon. `ca_file` is the PEM file of the one authority that is pinned for `grpcs`, and `fingerprint` the SHA-256 of
    the one certificate, in hex. With neither, the system's authorities vouch for the host's name.

    `quic_port` is where the same host serves HTTP/3, vouched for by the authority of `quic_ca_file`; 0 where it does not.
    `client_file` is the PEM file of a certificate and its key, for a daemon that asks for one there.
    """

    host: str
    port: int
    tls: bool
    token: str = attrs.field(repr=False)
    fingerprint: str = ""
    ca_file: str = ""
    quic_port: int = 0
    quic_ca_file: str = ""
    client_file: str = ""

    @property
    def address(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'grpcs' if self.tls else 'grpc'}://{host}:{self.port}"

    @property
    def metadata(self) -> dict[str, str]:
        return {"authorization": f"Bearer {self.token}", "x-palyra-channel": "cli"}

    def ways(self, transport: Transport) -> tuple[Way, ...]:
        """Return the ways to it. Raises InvalidArgument for HTTP/3 where it is not known to be served."""
        tcp = over_stream(self.dial, self.address, self.metadata)
        if transport is Transport.H2 or (transport is Transport.AUTO and not self.quic_port):
            return (tcp,)
        if not self.quic_port:
            raise InvalidArgument(
                f"{self.address} is not known to serve HTTP/3",
                remedy="connect to it again if it does by now, or use --transport h2",
            )
        client = Path(self.client_file) if self.client_file else None
        quic = over_quic(self.host, self.quic_port, Path(self.quic_ca_file), self.metadata, client)
        return (quic,) if transport is Transport.QUIC else (quic, tcp)

    async def dial(self) -> trio.abc.Stream:
        """Return a connected stream, after its TLS handshake. Raises OSError when nobody answers, and PeerError."""
        with trio.move_on_after(DIAL_S):
            return await self._opened(self._secured)
        raise TimeoutError(f"nothing within {DIAL_S:g} s")

    async def shown(self) -> tuple[bytes, ...]:
        """Return the certificates (DER) that are shown there, whoever shows them. Raises as `dial` does."""
        with trio.move_on_after(DIAL_S):
            return await self._opened(lambda stream: shown_chain(stream, self.host))
        raise TimeoutError(f"nothing within {DIAL_S:g} s")

    async def _opened(self, then: Callable[[trio.abc.Stream], Awaitable[T]]) -> T:
        stream = await trio.open_tcp_stream(self.host, self.port)
        try:
            return await then(stream)
        except BaseException:
            await trio.aclose_forcefully(stream)
            raise

    async def _secured(self, stream: trio.abc.Stream) -> trio.abc.Stream:
        if not self.tls:
            return stream
        if self.fingerprint:
            return await open_pinned(stream, self.host, self.fingerprint)
        context = client_context(Path(self.ca_file) if self.ca_file else None)
        secured = trio.SSLStream(stream, context, server_hostname=self.host)
        await handshake(secured)
        return secured


def parse_url(url: str) -> Profile:
    """Return the profile of `grpc://HOST:PORT` or `grpcs://HOST:PORT`, without a token. Raises InvalidArgument.

    Without TLS only loopback is taken: the token would travel in the clear.
    """
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
        host.encode("idna")
    except ValueError:
        host, port = "", None
    if not host or port is None or "@" in url or not re.fullmatch(r"grpcs?://[^/?#]+/?", url):
        raise InvalidArgument(f"{url!r} is no address of a daemon", remedy="write grpcs://HOST:PORT")
    tls = parts.scheme == "grpcs"
    if not tls and host not in _LOOPBACK:
        raise InvalidArgument(
            f"{url} would send the token in the clear", remedy="use grpcs://, or a tunnel to loopback"
        )
    return Profile(host, port, tls, "")


def load(environ: Mapping[str, str], name: str) -> Profile:
    """Return the profile that was saved as `name`. Raises NotFound naming those that exist, and ConfigInvalid."""
    known = _read(user_file(environ).with_name(FILE_NAME))
    if name not in known:
        names = ", ".join(known) or "none yet"
        raise NotFound(
            f"there is no daemon {name!r}",
            remedy=f"`palyra-trio connect URL --name {name}` makes it; there are {names}",
        )
    return known[name]


def save(environ: Mapping[str, str], name: str, profile: Profile) -> Path:
    """Save a profile under a name, in place of one that has it, and return the file (mode 0600)."""
    path = user_file(environ).with_name(FILE_NAME)
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    everything = {key: attrs.asdict(each) for key, each in {**_read(path), name: profile}.items()}
    replace_private(path, json.dumps(everything, indent=2).encode())
    return path


def save_authority(environ: Mapping[str, str], pem: bytes) -> str:
    """Keep the certificate of an authority, and return its file. Raises ConfigInvalid when it is none."""
    from palyra_trio.wire.authority import fingerprint_of_pem

    try:
        fingerprint = fingerprint_of_pem(pem)
    except ValueError as error:
        raise ConfigInvalid(f"that is no certificate: {error}", remedy="name a PEM file") from error
    path = user_file(environ).with_name(AUTHORITIES) / f"{fingerprint}.pem"
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    replace_private(path, pem)
    return str(path)


def _read(path: Path) -> dict[str, Profile]:
    try:
        return {name: Profile(**each) for name, each in json.loads(path.read_text()).items()}
    except FileNotFoundError:
        return {}
    except (ValueError, TypeError, AttributeError) as error:
        raise ConfigInvalid(f"{path} is damaged: {error}", remedy="remove it, and connect again") from error


def chosen() -> Profile | None:
    """Return the daemon that the command line names with `--daemon`. Raises NotFound and ConfigInvalid."""
    name = _root_option("daemon")
    return load(os.environ, name) if name else None


def transport() -> Transport:
    """Return what the command line asks for with `--transport`."""
    return Transport(_root_option("transport") or Transport.AUTO)


def note(text: str) -> None:
    """Say how a daemon is reached, if the command line asks for that with `-v`."""
    if _root_option("verbose"):
        click.echo(visible(text), err=True)  # some of it is what another end says of itself


def _root_option(name: str) -> Any:
    context = click.get_current_context(silent=True)
    return context.find_root().params.get(name) if context is not None else None
