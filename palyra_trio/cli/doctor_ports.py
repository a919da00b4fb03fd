"""What the doctor looks at where a daemon listens: whether one answers, and whether its ports are free.

To look at a port is to open it as `serve` does, for a moment.
"""

import errno
import os
from contextlib import ExitStack
from pathlib import Path

import attrs
import trio

from palyra_trio.cli.door import SOCKET_NAME
from palyra_trio.cli.open import is_held
from palyra_trio.cli.remote import open_remote
from palyra_trio.cli.ways import over_stream
from palyra_trio.core.config import Config
from palyra_trio.core.errors import NoDaemon
from palyra_trio.runtime.diagnosis import Check
from palyra_trio.wire.udp_sockets import open_udp_sockets

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
