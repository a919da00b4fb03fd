import json
import os
import pwd
import stat
from functools import partial
from pathlib import Path

import attrs
import pytest
import trio

from palyra_trio import __version__
from palyra_trio.cli.remote import open_remote
from palyra_trio.cli.ways import over_stream
from palyra_trio.core.codec import TapeRow
from palyra_trio.core.commands import Accepted, StartRun
from palyra_trio.core.config import (
    Config,
    DaemonConfig,
    GrpcConfig,
    HttpConfig,
    JournalConfig,
    OtelConfig,
    QuicConfig,
    SandboxConfig,
)
from palyra_trio.core.errors import ConfigInvalid, DiskLow, Draining, Interrupted, JournalInvalid, StateLocked
from palyra_trio.core.identity import Principal, RequestContext
from palyra_trio.core.run import RunState
from palyra_trio.core.system_events import BootStarted
from palyra_trio.core.tape import (
    SYSTEM_STREAM,
    ModelDelta,
    RunFinished,
    RunInterrupted,
    StatusChange,
    TapeEvent,
    run_stream,
)
from palyra_trio.core.tokens import hash_of
from palyra_trio.daemon import Setup, open_daemon, open_runtime
from palyra_trio.guard.auth import user_principal
from palyra_trio.journal.check import check_file
from palyra_trio.journal.queries import Reader
from palyra_trio.journal.store import FILE_NAME
from palyra_trio.providers.choose import ModelSettings
from palyra_trio.runtime.gateway import Gateway
from palyra_trio.tools.sandbox_report import SandboxReport
from palyra_trio.transports.listeners import SOCKET_NAME
from tests.collector import Collector

ME = RequestContext(Principal("user:me"), "device", "test", local=True)
CONFIG = Config(daemon=DaemonConfig(drain_s=0), journal=JournalConfig(min_free_bytes=0))
RULES = ModelSettings(model="offline/rules")


@pytest.fixture
def hanging(tmp_path: Path) -> ModelSettings:
    path = tmp_path / "script.json"
    path.write_text(json.dumps({"turns": [{"deltas": ["thinking"], "hang": True}]}))
    return ModelSettings(model=f"scripted/{path}")


def prompt(workspace: Path, text: str = "what time is it") -> StartRun:
    return StartRun(text=text, workspace=str(workspace))


async def until(gateway: Gateway, accepted: Accepted, kind: type[TapeEvent]) -> None:
    """Follow a run until it has an event of this kind."""
    follower = await gateway.follow(accepted.run_id, 0, ME)
    while rows := await follower.next_rows():
        if any(row.kind == kind.kind for row in rows):
            return
    pytest.fail(f"the run ended without {kind.__name__}")


async def test_each_opening_is_recorded(tmp_path: Path) -> None:
    state_dir = tmp_path / "state"
    for _ in range(2):
        async with open_runtime(Setup(CONFIG, RULES, state_dir)):
            pass
    with_reader = Reader(state_dir / FILE_NAME)
    try:
        boots = [row.event() for row in with_reader.tape(SYSTEM_STREAM)]
    finally:
        with_reader.close()
    assert [type(boot).__name__ for boot in boots] == ["BootStarted", "PolicyLoaded", "BootStarted"]
    assert [(boot.pid, boot.version) for boot in boots if isinstance(boot, BootStarted)] == [
        (os.getpid(), __version__)
    ] * 2
    assert len({boot.boot_id for boot in boots if isinstance(boot, BootStarted)}) == 2
    assert not check_file(state_dir / FILE_NAME).faults


async def test_only_one_process_holds_the_state_directory(tmp_path: Path) -> None:
    async with open_runtime(Setup(CONFIG, RULES, tmp_path / "state")):
        with pytest.raises(StateLocked, match=str(os.getpid())):
            async with open_runtime(Setup(CONFIG, RULES, tmp_path / "state")):
                pytest.fail("it was opened twice")
    async with open_runtime(Setup(CONFIG, RULES, tmp_path / "state")):
        pass


