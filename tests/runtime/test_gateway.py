"""The one door: who may do what to whose run, what a follower is told, and what no command can break."""

from contextlib import suppress
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio

from palyra_trio.core.agents import AgentSpec
from palyra_trio.core.commands import (
    ArchiveSession,
    CancelRun,
    DecideApproval,
    DefineAgent,
    RemoveAgent,
    SetDefaultAgent,
    UndoRun,
)
from palyra_trio.core.errors import (
    Ambiguous,
    InvalidArgument,
    JournalStopped,
    NotFound,
    OffsetAhead,
    PalyraError,
    StateConflict,
)
from palyra_trio.core.identity import RunId, SessionId
from palyra_trio.core.messages import ToolCall
from palyra_trio.core.run import RunState
from palyra_trio.core.session import SessionRef
from palyra_trio.core.tape import ApprovalRequested, CancelRequested, ModelDelta, ProviderRequest, ToolStarted
from palyra_trio.journal.store import Batchable, Outcome, SqliteStore
from tests.fakes import (
    ME,
    OTHER,
    SECRET,
    FakeProvider,
    Runtime,
    echo,
    fake_tool,
    in_session,
    open_fake_runtime,
    says,
    scripted,
)

WRITES = fake_tool("fake.write", echo, read_only=False)
ASKS = says("", ToolCall("w", "fake.write", {"value": "x"}))


# --- ownership ---


async def test_another_principal_can_do_nothing_to_a_run(tmp_path: Path) -> None:
    async with open_fake_runtime(tmp_path, FakeProvider(ASKS, says("done")), tools=[WRITES]) as runtime:
        accepted = await runtime.start()
        asked = await runtime.until(accepted.run_id, ApprovalRequested)
        gateway, run_id = runtime.gateway, accepted.run_id
        with pytest.raises(NotFound):
            await gateway.run(run_id, OTHER)
        with pytest.raises(NotFound):
            await gateway.follow(run_id, 0, OTHER)
        for command, refusal in (
            (CancelRun(run_id), NotFound),
            (UndoRun(run_id), NotFound),
            (DecideApproval(asked.approval_id, granted=True), NotFound),
            (ArchiveSession(accepted.session_id), NotFound),
        ):
            with pytest.raises(refusal):
                await gateway.submit(command, OTHER)
        with pytest.raises(NotFound):
            await runtime.start(context=OTHER, session=in_session(accepted))
        await runtime.do(DecideApproval(asked.approval_id, granted=True))
        tape = await runtime.ended(run_id)
    assert tape.end == (RunState.DONE, "final_answer")


async def test_another_device_of_the_same_principal_may_go_on(tmp_path: Path) -> None:
    phone = attrs.evolve(ME, device="phone")
    async with open_fake_runtime(tmp_path) as runtime:
        first = await runtime.start()
        await runtime.ended(first.run_id, phone)
        tape = await runtime.run("more", session=in_session(first), context=phone)
    assert tape.view.input is not None
    assert tape.view.input.device == "phone"


# --- following ---


async def test_last_and_the_beginning_of_an_id_mean_the_run(tmp_path: Path) -> None:
    async with open_fake_runtime(tmp_path) as runtime:
        accepted = await runtime.start()
        whole = await runtime.ended(accepted.run_id)
        for text in ("last", accepted.run_id[:20], accepted.run_id.lower()):
            assert (await runtime.ended(RunId(text))).rows == whole.rows
        with pytest.raises(StateConflict):
            await runtime.do(CancelRun(RunId("last")))


async def test_an_ambiguous_beginning_is_refused(tmp_path: Path) -> None:
    async with open_fake_runtime(tmp_path) as runtime:
        await runtime.run()
        await runtime.run()
        with pytest.raises(Ambiguous):
            await runtime.gateway.follow(RunId("0"), 0, ME)


async def test_following_from_a_seq_that_is_not_there_yet_is_refused(tmp_path: Path) -> None:
    async with open_fake_runtime(tmp_path) as runtime:
        accepted = await runtime.start()
        tape = await runtime.ended(accepted.run_id)
        at_end = await runtime.gateway.follow(accepted.run_id, len(tape.rows) - 1, ME)
        assert await at_end.next_rows() == tape.rows[-1:]
        with pytest.raises(OffsetAhead, match=f"has {len(tape.rows)} rows"):
            await runtime.gateway.follow(accepted.run_id, len(tape.rows) + 1, ME)


# --- cancelling ---


async def test_a_cancel_is_durable_when_it_is_acknowledged_and_says_who_and_why(tmp_path: Path) -> None:
    async with open_fake_runtime(tmp_path, scripted({"text": "thinking", "hang": True})) as runtime:
        accepted = await runtime.start()
        await runtime.until(accepted.run_id, ProviderRequest)
        await runtime.do(CancelRun(accepted.run_id, f"my key is {SECRET}"))
        rows = await runtime.gateway.ask(lambda reader: [*reader.tape(f"run:{accepted.run_id}")])
        assert any(isinstance(row.event(), CancelRequested) for row in rows)
        tape = await runtime.ended(accepted.run_id)
    assert tape.end == (RunState.CANCELLED, "cancelled")
    assert tape.one(CancelRequested) == CancelRequested(ME.principal, "my key is [redacted:openai_key]")
    assert ME.principal in tape.view.finished.detail  # type: ignore[union-attr]


