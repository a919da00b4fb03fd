"""What the doctor looks at where a daemon listens: whether one answers, whether its ports are free, how its certificate stands.

To look at a port is to open it as `serve` does, for a moment. The certificate is read as it lies there; only a mend, with
the state folder held against daemons, lets another leaf be issued.
"""

import errno
import os
import time
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path

import attrs
import trio

from palyra_trio.cli.doctor_state import FIX, Line
from palyra_trio.cli.door import SOCKET_NAME
from palyra_trio.cli.open import claimed, is_held
from palyra_trio.cli.remote import open_remote
from palyra_trio.cli.ways import over_stream
from palyra_trio.core.config import Config
from palyra_trio.core.errors import ConfigInvalid, NoDaemon
from palyra_trio.runtime.diagnosis import Check, refused
from palyra_trio.transports.certificates import FOLDER, LEAF, Certificates, read_authority, read_leaf
from palyra_trio.transports.shown_certificates import own_names
from palyra_trio.wire.authority import due_s, names_of
from palyra_trio.wire.quic_config import open_udp_sockets

ANSWER_S = 5.0  # that a daemon has to say how it stands


def addresses(folder: Path) -> tuple[str, ...] | None:
    """Return where who holds the folder says that it listens, None where nobody holds it or it does not answer in time."""
    path = folder / SOCKET_NAME
    return trio.run(_addresses, path) if path.is_socket() and is_held(folder) else None


async def _addresses(path: Path) -> tuple[str, ...] | None:
    async def dial() -> trio.SocketStream:
        return await trio.open_unix_socket(os.fspath(path))

    with trio.move_on_after(ANSWER_S):
        try:
            async with open_remote(over_stream(dial, f"unix:{path}", {})) as remote:
                return tuple((await remote.health()).addresses)
        except (NoDaemon, OSError):
            pass
    return None


# --- ports ---


@attrs.frozen
class Port:
    """A port that `serve` is to listen on: the section that says so, and how addresses of its kind begin."""

    section: str
    host: str
    number: int
    schemes: tuple[str, ...]

    @property
    def protocol(self) -> str:
        return "UDP" if self.section == "quic" else "TCP"

    def is_among(self, served: tuple[str, ...]) -> bool:
        return any(each.startswith(self.schemes) and each.endswith(f":{self.number}") for each in served)


def ports(config: Config, held: bool, served: tuple[str, ...] | None) -> Check:
    """Look whether `serve` could listen where it is to. `served` are the addresses of who holds the state folder."""
    wanted = _wanted(config)
    names = ", ".join(f"{each.protocol} {each.number or 'any'}" for each in wanted)
    if held and served is None:
        remedy = "look again once it answers"
        return Check("ports", "warning", f"who holds the state folder may have {names}, and does not answer", remedy)
    fixed = [each for each in wanted if each.number and not each.is_among(served or ())]
    faults = trio.run(_faults, fixed)
    if not faults:
        return Check("ports", "ok", f"{names}: free" if served is None else f"{names}: served, or free")
    return Check("ports", "fault", "; ".join(said for said, _ in faults), "\n".join(remedy for _, remedy in faults))


def _wanted(config: Config) -> list[Port]:
    wanted = [Port("grpc", config.grpc.host, config.grpc.port, ("grpc://", "grpcs://"))]
    if config.quic.enabled:
        wanted.append(Port("quic", config.quic.host, config.quic.port, ("quic://",)))
    if config.http.enabled:
        wanted.append(Port("http", config.http.host, config.http.port, ("http://", "https://")))
    return wanted


async def _faults(wanted: list[Port]) -> list[tuple[str, str]]:
    """Open them all at once, as `serve` does, and return for each that cannot be opened why, and what to do."""
    found = []
    with ExitStack() as opened:
        for each in wanted:
            try:
                if each.protocol == "UDP":
                    for udp in await trio.to_thread.run_sync(open_udp_sockets, each.host, each.number):
                        opened.callback(udp.close)
                else:
                    for tcp in await trio.open_tcp_listeners(each.number, host=each.host, backlog=1):
                        opened.callback(tcp.socket.close)
            except OSError as error:
                found.append(_fault(each, error))
    return found


def _fault(port: Port, error: OSError) -> tuple[str, str]:
    where = f"{port.protocol} port {port.number}"
    if any(each.errno == errno.EADDRINUSE for each in (error, error.__cause__) if isinstance(each, OSError)):
        flags = "-lunp" if port.protocol == "UDP" else "-ltnp"
        remedy = f"`ss {flags} sport = :{port.number}` names it; end it, or choose another {port.section}.port"
        return f"{where} ({port.section}.port) is taken by another process", remedy
    why = error.strerror or str(error)
    return f"{where} on {port.host} cannot be opened: {why}", f"look at {port.section}.host and {port.section}.port"


# --- the daemon's own certificate ---


def certificate(folder: Path, config: Config, held: bool, now_s: float) -> Check:
    """Look whether the leaf in the state folder holds, and for how long, where any port is to show it."""
    name = "certificate"
    if own_names(config.grpc, config.quic, config.http) is None:
        return Check(name, "ok", "no port is to show the daemon's own")
    try:
        authority = read_authority(folder / FOLDER, now_s)
        leaf = read_leaf(folder / FOLDER, authority) if authority is not None else None
    except ConfigInvalid as error:
        return refused(name, error)
    if authority is None or leaf is None:
        return Check(name, "ok", "there is none yet; the next start makes it")
    ends = leaf.certificate.not_valid_after_utc
    if due_s(leaf, authority, names_of(leaf), now_s) > now_s:
        return Check(name, "ok", f"the daemon's own is valid until {ends:%Y-%m-%d}, and is renewed before")
    over = datetime.fromtimestamp(now_s, UTC) >= ends
    said = f"the daemon's own {'has expired on' if over else 'is due for another one: it expires on'} {ends:%Y-%m-%d}"
    if held:
        remedy = "its log says why the daemon does not renew it; a restart does, too"
        return Check(name, "fault" if over else "warning", said, remedy)
    return Check(name, "warning", said, f"{FIX}, or the next start, issues another one")


def mend_certificate(folder: Path) -> Iterator[Line]:
    """Issue another leaf, for the same names, where one is due. Raises ConfigInvalid, and OSError."""
    tls, now_s = folder / FOLDER, time.time()
    with claimed(folder) as free:
        if not free:
            yield Line("the leaf: a process holds the state folder, and renews it itself", done=False)
            return
        authority = read_authority(tls, now_s)
        old = read_leaf(tls, authority) if authority is not None else None
        if old is not None:
            new = Certificates(tls, names_of(old), lambda: now_s).leaf
            yield Line(f"{tls / LEAF}: issued, valid until {new.certificate.not_valid_after_utc:%Y-%m-%d}")
