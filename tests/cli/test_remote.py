import json
import os
import socket
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio
from grpclib.const import Status
from grpclib.exceptions import GRPCError

from palyra_trio.cli import remote as module
from palyra_trio.cli.remote import BACK_OFF_MAX_S, PATIENCE_S, RemoteGateway, Rows, _meaning, _Place, open_remote
from palyra_trio.cli.ways import over_stream
from palyra_trio.core.agents import AgentSpec
from palyra_trio.core.bindings import BindingPlace, Target
from palyra_trio.core.codec import TapeRow
from palyra_trio.core.commands import (
    Accepted,
    Applied,
    ArchiveSession,
    BindAgent,
    CancelRun,
    Command,
    CreateToken,
    DecideApproval,
    DefineAgent,
    NewAttachment,
    RemoveAgent,
    RenameSession,
    RevokeGrant,
    RevokeToken,
    RotateToken,
    SetDefaultAgent,
    StartRun,
    TakeUpRun,
    TokenIssued,
    UndoRun,
)
from palyra_trio.core.config import Config, DaemonConfig, JournalConfig
from palyra_trio.core.errors import (
    InvalidArgument,
    NoDaemon,
    NotFound,
    OffsetAhead,
    PalyraError,
    PeerError,
    PolicyError,
    StateConflict,
    TooLarge,
    Unauthenticated,
)
from palyra_trio.core.identity import RequestContext, RunId
from palyra_trio.core.run import RunState
from palyra_trio.core.session import SessionRef, WhenBusy
from palyra_trio.core.tape import ApprovalDecided, ApprovalRequested, ModelDelta, RunFinished, TapeEvent, run_stream
from palyra_trio.daemon import Daemon, Setup, open_daemon
from palyra_trio.guard.auth import user_principal
from palyra_trio.journal.queries import Reader
from palyra_trio.journal.store import FILE_NAME
from palyra_trio.pb import sessions_pb2
from palyra_trio.providers.choose import ModelSettings
from palyra_trio.transports.convert import BATCH_BYTES

CONFIG = Config(daemon=DaemonConfig(drain_s=0), journal=JournalConfig(min_free_bytes=0))
DEVICE, UNKNOWN = "01HZZZZZZZ0000000000000098", "01HZZZZZZZ0000000000000099"
ME = RequestContext(user_principal(os.getuid()), DEVICE, "cli", local=True)
METADATA = {"x-palyra-device-id": DEVICE, "x-palyra-channel": "cli"}
WRITES = {"calls": [{"tool": "files.write", "arguments": {"path": "a.txt", "text": "new"}}]}
HANGS = {"deltas": ["thinking"], "hang": True}


@attrs.define
class There:
    """A daemon that listens on its socket, and a gateway that reaches it that way alone."""

    folder: Path
    daemon: Daemon
    gateway: RemoteGateway
    dialled: list[trio.SocketStream]

    def command(self, text: str = "what time is it", *turns: dict[str, Any], **fields: Any) -> StartRun:
        """Return a StartRun. With `turns`, a script of them answers it."""
        if turns:
            (self.folder / "script.json").write_text(json.dumps({"turns": turns}))
            fields["model"] = f"scripted/{self.folder / 'script.json'}"
        return StartRun(text, **{"workspace": str(self.folder / "work")} | fields)

    async def start(self, *arguments: Any, **fields: Any) -> Accepted:
        accepted = await self.gateway.submit(self.command(*arguments, **fields), ME)
        assert isinstance(accepted, Accepted)
        return accepted

    async def until(self, accepted: Accepted, kind: type[TapeEvent]) -> TapeEvent:
        """Follow a run until it has an event of this kind."""
        async with self.gateway.following(accepted.run_id, 0, ME) as follower:
            while rows := await follower.next_rows():
                for row in rows:
                    if isinstance(event := row.event(), kind):
                        return event
        raise AssertionError(f"there was no {kind.__name__}")

    async def rows(self, accepted: Accepted, after: int = 0) -> list[TapeRow]:
        """Follow a run to its end."""
        found: list[TapeRow] = []
        async with self.gateway.following(accepted.run_id, after, ME) as follower:
            while rows := await follower.next_rows():
                found += rows
        return found

    def journal_rows(self, accepted: Accepted) -> list[TapeRow]:
        with closing(Reader(self.folder / "state" / FILE_NAME)) as reader:
            return list(reader.tape(run_stream(accepted.run_id)))

    def cut(self) -> None:
        """Cut the connection, as a network does."""
        self.dialled[-1].socket.shutdown(socket.SHUT_RDWR)


