"""HTTP/3 of ours beside aioquic's asyncio server and Hypercorn's QUIC worker: the same routes, one client, in the same run.

Each measurement has a server of its own in a process of its own, and all servers take turns, so a ratio is between two
measurements of the same moment. What is asked is in `bench.quic_loads`; the client is `bench.quic_client`, for what is large
ngtcp2's gtlsclient.
"""

import datetime
import ipaddress
import shutil
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import median

import attrs
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from bench import quic_loads
from bench.quic_loads import Figure
from bench.report import Bar, Figures, Report, machine, progress
from bench.served import Served, serving

OURS, AIOQUIC, HYPERCORN = "palyra-trio", "aioquic, asyncio", "Hypercorn, Trio"
NOT_INSTALLED = "not installed: pip install -e '.[bench]'"


@attrs.frozen
class Peer:
    """A server: `python -m bench.peers.MODULE CERTIFICATE KEY`, which needs the distribution `package`."""

    name: str
    module: str
    package: str

    @property
    def version(self) -> str:
        """The version that is installed, or an empty string."""
        try:
            return version(self.package)
        except PackageNotFoundError:
            return ""


PEERS = (
    Peer(OURS, "quic_ours", "palyra-trio"),
    Peer(AIOQUIC, "quic_aioquic", "aioquic"),
    Peer(HYPERCORN, "quic_hypercorn", "hypercorn"),
)


@attrs.frozen
class Amounts:
    """How much of each is measured."""

    rounds: int
    seconds: float  # of requests, of pings and of handshakes
    megabytes: int  # each way
    idle: int  # connections
    idle_s: float


WHOLE = Amounts(rounds=5, seconds=5, megabytes=50, idle=1000, idle_s=20)
QUICK = Amounts(rounds=1, seconds=0.5, megabytes=50, idle=100, idle_s=2)

IN_FLIGHT = {1: 1, 32: 1, 100: 10}  # requests, on so many connections

Found = Mapping[tuple[str, str], Sequence[Figure]]
"""The figures of each round, by load and server."""


class QuicReport(Report):
    """A report with a table for each load."""

    def tables(self) -> Sequence[Mapping[str, Figures]]:
        loads = dict.fromkeys(name.partition(":")[0] for name in self.peers)
        return [{name: each for name, each in self.peers.items() if name.startswith(load)} for load in loads]


def measure(quick: bool) -> Report:
    return compare(QUICK if quick else WHOLE)


def compare(amounts: Amounts, peers: Sequence[Peer] = PEERS) -> Report:
    """Let all servers that are installed take turns."""
    facts = machine()
    found: dict[tuple[str, str], list[Figure]] = defaultdict(list)
    with tempfile.TemporaryDirectory() as folder:
        certificate, key = _certificate(Path(folder))
        for number in range(amounts.rounds):
            for what, load in _loads(amounts):
                for peer in [each for each in peers if each.version]:
                    with serving(f"bench.peers.{peer.module}", certificate, key) as served:
                        figure = load(served)
                    found[what, peer.name].append(figure)
                    shown = ", ".join(f"{name} {value:.4g}" for name, value in figure.items())
                    progress(f"round {number + 1}, {what}, {peer.name}: {shown}")
    figures = {f"{what}: {name}": _medians(rounds) for (what, name), rounds in found.items()}
    versions: dict[str, Figures] = {"versions": {peer.name: peer.version or NOT_INSTALLED for peer in peers}}
    return QuicReport("quic", _bars(found, amounts), versions | figures, facts)


def _medians(rounds: Sequence[Figure]) -> Figures:
    return {what: median(each[what] for each in rounds) for what in rounds[0]}


def _loads(amounts: Amounts) -> Iterator[tuple[str, Callable[[Served], Figure]]]:
    for in_flight, connections in IN_FLIGHT.items():
        each = in_flight // connections
        yield (
            _name(in_flight),
            partial(quic_loads.requests, connections=connections, in_flight=each, seconds=amounts.seconds),
        )
    yield "ping", partial(quic_loads.pings, seconds=amounts.seconds)
    yield "handshakes", partial(quic_loads.handshakes, seconds=amounts.seconds)
    if shutil.which("gtlsclient") is None:
        progress("down and up are not measured: apt-get install ngtcp2-client")
    else:
        for way in ("down", "up"):
            yield way, partial(quic_loads.bulk, megabytes=amounts.megabytes, way=way)
    yield "idle", partial(quic_loads.idle, connections=amounts.idle, seconds=amounts.idle_s)


def _name(in_flight: int) -> str:
    return f"{in_flight} in flight"


def _bars(found: Found, amounts: Amounts) -> list[Bar]:
    def ours(load: str, what: str) -> float | None:
        return median(each[what] for each in found[load, OURS]) if (load, OURS) in found else None

    def ratio(load: str, what: str, other: str) -> float | None:
        if (load, OURS) not in found or (load, other) not in found:
            return None
        pairs = zip(found[load, OURS], found[load, other], strict=True)
        return median(mine[what] / theirs[what] for mine, theirs in pairs)

    def rate(load: str, unit: str, other: str, bar: float) -> Bar:
        return Bar(f"{load}: {unit}, ratio to {other}", ratio(load, unit, other), "x", bar)

    return [
        rate(_name(1), "requests/s", AIOQUIC, 0.9),
        *(rate(_name(each), "requests/s", AIOQUIC, 1.3) for each in (32, 100)),
        *(rate(_name(each), "requests/s", HYPERCORN, 6) for each in (32, 100)),
        rate("down", "MB/s", AIOQUIC, 1.1),
        rate("up", "MB/s", AIOQUIC, 1.5),
        Bar(
            f"memory of {amounts.megabytes} MB down, ratio to {AIOQUIC}",
            ratio("down", "grown MB", AIOQUIC),
            "x",
            0.5,
            at_most=True,
        ),
        Bar("idle connection", ours("idle", "KB each"), "KB", 100, at_most=True),
        Bar(f"{amounts.idle} idle connections", ours("idle", "CPU %"), "% CPU", 0.5, at_most=True),
    ]


def _certificate(folder: Path) -> tuple[str, str]:
    """Write a certificate for localhost and its key, and return where they are."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    names = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now)
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .sign(key, hashes.SHA256())
    )
    places = folder / "certificate.pem", folder / "key.pem"
    form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    places[0].write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    places[1].write_bytes(key.private_bytes(*form))
    return str(places[0]), str(places[1])