async def test_a_run_that_has_ended_cannot_be_cancelled(tmp_path: Path) -> None:
    async with open_fake_runtime(tmp_path) as runtime:
        accepted = await runtime.start()
        await runtime.ended(accepted.run_id)
        with pytest.raises(StateConflict, match="is done already"):
            await runtime.do(CancelRun(accepted.run_id))
        with pytest.raises(NotFound):
            await runtime.do(CancelRun(RunId("01JZZZZZZZZZZZZZZZZZZZZZZZ")))


async def test_many_cancels_at_once_end_a_run_once(tmp_path: Path) -> None:
    async with open_fake_runtime(tmp_path, scripted({"hang": True})) as runtime:
        accepted = await runtime.start()
        await runtime.until(accepted.run_id, ProviderRequest)

        async def cancel() -> None:
            with suppress(StateConflict):
                await runtime.do(CancelRun(accepted.run_id))

        async with trio.open_nursery() as nursery:
            for _ in range(10):
                nursery.start_soon(cancel)
        tape = await runtime.ended(accepted.run_id)
    assert tape.end == (RunState.CANCELLED, "cancelled")


# --- sessions and agents ---


async def test_an_archived_session_takes_no_more_runs_and_frees_its_key(tmp_path: Path) -> None:
    async with open_fake_runtime(tmp_path) as runtime:
        first = await runtime.start(session=SessionRef(key="k"))
        await runtime.ended(first.run_id)
        await runtime.do(ArchiveSession(first.session_id))
        with pytest.raises(StateConflict, match="archived"):
            await runtime.start(session=in_session(first))
        with pytest.raises(StateConflict, match="archived"):
            await runtime.do(ArchiveSession(first.session_id))
        second = await runtime.start(session=SessionRef(key="k"))
        await runtime.ended(second.run_id)
    assert second.session_id != first.session_id


async def test_a_session_with_work_is_not_archived(tmp_path: Path) -> None:
    async with open_fake_runtime(tmp_path, scripted({"hang": True})) as runtime:
        first = await runtime.start()
        await runtime.until(first.run_id, ProviderRequest)
        queued = await runtime.start(session=in_session(first))
        with pytest.raises(StateConflict, match="live run"):
            await runtime.do(ArchiveSession(first.session_id))
        await runtime.do(CancelRun(first.run_id))
        with pytest.raises(StateConflict, match="live run"):
            await runtime.do(ArchiveSession(first.session_id))
        await runtime.do(CancelRun(queued.run_id))


async def test_an_unknown_session_is_not_told_from_anothers(tmp_path: Path) -> None:
    async with open_fake_runtime(tmp_path) as runtime:
        with pytest.raises(NotFound):
            await runtime.do(ArchiveSession(SessionId("01JZZZZZZZZZZZZZZZZZZZZZZZ")))


async def test_agents_are_defined_chosen_and_removed(tmp_path: Path) -> None:
    provider = FakeProvider(says("done"))
    async with open_fake_runtime(tmp_path, provider) as runtime:
        await runtime.do(DefineAgent(AgentSpec("poet", instructions="Rhyme.")))
        await runtime.do(SetDefaultAgent("poet"))
        await runtime.run()
        await runtime.run(agent="default")
        await runtime.do(RemoveAgent("poet"))
        await runtime.run()
        for command in (RemoveAgent("poet"), SetDefaultAgent("poet")):
            with pytest.raises(PalyraError, match="there is no agent 'poet'"):
                await runtime.do(command)
        with pytest.raises(NotFound, match="no agent 'poet'"):
            await runtime.start(agent="poet")
    shown = [request.messages[0].text == "Rhyme." for request in provider.requests]
    assert shown == [True, False, False]


# --- what no command can break ---


@pytest.mark.parametrize(
    "command",
    [
        CancelRun(RunId("last"), "half \udcff"),
        DecideApproval("\udcff", granted=True),
        DecideApproval("x", granted=True, reason="\ud800"),
        ArchiveSession(SessionId("\udcff")),
        UndoRun(RunId("\udcff")),
        DefineAgent(AgentSpec("a", instructions="\udcff")),
        DefineAgent(AgentSpec("a", answer_schema={"type": "nonsense"})),
        DefineAgent(AgentSpec("a", answer_schema={"title": "\udcff"})),
        RemoveAgent("\udcff"),
        SetDefaultAgent("\udcff"),
    ],
)
async def test_a_command_that_makes_no_sense_is_refused_and_the_runtime_goes_on(tmp_path: Path, command: Any) -> None:
    async with open_fake_runtime(tmp_path) as runtime:
        await runtime.run()
        with pytest.raises(PalyraError):
            await runtime.do(command)
        assert (await runtime.run()).end == (RunState.DONE, "final_answer")