@asynccontextmanager
async def there(folder: Path) -> AsyncGenerator[There, None]:
    (folder / "work").mkdir()
    dialled: list[trio.SocketStream] = []

    async def dial() -> trio.SocketStream:
        dialled.append(await trio.open_unix_socket(folder / "state" / "socket"))
        return dialled[-1]

    models = ModelSettings(model="offline/rules")
    with trio.fail_after(20):
        async with (
            open_daemon(Setup(CONFIG, models, folder / "state"), tcp=False) as daemon,
            open_remote(over_stream(dial, "localhost", METADATA)) as gateway,
        ):
            yield There(folder, daemon, gateway, dialled)


# --- commands ---


async def test_a_run_is_started_and_followed_to_its_end(tmp_path: Path) -> None:
    async with there(tmp_path) as remote:
        accepted = await remote.start(run_id=RunId(UNKNOWN), session=SessionRef(key="notes"))
        assert (accepted.run_id, accepted.attached) == (UNKNOWN, False)
        rows = await remote.rows(accepted)
        assert rows == remote.journal_rows(accepted)
        assert rows[-1].kind == RunFinished.kind
        again = await remote.start(run_id=RunId(UNKNOWN), session=SessionRef(key="notes"))
        assert attrs.evolve(again, attached=False) == accepted
        assert again.attached
        assert await remote.gateway.session_named("notes", ME) == accepted.session_id
        assert await remote.gateway.session_named("last", ME) == accepted.session_id


async def test_a_question_is_answered_and_what_it_allowed_is_undone(tmp_path: Path) -> None:
    async with there(tmp_path) as remote:
        accepted = await remote.start("write", WRITES, {"text": "done"})
        asked = await remote.until(accepted, ApprovalRequested)
        assert isinstance(asked, ApprovalRequested)
        assert await remote.gateway.submit(DecideApproval(asked.approval_id, True), ME) == Applied()
        await remote.until(accepted, RunFinished)
        assert (tmp_path / "work" / "a.txt").read_text() == "new"
        assert await remote.gateway.submit(UndoRun(accepted.run_id), ME) == Applied()
        assert not (tmp_path / "work" / "a.txt").exists()


