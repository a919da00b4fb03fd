import os
import resource
import socket
import stat
from collections.abc import AsyncGenerator, Callable
from contextlib import AsyncExitStack, ExitStack, aclosing, asynccontextmanager, closing
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio
import trustme
from google.rpc.error_details_pb2 import ErrorInfo
from grpclib.const import Status
from grpclib.exceptions import GRPCError

from palyra_trio.cli.main import innermost
from palyra_trio.core.commands import CreateToken, TokenIssued
from palyra_trio.core.config import GrpcConfig, QuicConfig
from palyra_trio.core.errors import ConfigInvalid
from palyra_trio.core.identity import Principal, RequestContext, Scope
from palyra_trio.guard.auth import Authenticator
from palyra_trio.pb.gateway_grpc import GatewayServiceStub
from palyra_trio.pb.gateway_pb2 import GetHealthRequest
from palyra_trio.pb.runs_pb2 import AttachRun, GetRunRequest, RunStreamRequest
from palyra_trio.runtime.access import Access
from palyra_trio.transports.listeners import SOCKET_NAME, Edges, limits_of, open_edges
from palyra_trio.transports.shown_certificates import open_certificates
from palyra_trio.wire.call import ConnectionLost
from palyra_trio.wire.h2_client import connect
from palyra_trio.wire.limits import Limits
from palyra_trio.wire.tls import client_context
from tests.fakes import FakeProvider, Runtime, open_fake_runtime

LOOPBACK = GrpcConfig(port=0)


@attrs.frozen
class Listening:
    edges: Edges
    runtime: Runtime

    @property
    def path(self) -> Path:
        return self.runtime.state_dir / SOCKET_NAME

    @property
    def port(self) -> int:
        return int(self.edges.addresses[1].rpartition(":")[2])

    async def token(self) -> str:
        command = CreateToken("test", "user:me", tuple(Scope))
        issued = await self.runtime.gateway.submit(command, RequestContext(Principal("user:me"), local=True))
        assert isinstance(issued, TokenIssued)
        return issued.secret


@asynccontextmanager
async def listening(
    folder: Path, grpc: GrpcConfig | None = LOOPBACK, quic: QuicConfig | None = None, **fields: Any
) -> AsyncGenerator[Listening, None]:
    with trio.fail_after(10):
        async with open_fake_runtime(folder, **fields) as runtime:
            gateway = runtime.gateway
            authenticator = Authenticator(gateway.tokens, os.getuid(), Principal("user:me"), runtime.state.now_s)
            access = Access(authenticator, gateway)
            async with (
                open_certificates(runtime.state_dir, grpc, quic) as certificates,
                open_edges(gateway, access, runtime.state_dir, grpc, quic, certificates=certificates) as edges,
            ):
                yield Listening(edges, runtime)


async def health(stream: trio.abc.Stream) -> str:
    """Ask how the daemon stands, and return its boot's id. Closes the stream."""
    async with connect(stream) as channel:
        return str((await stub(channel).GetHealth(GetHealthRequest())).boot_id)


def stub(channel: Any) -> GatewayServiceStub:
    return GatewayServiceStub(channel)


async def refused(folder: Path, grpc: GrpcConfig | None, quic: QuicConfig | None = None) -> ConfigInvalid:
    """Return why these addresses cannot be served."""
    with pytest.RaisesGroup(ConfigInvalid, flatten_subgroups=True) as group:
        await _open(folder, grpc, quic)
    assert not (folder / "state" / SOCKET_NAME).exists()
    error = innermost(group.value)
    assert isinstance(error, ConfigInvalid)
    return error


async def _open(folder: Path, grpc: GrpcConfig | None, quic: QuicConfig | None) -> None:
    async with listening(folder, grpc, quic):
        pytest.fail("it was opened")


# --- the Unix socket ---


