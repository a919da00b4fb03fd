import json
import os
import signal
import socket
import stat
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager, closing
from typing import Any

import attrs
import pytest
import trio

from palyra_trio.cli import door as module
from palyra_trio.cli.door import (
    SOCKET_NAME,
    LocalDoor,
    SharedDoor,
    attempt,
    open_door,
    open_remote_door,
    submit,
    watch,
)
from palyra_trio.cli.open import is_held, principal, read_settings, reading
from palyra_trio.cli.remote import RemoteGateway
from palyra_trio.core.agents import AgentSpec
from palyra_trio.core.codec import TapeRow
from palyra_trio.core.commands import Accepted, Applied, CancelRun, Command, CreateToken, DefineAgent, StartRun
from palyra_trio.core.errors import Draining, NoDaemon, NotFound, StateLocked
from palyra_trio.core.identity import RequestContext, RunId, Scope
from palyra_trio.core.tape import ModelDelta, run_stream
from palyra_trio.journal.store import lock_state_dir
from palyra_trio.pb import runs_pb2
from palyra_trio.pb.gateway_grpc import GatewayServiceStub
from palyra_trio.transports import listeners
from palyra_trio.wire.h2_client import connect
from tests.cli.conftest import RUN, SESSION, Home

UNKNOWN = RunId("01HZZZZZZZ0000000000000099")


@pytest.fixture
def thinking(home: Home, monkeypatch: pytest.MonkeyPatch) -> StartRun:
    """A run that thinks for ever, without a reserve on the disk and without a drain."""
    (home.state_dir.parent / "script.json").write_text('{"turns": [{"deltas": ["thinking"], "hang": true}]}')
    monkeypatch.setenv("PALYRA_DAEMON__DRAIN_S", "0")
    return StartRun("think", model=f"scripted/{home.state_dir.parent / 'script.json'}", workspace=str(home.folder))


def test_both_ends_know_the_socket_by_one_name() -> None:
    assert SOCKET_NAME == listeners.SOCKET_NAME


def test_a_command_is_carried_out_in_this_process_when_nobody_serves(home: Home) -> None:
    assert submit(DefineAgent(AgentSpec("scribe"))) == Applied()
    with reading() as reader:
        assert [spec.name for spec, _ in reader.agents()] == ["scribe"]
    assert not is_held(home.state_dir)
    assert not (home.state_dir / SOCKET_NAME).exists()


def test_a_refusal_comes_down_to_one_error(home: Home) -> None:
    home.record_run()
    with pytest.raises(NotFound):
        submit(CancelRun(UNKNOWN))


def test_a_holder_that_does_not_answer_is_named_when_patience_has_run_out(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "STARTING_S", 0.1)
    lock = lock_state_dir(home.state_dir)
    try:
        with pytest.raises(StateLocked, match=str(os.getpid())):
            submit(DefineAgent(AgentSpec("scribe")))
    finally:
        os.close(lock)


async def test_the_first_holds_the_directory_and_the_second_comes_in_by_its_socket(home: Home) -> None:
    settings = read_settings()
    async with open_door(settings) as (first, mine), open_door(settings) as (second, _):
        assert isinstance(first, SharedDoor)
        assert isinstance(second, SharedDoor)
        assert isinstance(first.leads_to, LocalDoor)
        assert isinstance(second.leads_to, RemoteGateway)
        assert mine.principal == principal()
        assert stat.S_IMODE((home.state_dir / SOCKET_NAME).stat().st_mode) == 0o600
        for door, name in ((first, "scribe"), (second, "judge")):
            assert await door.submit(DefineAgent(AgentSpec(name)), mine) == Applied()
    with reading() as reader:
        assert {spec.name for spec, _ in reader.agents()} == {"scribe", "judge"}


