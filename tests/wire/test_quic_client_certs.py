"""Client certificates: who is let in, who is not, and what a TLS stack that is not ours makes of it."""

import logging
import re
import shutil
import subprocess
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import attrs
import pytest
import trio
import trustme
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import load_pem_x509_certificate

from palyra_trio.core.errors import PeerError
from palyra_trio.wire.authority import CertifiedKey, issue_leaf, make_authority
from palyra_trio.wire.h3_client import connect
from palyra_trio.wire.h3_exchange import Exchange
from palyra_trio.wire.h3_server import H3Server
from palyra_trio.wire.quic_client_certs import mutual_tls_machine
from palyra_trio.wire.quic_config import Identity
from palyra_trio.wire.udp_sockets import open_udp_sockets
from tests.wire.echo import translate
from tests.wire.quic import SECRET, certified

DAY_S = 24 * 3600.0


@attrs.define
class Asked:
    """A server that asks for certificates, the authority of those that it takes, and what its handler has seen."""

    port: int
    authority: trustme.CA
    folder: Path
    server: H3Server
    seen: list[str] = attrs.Factory(list)

    def issued(self, authority: trustme.CA | None = None, **fields: datetime) -> Identity:
        """Return a client's certificate, which lies in `client.pem` too."""
        leaf = (authority or self.authority).issue_cert(
            "alice@clients.example", common_name="alice", organization_name="Clients", **fields
        )
        leaf.private_key_and_cert_chain_pem.write_to_path(self.folder / "client.pem")
        return Identity.load(self.folder / "client.pem", self.folder / "client.pem")

    async def fetch(self, identity: Identity | None) -> bytes:
        async with connect("localhost", self.port, trust=certified().trust, identity=identity) as channel:
            async with channel.fetch("GET", "/") as response:
                return await response.read()


@asynccontextmanager
async def asking(folder: Path) -> AsyncGenerator[Asked, None]:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(folder / "clients.pem")

    async def handle(exchange: Exchange) -> None:
        asked.seen.append(exchange.peer.subject)
        await exchange.answer(200, b"welcome")

    server = H3Server(
        {},
        translate,
        certified().identity,
        secret=SECRET,
        exchange=handle,
        machine=mutual_tls_machine(folder / "clients.pem"),
    )
    sockets = open_udp_sockets("localhost", 0)
    asked = Asked(sockets[0].getsockname()[1], authority, folder, server)
    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            await nursery.start(server.serve, sockets)
            yield asked
            nursery.cancel_scope.cancel()


async def test_a_certificate_of_the_authority_lets_in_and_its_subject_is_seen(tmp_path: Path) -> None:
    async with asking(tmp_path) as asked:
        assert await asked.fetch(asked.issued()) == b"welcome"
    (subject,) = asked.seen
    assert "CN=alice" in subject
    assert "O=Clients" in subject


async def test_a_certificate_by_way_of_one_between_lets_in(tmp_path: Path) -> None:
    async with asking(tmp_path) as asked:
        assert await asked.fetch(asked.issued(asked.authority.create_child_ca())) == b"welcome"


async def test_without_a_certificate_the_client_itself_says_that_one_is_asked_for(tmp_path: Path) -> None:
    async with asking(tmp_path) as asked:
        with pytest.raises(PeerError, match="the server asks for a client certificate"):
            await asked.fetch(None)
    assert asked.seen == []


def own(key: CertifiedKey) -> Identity:
    return Identity(key.certificate, key.above, key.key)


async def refused(asked: Asked, identity: Identity) -> str:
    """Return why. It is said when the client connects, and not by its first call: it may have another way."""
    with pytest.raises(PeerError) as error:
        await asked.fetch(identity)
    assert asked.seen == []
    return str(error.value)


async def test_a_certificate_of_another_authority_is_refused(tmp_path: Path) -> None:
    async with asking(tmp_path) as asked:
        assert "unable to get local issuer certificate" in await refused(asked, asked.issued(trustme.CA()))