async def test_leaving_interrupts_what_runs_before_the_journal_closes(tmp_path: Path, hanging: ModelSettings) -> None:
    async with open_runtime(Setup(CONFIG, hanging, tmp_path / "state")) as gateway:
        accepted = await gateway.submit(prompt(tmp_path), ME)
        assert isinstance(accepted, Accepted)
        await until(gateway, accepted, ModelDelta)
    reader = Reader(tmp_path / "state" / FILE_NAME)
    try:
        run = reader.find_run(accepted.run_id, ME.principal)
        assert (run.state, run.reason) == (RunState.WAITING, "interrupted")
        assert [row.seq for row in reader.tape(run_stream(run.run_id))][-1] == reader.last_seq(run_stream(run.run_id))
    finally:
        reader.close()
    assert not check_file(tmp_path / "state" / FILE_NAME).faults


async def test_a_run_that_ends_in_time_is_let_end(tmp_path: Path) -> None:
    config = attrs.evolve(CONFIG, daemon=DaemonConfig(drain_s=30))
    async with open_runtime(Setup(config, RULES, tmp_path / "state")) as gateway:
        accepted = await gateway.submit(prompt(tmp_path), ME)
        assert isinstance(accepted, Accepted)
        await until(gateway, accepted, StatusChange)
    reader = Reader(tmp_path / "state" / FILE_NAME)
    try:
        assert reader.find_run(accepted.run_id, ME.principal).state is RunState.DONE
    finally:
        reader.close()


async def test_after_the_end_nothing_is_taken_any_more(tmp_path: Path) -> None:
    async with open_runtime(Setup(CONFIG, RULES, tmp_path / "state")) as gateway:
        pass
    with trio.fail_after(5), pytest.raises((Draining, trio.ClosedResourceError)):
        await gateway.submit(prompt(tmp_path), ME)


async def test_with_too_little_room_no_run_is_admitted(tmp_path: Path) -> None:
    config = attrs.evolve(CONFIG, journal=JournalConfig(min_free_bytes=1 << 62))
    async with open_runtime(Setup(config, RULES, tmp_path / "state")) as gateway:
        with pytest.raises(DiskLow):
            await gateway.submit(prompt(tmp_path), ME)


async def test_what_is_no_journal_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "state").mkdir()
    path = tmp_path / "state" / FILE_NAME
    path.write_bytes(b"not a database\n" * 100)
    with pytest.raises(JournalInvalid, match=FILE_NAME):
        async with open_runtime(Setup(CONFIG, RULES, tmp_path / "state")):
            pytest.fail("it was opened")
    assert path.read_bytes() == b"not a database\n" * 100


# --- serving ---


async def test_a_daemon_serves_on_its_socket_on_tcp_and_over_http_3(tmp_path: Path) -> None:
    config = attrs.evolve(
        CONFIG, grpc=GrpcConfig(port=0), quic=QuicConfig(host="127.0.0.1", port=0), http=HttpConfig(enabled=False)
    )
    async with open_daemon(Setup(config, RULES, tmp_path / "state"), tcp=True) as daemon:
        unix, tcp, quic = daemon.edges.addresses
        assert quic.startswith("quic://127.0.0.1:")
        assert unix == f"unix:{tmp_path / 'state' / 'socket'}"
        assert tcp.startswith("grpc://127.0.0.1:")
        token = tmp_path / "state" / "token"
        assert stat.S_IMODE(token.stat().st_mode) == 0o600
        found = daemon.gateway.tokens.find(hash_of(token.read_text().strip()))
        assert found is not None
        assert found.principal == user_principal(os.getuid())
    assert not (tmp_path / "state" / "socket").exists()


async def test_without_tcp_there_is_the_socket_alone_and_no_token(tmp_path: Path) -> None:
    async with open_daemon(Setup(CONFIG, RULES, tmp_path / "state"), tcp=False) as daemon:
        assert daemon.edges.addresses == (f"unix:{tmp_path / 'state' / 'socket'}",)
        assert not (tmp_path / "state" / "token").exists()
        with pytest.raises(StateLocked):
            async with open_daemon(Setup(CONFIG, RULES, tmp_path / "state"), tcp=False):
                pytest.fail("it was opened twice")
        (await trio.open_unix_socket(tmp_path / "state" / "socket")).socket.close()


