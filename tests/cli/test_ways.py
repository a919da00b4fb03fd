"""Which way to a daemon is taken, what is said of it, and a follower whose way goes away under it."""

import json
import os
import socket
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager, closing
from functools import partial
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio
import trio.testing
import trustme

from palyra_trio.cli import ways as module
from palyra_trio.cli.remote import nursery_of_our_own, open_remote
from palyra_trio.cli.ways import ELSE_S, Connection, Way, over_quic, over_stream
from palyra_trio.core.codec import TapeRow
from palyra_trio.core.commands import Accepted, StartRun
from palyra_trio.core.config import Config, DaemonConfig, GrpcConfig, HttpConfig, JournalConfig, QuicConfig
from palyra_trio.core.errors import ConfigInvalid, NoDaemon, PeerError
from palyra_trio.core.identity import RequestContext
from palyra_trio.core.tape import run_stream
from palyra_trio.daemon import Daemon, Setup, open_daemon
from palyra_trio.guard.auth import user_principal
from palyra_trio.journal.queries import Reader
from palyra_trio.journal.store import FILE_NAME
from palyra_trio.providers.choose import ModelSettings


@attrs.define
class FakeChannel:
    ended: trio.Event = attrs.Factory(trio.Event)

    @property
    def usable(self) -> bool:
        return not self.ended.is_set()


@attrs.define
class FakeWays:
    """Two ways, of which the first one answers as it is told to, and what was noted."""

    first: Callable[[], Awaitable[object]] = trio.lowlevel.checkpoint
    second: Callable[[], Awaitable[object]] = trio.lowlevel.checkpoint
    noted: list[str] = attrs.Factory(list)

    def way(self, name: str) -> Way:
        @asynccontextmanager
        async def open_channel() -> AsyncGenerator[Any, None]:
            await getattr(self, name)()
            yield FakeChannel()

        return Way(name, open_channel)

    @asynccontextmanager
    async def connection(self) -> AsyncGenerator[Connection, None]:
        async with nursery_of_our_own() as nursery:
            yield Connection([self.way("first"), self.way("second")], self.noted.append, nursery)


def raising(error: Exception) -> Callable[[], Awaitable[object]]:
    async def fail() -> None:
        await trio.lowlevel.checkpoint()
        raise error

    return fail


async def test_the_first_way_that_answers_is_taken_and_kept() -> None:
    ways = FakeWays()
    async with ways.connection() as connection:
        channel = await connection.channel()
        assert await connection.channel() is channel
    assert ways.noted == ["connected over first"]


@pytest.mark.parametrize(
    ("error", "why"),
    [
        (NoDaemon("nobody listens there"), "cannot be used: nobody listens there"),
        (PeerError("it is not trusted"), "cannot be used: it is not trusted"),
        (ConnectionRefusedError("refused"), "cannot be used: first does not answer: refused"),
    ],
)
async def test_where_the_first_way_fails_the_other_is_taken_and_that_is_said(error: Exception, why: str) -> None:
    ways = FakeWays(raising(error))
    async with ways.connection() as connection:
        await connection.channel()
    assert ways.noted == [f"first {why}", "connected over second"]


async def test_the_first_way_is_waited_for_no_longer_than_a_moment(autojump_clock: trio.testing.MockClock) -> None:
    ways = FakeWays(trio.sleep_forever)
    async with ways.connection() as connection:
        await connection.channel()
    assert trio.current_time() == pytest.approx(ELSE_S)
    assert ways.noted == ["first does not answer within 1 s", "connected over second"]


async def test_the_last_way_is_waited_for_as_long_as_it_takes(autojump_clock: trio.testing.MockClock) -> None:
    ways = FakeWays(raising(NoDaemon("no")), partial(trio.sleep, 5))
    async with ways.connection() as connection:
        await connection.channel()
    assert trio.current_time() == pytest.approx(5)


async def test_where_no_way_answers_the_last_ones_reason_is_told() -> None:
    ways = FakeWays(raising(NoDaemon("no")), raising(OSError("unreachable")))
    async with ways.connection() as connection:
        with pytest.raises(NoDaemon, match="second does not answer: unreachable"):
            await connection.channel()


async def test_a_connection_that_has_ended_is_made_anew_by_the_way_that_answers_then() -> None:
    ways = FakeWays()
    async with ways.connection() as connection:
        channel: Any = await connection.channel()
        channel.ended.set()
        ways.first = raising(NoDaemon("blocked"))
        other = await connection.channel()
        assert other is not channel
        ways.first = trio.lowlevel.checkpoint
        assert await connection.channel() is other
    assert ways.noted == ["connected over first", "first cannot be used: blocked", "connected over second"]


# --- real ones ---