async def test_a_run_of_the_one_is_followed_and_cancelled_by_the_other(home: Home, thinking: StartRun) -> None:
    settings = read_settings()
    async with open_door(settings) as (first, context), open_door(settings) as (second, _):
        accepted = await first.submit(thinking, context)
        assert isinstance(accepted, Accepted)
        assert await second.session_named("last", context) == await first.session_named("last", context)
        for door in (first, second):
            async with door.following(accepted.run_id, 0, context) as follower:
                kinds: set[int] = set()
                while ModelDelta.kind not in kinds:
                    rows = await follower.next_rows()
                    assert rows, "the run has ended"
                    kinds |= {row.kind for row in rows}
        assert await second.submit(CancelRun(accepted.run_id), context) == Applied()


async def test_whoever_is_still_starting_is_waited_for(home: Home) -> None:
    """A second process that took the lock, and comes to its socket a little later."""
    settings = read_settings()
    lock = lock_state_dir(home.state_dir)
    opened = trio.Event()

    async def open_it() -> None:
        async with open_door(settings) as (door, _):
            assert isinstance(door, SharedDoor)
            assert isinstance(door.leads_to, LocalDoor)
            opened.set()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(open_it)
        await trio.sleep(2 * module.AGAIN_S)
        assert not opened.is_set()
        os.close(lock)
        with trio.fail_after(module.STARTING_S):
            await opened.wait()


@attrs.define
class Other:
    """Another terminal, which holds the directory until it is told to leave."""

    door: LocalDoor | None = None
    _told: trio.Event = attrs.Factory(trio.Event)
    _gone: trio.Event = attrs.Factory(trio.Event)

    async def hold(self, task_status: trio.TaskStatus[None]) -> None:
        async with open_door(read_settings()) as (door, _):
            assert isinstance(door, SharedDoor)
            assert isinstance(door.leads_to, LocalDoor)
            self.door = door.leads_to
            task_status.started()
            await self._told.wait()
        self._gone.set()

    def drain(self, drain_s: float) -> None:
        assert self.door is not None
        self.door._daemon.drain(drain_s)

    async def leave(self) -> None:
        self._told.set()
        await self._gone.wait()


@asynccontextmanager
async def after_another() -> AsyncGenerator[tuple[Other, SharedDoor, RequestContext], None]:
    """Come in by the socket of another terminal, which is gone when the block has ended."""
    other = Other()
    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            await nursery.start(other.hold)
            async with open_door(read_settings()) as (door, context):
                assert isinstance(door, SharedDoor)
                assert isinstance(door.leads_to, RemoteGateway)
                yield other, door, context
                await other.leave()


@pytest.mark.parametrize("question", ["run", "session", "agent"])
async def test_a_command_whose_holder_left_before_it_was_asked_is_carried_out_here(home: Home, question: str) -> None:
    home.record_run()
    async with after_another() as (other, door, context):
        await other.leave()
        if question == "run":
            accepted = await door.submit(StartRun("what time is it", workspace=str(home.folder)), context)
            assert isinstance(accepted, Accepted)
            assert not accepted.attached
        elif question == "session":
            assert await door.session_named("last", context) == SESSION
        else:
            assert await door.submit(DefineAgent(AgentSpec("scribe")), context) == Applied()
        assert isinstance(door.leads_to, LocalDoor)


async def test_a_holder_that_is_leaving_is_waited_for(home: Home) -> None:
    replies = []
    async with after_another() as (other, door, context), trio.open_nursery() as nursery:

        async def start() -> None:
            replies.append(await door.submit(StartRun("hello", workspace=str(home.folder)), context))

        assert other.door is not None
        other.door._daemon.gateway.drain_by(trio.current_time() + 1)
        nursery.start_soon(start)
        await trio.sleep(2 * module.AGAIN_S)
        assert replies == []
        await other.leave()
    assert isinstance(replies[0], Accepted)
    assert isinstance(door.leads_to, LocalDoor)


async def test_a_holder_that_takes_its_time_to_leave_is_named(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "STARTING_S", 0.2)
    async with after_another() as (other, door, context):
        other.drain(10)
        with pytest.raises(StateLocked, match=str(os.getpid())):
            await door.submit(StartRun("hello", workspace=str(home.folder)), context)