async def test_a_certificate_whose_time_is_over_is_refused(tmp_path: Path) -> None:
    async with asking(tmp_path) as asked:
        over = asked.issued(not_after=datetime.now(UTC) - timedelta(hours=1))
        assert "no longer valid" in await refused(asked, over)
        ahead = asked.issued(not_before=datetime.now(UTC) + timedelta(hours=1))
        assert "not valid yet" in await refused(asked, ahead)


async def test_a_certificate_that_is_for_servers_only_is_refused(tmp_path: Path) -> None:
    authority = make_authority(time.time())
    async with asking(tmp_path) as asked:
        (tmp_path / "clients.pem").write_bytes(authority.chain_pem)
        asked.server._machine = mutual_tls_machine(tmp_path / "clients.pem")
        leaf = issue_leaf(authority, ["localhost"], time.time())
        assert "lacks the usage clientAuth" in await refused(asked, own(leaf))


async def test_a_certificate_of_no_known_version_is_refused_and_is_no_fault_of_ours(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    class Garbled:
        def public_bytes(self, _: Encoding) -> bytes:
            return mine.certificate.public_bytes(Encoding.DER).replace(b"\xa0\3\2\1\2", b"\xa0\3\2\1\x4b")

    async with asking(tmp_path) as asked:
        mine = asked.issued()
        assert "not a valid X509 version" in await refused(asked, attrs.evolve(mine, certificate=Garbled()))
    assert [each for each in caplog.records if each.levelno >= logging.ERROR] == []


async def test_a_certificate_without_its_key_is_refused(tmp_path: Path) -> None:
    async with asking(tmp_path) as asked:
        mine = asked.issued()
        stolen = attrs.evolve(mine, key=make_authority(time.time()).key)
        assert await refused(asked, stolen)


@pytest.mark.parametrize("text", [b"", b"noise"])
def test_a_file_that_is_no_authority_is_refused(tmp_path: Path, text: bytes) -> None:
    (tmp_path / "clients.pem").write_bytes(text)
    with pytest.raises(ValueError, match="PEM"):
        mutual_tls_machine(tmp_path / "clients.pem")


# --- a foreign stack ---


async def by_gnutls(asked: Asked, *options: str) -> str:
    """Ask with ngtcp2's client, which stands on GnuTLS, and return what it says."""
    if shutil.which("gtlsclient") is None:
        pytest.skip("gtlsclient is not installed: apt-get install ngtcp2-client")
    command = ["gtlsclient", "--exit-on-all-streams-close", "--timeout=3s", *options, "127.0.0.1", str(asked.port)]
    done = await trio.run_process(
        [*command, f"https://localhost:{asked.port}/"],
        capture_stdout=True,
        stderr=subprocess.STDOUT,
        check=False,
    )
    return bytes(done.stdout).decode(errors="replace")


def files_of(asked: Asked, authority: trustme.CA | None = None) -> list[str]:
    asked.issued(authority)
    text = (asked.folder / "client.pem").read_text()
    key = re.search("-----BEGIN [A-Z ]*PRIVATE KEY-----.*?-----END [A-Z ]*PRIVATE KEY-----\n", text, re.DOTALL)
    assert key is not None
    (asked.folder / "key.pem").write_text(key[0])
    (asked.folder / "cert.pem").write_text(text.replace(key[0], ""))
    load_pem_x509_certificate((asked.folder / "cert.pem").read_bytes())
    return [f"--key={asked.folder / 'key.pem'}", f"--cert={asked.folder / 'cert.pem'}"]


async def test_gnutls_is_let_in_with_a_certificate_of_the_authority(tmp_path: Path) -> None:
    async with asking(tmp_path) as asked:
        said = await by_gnutls(asked, *files_of(asked))
        assert "[:status: 200]" in said, said
    assert "CN=alice" in asked.seen[0]


async def test_gnutls_is_refused_with_another_certificate_and_with_none(tmp_path: Path) -> None:
    async with asking(tmp_path) as asked:
        with_another = await by_gnutls(asked, *files_of(asked, trustme.CA()))
        with_none = await by_gnutls(asked)
    assert asked.seen == []
    for said, alert in ((with_another, 42), (with_none, 116)):
        assert ":status" not in said
        assert re.search(f"CONNECTION_CLOSE.*{0x100 + alert:#x}|CRYPTO_ERROR.*{0x100 + alert:#x}", said), said
