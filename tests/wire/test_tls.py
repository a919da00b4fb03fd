import hashlib
import re
import ssl
from pathlib import Path

import pytest
import trio
import trustme
from trio.testing import memory_stream_pair

from palyra_trio.core.errors import PeerError
from palyra_trio.wire.h2_client import connect
from palyra_trio.wire.tls import client_context, open_pinned, server_context, shown_chain
from tests.wire.echo import Echo, server_of
from tests.wire.echo_grpc import EchoStub
from tests.wire.echo_pb2 import Text


@pytest.fixture
def files(tmp_path: Path) -> Path:
    authority = trustme.CA()
    certificate = authority.issue_cert("localhost")
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    certificate.private_key_pem.write_to_path(tmp_path / "key.pem")
    with (tmp_path / "chain.pem").open("wb") as file:
        file.writelines(blob.bytes() for blob in certificate.cert_chain_pems)
    return tmp_path


async def say(files: Path, context: ssl.SSLContext, name: str = "localhost") -> bytes:
    near, far = memory_stream_pair()
    serving = server_context(files / "chain.pem", files / "key.pem")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(
            server_of(Echo()).serve_connection, trio.SSLStream(far, serving, server_side=True, https_compatible=True)
        )
        client = trio.SSLStream(near, context, server_hostname=name, https_compatible=True)
        async with connect(client) as channel:
            said = await EchoStub(channel).Say(Text(body=bytes(300_000)))
    return said.body


async def test_a_pinned_authority_is_trusted(files: Path) -> None:
    assert await say(files, client_context(files / "ca.pem")) == bytes(300_000)


async def refused(files: Path, context: ssl.SSLContext, name: str = "localhost") -> str:
    with pytest.RaisesGroup(PeerError) as group:
        await say(files, context, name)
    return str(group.value.exceptions[0])


async def test_an_unknown_authority_is_refused_and_a_wrong_name_too(files: Path) -> None:
    assert "CERTIFICATE_VERIFY_FAILED" in await refused(files, client_context())
    assert "Hostname mismatch" in await refused(files, client_context(files / "ca.pem"), "elsewhere")


async def pinned(files: Path, fingerprint: str, name: str = "198.51.100.7") -> bytes:
    serving = server_context(files / "chain.pem", files / "key.pem")
    (plain,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with trio.open_nursery() as nursery:
        await nursery.start(server_of(Echo()).serve, [trio.SSLListener(plain, serving)])
        async with await trio.testing.open_stream_to_socket_listener(plain) as stream:
            shown = hashlib.sha256((await shown_chain(stream, name))[0]).hexdigest()
        async with await trio.testing.open_stream_to_socket_listener(plain) as stream:
            async with connect(await open_pinned(stream, name, fingerprint or shown)) as channel:
                said = await EchoStub(channel).Say(Text(body=b"hello"))
        nursery.cancel_scope.cancel()
    return said.body


async def test_a_pinned_certificate_needs_no_authority_and_no_name(files: Path) -> None:
    assert await pinned(files, "") == b"hello"
    chain = (files / "chain.pem").read_text()
    leaf = chain[: chain.index("-----END CERTIFICATE-----") + len("-----END CERTIFICATE-----")]
    assert await pinned(files, hashlib.sha256(ssl.PEM_cert_to_DER_cert(leaf)).hexdigest()) == b"hello"


@pytest.mark.parametrize("other", ["ca.pem", "another"])
async def test_another_certificate_than_the_pinned_one_is_refused_its_authority_too(files: Path, other: str) -> None:
    text = (files / "ca.pem").read_text() if other == "ca.pem" else trustme.CA().cert_pem.bytes().decode()
    fingerprint = hashlib.sha256(ssl.PEM_cert_to_DER_cert(text)).hexdigest()
    with pytest.RaisesGroup(pytest.RaisesExc(PeerError, match=f"{fingerprint} is pinned")):
        await pinned(files, fingerprint, "localhost")


async def chain_of(files: Path, chain: str, name: str) -> tuple[bytes, ...]:
    context = server_context(files / chain, files / "key.pem")
    (plain,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with trio.open_nursery() as nursery:
        await nursery.start(server_of(Echo()).serve, [trio.SSLListener(plain, context)])
        stream = await trio.testing.open_stream_to_socket_listener(plain)
        shown = await shown_chain(stream, name)
        nursery.cancel_scope.cancel()
    with pytest.raises(trio.ClosedResourceError):
        await stream.send_all(b"more")
    return shown


@pytest.mark.parametrize("name", ["localhost", "198.51.100.7", "::1", "bücher.example"])
async def test_all_certificates_that_are_shown_are_told_whoever_vouches_for_them(files: Path, name: str) -> None:
    whole = (files / "chain.pem").read_text() + (files / "ca.pem").read_text()
    (files / "whole.pem").write_text(whole)
    pems = re.findall("-----BEGIN.*?-----END CERTIFICATE-----", whole, re.DOTALL)
    assert await chain_of(files, "whole.pem", name) == tuple(map(ssl.PEM_cert_to_DER_cert, pems))
    assert await chain_of(files, "chain.pem", name) == tuple(map(ssl.PEM_cert_to_DER_cert, pems[:-1]))


@pytest.mark.parametrize("says", [b"", b"no TLS at all", b"\x16\x03\x01\xff\xff"])
async def test_who_does_not_speak_tls_shows_nothing(says: bytes) -> None:
    near, far = memory_stream_pair()
    await far.send_all(says)
    await far.send_eof()
    with pytest.raises(PeerError, match="the TLS handshake failed"):
        await shown_chain(near, "localhost")


async def test_a_client_that_does_not_speak_http_2_is_refused(files: Path) -> None:
    context = ssl.create_default_context(cafile=files / "ca.pem")
    assert "does not speak HTTP/2" in await refused(files, context)


def test_old_versions_of_tls_are_refused(files: Path) -> None:
    assert server_context(files / "chain.pem", files / "key.pem").minimum_version >= ssl.TLSVersion.TLSv1_2
    assert client_context().minimum_version >= ssl.TLSVersion.TLSv1_2


async def test_a_client_without_tls_ends_alone(files: Path, caplog: pytest.LogCaptureFixture) -> None:
    near, far = memory_stream_pair()
    serving = server_context(files / "chain.pem", files / "key.pem")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(server_of(Echo()).serve_connection, trio.SSLStream(far, serving, server_side=True))
        await near.send_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
        while await near.receive_some():
            pass
    assert caplog.records == []
