"""HTTP/3 beside the other edges: the same services, the plain resources, the drain, and what cannot be served."""

import json
import shutil
import socket
import subprocess
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio
import trustme
from grpclib.const import Status
from grpclib.exceptions import GRPCError

from palyra_trio.core.config import GrpcConfig, QuicConfig, QuicRetry
from palyra_trio.core.errors import PeerError
from palyra_trio.core.tape import ModelDelta
from palyra_trio.pb.gateway_pb2 import GetHealthRequest
from palyra_trio.pb.runs_pb2 import AttachRun, RunStreamRequest
from palyra_trio.transports.api.resources import BODY_BYTES
from palyra_trio.transports.run_events import encode_row
from palyra_trio.wire.h3_client import H3Channel, connect
from palyra_trio.wire.quic_config import Identity, Trust, fingerprint_of
from tests.fakes import FakeProvider, says
from tests.transports.test_listeners import Listening, listening, own_ca, refused, stub

LOOPBACK = QuicConfig(port=0)


def port_of(there: Listening) -> int:
    return int(there.edges.addresses[-1].rpartition(":")[2])


@asynccontextmanager
async def channel_to(there: Listening, host: str = "localhost", **fields: Any) -> AsyncGenerator[H3Channel, None]:
    metadata = {"authorization": f"Bearer {await there.token()}"}
    async with connect(host, port_of(there), trust=Trust(own_ca(there)), metadata=metadata, **fields) as channel:
        yield channel


async def test_both_families_of_loopback_are_served_and_told(tmp_path: Path) -> None:
    async with listening(tmp_path, GrpcConfig(port=0), LOOPBACK) as there:
        port = port_of(there)
        assert there.edges.addresses[2:] == (f"quic://127.0.0.1:{port}", f"quic://[::1]:{port}")
        for host in ("127.0.0.1", "::1", "localhost"):
            async with channel_to(there, host) as channel:
                health = await stub(channel).GetHealth(GetHealthRequest())
                assert health.boot_id == "boot-1"
        assert (tuple(health.addresses), health.quic_port) == (there.edges.addresses, port)
        assert health.authority_pem == own_ca(there).read_text()


async def test_who_sends_no_token_is_nobody_also_on_loopback(tmp_path: Path) -> None:
    async with listening(tmp_path, quic=LOOPBACK) as there:
        async with connect("localhost", port_of(there), trust=Trust(own_ca(there))) as channel:
            with pytest.raises(GRPCError) as error:
                await stub(channel).GetHealth(GetHealthRequest())
    assert error.value.status is Status.UNAUTHENTICATED


async def test_who_pins_another_authority_does_not_talk_to_it(tmp_path: Path) -> None:
    trustme.CA().cert_pem.write_to_path(tmp_path / "other.pem")
    async with listening(tmp_path, quic=LOOPBACK) as there:
        with pytest.raises(PeerError):
            async with connect("localhost", port_of(there), trust=Trust(tmp_path / "other.pem")):
                pytest.fail("it was trusted")


async def test_a_renewed_certificate_is_shown_to_the_next_connection_and_cuts_none(tmp_path: Path) -> None:
    async with listening(tmp_path, quic=LOOPBACK) as there, channel_to(there) as first:
        certificates = there.edges.certificates
        assert certificates is not None
        await certificates.renew()
        async with channel_to(there) as second:
            assert second.fingerprint == fingerprint_of(certificates.leaf.certificate) != first.fingerprint
        assert (await stub(first).GetHealth(GetHealthRequest())).boot_id == "boot-1"


async def test_a_run_is_followed_over_either_transport_alike(tmp_path: Path) -> None:
    async with listening(tmp_path, GrpcConfig(port=0), LOOPBACK) as there:
        run_id = (await there.runtime.run()).rows[0].stream.partition(":")[2]
        async with channel_to(there) as channel, stub(channel).RunStream.open() as stream:
            await stream.send_message(RunStreamRequest(attach=AttachRun(run_id=run_id)), end=True)
            seqs = [item.seq async for response in stream for item in response.batch.items]
    assert seqs == [*range(1, len(seqs) + 1)]
    assert len(seqs) > 3


# --- plain ---


