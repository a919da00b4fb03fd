"""Daemons elsewhere, by name: where they listen, which certificate is theirs, and the token for them.

The file holds tokens, so it is this user's alone. What is pinned is all that is trusted: a daemon that shows another
certificate is not talked to.
"""

import json
import os
import re
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlsplit

import attrs
import click
import trio

from palyra_trio.cli.settings import user_file
from palyra_trio.core.errors import ConfigInvalid, InvalidArgument, NotFound
from palyra_trio.guard.private_file import replace_private
from palyra_trio.wire.tls import client_context, fingerprint_of, handshake, open_pinned

FILE_NAME = "daemons.json"
DIAL_S = 10.0  # until the connection and its TLS stand
_LOOPBACK = ("127.0.0.1", "::1", "localhost")

T = TypeVar("T")


@attrs.frozen
class Profile:
    """A daemon. `fingerprint` is the SHA-256 of the one certificate that is pinned, in hex.

    Empty with `grpcs`, the system's authorities vouch for the host's name.
    """

    host: str
    port: int
    tls: bool
    token: str = attrs.field(repr=False)
    fingerprint: str = ""

    @property
    def address(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'grpcs' if self.tls else 'grpc'}://{host}:{self.port}"

    @property
    def metadata(self) -> dict[str, str]:
        return {"authorization": f"Bearer {self.token}", "x-palyra-channel": "cli"}

    async def dial(self) -> trio.abc.Stream:
        """Return a connected stream, after its TLS handshake. Raises OSError when nobody answers, and PeerError."""
        with trio.move_on_after(DIAL_S):
            return await self._opened(self._secured)
        raise TimeoutError(f"nothing within {DIAL_S:g} s")

    async def shown_fingerprint(self) -> str:
        """Return the SHA-256 of the certificate that is shown there, whoever shows it. Raises as `dial` does."""
        with trio.move_on_after(DIAL_S):
            return await self._opened(lambda stream: fingerprint_of(stream, self.host))
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
        secured = trio.SSLStream(stream, client_context(), server_hostname=self.host)
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


def _read(path: Path) -> dict[str, Profile]:
    try:
        return {name: Profile(**each) for name, each in json.loads(path.read_text()).items()}
    except FileNotFoundError:
        return {}
    except (ValueError, TypeError, AttributeError) as error:
        raise ConfigInvalid(f"{path} is damaged: {error}", remedy="remove it, and connect again") from error


def chosen() -> Profile | None:
    """Return the daemon that the command line names with `--daemon`. Raises NotFound and ConfigInvalid."""
    context = click.get_current_context(silent=True)
    name = context.find_root().params.get("daemon") if context is not None else None
    return load(os.environ, name) if name else None