async def test_a_holder_that_stays_and_takes_nothing_more_is_not_asked_for_ever(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "STARTING_S", 0.2)
    async with after_another() as (other, door, context):
        assert other.door is not None
        other.door._daemon.gateway.drain_by(trio.current_time() + 10)
        with pytest.raises(Draining), trio.fail_after(5):
            await door.submit(StartRun("hello", workspace=str(home.folder)), context)


async def test_of_two_commands_whose_holder_left_one_opens_the_way_for_both(home: Home) -> None:
    async with after_another() as (other, door, context):
        await other.leave()
        async with trio.open_nursery() as nursery:
            for name in ("scribe", "judge", "clerk"):
                nursery.start_soon(door.submit, DefineAgent(AgentSpec(name)), context)
        assert isinstance(door.leads_to, LocalDoor)
    assert not is_held(home.state_dir)
    with reading() as reader:
        assert {spec.name for spec, _ in reader.agents()} == {"scribe", "judge", "clerk"}


async def test_what_must_not_be_done_twice_is_not_sent_twice(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """The answer is lost: nobody knows whether the token was made."""
    sent = []

    async def lost(_self: RemoteGateway, command: Command, _context: RequestContext) -> None:
        await trio.lowlevel.checkpoint()
        sent.append(command)
        raise NoDaemon("the daemon went away")

    async with after_another() as (_other, door, context):
        monkeypatch.setattr(RemoteGateway, "submit", lost)
        with pytest.raises(NoDaemon):
            await door.submit(CreateToken("t", context.principal, (Scope.READ,), 0), context)
        assert len(sent) == 1


async def test_a_run_that_ended_as_its_holder_left_is_read_from_the_journal(home: Home) -> None:
    rows: list[TapeRow] = []
    async with after_another() as (other, door, context):
        accepted = await door.submit(StartRun("what time is it", workspace=str(home.folder)), context)
        assert isinstance(accepted, Accepted)
        await other.leave()
        async with door.following(accepted.run_id, 2, context) as follower:
            while found := await follower.next_rows():
                rows.extend(found)
    with reading() as reader:
        assert rows == list(reader.tape(run_stream(accepted.run_id)))[2:]


async def test_a_client_that_is_behind_may_read_the_last_rows_before_this_process_leaves(home: Home) -> None:
    script = home.state_dir.parent / "script.json"
    script.write_text(json.dumps({"turns": [{"deltas": ["x" * 100_000] * 20}]}))
    seqs: list[int] = []

    async def read(stream: Any) -> None:
        async for response in stream:
            seqs.extend(item.seq for item in response.batch.items if not item.more)

    with trio.fail_after(10):
        async with AsyncExitStack() as stack:
            async with trio.open_nursery() as nursery, open_door(read_settings()) as (door, context):
                command = StartRun("say it", model=f"scripted/{script}", workspace=str(home.folder))
                accepted = await door.submit(command, context)
                assert isinstance(accepted, Accepted)
                unix = await trio.open_unix_socket(home.state_dir / SOCKET_NAME)
                channel: Any = await nursery.start(_hold_channel, unix)
                stream = await stack.enter_async_context(GatewayServiceStub(channel).RunStream.open())
                attach = runs_pb2.AttachRun(run_id=accepted.run_id)
                await stream.send_message(runs_pb2.RunStreamRequest(attach=attach), end=True)
                async with door.following(accepted.run_id, 0, context) as rows:
                    while found := await rows.next_rows():
                        last = found[-1].seq
                nursery.start_soon(read, stream)
            nursery.cancel_scope.cancel()
    assert seqs[-1] == last


async def _hold_channel(unix: trio.SocketStream, task_status: trio.TaskStatus[Any]) -> None:
    async with connect(unix) as channel:
        task_status.started(channel)
        await channel.ended.wait()


async def test_what_a_dead_process_left_is_nobody(home: Home) -> None:
    home.state_dir.mkdir()
    with closing(socket.socket(socket.AF_UNIX)) as dead:
        dead.bind(os.fspath(home.state_dir / SOCKET_NAME))
    with pytest.raises(NoDaemon) as refused:
        await open_remote_door(home.state_dir).__aenter__()
    assert refused.value.remedy == "`palyra-trio serve` starts a daemon"
    async with open_door(read_settings()) as (door, _):
        assert isinstance(door, SharedDoor)
        assert isinstance(door.leads_to, LocalDoor)


async def test_leaving_waits_for_the_runs_of_others_and_says_so(
    home: Home, thinking: StartRun, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "UNSAID_S", 0.0)
    settings, started, left = read_settings(), trio.Event(), trio.Event()

    async def other() -> None:
        async with open_remote_door(home.state_dir) as (door, context):
            accepted = await door.submit(thinking, context)
            assert isinstance(accepted, Accepted)
            started.set()
            await trio.testing.wait_all_tasks_blocked(0.05)
            assert not left.is_set()
            await door.submit(CancelRun(accepted.run_id), context)

    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            async with open_door(settings):
                nursery.start_soon(other)
                await started.wait()
            left.set()
    assert "waiting for the runs of other terminals (1 live)" in capsys.readouterr().err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_a_signal_ends_the_wait(home: Home, thinking: StartRun, number: signal.Signals) -> None:
    with trio.fail_after(10):
        async with open_door(read_settings()) as (door, context):
            accepted = await door.submit(thinking, context)
            assert isinstance(accepted, Accepted)
            trio.lowlevel.spawn_system_task(_signal_when_quiet, number)
    with reading() as reader:
        run = reader.find_run(accepted.run_id, principal())
    assert (run.state, run.reason) == ("waiting", "interrupted")


async def _signal_when_quiet(number: signal.Signals) -> None:
    await trio.testing.wait_all_tasks_blocked(0.05)
    os.kill(os.getpid(), number)


async def test_whoever_has_let_the_others_end_takes_no_more_runs(home: Home) -> None:
    async with open_door(read_settings()) as (door, context):
        assert isinstance(door, SharedDoor)
        assert isinstance(door.leads_to, LocalDoor)
        await door.leads_to.let_others_end()
        with pytest.raises(Draining):
            await door.submit(StartRun("hello", workspace=str(home.folder)), context)


async def test_when_nobody_else_has_a_run_leaving_says_nothing(home: Home, capsys: pytest.CaptureFixture[str]) -> None:
    async with open_door(read_settings()) as (door, context):
        accepted = await door.submit(StartRun("what time is it", workspace=str(home.folder)), context)
        assert isinstance(accepted, Accepted)
        async with door.following(accepted.run_id, 0, context) as rows:
            while await rows.next_rows():
                pass
    assert capsys.readouterr().err == ""


def test_watching_needs_somebody_who_runs_it(home: Home) -> None:
    home.record_run()
    with pytest.raises(NoDaemon):
        watch(RunId(RUN), 0, lambda _: None)


async def test_watching_shows_every_row_once_in_order(home: Home, thinking: StartRun) -> None:
    shown: list[TapeRow] = []
    async with open_door(read_settings()) as (door, context):
        accepted = await door.submit(thinking, context)
        assert isinstance(accepted, Accepted)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(module._watch, accepted.run_id, 0, shown.extend)
            with trio.fail_after(10):
                while not any(row.kind == ModelDelta.kind for row in shown):
                    await trio.testing.wait_all_tasks_blocked(0.01)
            await door.submit(CancelRun(accepted.run_id), context)
    with reading() as reader:
        assert shown == list(reader.tape(run_stream(accepted.run_id)))


async def test_a_refused_attempt_is_said_and_has_no_reply(home: Home) -> None:
    said: list[str] = []
    async with open_door(read_settings()) as (door, context):
        assert await attempt(door, CancelRun(UNKNOWN), context, said.append) is None
        assert await attempt(door, DefineAgent(AgentSpec("scribe")), context, said.append) == Applied()
    (line,) = said
    assert line.startswith("error: ")
    assert UNKNOWN in line
