"""The port of the console: limits that hold on the wire, TLS, and an end that nobody can hold up."""

import ssl
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import attrs
import pytest
import trio
import trio.testing
import trustme
from cryptography.hazmat.primitives.serialization import Encoding
from h2.connection import H2Connection
from h2.events import ResponseReceived
from h2.settings import SettingCodes, Settings
from hyperframe.frame import ContinuationFrame, HeadersFrame

from palyra_trio.core.config import HttpConfig
from palyra_trio.core.errors import ConfigInvalid, StateConflict
from palyra_trio.core.identity import Caller, Scope
from palyra_trio.core.messages import ModelReply
from palyra_trio.core.run import RunState
from palyra_trio.core.tape import ModelDelta
from palyra_trio.guard.auth import Authenticator
from palyra_trio.runtime.access import Access
from palyra_trio.transports import connection_activity, http_listener
from palyra_trio.transports.certificates import Certificates
from palyra_trio.transports.connection_activity import STALLED_S, Activity
from palyra_trio.transports.console import site
from palyra_trio.transports.http_listener import HEADER_BYTES, PART_BYTES, STREAMS, Http, open_http
from palyra_trio.transports.shown_certificates import open_certificates
from tests.fakes import ME, FakeProvider, Runtime, open_fake_runtime

SOME = HttpConfig(port=0)
WHO = Caller(attrs.evolve(ME, channel="console"), frozenset(Scope))

PATIENCE_S = 20.0  # far more than any step takes


@attrs.frozen
class Served:
    runtime: Runtime
    http: Http
    tls: ssl.SSLContext | None = None

    @property
    def port(self) -> int:
        return int(self.http.addresses[0].rpartition(":")[2])

    async def connect(self) -> trio.SocketStream:
        return await trio.open_tcp_stream("127.0.0.1", self.port)

    async def ask(self, *lines: str, body: bytes = b"", stream: trio.abc.Stream | None = None) -> str:
        """Send a request on a connection of its own, and return all that comes until the other end closes."""
        async with stream or await self.connect() as sent:
            head = "\r\n".join((*lines, f"Host: 127.0.0.1:{self.port}", "Connection: close", "", ""))
            with trio.move_on_after(5):
                with suppress(trio.BrokenResourceError):  # it may answer before it has all
                    await sent.send_all(head.encode() + body)
            return await read(sent)

    async def cookie(self) -> str:
        """Sign in, and return the cookie."""
        secret = self.http.invite(WHO).url.rpartition("=")[2]
        body = f"link={secret}".encode()
        answer = await self.ask(
            "POST /sign-in HTTP/1.1",
            f"Origin: {self.http.addresses[0]}",
            "Content-Type: application/x-www-form-urlencoded",
            f"Content-Length: {len(body)}",
            body=body,
        )
        assert answer.startswith("HTTP/1.1 303")
        return answer.partition("set-cookie: ")[2].partition(";")[0]


async def read(stream: trio.abc.Stream) -> str:
    """Return all that comes until the other end closes."""
    data = b""
    with trio.move_on_after(5):
        with suppress(trio.BrokenResourceError):
            async for some in stream:  # type: ignore[attr-defined]
                data += some
    return data.decode()


@asynccontextmanager
async def serving(
    folder: Path, config: HttpConfig = SOME, certificates: Certificates | None = None, **fields: Any
) -> AsyncGenerator[Served, None]:
    async with open_fake_runtime(folder, **fields) as runtime:
        access = Access(Authenticator(runtime.gateway.tokens, -1, ME.principal, runtime.state.now_s), runtime.gateway)
        async with open_http(runtime.gateway, access, config, certificates) as http:
            yield Served(runtime, http)


async def test_the_console_answers_where_it_says(tmp_path: Path) -> None:
    async with serving(tmp_path) as served:
        assert served.http.addresses == (f"http://127.0.0.1:{served.port}",)
        answer = await served.ask("GET /healthz HTTP/1.1")
        assert answer.startswith("HTTP/1.1 200")
        assert "server:" not in answer.lower()


