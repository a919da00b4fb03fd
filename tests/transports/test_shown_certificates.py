"""Which ports show the daemon's own certificate, and for which names. What is shown on the wire is tested with each port."""

import ssl
from pathlib import Path

import pytest

from palyra_trio.core.config import GrpcConfig, HttpConfig, QuicConfig
from palyra_trio.core.errors import ConfigInvalid
from palyra_trio.transports.shown_certificates import open_certificates, own_names, tcp_context

PLAIN_GRPC, NO_QUIC, PLAIN_HTTP = GrpcConfig(), QuicConfig(enabled=False), HttpConfig()
FILES_OVER_HTTP = HttpConfig(tls=True, tls_certificate_file="a.pem", tls_key_file="b.pem")


@pytest.mark.parametrize(
    ("grpc", "quic", "http", "names"),
    [
        (PLAIN_GRPC, NO_QUIC, PLAIN_HTTP, None),
        (None, None, None, None),
        (GrpcConfig("0.0.0.0", 0, "a.pem", "b.pem"), NO_QUIC, FILES_OVER_HTTP, None),
        (PLAIN_GRPC, NO_QUIC, HttpConfig(enabled=False, tls=True), None),
        (PLAIN_GRPC, NO_QUIC, HttpConfig(host="0.0.0.0"), None),  # which is refused when it is opened
        (GrpcConfig("0.0.0.0"), NO_QUIC, PLAIN_HTTP, ("localhost",)),
        (GrpcConfig(tls=True), None, None, ("127.0.0.1",)),
        (PLAIN_GRPC, QuicConfig(names=("a.example",)), HttpConfig(names=("b.example",)), ("a.example", "127.0.0.1", "localhost")),
        (PLAIN_GRPC, NO_QUIC, HttpConfig(host="192.0.2.1", names=("b.example",), tls=True), ("b.example", "127.0.0.1", "localhost", "192.0.2.1")),
    ],
)  # fmt: skip
def test_the_names_are_those_of_what_is_configured_where_any_port_shows_it(
    grpc: GrpcConfig | None, quic: QuicConfig | None, http: HttpConfig | None, names: tuple[str, ...] | None
) -> None:
    assert own_names(grpc, quic, http) == names


async def test_where_no_port_shows_them_none_are_made(tmp_path: Path) -> None:
    async with open_certificates(tmp_path, PLAIN_GRPC, NO_QUIC, PLAIN_HTTP) as certificates:
        assert certificates is None
    assert list(tmp_path.iterdir()) == []


async def test_a_name_that_no_certificate_can_have_is_told_with_where_to_look(tmp_path: Path) -> None:
    with pytest.raises(ConfigInvalid) as caught:
        async with open_certificates(tmp_path, GrpcConfig("nämlich.example"), None, None):
            pytest.fail("it was opened")
    assert "no certificate can be issued for nämlich.example" in caught.value.message
    assert "grpc.host" in caught.value.remedy


async def test_a_context_is_of_files_of_the_daemons_own_or_of_neither(tmp_path: Path) -> None:
    own = HttpConfig(tls=True)
    async with open_certificates(tmp_path, None, None, own) as certificates:
        assert isinstance(tcp_context("http", own, certificates, ("h2", "http/1.1")), ssl.SSLContext)
    assert tcp_context("http", PLAIN_HTTP, None, ("h2",)) is None
    assert tcp_context("http", HttpConfig(host="0.0.0.0"), None, ("h2",)) is None
    with pytest.raises(ConfigInvalid) as caught:
        tcp_context("http", FILES_OVER_HTTP, None, ("h2",))
    assert "http.tls_certificate_file and http.tls_key_file are not" in caught.value.message
    assert "set http.tls for the daemon's own" in caught.value.remedy