async def test_a_drain_takes_no_more_runs_and_interrupts_the_live_ones_at_its_deadline(
    tmp_path: Path, hanging: ModelSettings
) -> None:
    config = attrs.evolve(CONFIG, daemon=DaemonConfig(drain_s=100))
    with trio.fail_after(10):
        async with open_daemon(Setup(config, hanging, tmp_path / "state"), tcp=False) as daemon:
            accepted = await daemon.gateway.submit(prompt(tmp_path), ME)
            assert isinstance(accepted, Accepted)
            await until(daemon.gateway, accepted, ModelDelta)
            daemon.drain(0.1)
            with pytest.raises(Draining):
                await daemon.gateway.submit(prompt(tmp_path), ME)
    reader = Reader(tmp_path / "state" / FILE_NAME)
    try:
        run = reader.find_run(accepted.run_id, ME.principal)
        assert (run.state, run.reason) == (RunState.WAITING, "interrupted")
    finally:
        reader.close()


async def test_a_daemon_that_cannot_listen_leaves_the_directory_free(tmp_path: Path) -> None:
    config = attrs.evolve(CONFIG, grpc=GrpcConfig("192.0.2.1", 0))
    with pytest.RaisesGroup(ConfigInvalid, flatten_subgroups=True):
        async with open_daemon(Setup(config, RULES, tmp_path / "state"), tcp=True):
            pytest.fail("it was opened")
    async with open_runtime(Setup(CONFIG, RULES, tmp_path / "state")):
        pass


async def test_the_spans_that_a_collector_does_not_take_are_counted(tmp_path: Path) -> None:
    async with Collector.open(400) as collector:
        config = attrs.evolve(CONFIG, otel=OtelConfig(collector.url))
        async with open_runtime(Setup(config, RULES, tmp_path / "state")) as gateway:
            accepted = await gateway.submit(prompt(tmp_path), ME)
            assert isinstance(accepted, Accepted)
            await until(gateway, accepted, RunFinished)
    assert gateway.counters.spans_lost > 0


def test_a_user_without_a_name_has_a_number() -> None:
    assert user_principal(os.getuid()) == f"user:{pwd.getpwuid(os.getuid()).pw_name}"
    assert user_principal(2**31 - 7) == f"user:{2**31 - 7}"


async def test_a_drain_shows_followers_the_last_rows_of_what_it_interrupts(
    tmp_path: Path, hanging: ModelSettings
) -> None:
    state_dir, me = tmp_path / "state", RequestContext(user_principal(os.getuid()), local=True)
    rows: list[TapeRow] = []
    with trio.fail_after(10):
        async with open_daemon(Setup(CONFIG, hanging, state_dir), tcp=False) as daemon:
            accepted = await daemon.gateway.submit(prompt(tmp_path), me)
            assert isinstance(accepted, Accepted)
            async with (
                open_remote(over_stream(partial(trio.open_unix_socket, state_dir / SOCKET_NAME), "here", {})) as there,
                there.following(accepted.run_id, 0, me) as follower,
            ):
                while not any(row.kind == ModelDelta.kind for row in rows):
                    rows += await follower.next_rows()
                daemon.drain(0)
                with pytest.raises(Interrupted, match=accepted.run_id):
                    while True:
                        rows += await follower.next_rows()
    reader = Reader(state_dir / FILE_NAME)
    try:
        assert rows == list(reader.tape(run_stream(accepted.run_id)))
    finally:
        reader.close()
    assert [row.kind for row in rows[-2:]] == [RunInterrupted.kind, StatusChange.kind]


async def test_a_process_that_only_runs_lets_no_canary_loose_until_somebody_asks(tmp_path: Path) -> None:
    config = attrs.evolve(CONFIG, sandbox=SandboxConfig(user="nobody"))
    async with open_runtime(Setup(config, RULES, tmp_path / "state")) as gateway:
        accepted = await gateway.submit(prompt(tmp_path), ME)
        assert isinstance(accepted, Accepted)
        await until(gateway, accepted, RunFinished)
        assert not gateway.health().sandbox.known
        assert (await gateway.prove_sandbox()).known
        assert gateway.health().sandbox.known


async def test_a_daemon_finds_out_by_itself_what_its_programs_run_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = trio.Event()

    async def prove(self: Gateway) -> SandboxReport:
        asked.set()
        await trio.sleep_forever()
        raise AssertionError

    monkeypatch.setattr(Gateway, "prove_sandbox", prove)
    config = attrs.evolve(CONFIG, grpc=GrpcConfig(port=0), quic=QuicConfig(port=0), http=HttpConfig(port=0))
    async with open_daemon(Setup(config, RULES, tmp_path / "state"), tcp=True) as daemon:
        assert daemon.edges.addresses  # ready, though nobody knows yet
        with trio.fail_after(10):
            await asked.wait()