@pytest.mark.parametrize(
    "fields",
    [
        {"session": SessionRef(key="\udcff")},
        {"session": SessionRef(session_id=SessionId("\udcff"))},
        {"agent": "\udcff"},
        {"allowed_tools": ("\udcff",)},
        {"run_id": RunId("\udcff")},
        {"text": "  \n"},
        {"run_id": RunId("short")},
        {"session": SessionRef(key="")},
        {"session": SessionRef(key="k" * 201)},
        {"session": SessionRef(key="k", require_existing=True)},
        {"workspace": ""},
        {"workspace": "no/such/folder"},
        {"workspace": "\udcff"},
        {"workspace": "a\0b"},
    ],
)
async def test_a_start_that_makes_no_sense_is_refused_or_cleaned_and_the_runtime_goes_on(
    tmp_path: Path, fields: dict[str, Any]
) -> None:
    async with open_fake_runtime(tmp_path) as runtime:
        with suppress(PalyraError):
            await runtime.run(**{"text": "a"} | fields)
        assert (await runtime.run()).end == (RunState.DONE, "final_answer")


async def test_a_reason_reaches_the_tape_clean(tmp_path: Path) -> None:
    async with open_fake_runtime(tmp_path, scripted({"hang": True})) as runtime:
        accepted = await runtime.start()
        await runtime.until(accepted.run_id, ProviderRequest)
        await runtime.do(CancelRun(accepted.run_id, "byte \udcff"))
        tape = await runtime.ended(accepted.run_id)
    assert tape.one(CancelRequested).reason == "byte \\xff"


async def test_a_schema_that_is_none_is_refused_when_it_is_defined(tmp_path: Path) -> None:
    async with open_fake_runtime(tmp_path) as runtime:
        with pytest.raises(InvalidArgument, match="not a JSON Schema"):
            await runtime.do(DefineAgent(AgentSpec("a", answer_schema={"type": 1})))


async def test_a_decision_for_no_approval_is_refused(tmp_path: Path) -> None:
    async with open_fake_runtime(tmp_path) as runtime:
        with pytest.raises(NotFound):
            await runtime.do(DecideApproval("01JZZZZZZZZZZZZZZZZZZZZZZZ", granted=True))


# --- a journal that stops ---


class _Breaking(SqliteStore):
    """A store whose commits fail once `broken` is set."""

    broken = False

    def append_batch(self, tickets: Any, at_ms: int) -> list[Outcome]:
        if self.broken:
            raise OSError(28, "No space left on device")
        batch: list[Batchable] = tickets
        return super().append_batch(batch, at_ms)


async def test_when_the_journal_stops_runs_are_stopped_and_everybody_is_told(tmp_path: Path) -> None:
    told: list[str] = []
    stopped = trio.Event()

    async def submit(runtime: Runtime) -> None:
        with pytest.raises(JournalStopped):
            await runtime.start("b")
        told.append("caller")

    async def hang(_arguments: object) -> str:
        try:
            await trio.sleep_forever()
        finally:
            told.append("tool")
            stopped.set()

    store = _Breaking(tmp_path / "state")
    with trio.fail_after(20), pytest.RaisesGroup(JournalStopped, allow_unwrapped=True, flatten_subgroups=True):
        async with open_fake_runtime(
            tmp_path, store=store, tools=[fake_tool("fake.hang", hang)], checked=False
        ) as runtime:
            tool = await runtime.start("tool", FakeProvider(says("", ToolCall("", "fake.hang"))))
            model = await runtime.start("model", scripted({"text": "a", "hang": True}))
            await runtime.until(tool.run_id, ToolStarted)
            await runtime.until(model.run_id, ProviderRequest)
            await runtime.start("queued", session=in_session(model))
            async with trio.open_nursery() as nursery:
                store.broken = True
                nursery.start_soon(submit, runtime)
                with trio.move_on_after(10, shield=True) as patience:
                    await stopped.wait()
                assert not patience.cancelled_caught
    assert sorted(told) == ["caller", "tool"]
    left = [RunState.WAITING, RunState.QUEUED]
    async with open_fake_runtime(tmp_path, left=left, boot_id="boot-2") as runtime:
        runs = await runtime.gateway.ask(lambda reader: reader.runs(ME.principal))
    assert [(run.state, run.reason) for run in runs] == [
        (RunState.QUEUED, ""),
        (RunState.WAITING, "interrupted"),
        (RunState.WAITING, "interrupted"),
    ]


async def test_a_stream_that_never_ends_is_stopped_with_the_journal(tmp_path: Path) -> None:
    store = _Breaking(tmp_path / "state")
    provider = scripted({"repeat": {"text": "x" * 1000, "times": 10**9}})
    with trio.fail_after(20), pytest.RaisesGroup(JournalStopped, allow_unwrapped=True, flatten_subgroups=True):
        async with open_fake_runtime(tmp_path, provider, store=store, checked=False) as runtime:
            await runtime.until((await runtime.start()).run_id, ModelDelta)
            store.broken = True
            await trio.sleep_forever()