async def test_the_socket_is_this_users_alone_and_asks_for_no_token(tmp_path: Path) -> None:
    async with listening(tmp_path, None) as there:
        assert there.edges.addresses == (f"unix:{there.path}",)
        mode = there.path.stat().st_mode
        assert (stat.S_ISSOCK(mode), stat.S_IMODE(mode)) == (True, 0o600)
        assert await health(await trio.open_unix_socket(there.path)) == "boot-1"
    assert not there.path.exists()


async def test_a_storm_of_terminals_is_let_in_however_busy_this_process_is(tmp_path: Path) -> None:
    async with listening(tmp_path, None) as there:
        with ExitStack() as storm:
            for _ in range(300):  # nothing is accepted meanwhile: this task does not yield
                terminal = storm.enter_context(closing(socket.socket(socket.AF_UNIX)))
                terminal.setblocking(False)
                terminal.connect(os.fspath(there.path))
        assert await health(await trio.open_unix_socket(there.path)) == "boot-1"


async def test_the_mode_of_other_files_is_left_as_it_was(tmp_path: Path) -> None:
    async with listening(tmp_path, None):
        (tmp_path / "file").touch()
        before = os.umask(0o022)
        os.umask(before)
        assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o666 & ~before


async def test_a_socket_that_a_dead_process_left_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "state").mkdir()
    with closing(socket.socket(socket.AF_UNIX)) as dead:
        dead.bind(os.fspath(tmp_path / "state" / SOCKET_NAME))
    async with listening(tmp_path, None) as there:
        assert await health(await trio.open_unix_socket(there.path)) == "boot-1"


async def test_a_path_that_is_too_long_for_a_socket_is_said_to_be_that(tmp_path: Path) -> None:
    folder = tmp_path / ("x" * 100)
    folder.mkdir()
    error = await refused(folder, LOOPBACK)
    assert "cannot be listened on" in error.message
    assert error.remedy == "use a state directory with a shorter path"


# --- TCP ---


async def test_tcp_is_served_where_the_configuration_says_and_asks_for_a_token(tmp_path: Path) -> None:
    async with listening(tmp_path) as there:
        assert there.edges.addresses[1:] == (f"grpc://127.0.0.1:{there.port}",)
        with pytest.raises(GRPCError) as error:
            await health(await trio.open_tcp_stream("127.0.0.1", there.port))
        assert error.value.status is Status.UNAUTHENTICATED


async def test_an_address_of_ipv6_is_written_in_brackets(tmp_path: Path) -> None:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("this machine has no IPv6")
    async with listening(tmp_path, GrpcConfig("::1", 0)) as there:
        assert there.edges.addresses[1] == f"grpc://[::1]:{there.port}"


async def test_a_port_that_is_in_use_is_named_with_a_remedy(tmp_path: Path) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        port = taken.getsockname()[1]
        error = await refused(tmp_path, GrpcConfig(port=port))
    assert f"grpc.host 127.0.0.1 port {port} cannot be listened on" in error.message
    assert error.remedy == "end what listens there, or choose another grpc.port"


@pytest.mark.parametrize(("files", "connections"), [(-1, 1024), (1 << 20, 1024), (4096, 1024), (1024, 256), (64, 16)])
def test_connections_leave_files_for_work(files: int, connections: int) -> None:
    assert limits_of(files) == Limits(connections=connections)


async def test_where_few_files_may_be_open_connections_are_turned_away_before_they_run_out(tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (400, hard))
    try:
        async with listening(tmp_path) as there, AsyncExitStack() as strangers:
            for _ in range(100):
                await strangers.enter_async_context(await trio.open_tcp_stream("127.0.0.1", there.port))
            with pytest.raises(ConnectionLost, match="too many connections"):
                await health(await trio.open_tcp_stream("127.0.0.1", there.port))
            assert await health(await trio.open_unix_socket(there.path)) == "boot-1"
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