async def test_health_and_events_are_served_without_grpc(tmp_path: Path) -> None:
    go_on = trio.Event()
    provider = FakeProvider(["Well. ", go_on.wait, *says("b")])
    async with listening(tmp_path, quic=LOOPBACK, provider=provider) as there, channel_to(there) as channel:
        async with channel.fetch("GET", "/healthz?x=1") as response:
            assert (response.status, await response.read()) == (200, b'{"status":"serving"}')
        async with channel.fetch("HEAD", "/healthz") as response:
            assert (response.status, response.headers["content-length"], await response.read()) == (200, "20", b"")
        accepted = await there.runtime.start()
        await there.runtime.until(accepted.run_id, ModelDelta)
        path, token = f"/api/v1/runs/{accepted.run_id}/events", f"Bearer {await there.token()}"
        async with channel.fetch("GET", path) as response:
            assert response.status == 401
            assert json.loads(await response.read())["code"] == "unauthenticated"
        async with channel.fetch("GET", path, [("authorization", token), ("last-event-id", "1")]) as response:
            assert response.headers["content-type"] == "text/event-stream"
            heard = await anext(response)
            assert heard.startswith(b"id: 2\n")  # while the run goes on
            go_on.set()
            heard += await response.read()
        rows = (await there.runtime.ended(accepted.run_id)).rows
        assert heard == b"".join(encode_row(row) for row in rows[1:])
        for method, target, status in (("POST", path, 405), ("GET", "/nothing", 404)):
            async with channel.fetch(method, target, [("authorization", token)]) as response:
                assert response.status == status
                assert response.headers["content-type"] == "application/problem+json"


async def test_the_api_is_the_same_as_over_tcp(tmp_path: Path) -> None:
    async with listening(tmp_path, quic=LOOPBACK) as there, channel_to(there) as channel:
        token, kind = ("authorization", f"Bearer {await there.token()}"), ("content-type", "application/json")
        body = b'{"tool": "files.read", "path": "../x"}'
        async with channel.fetch("POST", "/api/v1/policy/explain", [token, kind], body) as response:
            assert (response.status, json.loads(await response.read())["outcome"]) == (200, "deny")
        async with channel.fetch("GET", "/api/v1/runs?page_size=0", [token]) as response:
            assert (response.status, json.loads(await response.read())["code"]) == (400, "invalid_argument")
        async with channel.fetch("POST", "/api/v1/policy/explain", [token, kind], b" " * (BODY_BYTES + 1)) as response:
            assert (response.status, json.loads(await response.read())["code"]) == (413, "too_large")
        async with channel.fetch("GET", "/readyz") as response:
            assert (response.status, await response.read()) == (200, b'{"status":"ready"}')


async def test_who_leaves_an_event_stream_ends_the_following_and_not_the_run(tmp_path: Path) -> None:
    go_on = trio.Event()
    provider = FakeProvider(["Well. ", go_on.wait, *says("b")])
    async with listening(tmp_path, quic=LOOPBACK, provider=provider) as there, channel_to(there) as channel:
        accepted = await there.runtime.start()
        token = f"Bearer {await there.token()}"
        async with channel.fetch(
            "GET", f"/api/v1/runs/{accepted.run_id}/events", [("authorization", token)]
        ) as response:
            await anext(response)
        go_on.set()
        await there.runtime.ended(accepted.run_id)


@pytest.mark.parametrize("retry", list(QuicRetry))
async def test_a_foreign_client_reads_health_with_and_without_retry(tmp_path: Path, retry: QuicRetry) -> None:
    if shutil.which("gtlsclient") is None:
        pytest.skip("gtlsclient is not installed: apt-get install ngtcp2-client")
    async with listening(tmp_path, quic=attrs.evolve(LOOPBACK, retry=retry)) as there:
        port = port_of(there)
        command = [
            "gtlsclient",
            "--exit-on-all-streams-close",
            "127.0.0.1",
            str(port),
            f"https://localhost:{port}/healthz",
        ]
        done = await trio.run_process(command, capture_stdout=True, stderr=subprocess.STDOUT)
    said = bytes(done.stdout).decode(errors="replace")
    assert "[:status: 200]" in said
    assert "application/json" in said
    assert ("Retry" in said) is (retry is QuicRetry.ALWAYS)


