"""Daemons elsewhere, by name: where they listen, which certificate is theirs, and the token for them.

The file holds tokens, so it is this user's alone. What is pinned is all that is trusted: a daemon that shows another
certificate is not talked to.
"""

import json
import os
import ssl
import tempfile
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

import attrs
import click
import trio

from palyra_trio.cli.settings import user_file
from palyra_trio.core.errors import ConfigInvalid, InvalidArgument, NotFound
from palyra_trio.wire.tls import client_context

FILE_NAME = "daemons.json"
_LOOPBACK = ("127.0.0.1", "::1", "localhost")


@attrs.frozen
class Profile:
    """A daemon. `certificate` is the PEM that is pinned; empty with `grpcs` means the system's authorities."""

    host: str
    port: int
    tls: bool
    token: str = attrs.field(repr=False)
    certificate: str = ""

    @property
    def address(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'grpcs' if self.tls else 'grpc'}://{host}:{self.port}"

    @property
    def metadata(self) -> dict[str, str]:
        return {"authorization": f"Bearer {self.token}", "x-palyra-channel": "cli"}

    async def dial(self) -> trio.abc.Stream:
        """Return a connected stream. Raises OSError when nobody answers."""
        stream = await trio.open_tcp_stream(self.host, self.port)
        return trio.SSLStream(stream, self.context(), server_hostname=self.host) if self.tls else stream

    def context(self) -> ssl.SSLContext:
        context = client_context()
        if self.certificate:
            context = client_context(cadata=self.certificate)
            context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN  # the pin may be the daemon's own certificate
        return context


def parse_url(url: str) -> Profile:
    """Return the profile of `grpc://HOST:PORT` or `grpcs://HOST:PORT`, without a token. Raises InvalidArgument.

    Without TLS only loopback is taken: the token would travel in the clear.
    """
    parts = urlsplit(url)
    try:
        port = parts.port
    except ValueError:
        port = None
    if parts.scheme not in {"grpc", "grpcs"} or not parts.hostname or port is None or parts.path not in {"", "/"}:
        raise InvalidArgument(f"{url!r} is no address of a daemon", remedy="write grpcs://HOST:PORT")
    tls = parts.scheme == "grpcs"
    if not tls and parts.hostname not in _LOOPBACK:
        raise InvalidArgument(
            f"{url} would send the token in the clear", remedy="use grpcs://, or a tunnel to loopback"
        )
    return Profile(parts.hostname, port, tls, "")


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
    with tempfile.NamedTemporaryFile("w", dir=path.parent, prefix=FILE_NAME, delete=False) as file:
        json.dump(everything, file, indent=2)
    os.replace(file.name, path)
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