async def test_a_message_that_is_too_large_is_refused_with_its_code_and_a_remedy(tmp_path: Path) -> None:
    async with listening(tmp_path) as there, connect(await trio.open_unix_socket(there.path)) as channel:
        with pytest.raises(GRPCError) as refused:
            await stub(channel).GetRun(GetRunRequest(run_id="x" * (5 << 20)))
    info = ErrorInfo(reason="too_large", domain="palyra-trio")
    info.metadata["remedy"] = "send at most 4194304 bytes in one message"
    assert (refused.value.status, refused.value.details) == (Status.RESOURCE_EXHAUSTED, [info])


# --- TLS ---


@pytest.fixture
def authority(tmp_path: Path) -> trustme.CA:
    authority = trustme.CA()
    issued = authority.issue_cert("localhost")
    issued.private_key_pem.write_to_path(tmp_path / "key.pem")
    (tmp_path / "chain.pem").write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    return authority


def with_tls(folder: Path, host: str = "127.0.0.1") -> GrpcConfig:
    return GrpcConfig(host, 0, str(folder / "chain.pem"), str(folder / "key.pem"))


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])
@pytest.mark.usefixtures("authority")
async def test_with_a_certificate_tcp_speaks_tls(tmp_path: Path, host: str) -> None:
    async with listening(tmp_path, with_tls(tmp_path, host)) as there:
        assert there.edges.addresses[1] == f"grpcs://{host}:{there.port}"
        stream = trio.SSLStream(
            await trio.open_tcp_stream("127.0.0.1", there.port),
            client_context(tmp_path / "ca.pem"),
            server_hostname="localhost",
        )
        with pytest.raises(GRPCError) as error:
            await health(stream)
        assert error.value.status is Status.UNAUTHENTICATED


@pytest.mark.usefixtures("authority")
async def test_without_tls_nothing_is_said_on_a_port_that_has_it(tmp_path: Path) -> None:
    async with listening(tmp_path, with_tls(tmp_path)) as there:
        with pytest.raises(ConnectionLost):
            await health(await trio.open_tcp_stream("127.0.0.1", there.port))


@pytest.mark.parametrize(
    "spoil",
    [
        lambda folder: attrs.evolve(with_tls(folder), tls_key_file=""),
        lambda folder: attrs.evolve(with_tls(folder), tls_key_file=str(folder / "none.pem")),
        lambda folder: attrs.evolve(with_tls(folder), tls_key_file=str(folder / "chain.pem")),
    ],
    ids=["no key", "no file", "no key in it"],
)
@pytest.mark.usefixtures("authority")
async def test_files_that_are_no_certificate_and_key_are_named(
    tmp_path: Path, spoil: Callable[[Path], GrpcConfig]
) -> None:
    error = await refused(tmp_path, spoil(tmp_path))
    assert "grpc.tls_certificate_file and grpc.tls_key_file are not a certificate and its key" in error.message
    assert error.remedy == "name two PEM files, or leave both empty and set grpc.tls for the daemon's own certificate"


async def shown(there: Listening, ca: Path, name: str = "localhost") -> bytes:
    """Return the certificate that TCP shows to who trusts this authority."""
    stream = await trio.open_tcp_stream("127.0.0.1", there.port)
    async with trio.SSLStream(stream, client_context(ca), server_hostname=name, https_compatible=True) as secured:
        await secured.do_handshake()
        certificate = secured.getpeercert(binary_form=True)
        assert isinstance(certificate, bytes)
        return certificate


def own_ca(there: Listening) -> Path:
    return there.runtime.state_dir / "tls" / "ca.pem"


@pytest.mark.parametrize("grpc", [GrpcConfig("0.0.0.0", 0), GrpcConfig(port=0, tls=True)], ids=["beyond", "asked for"])
async def test_beyond_loopback_and_where_it_is_asked_for_the_daemons_own_certificate_is_shown(
    tmp_path: Path, grpc: GrpcConfig
) -> None:
    async with listening(tmp_path, grpc) as there:
        assert there.edges.addresses[1] == f"grpcs://{grpc.host}:{there.port}"
        assert await shown(there, own_ca(there), "127.0.0.1")
        with pytest.raises(ConnectionLost):
            await health(await trio.open_tcp_stream("127.0.0.1", there.port))
        stream = await trio.open_tcp_stream("127.0.0.1", there.port)
        secured = trio.SSLStream(stream, client_context(own_ca(there)), server_hostname="localhost")
        with pytest.raises(GRPCError) as error:
            await health(secured)
        assert error.value.status is Status.UNAUTHENTICATED