async def test_what_is_allowed_for_longer_is_taken_back_and_a_run_is_taken_up(tmp_path: Path) -> None:
    async with there(tmp_path) as remote:
        accepted = await remote.start("write", WRITES, {"text": "done"})
        asked = await remote.until(accepted, ApprovalRequested)
        assert isinstance(asked, ApprovalRequested)
        until_ms = (time.time_ns() // 1_000_000) + 60_000
        decision = DecideApproval(asked.approval_id, True, "", "time", until_ms)
        assert await remote.gateway.submit(decision, ME) == Applied()
        decided = await remote.until(accepted, ApprovalDecided)
        assert isinstance(decided, ApprovalDecided)
        assert (decided.scope, decided.until_ms) == ("time", until_ms)
        assert await remote.gateway.submit(RevokeGrant(asked.approval_id), ME) == Applied()
        assert await remote.gateway.submit(TakeUpRun(accepted.run_id), ME) == Applied()


async def test_a_run_is_cancelled_with_its_reason(tmp_path: Path) -> None:
    async with there(tmp_path) as remote:
        accepted = await remote.start("think", HANGS)
        await remote.until(accepted, ModelDelta)
        assert await remote.gateway.submit(CancelRun(accepted.run_id, "enough"), ME) == Applied()
        finished = await remote.until(accepted, RunFinished)
        assert isinstance(finished, RunFinished)
        assert finished.state is RunState.CANCELLED
        assert any(b"enough" in (row.body or b"") for row in remote.journal_rows(accepted))


async def test_a_session_is_renamed(tmp_path: Path) -> None:
    async with there(tmp_path) as remote:
        accepted = await remote.start(session=SessionRef(key="notes"))
        await remote.rows(accepted)
        assert await remote.gateway.submit(RenameSession(accepted.session_id, "The fence"), ME) == Applied()
        (session,) = await remote.daemon.gateway.ask(lambda reader: reader.sessions(ME.principal))
        assert session.title == "The fence"


async def test_a_session_is_archived(tmp_path: Path) -> None:
    async with there(tmp_path) as remote:
        accepted = await remote.start(session=SessionRef(key="notes"))
        await remote.rows(accepted)
        assert await remote.gateway.submit(ArchiveSession(accepted.session_id), ME) == Applied()
        with pytest.raises(NotFound):
            await remote.gateway.session_named("notes", ME)


async def test_agents_are_defined_made_the_default_and_removed(tmp_path: Path) -> None:
    async with there(tmp_path) as remote:
        for name in ("scribe", "judge"):
            assert await remote.gateway.submit(DefineAgent(AgentSpec(name, instructions="Write.")), ME) == Applied()
        with pytest.raises(StateConflict, match="there is an agent 'scribe' already"):
            await remote.gateway.submit(DefineAgent(AgentSpec("scribe"), replace=False), ME)
        assert await remote.gateway.submit(SetDefaultAgent("scribe"), ME) == Applied()
        assert await remote.gateway.submit(RemoveAgent("judge"), ME) == Applied()
        agents = {agent.spec.name: agent.spec for agent in await remote.daemon.gateway.agents()}
        assert agents["scribe"] == AgentSpec("scribe", instructions="Write.")
        assert "judge" not in agents


async def test_tokens_are_made_rotated_and_revoked(tmp_path: Path) -> None:
    async with there(tmp_path) as remote:
        made = await remote.gateway.submit(CreateToken("ci", "service:ci", ("run", "read"), 2_000_000_000_000), ME)
        assert isinstance(made, TokenIssued)
        assert (made.token.name, made.token.principal, made.token.expires_ms) == ("ci", "service:ci", 2_000_000_000_000)
        assert set(made.token.scopes) == {"run", "read"}
        rotated = await remote.gateway.submit(RotateToken(made.token.token_id), ME)
        assert isinstance(rotated, TokenIssued)
        assert rotated.secret != made.secret
        assert await remote.gateway.submit(RevokeToken(rotated.token.token_id), ME) == Applied()


async def test_what_no_command_of_ours_asks_for_has_no_way_over_the_wire(tmp_path: Path) -> None:
    async with there(tmp_path) as remote:
        with pytest.raises(InvalidArgument, match="BindAgent has no way over the wire"):
            await remote.gateway.submit(BindAgent(BindingPlace(Target.CHANNEL, "cli"), "default"), ME)


async def test_health_is_told(tmp_path: Path) -> None:
    async with there(tmp_path) as remote:
        health = await remote.gateway.health()
        assert (health.live_runs, health.draining) == (0, False)
        assert health.boot_id == remote.daemon.gateway.health().boot_id


# --- refusals ---


@pytest.mark.parametrize(
    "command",
    [
        StartRun("", workspace="/"),
        StartRun("x", workspace="/no/such/folder"),
        StartRun("x", agent="nobody", workspace="/"),
        CancelRun(RunId(UNKNOWN)),
        CancelRun(RunId("no-id")),
        UndoRun(RunId(UNKNOWN)),
        DecideApproval("no-approval", True),
        RevokeGrant("no-grant"),
        TakeUpRun(RunId(UNKNOWN)),
        DefineAgent(AgentSpec("Not A Name")),
        RemoveAgent("nobody"),
        SetDefaultAgent("nobody"),
        RevokeToken(UNKNOWN),
        RotateToken(UNKNOWN),
        CreateToken("", "nobody", ("run",)),
    ],
    ids=lambda command: type(command).__name__,
)
async def test_a_refusal_over_the_wire_is_the_one_that_it_is_here(tmp_path: Path, command: Command) -> None:
    async with there(tmp_path) as remote:
        refusals = []
        for gateway in (remote.daemon.gateway, remote.gateway):
            with pytest.raises(PalyraError) as refused:
                await gateway.submit(command, ME)
            refusals.append((type(refused.value), refused.value.message, refused.value.remedy))
        assert refusals[0] == refusals[1]


async def test_a_busy_session_says_so_and_what_to_do(tmp_path: Path) -> None:
    async with there(tmp_path) as remote:
        live = await remote.start("think", HANGS)
        await remote.until(live, ModelDelta)
        with pytest.raises(PalyraError) as refused:
            await remote.start(session=SessionRef(session_id=live.session_id), when_busy=WhenBusy.REJECT)
        assert (refused.value.code, refused.value.remedy) == ("session_busy", "wait for it, or interrupt it")


async def test_a_follower_is_refused_with_the_error_itself_not_a_group(tmp_path: Path) -> None:
    async with there(tmp_path) as remote:
        accepted = await remote.start()
        last = len(await remote.rows(accepted))
        with pytest.raises(OffsetAhead) as refused:
            await remote.rows(accepted, last + 1)
        assert f"has {last} rows" in refused.value.message
        with pytest.raises(NotFound):
            await remote.rows(attrs.evolve(accepted, run_id=RunId(UNKNOWN)))


async def test_what_is_raised_in_the_block_leaves_it_as_it_is() -> None:
    with pytest.raises(ZeroDivisionError):
        async with open_remote(over_stream(trio.sleep_forever, "localhost", {})):
            raise ZeroDivisionError


async def test_a_prompt_that_is_larger_than_a_message_is_refused_and_the_connection_stays(tmp_path: Path) -> None:
    async with there(tmp_path) as remote:
        with pytest.raises(TooLarge, match=r"the prompt has 5242880 bytes, .* at most 4194304"):
            await remote.start("x" * (5 << 20))
        big = NewAttachment("big.bin", "application/octet-stream", bytes(4 << 20))
        with pytest.raises(TooLarge, match=r"the attachment big\.bin has 4194304 bytes") as refused:
            await remote.start("see", attachments=(NewAttachment("a", "text/plain", b"a"), big))
        assert "in the workspace" in refused.value.remedy
        await remote.rows(await remote.start())
        assert len(remote.dialled) == 1


async def test_a_message_that_is_too_large_for_the_daemon_is_refused_with_its_code_and_a_remedy(tmp_path: Path) -> None:
    request = sessions_pb2.GetSessionRequest(session="x" * (5 << 20))
    async with there(tmp_path) as remote:
        with pytest.raises(TooLarge, match="over the limit of 4194304") as refused:
            await remote.gateway.gateway_call("GetSession", request)
        assert refused.value.remedy == "send at most 4194304 bytes in one message"


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (Status.UNAVAILABLE, NoDaemon),
        (Status.UNAUTHENTICATED, Unauthenticated),
        (Status.PERMISSION_DENIED, PolicyError),
        (Status.UNIMPLEMENTED, PeerError),
    ],
)
def test_a_status_without_a_code_of_ours_means_what_it_says(status: Status, error: type[PalyraError]) -> None:
    meaning = _meaning(GRPCError(status, "said so"))
    assert type(meaning) is error
    assert "said so" in meaning.message
    assert _meaning(GRPCError(status)).message