# --- its end ---


async def test_a_drain_lets_followers_end_and_takes_nobody_new(tmp_path: Path) -> None:
    hanging = FakeProvider(["thinking", trio.sleep_forever])
    async with listening(tmp_path, quic=LOOPBACK, provider=hanging, left=["waiting"]) as there:
        accepted = await there.runtime.start()
        async with channel_to(there) as channel, stub(channel).RunStream.open() as stream:
            await stream.send_message(RunStreamRequest(attach=AttachRun(run_id=accepted.run_id)), end=True)
            await stream.recv_message()
            there.edges.drain(trio.current_time() + 0.2)
            with pytest.raises(GRPCError) as ended:
                async for _ in stream:
                    pass
            assert ended.value.status is Status.UNAVAILABLE


# --- what cannot be served ---


async def test_a_port_that_is_in_use_is_named_with_a_remedy(tmp_path: Path) -> None:
    with closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        error = await refused(tmp_path, None, QuicConfig(port=port))
    assert f"quic.host localhost UDP port {port} cannot be listened on" in error.message
    assert error.remedy == "end what listens there, choose another quic.port, or set quic.enabled to false"


@pytest.mark.parametrize("text", [None, "noise"])
async def test_a_client_authority_that_is_none_is_named(tmp_path: Path, text: str | None) -> None:
    path = tmp_path / "clients.pem"
    if text is not None:
        path.write_text(text)
    error = await refused(tmp_path, None, attrs.evolve(LOOPBACK, client_ca_file=str(path)))
    assert f"quic.client_ca_file {path} is no certificate" in error.message


@pytest.mark.parametrize("key", ["key_log_file", "qlog_dir"])
async def test_traces_that_cannot_be_written_are_named(tmp_path: Path, key: str) -> None:
    error = await refused(tmp_path, None, attrs.evolve(LOOPBACK, **{key: str(tmp_path / "none" / "there")}))
    assert "quic.key_log_file or quic.qlog_dir cannot be written" in error.message


async def test_a_host_that_no_certificate_can_name_is_named(tmp_path: Path) -> None:
    error = await refused(tmp_path, None, attrs.evolve(LOOPBACK, host="b\u00fccher"))
    assert "no certificate can be issued for b\u00fccher" in error.message


async def test_a_secret_of_the_wrong_size_is_refused(tmp_path: Path) -> None:
    async with listening(tmp_path, None, LOOPBACK) as there:
        path = own_ca(there).with_name("quic.secret")
        assert len(path.read_bytes()) == 32
    path.write_bytes(b"short")
    error = await refused(tmp_path, None, LOOPBACK)
    assert "quic.secret does not hold 32 bytes" in error.message


async def test_a_client_certificate_is_a_condition_where_it_is_configured(tmp_path: Path) -> None:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "clients.pem")
    authority.issue_cert("alice@clients.example").private_key_and_cert_chain_pem.write_to_path(tmp_path / "alice.pem")
    quic = attrs.evolve(LOOPBACK, client_ca_file=str(tmp_path / "clients.pem"))
    async with listening(tmp_path, None, quic) as there:
        with pytest.raises(PeerError, match="asks for a client certificate"):
            async with channel_to(there):
                pytest.fail("it was let in")
        async with channel_to(there, identity=Identity.load(tmp_path / "alice.pem", tmp_path / "alice.pem")) as channel:
            assert (await stub(channel).GetHealth(GetHealthRequest())).boot_id == "boot-1"


async def test_traces_are_written_where_they_are_asked_for(tmp_path: Path) -> None:
    (tmp_path / "qlog").mkdir()
    quic = attrs.evolve(LOOPBACK, key_log_file=str(tmp_path / "keys"), qlog_dir=str(tmp_path / "qlog"))
    async with listening(tmp_path, None, quic) as there, channel_to(there):
        pass
    assert "SERVER_TRAFFIC_SECRET_0" in (tmp_path / "keys").read_text()
    assert (tmp_path / "keys").stat().st_mode & 0o077 == 0
    assert [each.suffix for each in (tmp_path / "qlog").iterdir()] == [".qlog"]