@attrs.define
class Relay:
    """A network between a client and a UDP port, which can be cut."""

    port: int
    cut: bool = False

    @classmethod
    @asynccontextmanager
    async def to(cls, port: int) -> AsyncGenerator["Relay", None]:
        near, far = (trio.socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2))
        with near, far:
            await near.bind(("127.0.0.1", 0))
            await far.connect(("127.0.0.1", port))
            relay = cls(near.getsockname()[1])
            async with trio.open_nursery() as nursery:
                nursery.start_soon(relay.carry, near, far)
                yield relay
                nursery.cancel_scope.cancel()

    async def carry(self, near: trio.socket.SocketType, far: trio.socket.SocketType) -> None:
        client: list[Any] = []

        async def back() -> None:
            while True:
                data = await far.recv(65536)
                if not self.cut:
                    await near.sendto(data, client[0])

        async with trio.open_nursery() as nursery:
            while True:
                data, address = await near.recvfrom(65536)
                if not client:
                    nursery.start_soon(back)
                client[:] = [address]
                if not self.cut:
                    await far.send(data)


@asynccontextmanager
async def daemon_in(folder: Path) -> AsyncGenerator[Daemon, None]:
    (folder / "work").mkdir()
    config = Config(
        daemon=DaemonConfig(drain_s=0),
        journal=JournalConfig(min_free_bytes=0),
        grpc=GrpcConfig(port=0),
        quic=QuicConfig(host="127.0.0.1", port=0),
        http=HttpConfig(enabled=False),
    )
    with trio.fail_after(30):
        async with open_daemon(
            Setup(config, ModelSettings(model="offline/rules"), folder / "state"), tcp=True
        ) as daemon:
            yield daemon


def port_of(daemon: Daemon, scheme: str) -> int:
    (address,) = [each for each in daemon.edges.addresses if each.startswith(f"{scheme}://")]
    return int(address.rpartition(":")[2])


async def test_a_follower_whose_way_is_cut_goes_on_over_the_other_and_misses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SILENCE_S", 1.0)
    script = {"turns": [{"deltas": [f"{n} " for n in range(40)], "delta_pause_s": 0.08}]}
    (tmp_path / "script.json").write_text(json.dumps(script))
    noted: list[str] = []
    async with daemon_in(tmp_path) as daemon, Relay.to(port_of(daemon, "quic")) as relay:
        me = RequestContext(user_principal(os.getuid()), "", "cli", local=True)
        start = StartRun("go", model=f"scripted/{tmp_path / 'script.json'}", workspace=str(tmp_path / "work"))
        accepted = await daemon.gateway.submit(start, me)
        assert isinstance(accepted, Accepted)
        token = {"authorization": f"Bearer {(tmp_path / 'state' / 'token').read_text().strip()}"}

        async def dial() -> trio.SocketStream:
            return await trio.open_tcp_stream("127.0.0.1", port_of(daemon, "grpc"))

        quic = over_quic("127.0.0.1", relay.port, tmp_path / "state" / "tls" / "ca.pem", token)
        tcp = over_stream(dial, "grpc://there", token)
        rows: list[TapeRow] = []
        async with open_remote(quic, tcp, note=noted.append) as gateway:
            async with gateway.following(accepted.run_id, 0, me) as follower:
                while arrived := await follower.next_rows():
                    rows += arrived
                    relay.cut = len(rows) > 5
    assert noted[0] == f"connected over quic://127.0.0.1:{relay.port}"
    assert noted[-1] == "connected over grpc://there"
    with closing(Reader(tmp_path / "state" / FILE_NAME)) as reader:
        assert rows == list(reader.tape(run_stream(accepted.run_id)))


async def test_an_authority_that_is_not_pinned_is_no_reason_to_say_that_nobody_is_there(tmp_path: Path) -> None:
    trustme.CA().cert_pem.write_to_path(tmp_path / "other.pem")
    async with daemon_in(tmp_path) as daemon:
        way = over_quic("127.0.0.1", port_of(daemon, "quic"), tmp_path / "other.pem", {})
        async with open_remote(way) as gateway:
            with pytest.raises(PeerError) as refused:
                await gateway.health()
    assert type(refused.value) is PeerError


async def test_where_nobody_listens_there_is_no_daemon(tmp_path: Path) -> None:
    trustme.CA().cert_pem.write_to_path(tmp_path / "ca.pem")
    with closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    async with open_remote(over_quic("127.0.0.1", port, tmp_path / "ca.pem", {})) as gateway:
        with pytest.raises(NoDaemon), trio.fail_after(5):
            await gateway.health()


async def test_a_client_certificate_that_is_none_is_named(tmp_path: Path) -> None:
    async with open_remote(over_quic("127.0.0.1", 1, tmp_path / "ca.pem", {}, tmp_path / "me.pem")) as gateway:
        with pytest.raises(ConfigInvalid, match=r"me\.pem is no certificate with its key"):
            await gateway.health()