async def test_without_a_console_nothing_listens_and_no_link_is_made(tmp_path: Path) -> None:
    for config in (None, HttpConfig(enabled=False)):
        async with serving(tmp_path, config) as served:  # type: ignore[arg-type]
            assert served.http.addresses == ()
            with pytest.raises(StateConflict):
                served.http.invite(WHO)


async def test_a_port_that_is_taken_is_named_with_a_remedy(tmp_path: Path) -> None:
    async with serving(tmp_path) as served:
        (tmp_path / "other").mkdir()
        with pytest.RaisesGroup(ConfigInvalid, allow_unwrapped=True, flatten_subgroups=True) as caught:
            async with serving(tmp_path / "other", HttpConfig(port=served.port)):
                pass
    assert "http.port" in str(caught.value.__dict__.get("remedy", "")) or "http" in repr(caught.value)


@pytest.mark.parametrize("host", ["0.0.0.0", "::"])
async def test_beyond_loopback_there_is_tls_or_nothing(tmp_path: Path, host: str) -> None:
    with pytest.RaisesGroup(ConfigInvalid, allow_unwrapped=True, flatten_subgroups=True):
        async with serving(tmp_path, HttpConfig(host=host, port=0)):
            pass


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[trustme.CA, HttpConfig]:
    authority = trustme.CA()
    issued = authority.issue_cert("localhost", "127.0.0.1")
    files = tmp_path / "cert.pem", tmp_path / "key.pem"
    issued.cert_chain_pems[0].write_to_path(files[0])
    issued.private_key_pem.write_to_path(files[1])
    return authority, HttpConfig(port=0, tls_certificate_file=str(files[0]), tls_key_file=str(files[1]))


@pytest.mark.parametrize("protocol", ["h2", "http/1.1"])
async def test_over_tls_both_versions_are_spoken(
    tmp_path: Path, certificate: tuple[trustme.CA, HttpConfig], protocol: str
) -> None:
    authority, config = certificate
    context = ssl.create_default_context()
    authority.configure_trust(context)
    context.set_alpn_protocols([protocol])
    async with serving(tmp_path, config) as served:
        assert served.http.addresses[0].startswith("https://")
        stream = trio.SSLStream(await served.connect(), context, server_hostname="127.0.0.1", https_compatible=True)
        await stream.do_handshake()
        assert stream.selected_alpn_protocol() == protocol
        if protocol == "h2":
            await trio.aclose_forcefully(stream)
        else:
            assert (await served.ask("GET /healthz HTTP/1.1", stream=stream)).startswith("HTTP/1.1 200")


async def test_the_daemons_own_certificate_is_shown_where_it_is_asked_for_and_each_next_one(tmp_path: Path) -> None:
    config, state_dir = HttpConfig(host="0.0.0.0", port=0, tls=True), tmp_path / "state"
    state_dir.mkdir(0o700)
    async with open_certificates(state_dir, None, None, config) as own:
        assert own is not None
        async with serving(tmp_path, config, own) as served:

            async def signed_in() -> tuple[bytes, str]:
                """Return the certificate that is shown to a browser that knows the authority, and the cookie it is given."""
                context = ssl.create_default_context(cafile=own.authority_file)
                stream = trio.SSLStream(
                    await served.connect(), context, server_hostname="localhost", https_compatible=True
                )
                await stream.do_handshake()
                shown = stream.getpeercert(binary_form=True)
                body = f"link={served.http.invite(WHO).url.rpartition('=')[2]}".encode()
                answer = await served.ask(
                    "POST /sign-in HTTP/1.1",
                    f"Origin: https://127.0.0.1:{served.port}",
                    "Content-Type: application/x-www-form-urlencoded",
                    f"Content-Length: {len(body)}",
                    body=body,
                    stream=stream,
                )
                return shown, answer.partition("set-cookie: ")[2].partition("\r\n")[0]

            assert served.http.addresses == (f"https://localhost:{served.port}",)
            first, cookie = await signed_in()
            assert "; Secure" in cookie
            await own.renew()
            second, _ = await signed_in()
            assert first != second == own.leaf.certificate.public_bytes(Encoding.DER)


async def test_files_that_are_no_certificate_are_refused(tmp_path: Path) -> None:
    config = HttpConfig(port=0, tls_certificate_file="/nowhere", tls_key_file="/nowhere")
    with pytest.RaisesGroup(ConfigInvalid, allow_unwrapped=True, flatten_subgroups=True):
        async with serving(tmp_path, config):
            pass