async def test_the_host_that_is_listened_on_and_the_names_that_are_configured_are_vouched_for(tmp_path: Path) -> None:
    grpc, quic = GrpcConfig("127.0.0.2", 0, tls=True), QuicConfig(names=("daemon.example",), enabled=False)
    async with listening(tmp_path, grpc, quic) as there:
        for name in ("127.0.0.2", "daemon.example"):
            stream = await trio.open_tcp_stream("127.0.0.2", there.port)
            async with trio.SSLStream(
                stream, client_context(own_ca(there)), server_hostname=name, https_compatible=True
            ) as secured:
                await secured.do_handshake()


async def test_a_renewed_certificate_is_shown_to_the_next_connection_and_cuts_none(tmp_path: Path) -> None:
    async with listening(tmp_path, GrpcConfig(port=0, tls=True)) as there:
        assert there.edges.certificates is not None
        first = await shown(there, own_ca(there))
        stream = await trio.open_tcp_stream("127.0.0.1", there.port)
        secured = trio.SSLStream(stream, client_context(own_ca(there)), server_hostname="localhost")
        async with connect(secured, metadata={"authorization": f"Bearer {await there.token()}"}) as channel:
            assert (await stub(channel).GetHealth(GetHealthRequest())).boot_id == "boot-1"
            await there.edges.certificates.renew()
            assert await shown(there, own_ca(there)) != first
            assert (await stub(channel).GetHealth(GetHealthRequest())).boot_id == "boot-1"


async def test_without_tls_and_http_3_no_authority_is_made(tmp_path: Path) -> None:
    async with listening(tmp_path) as there:
        assert there.edges.certificates is None
        assert not own_ca(there).parent.exists()


async def test_files_of_another_authority_in_its_place_are_refused(tmp_path: Path) -> None:
    async with listening(tmp_path, GrpcConfig(port=0, tls=True)) as there:
        spoiled = own_ca(there)
    spoiled.write_bytes(b"noise")
    error = await refused(tmp_path, GrpcConfig(port=0, tls=True))
    assert "ca.pem is not the certificate in ca.key" in error.message


# --- the drain ---


async def test_after_a_drain_nobody_new_comes_in_and_the_block_ends_with_the_last_call(tmp_path: Path) -> None:
    hanging = FakeProvider(["thinking", trio.sleep_forever])
    gone = trio.Event()

    async def follow(there: Listening, run_id: str) -> None:
        unix = await trio.open_unix_socket(there.path)
        async with connect(unix) as channel, stub(channel).RunStream.open() as stream:
            await stream.send_message(RunStreamRequest(attach=AttachRun(run_id=run_id)), end=True)
            await stream.recv_message()
            there.edges.drain(trio.current_time() + 0.2)
            with pytest.raises(GRPCError) as ended:
                await _rest(stream)
            assert ended.value.status is Status.UNAVAILABLE
        gone.set()

    async with listening(tmp_path, provider=hanging, left=["waiting"]) as there, trio.open_nursery() as nursery:
        accepted = await there.runtime.start()
        nursery.start_soon(follow, there, accepted.run_id)
        await gone.wait()
        with pytest.raises(OSError, match="refused"):
            await trio.open_unix_socket(there.path)


async def _rest(stream: Any) -> None:
    async for _ in stream:
        pass


async def test_what_is_raised_in_the_block_cuts_the_calls(tmp_path: Path) -> None:
    with pytest.RaisesGroup(ZeroDivisionError, flatten_subgroups=True):
        async with listening(tmp_path) as there:
            stream = await trio.open_unix_socket(there.path)
            raise ZeroDivisionError
    async with aclosing(stream):
        assert await stream.receive_some() is not None
