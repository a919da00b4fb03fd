"""A run brought back from its tape alone: how far it got, how long it worked, and what it needs that was erased."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from palyra_trio.core.agents import AgentSpec
from palyra_trio.core.codec import TapeRow, encode
from palyra_trio.core.commands import Accepted, DecideApproval, DefineAgent
from palyra_trio.core.errors import JournalInvalid, PalyraError
from palyra_trio.core.messages import Message, ToolCall
from palyra_trio.core.run import RunState
from palyra_trio.core.tape import (
    ApprovalRequested,
    Correction,
    Input,
    ModelTurn,
    RunFinished,
    StatusChange,
    TapeEvent,
    ToolProposed,
    run_stream,
)
from palyra_trio.journal.store import FILE_NAME
from palyra_trio.runtime.resume import active_ms, bring_back, past_of, past_run
from tests.core.tapes import asked_for
from tests.fakes import (
    CONFIG,
    ME,
    FakeProvider,
    assert_journal,
    echo,
    fake_tool,
    in_session,
    open_fake_runtime,
    says,
)
from tests.journal.tickets import tampering

QUEUED, RUNNING, WAITING, DONE = RunState.QUEUED, RunState.RUNNING, RunState.WAITING, RunState.DONE
WRITES = fake_tool("fake.write", echo, read_only=False)
LEFT = frozenset({WAITING})


# --- how long a run has worked ---


def rows(*timed: tuple[int, TapeEvent]) -> list[TapeRow]:
    return [TapeRow(n, "run:R", n, event.kind, at, encode(event), b"") for n, (at, event) in enumerate(timed, 1)]


BEGUN = (100, StatusChange(QUEUED, RUNNING))


@pytest.mark.parametrize(
    ("moves", "active"),
    [
        ((), 0),
        ((BEGUN,), 0),
        ((BEGUN, (350, StatusChange(RUNNING, WAITING, "approval"))), 250),
        ((BEGUN, (350, StatusChange(RUNNING, WAITING)), (9000, StatusChange(WAITING, RUNNING))), 250),
        (
            (
                BEGUN,
                (350, StatusChange(RUNNING, WAITING)),
                (900, StatusChange(WAITING, WAITING, "input")),
                (9000, StatusChange(WAITING, RUNNING)),
                (9010, RunFinished(RUNNING, DONE, "final_answer")),
            ),
            260,
        ),
        ((BEGUN, (50, StatusChange(RUNNING, WAITING)), (60, StatusChange(WAITING, RUNNING))), 0),
        ((BEGUN, (300, Correction("no")), (350, StatusChange(RUNNING, WAITING)), (400, Correction("no"))), 250),
    ],
)
def test_a_run_is_active_while_it_runs_and_not_while_it_waits(
    moves: Sequence[tuple[int, TapeEvent]], active: int
) -> None:
    assert active_ms(rows((0, asked_for()), *moves)) == active


# --- bringing back ---


async def _waiting(folder: Path, text: str = "please", **fields: Any) -> Accepted:
    """Return a run that waits for a person since a process that has ended; its session had one run before."""
    provider = FakeProvider(says("the past"), says("", ToolCall("w", "fake.write", {"value": "w"})))
    async with open_fake_runtime(folder, provider, tools=[WRITES], left=LEFT) as runtime:
        first = await runtime.start("before")
        await runtime.ended(first.run_id)
        accepted = await runtime.start(text, session=in_session(first), **fields)
        await runtime.until(accepted.run_id, ApprovalRequested)
        await runtime.gateway.sessions.idle()
    return accepted


def _erase(folder: Path, kind: type[TapeEvent], stream: str) -> None:
    """Erase the bodies of a kind in a stream, as the format allows."""
    with tampering(folder / "state" / FILE_NAME) as db:
        erased = db.execute(
            "UPDATE ev SET body = NULL, salt = NULL WHERE kind = ? AND stream = (SELECT id FROM stream WHERE name = ?)",
            (kind.kind, stream),
        )
        assert erased.rowcount == 1


async def test_a_run_is_brought_back_as_its_tape_tells_it(tmp_path: Path) -> None:
    accepted = await _waiting(tmp_path, attended=True)
    async with open_fake_runtime(tmp_path, tools=[WRITES], left=LEFT, recovers=False) as runtime:
        order, past = await bring_back(runtime.state, accepted.run_id)
    assert (order.run_id, order.session_id, order.config) == (accepted.run_id, accepted.session_id, CONFIG)
    assert (order.input.text, order.past_runs, order.problem_with("anything")) == ("please", True, "")
    assert past.view.state is WAITING
    assert past.view.waiting() == ("w",)
    assert [(message.role, message.text) for message in past.context[1:]] == [
        ("user", "before"),
        ("assistant", "the past"),
    ]
    assert past.context[0].role == "system"
    assert past.view.seq == len(assert_journal(tmp_path / "state", LEFT)[accepted.run_id].rows)


async def test_a_run_that_never_began_has_nothing_before_it(tmp_path: Path) -> None:
    async with open_fake_runtime(tmp_path) as runtime:
        accepted = await runtime.start()
        await runtime.ended(accepted.run_id)
        past = await runtime.gateway.ask(lambda reader: past_of(reader, accepted.run_id))
        assert past.view.terminal
        unbegun = await runtime.gateway.ask(lambda reader: past_run(reader, "no such run"))
    assert unbegun.messages == ()


async def test_a_past_run_is_its_own_messages(tmp_path: Path) -> None:
    accepted = await _waiting(tmp_path)
    async with open_fake_runtime(tmp_path, tools=[WRITES], left=LEFT, recovers=False) as runtime:
        runs = await runtime.gateway.ask(lambda reader: reader.runs(ME.principal))
        (first,) = [run.run_id for run in runs if run.run_id != accepted.run_id]
        past = await runtime.gateway.ask(lambda reader: past_run(reader, first))
    assert past.messages == (Message("user", "before"), Message("assistant", "the past"))
    assert not past.tainted


async def test_a_run_goes_on_with_the_messages_that_it_had(tmp_path: Path) -> None:
    accepted = await _waiting(tmp_path)
    provider = FakeProvider(says("done"))
    async with open_fake_runtime(tmp_path, provider, tools=[WRITES], boot_id="boot-2") as runtime:
        asked = await runtime.until(accepted.run_id, ApprovalRequested)
        await runtime.do(DecideApproval(asked.approval_id, granted=True))
        assert (await runtime.ended(accepted.run_id)).end == (DONE, "final_answer")
    (request,) = provider.requests
    assert [message.role for message in request.messages] == [
        "system", "user", "assistant", "user", "assistant", "tool"
    ]  # fmt: skip
    assert [message.text for message in request.messages[1:]] == ["before", "the past", "please", "", "w"]


async def test_the_model_that_the_run_began_with_goes_on_with_it(tmp_path: Path) -> None:
    call = ToolCall("w", "fake.write", {"value": "w"})
    async with open_fake_runtime(tmp_path, tools=[WRITES], left=LEFT) as runtime:
        runtime.models["a/one"] = FakeProvider(says("", call))
        await runtime.do(DefineAgent(AgentSpec("mine", model="a/one")))
        accepted = await runtime.start(agent="mine")
        await runtime.until(accepted.run_id, ApprovalRequested)
    async with open_fake_runtime(tmp_path, tools=[WRITES], left=LEFT, recovers=False) as runtime:
        runtime.models["a/one"] = provider = FakeProvider(says("x"))
        order, _ = await bring_back(runtime.state, accepted.run_id)
        assert (order.choice.provider, order.choice.model) == (provider, "one")


# --- what was erased ---


@pytest.mark.parametrize(
    ("kind", "whose", "reason"),
    [
        (Input, "its own", "what run .* was asked or did was erased"),
        (Input, "another's", "what came before run .* was erased"),
        (ModelTurn, "another's", "what came before run .* was erased"),
        (ToolProposed, "its own", "what run .* was asked or did was erased"),
    ],
)
async def test_what_cannot_be_told_any_more_is_refused_and_the_process_lives(
    tmp_path: Path, kind: type[TapeEvent], whose: str, reason: str
) -> None:
    accepted = await _waiting(tmp_path)
    runs = assert_journal(tmp_path / "state", LEFT)
    (first,) = set(runs) - {accepted.run_id}
    _erase(tmp_path, kind, run_stream(accepted.run_id if whose == "its own" else first))
    async with open_fake_runtime(tmp_path, tools=[WRITES], left=LEFT, recovers=False, checked=False) as runtime:
        with pytest.raises(PalyraError, match=reason):
            await bring_back(runtime.state, accepted.run_id)


async def test_a_run_whose_input_was_erased_ends_when_it_is_taken_up(tmp_path: Path) -> None:
    accepted = await _waiting(tmp_path)
    _erase(tmp_path, Input, run_stream(accepted.run_id))
    async with open_fake_runtime(tmp_path, tools=[WRITES], checked=False) as runtime:
        (approval,) = await runtime.asked(accepted.run_id)
        await runtime.do(DecideApproval(approval.approval_id, granted=True))
        follower = await runtime.gateway.follow(accepted.run_id, 1, ME)
        found: list[TapeRow] = []
        while page := await follower.next_rows():
            found += page
        finished = found[-1].event()
        assert (await runtime.run("again", FakeProvider(says("yes")), session=in_session(accepted))).end[0] is DONE
    assert isinstance(finished, RunFinished)
    assert (finished.state, finished.reason) == (RunState.FAILED, "journal_invalid")


async def test_a_run_whose_calls_were_erased_does_not_take_the_process_down(tmp_path: Path) -> None:
    accepted = await _waiting(tmp_path)
    _erase(tmp_path, ToolProposed, run_stream(accepted.run_id))
    async with open_fake_runtime(tmp_path, tools=[WRITES], left=LEFT, checked=False) as runtime:
        (approval,) = await runtime.asked(accepted.run_id)
        await runtime.do(DecideApproval(approval.approval_id, granted=True))
        await runtime.gateway.sessions.idle()
        run = await runtime.gateway.run(accepted.run_id, ME)
        assert (run.state, run.reason) == (RunState.FAILED, "journal_invalid")
        assert (await runtime.run("another")).end == (DONE, "final_answer")


async def test_a_system_message_that_is_gone_is_missed(tmp_path: Path) -> None:
    accepted = await _waiting(tmp_path)
    with tampering(tmp_path / "state" / FILE_NAME) as db:
        db.execute("DELETE FROM blob")
    async with open_fake_runtime(tmp_path, tools=[WRITES], left=LEFT, recovers=False, checked=False) as runtime:
        with pytest.raises(JournalInvalid, match="what came before run"):
            await bring_back(runtime.state, accepted.run_id)