async def test_headers_beyond_all_measure_are_refused_and_others_go_on(tmp_path: Path) -> None:
    async with serving(tmp_path) as served:
        bombs = (
            f"X-Bomb: {'x' * (2 * HEADER_BYTES)}",
            "\r\n".join(f"X-{number}: {'x' * 100}" for number in range(1000)),
            f"Cookie: {'; '.join(f'a{number}=b' for number in range(20_000))}",
        )
        for bomb in bombs:
            answer = await served.ask("GET /healthz HTTP/1.1", bomb)
            assert answer == "" or answer.startswith(("HTTP/1.1 400", "HTTP/1.1 431"))
        assert (await served.ask("GET /healthz HTTP/1.1")).startswith("HTTP/1.1 200")


async def test_ten_megabytes_are_refused_and_others_go_on(tmp_path: Path) -> None:
    async with serving(tmp_path) as served:
        size = 10 * 1024 * 1024
        answer = await served.ask(
            "POST /sign-in HTTP/1.1",
            f"Origin: http://127.0.0.1:{served.port}",
            "Content-Type: application/x-www-form-urlencoded",
            f"Content-Length: {size}",
            body=b"token=" + b"x" * (size - 6),
        )
        assert answer == "" or answer.startswith("HTTP/1.1 413")
        assert (await served.ask("GET /healthz HTTP/1.1")).startswith("HTTP/1.1 200")