# --- following ---


async def test_following_begins_after_a_row(tmp_path: Path) -> None:
    async with there(tmp_path) as remote:
        accepted = await remote.start()
        everything = await remote.rows(accepted)
        for after in (1, len(everything) - 1, len(everything)):
            assert await remote.rows(accepted, after) == everything[after:]


async def test_a_body_that_is_larger_than_a_batch_arrives_whole(tmp_path: Path) -> None:
    async with there(tmp_path) as remote:
        text = "0123456789abcdef" * (3 * BATCH_BYTES // 16)
        accepted = await remote.start(text, {"text": "long"})
        rows = await remote.rows(accepted)
        assert rows == remote.journal_rows(accepted)
        assert len(rows[0].body or b"") > 3 * BATCH_BYTES


async def test_a_follower_goes_on_over_another_connection_when_its_own_is_cut(tmp_path: Path) -> None:
    async with there(tmp_path) as remote:
        accepted = await remote.start("count", {"deltas": list("0123456789"), "delta_pause_s": 0.03})
        rows: list[TapeRow] = []
        async with remote.gateway.following(accepted.run_id, 0, ME) as follower:
            while more := await follower.next_rows():
                rows += more
                if more[-1].kind == ModelDelta.kind:
                    remote.cut()
        assert rows == remote.journal_rows(accepted)
        assert len(remote.dialled) > 2


async def test_a_call_after_a_cut_is_made_over_another_connection(tmp_path: Path) -> None:
    async with there(tmp_path) as remote:
        await remote.gateway.health()
        remote.cut()
        await trio.testing.wait_all_tasks_blocked(0.01)
        await remote.gateway.health()
        assert len(remote.dialled) == 2


async def test_leaving_a_follower_leaves_the_run_alone(tmp_path: Path) -> None:
    async with there(tmp_path) as remote:
        accepted = await remote.start("think", HANGS)
        await remote.until(accepted, ModelDelta)
        assert remote.daemon.gateway.sessions.live_runs == 1


async def test_where_nobody_answers_there_is_no_daemon(tmp_path: Path) -> None:
    async def dial() -> trio.SocketStream:
        return await trio.open_unix_socket(tmp_path / "none")

    async with open_remote(over_stream(dial, "localhost", {})) as gateway:
        with pytest.raises(NoDaemon, match="localhost does not answer"):
            await gateway.health()


async def test_a_follower_gives_up_when_its_patience_has_run_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PATIENCE_S", 0.2)
    async with there(tmp_path) as remote:
        accepted = await remote.start("think", HANGS)
        async with remote.gateway.following(accepted.run_id, 0, ME) as follower:
            seq = 0
            while seq < 4:
                seq = (await follower.next_rows())[-1].seq
            remote.daemon.edges.drain(trio.current_time())
            with pytest.raises(NoDaemon):
                await _last(follower)


async def _last(follower: Rows) -> None:
    while await follower.next_rows():
        pass


def test_patience_counts_from_when_the_connection_was_lost_and_waits_grow() -> None:
    place = _Place(0)
    waits, now = [], 1_000_000.0
    while (wait_s := place.wait_s(now)) is not None:
        waits.append(wait_s)
        now += wait_s
    assert waits[:3] == [0.05, 0.1, 0.2]
    assert max(waits) == BACK_OFF_MAX_S
    assert PATIENCE_S - BACK_OFF_MAX_S <= sum(waits) < PATIENCE_S


def test_rows_that_arrive_make_a_follower_patient_again() -> None:
    place = _Place(0)
    for _ in range(10):
        place.wait_s(1_000.0)
    place.lost_at = None
    place.arrived((TapeRow(1, "run:x", 7, ModelDelta.kind, 0, b"{}", b""),))
    assert (place.seq, place.ended, place.wait_s(1_029.0)) == (7, False, 0.05)
    place.arrived((TapeRow(1, "run:x", 8, RunFinished.kind, 0, b"{}", b""),))
    assert (place.seq, place.ended) == (8, True)