@pytest.mark.parametrize(
    "nonsense",
    [b"\0\x01\x02\x03\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"GET /\xff HTTP/1.1\r\nHost: x\r\n\r\n",
     b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\nHost: x\r\n\r\nzzz\r\n", b"\x16\x03\x01\x02\x00",
     b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\xff" * 100,
     b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: upgrade\r\nSec-WebSocket-Key: eA==\r\n\r\n"],
)  # fmt: skip
async def test_a_connection_that_fails_takes_nothing_with_it(tmp_path: Path, nonsense: bytes) -> None:
    async with serving(tmp_path) as served:
        async with await served.connect() as stream:
            await stream.send_all(nonsense)
            with trio.move_on_after(0.5):
                await stream.receive_some()
        assert (await served.ask("GET /healthz HTTP/1.1")).startswith("HTTP/1.1 200")


SIGN_IN = (
    b"POST /sign-in HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nOrigin: http://127.0.0.1:%d\r\n"
    b"Content-Type: application/x-www-form-urlencoded\r\nContent-Length: 100\r\n\r\ntoken="
)


@pytest.mark.parametrize("how", ["nothing comes", "it comes byte by byte"])
async def test_a_strangers_body_that_comes_slowly_is_over_soon(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    monkeypatch.setattr(site, "STRANGERS_SILENCE_S", 0.3)
    async with serving(tmp_path) as served, await served.connect() as stream:
        await stream.send_all(SIGN_IN % (served.port, served.port))
        answer = await dripping(stream, [] if how == "nothing comes" else [b"x"] * 90)
        assert answer.startswith(b"HTTP/1.1 408")


async def test_a_strangers_body_over_http2_that_comes_slowly_is_over_soon(
    tmp_path: Path, certificate: tuple[trustme.CA, HttpConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(site, "STRANGERS_SILENCE_S", 0.3)
    authority, config = certificate
    async with serving(tmp_path, config) as served:
        stream, client = await open_h2(served, authority)
        form = [("origin", "https://127.0.0.1"), ("content-type", "application/x-www-form-urlencoded")]
        await stream.send_all(asking(client, "POST", "/sign-in", *form))
        events: list[Any] = []
        with trio.fail_after(4):
            while not (answers := [each for each in events if isinstance(each, ResponseReceived)]):
                events = client.receive_data(await stream.receive_some())
        assert (b":status", b"408") in answers[0].headers
        await trio.aclose_forcefully(stream)


async def test_a_head_that_comes_slowly_is_over_soon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_listener, "KEEP_ALIVE_S", 0.3)
    async with serving(tmp_path) as served, await served.connect() as stream:
        lines = [b"X-%d: y\r\n" % number for number in range(100)]
        assert await dripping(stream, [b"GET /healthz HTTP/1.1\r\n", *lines]) == b""


async def test_a_head_of_http2_that_comes_slowly_is_over_soon(
    tmp_path: Path, certificate: tuple[trustme.CA, HttpConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    authority, config = certificate
    monkeypatch.setattr(http_listener, "KEEP_ALIVE_S", 0.3)
    async with serving(tmp_path, config) as served:
        stream, _ = await open_h2(served, authority)
        begun = HeadersFrame(1, b"\x82").serialize()  # :method: GET, and more is to come
        further = ContinuationFrame(1, b"\x84").serialize()
        await dripping(stream, [begun, *[further] * 100])
        await trio.aclose_forcefully(stream)


async def dripping(stream: trio.abc.Stream, parts: list[bytes]) -> bytes:
    """Send the parts, one after the other and slowly, until the other end closes, and return what it says. It is not long."""
    told = b""

    async def drip() -> None:
        with suppress(trio.BrokenResourceError):
            for part in parts:
                await stream.send_all(part)
                await trio.sleep(0.05)

    with trio.fail_after(0.05 * 90), suppress(trio.BrokenResourceError):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(drip)
            while some := await stream.receive_some():
                told += some
            nursery.cancel_scope.cancel()
    return told


PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes.fromhex("000000040000000000")


def upgrade(served: Served) -> bytes:
    """Return a request that goes over to HTTP/2, whose settings are none."""
    lines = ("GET /healthz HTTP/1.1", f"Host: 127.0.0.1:{served.port}", "Connection: Upgrade, HTTP2-Settings")
    return "\r\n".join((*lines, "Upgrade: h2c", "HTTP2-Settings: ", "", "")).encode()


async def ended(stream: trio.abc.Stream) -> None:
    """Read until the other end has closed, and close this one."""
    with trio.fail_after(PATIENCE_S), suppress(trio.BrokenResourceError):
        while await stream.receive_some():
            pass
    await trio.aclose_forcefully(stream)


@pytest.mark.parametrize("how", ["at once", "by an upgrade"])
async def test_cleartext_http2_that_asks_for_nothing_is_closed_and_makes_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    monkeypatch.setattr(http_listener, "CONNECTIONS", 3)
    monkeypatch.setattr(connection_activity, "IDLE_S", 0.3)
    async with serving(tmp_path) as served:
        held = [await served.connect() for _ in range(3)]
        for each in held:
            await each.send_all(PREFACE if how == "at once" else upgrade(served) + PREFACE)
        for each in held:
            await ended(each)
        with trio.fail_after(PATIENCE_S):
            while not (await served.ask("GET /healthz HTTP/1.1")).startswith("HTTP/1.1 200"):
                pass


async def open_h2(
    served: Served, authority: trustme.CA, window: int = 65_535
) -> tuple[trio.SSLStream[Any], H2Connection]:
    """Connect with HTTP/2 over TLS, as a client that takes at most `window` bytes of each answer."""
    context = ssl.create_default_context()
    authority.configure_trust(context)
    context.set_alpn_protocols(["h2"])
    stream = trio.SSLStream(await served.connect(), context, server_hostname="127.0.0.1", https_compatible=True)
    await stream.do_handshake()
    client = H2Connection()
    client.local_settings = Settings(initial_values={SettingCodes.INITIAL_WINDOW_SIZE: window})
    client.initiate_connection()
    await stream.send_all(client.data_to_send())
    return stream, client


def asking(client: H2Connection, method: str, path: str, *headers: tuple[str, str]) -> bytes:
    head = [(":method", method), (":path", path), (":scheme", "https"), (":authority", "127.0.0.1"), *headers]
    client.send_headers(1, head, end_stream=method == "GET")
    return client.data_to_send()


@pytest.mark.parametrize("stranger", ["takes back what it asked", "takes no answer"])
async def test_http2_over_tls_of_no_use_is_closed_too(
    tmp_path: Path, certificate: tuple[trustme.CA, HttpConfig], monkeypatch: pytest.MonkeyPatch, stranger: str
) -> None:
    authority, config = certificate
    async with serving(tmp_path, config) as served:
        stream, client = await open_h2(served, authority, window=0 if stranger == "takes no answer" else 65_535)
        monkeypatch.setattr(connection_activity, "IDLE_S", 0.3)  # from the next thing that happens on it
        monkeypatch.setattr(connection_activity, "STALLED_S", 0.3)
        if stranger == "takes no answer":
            await stream.send_all(asking(client, "GET", "/healthz"))
        else:
            await stream.send_all(asking(client, "POST", "/sign-in"))
            client.reset_stream(1)
            await stream.send_all(client.data_to_send())
        await ended(stream)


async def test_an_idle_follower_is_not_closed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with serving(tmp_path) as served:
        async with following(served, "/overview/live?after=") as stream:
            await until(stream, "event: update")
            monkeypatch.setattr(connection_activity, "IDLE_S", 0.2)
            other = await served.connect()
            await other.send_all(PREFACE)
            await ended(other)  # its time was up, and that of the follower would be
            await served.runtime.start()
            await until(stream, "event: update")
            served.http.drain(trio.current_time())


@asynccontextmanager
async def following(served: Served, path: str) -> AsyncGenerator[trio.SocketStream, None]:
    """Ask for a live view, signed in."""
    cookie = await served.cookie()
    async with await served.connect() as stream:
        await stream.send_all(live(path, cookie))
        yield stream


def live(path: str, cookie: str) -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nCookie: {cookie}\r\n\r\n".encode()


async def until(stream: trio.SocketStream, text: str) -> str:
    """Read until `text` has come."""
    told = ""
    with trio.fail_after(5):
        while text not in told:
            told += (await stream.receive_some()).decode()
    return told


async def test_a_stream_is_told_goodbye_when_the_daemon_goes(tmp_path: Path) -> None:
    async with serving(tmp_path) as served:
        async with following(served, "/overview/live?after=") as stream:
            await until(stream, "event: update")
            served.http.drain(trio.current_time() + 30)
            assert "event: bye" in await read(stream)
            with pytest.raises(OSError, match="all attempts"):
                await served.connect()


async def test_who_follows_a_run_sees_its_end_while_the_daemon_goes(tmp_path: Path) -> None:
    going = trio.Event()
    provider = FakeProvider(["first, ", going.wait, ModelReply("first, then")])
    async with serving(tmp_path, provider=provider) as served:
        accepted = await served.runtime.start()
        await served.runtime.until(accepted.run_id, ModelDelta)
        async with following(served, f"/sessions/{accepted.session_id}/live?after=") as stream:
            await until(stream, "first, ")
            served.http.drain(trio.current_time() + 30)
            going.set()
            told = await read(stream)
            assert 'class="state done"' in told
            assert "event: bye" in told


async def test_a_browser_that_does_not_read_cannot_hold_up_the_end(tmp_path: Path) -> None:
    going = trio.Event()
    provider = FakeProvider([going.wait, *["x" * 500_000] * 30, trio.sleep_forever])
    async with AsyncExitStack() as left_open:
        async with serving(tmp_path, provider=provider, left=[RunState.WAITING]) as served:
            accepted = await served.runtime.start()
            live = f"/sessions/{accepted.session_id}/live?after="
            stream = await left_open.enter_async_context(following(served, live))
            await until(stream, "event: update")
            going.set()
            await served.runtime.until(accepted.run_id, ModelDelta, 5)
            began = trio.current_time()
            served.http.drain(began + 0.5)
        assert trio.current_time() - began < 5


async def test_a_console_that_is_cut_short_is_gone_at_once(tmp_path: Path) -> None:
    async with open_fake_runtime(tmp_path) as runtime:
        access = Access(Authenticator(runtime.gateway.tokens, -1, ME.principal, runtime.state.now_s), runtime.gateway)
        with trio.fail_after(5), trio.CancelScope() as scope:
            async with open_http(runtime.gateway, access, SOME) as http:
                async with await trio.open_tcp_stream("127.0.0.1", int(http.addresses[0].rpartition(":")[2])):
                    scope.cancel()
                    await trio.sleep_forever()


async def test_a_client_that_takes_no_answer_holds_up_nothing(
    tmp_path: Path, certificate: tuple[trustme.CA, HttpConfig]
) -> None:
    authority, config = certificate
    async with serving(tmp_path, config) as served:
        for leaves in (True, False):
            stream, client = await open_h2(served, authority, window=0)
            await stream.send_all(asking(client, "GET", "/healthz"))
            events: list[Any] = []
            while not any(isinstance(each, ResponseReceived) for each in events):
                events = client.receive_data(await stream.receive_some())
            if leaves:
                await trio.aclose_forcefully(stream)
        began = trio.current_time()
        served.http.drain(began + 0.5)
    assert trio.current_time() - began < 5
    await trio.aclose_forcefully(stream)


async def over_cleartext(served: Served, count: int) -> trio.SocketStream:
    """Ask so many times on one HTTP/2 connection, as a client that takes none of the answers."""
    stream, client = await served.connect(), H2Connection()
    client.local_settings = Settings(initial_values={SettingCodes.INITIAL_WINDOW_SIZE: 0})
    client.initiate_connection()
    await stream.send_all(client.data_to_send())
    await stream.receive_some()
    head = [(":method", "GET"), (":path", "/static/console.js"), (":scheme", "http"), (":authority", "127.0.0.1")]
    for number in range(count):
        client.send_headers(2 * number + 1, head, end_stream=True)
    await stream.send_all(client.data_to_send())
    return stream


async def test_who_asks_much_and_takes_nothing_keeps_nobody_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_listener, "REQUESTS", 8)
    monkeypatch.setattr(http_listener, "CONNECTIONS", 4)
    async with serving(tmp_path) as served:
        held = [await over_cleartext(served, 8) for _ in range(3)]
        for _ in range(3):
            assert (await served.ask("GET /healthz HTTP/1.1")).startswith("HTTP/1.1 200")
        for each in held:
            await trio.aclose_forcefully(each)


async def test_a_connection_that_has_its_part_of_many_requests_is_refused_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_listener, "REQUESTS", 8)
    monkeypatch.setattr(http_listener, "CONNECTIONS", 4)
    activity, reached = Activity(), 0

    async def app(_scope: Any, _receive: Any, _send: Any) -> None:
        nonlocal reached
        reached += 1
        await trio.sleep_forever()

    connections = http_listener._Connections(SimpleNamespace(app=app), None)  # type: ignore[arg-type]
    connections._table.add(activity, b"")
    told: list[Any] = []

    async def send(message: Any) -> None:
        told.append(message)

    async with trio.open_nursery() as nursery:
        for _ in range(5):
            nursery.start_soon(connections._bounded(activity), {"type": "http"}, None, send)  # type: ignore[arg-type]
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    assert reached == 4
    assert [each.get("status") for each in told] == [503, None]


async def test_nothing_is_left_under_way_of_a_client_that_took_nothing_and_is_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    activities: list[Activity] = []

    class Kept(Activity):
        def __init__(self) -> None:
            super().__init__()
            activities.append(self)

    monkeypatch.setattr(http_listener, "Activity", Kept)
    async with serving(tmp_path) as served:
        stream = await over_cleartext(served, STREAMS)
        with trio.fail_after(PATIENCE_S):
            while not (activities and activities[0].requests == STREAMS):
                await trio.lowlevel.checkpoint()
        await trio.aclose_forcefully(stream)
        with trio.fail_after(STALLED_S / 2):
            while activities[0].requests:
                await trio.lowlevel.checkpoint()


async def test_what_hypercorn_is_closing_is_no_fault_of_an_application_and_a_long_answer_goes_in_parts() -> None:
    taken: list[Any] = []

    async def app(_scope: Any, _receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"ab" * PART_BYTES + b"c"})

    async def take(message: Any) -> None:
        taken.append(message)

    async def closing(_message: Any) -> None:
        raise trio.BusyResourceError("another task is sending")

    await http_listener._finishing(app)({}, None, closing)  # type: ignore[arg-type]
    await http_listener._finishing(app)({}, None, take)  # type: ignore[arg-type]
    assert [(len(each["body"]), each.get("more_body", False)) for each in taken[1:]] == [
        (PART_BYTES, True),
        (PART_BYTES, True),
        (1, False),
    ]
    assert b"".join(each["body"] for each in taken[1:]) == b"ab" * PART_BYTES + b"c"
