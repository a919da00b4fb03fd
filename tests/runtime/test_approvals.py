"""Decisions on their way to the tape: what a person may decide, who learns of it, and what a revoke stops."""

from pathlib import Path
from typing import Any

import attrs
import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from palyra_trio.core.approvals import Approval, ApprovalState
from palyra_trio.core.commands import DecideApproval, RevokeGrant
from palyra_trio.core.errors import AlreadyDecided, InvalidArgument, NotFound, PalyraError, StateConflict
from palyra_trio.core.identity import Principal, RunId, SessionId
from palyra_trio.core.messages import ToolCall
from palyra_trio.core.policy import Pattern
from palyra_trio.core.run import RunState
from palyra_trio.core.tape import ApprovalDecided, ApprovalRequested, StatusChange, ToolFinished, ToolStarted
from palyra_trio.runtime.approvals import MAX_TIME_MS, decision_of
from tests.fakes import (
    ME,
    OTHER,
    FakeArguments,
    FakeProvider,
    Runtime,
    echo,
    fake_tool,
    open_fake_runtime,
    says,
)

NOW = 1_000_000
BY = Principal("user:me")
PATTERN = Pattern("fake.write", "fake/*")
OPEN = Approval(
    "A", RunId("R"), "w", SessionId("S"), BY, "/w", "fake.write", question=False, pattern=PATTERN, state=ApprovalState.PENDING,
    requested_ms=1, expires_ms=0,
)  # fmt: skip
QUESTION = attrs.evolve(OPEN, question=True, pattern=None)
WRITES = fake_tool("fake.write", echo, read_only=False)


def _decision(approval: Approval = OPEN, granted: bool = True, **fields: Any) -> ApprovalDecided:
    return decision_of(approval, DecideApproval("A", granted, **fields), BY, NOW)


# --- what may be decided ---


@pytest.mark.parametrize(
    ("granted", "fields", "decided"),
    [
        (True, {}, ("granted", "", "once", 0)),
        (True, {"reason": "go on"}, ("granted", "go on", "once", 0)),
        (True, {"scope": "session"}, ("granted", "", "session", 0)),
        (True, {"scope": "session", "until_ms": NOW + 5}, ("granted", "", "session", 0)),
        (True, {"scope": "time", "until_ms": NOW + 1}, ("granted", "", "time", NOW + 1)),
        (True, {"scope": "time", "until_ms": NOW + MAX_TIME_MS}, ("granted", "", "time", NOW + MAX_TIME_MS)),
        (False, {"reason": "no"}, ("denied", "no", "once", 0)),
        (False, {"scope": "session"}, ("denied", "", "once", 0)),
    ],
)
def test_a_decision_says_what_was_decided_by_whom(
    granted: bool, fields: dict[str, Any], decided: tuple[object, ...]
) -> None:
    found = _decision(granted=granted, **fields)
    assert (found.approval_id, found.call_id, found.by) == ("A", "w", BY)
    assert (found.outcome, found.reason, found.scope, found.until_ms) == decided


@pytest.mark.parametrize("scope", ["session", "time"])
def test_what_has_no_pattern_is_allowed_once_only(scope: Any) -> None:
    with pytest.raises(InvalidArgument, match="can be allowed once only"):
        _decision(attrs.evolve(OPEN, pattern=None), scope=scope, until_ms=NOW + 5)
    assert _decision(attrs.evolve(OPEN, pattern=None)).outcome == "granted"


@pytest.mark.parametrize("until_ms", [0, NOW - 1, NOW, NOW + MAX_TIME_MS + 1])
def test_a_time_lies_ahead_and_within_a_month(until_ms: int) -> None:
    with pytest.raises(InvalidArgument, match="within 30 days"):
        _decision(scope="time", until_ms=until_ms)


@pytest.mark.parametrize("answer", ["", "  \n"])
def test_a_question_is_not_answered_with_nothing_but_may_be_declined(answer: str) -> None:
    with pytest.raises(InvalidArgument, match="the answer is empty"):
        _decision(QUESTION, reason=answer)
    assert _decision(QUESTION, granted=False, reason=answer).outcome == "denied"
    assert _decision(QUESTION, reason="blue").reason == "blue"


@pytest.mark.parametrize("state", [each for each in ApprovalState if each is not ApprovalState.PENDING])
@pytest.mark.parametrize("granted", [True, False])
def test_a_decision_of_a_dead_approval_is_refused_with_what_became_of_it(state: ApprovalState, granted: bool) -> None:
    with pytest.raises(AlreadyDecided, match=f"was {state} by user:you already"):
        _decision(attrs.evolve(OPEN, state=state, decided_by="user:you"), granted)


# --- on the way ---


async def _asked(runtime: Runtime, count: int = 1, **fields: Any) -> tuple[RunId, ApprovalRequested]:
    accepted = await runtime.start(**fields)
    return accepted.run_id, await runtime.until(accepted.run_id, ApprovalRequested, count)


def _asks(*names: str) -> FakeProvider:
    return FakeProvider(says("", *(ToolCall(name, "fake.write", {"value": name}) for name in names)), says("done"))


async def test_a_decision_by_the_beginning_of_an_id_and_of_nobody_elses_approval(tmp_path: Path) -> None:
    async with open_fake_runtime(tmp_path, _asks("w"), tools=[WRITES]) as runtime:
        run_id, asked = await _asked(runtime)
        with pytest.raises(NotFound):
            await runtime.do(DecideApproval(asked.approval_id, granted=True), OTHER)
        with pytest.raises(NotFound):
            await runtime.do(DecideApproval("", granted=True))
        await runtime.do(DecideApproval(asked.approval_id[:-1].lower(), granted=True))
        assert (await runtime.ended(run_id)).one(ApprovalDecided).by == ME.principal
        with pytest.raises(NotFound):
            await runtime.do(RevokeGrant(asked.approval_id), OTHER)


@pytest.mark.parametrize("count", [2, 9])
async def test_of_many_deciders_one_wins_and_the_others_learn_so(tmp_path: Path, count: int) -> None:
    won, lost = list[bool](), list[str]()
    async with open_fake_runtime(tmp_path, _asks("w"), tools=[WRITES]) as runtime:
        run_id, asked = await _asked(runtime)

        async def decide(granted: bool) -> None:
            try:
                await runtime.do(DecideApproval(asked.approval_id, granted))
            except AlreadyDecided as error:
                lost.append(error.message)
            else:
                won.append(granted)

        async with trio.open_nursery() as nursery:
            for number in range(count):
                nursery.start_soon(decide, number % 2 == 0)
        tape = await runtime.ended(run_id)
    assert (len(won), len(lost)) == (1, count - 1)
    assert tape.one(ApprovalDecided).outcome == ("granted" if won[0] else "denied")
    assert len(tape.of(ToolStarted)) == won[0]


async def test_nobody_answers_and_the_clock_says_so_once(tmp_path: Path) -> None:
    async with open_fake_runtime(tmp_path, _asks("w"), tools=[WRITES]) as runtime:
        run_id, asked = await _asked(runtime)
        await runtime.gateway.approvals.expire(asked.approval_id)
        tape = await runtime.ended(run_id)
        await runtime.gateway.approvals.expire(asked.approval_id)
        with pytest.raises(AlreadyDecided, match="was expired by clock already"):
            await runtime.do(DecideApproval(asked.approval_id, granted=True))
    decided = tape.one(ApprovalDecided)
    assert (decided.outcome, decided.by, decided.reason) == ("expired", "clock", "nobody answered in time")
    assert tape.of(ToolStarted) == []
    assert tape.end == (RunState.DONE, "final_answer")


async def test_the_clock_leaves_alone_what_somebody_decided(tmp_path: Path) -> None:
    async with open_fake_runtime(tmp_path, _asks("w"), tools=[WRITES]) as runtime:
        run_id, asked = await _asked(runtime)
        await runtime.do(DecideApproval(asked.approval_id, granted=True))
        await runtime.gateway.approvals.expire(asked.approval_id)
        tape = await runtime.ended(run_id)
    assert tape.one(ApprovalDecided).outcome == "granted"


async def test_a_detached_run_is_asked_about_for_ever(tmp_path: Path) -> None:
    async with open_fake_runtime(tmp_path, _asks("w"), tools=[WRITES], left=[RunState.WAITING]) as runtime:
        _, attended = await _asked(runtime)
        _, detached = await _asked(runtime, provider=_asks("w"), detached=True)
    assert attended.expires_at_ms > 0
    assert detached.expires_at_ms == 0


# --- taking back ---


@pytest.mark.parametrize("scope", ["once", "session"])
async def test_a_revoke_stops_what_runs_under_the_grant_and_the_model_is_told(tmp_path: Path, scope: Any) -> None:
    stopped = list[str]()
    second_may_end = trio.Event()

    async def work(arguments: FakeArguments) -> str:
        if arguments.value == "other":
            await second_may_end.wait()
            return "went on"
        try:
            await trio.sleep_forever()
        finally:
            stopped.append(arguments.value)

    tools = [fake_tool("fake.write", work, read_only=False), fake_tool("fake.read", work)]
    calls = (ToolCall("w", "fake.write", {"value": "w"}), ToolCall("o", "fake.read", {"value": "other"}))
    provider = FakeProvider(says("", *calls), says("done"))
    async with open_fake_runtime(tmp_path, provider, tools=tools) as runtime:
        run_id, asked = await _asked(runtime)
        await runtime.do(DecideApproval(asked.approval_id, granted=True, scope=scope))
        await runtime.until(run_id, ToolStarted, 2)
        await wait_all_tasks_blocked(0.01)
        await runtime.do(RevokeGrant(asked.approval_id))
        with pytest.raises(StateConflict, match="has ended already"):
            await runtime.do(RevokeGrant(asked.approval_id))
        second_may_end.set()
        with trio.fail_after(5):
            tape = await runtime.ended(run_id)
    assert stopped == ["w"]
    results = {each.call_id: each for each in tape.of(ToolFinished)}
    assert (results["w"].error, results["o"].error) == ("revoked", "")
    assert results["w"].text == "Error (revoked): the grant that it ran under was revoked"
    assert tape.end == (RunState.DONE, "final_answer")


async def test_what_was_revoked_stands_for_no_later_call(tmp_path: Path) -> None:
    gate = trio.Event()
    provider = FakeProvider(
        says("", ToolCall("a", "fake.write", {"value": "a"})),
        [gate.wait, *says("", ToolCall("b", "fake.write", {"value": "b"}))],
        says("done"),
    )
    async with open_fake_runtime(tmp_path, provider, tools=[WRITES]) as runtime:
        run_id, asked = await _asked(runtime)
        await runtime.do(DecideApproval(asked.approval_id, granted=True, scope="session"))
        await runtime.until(run_id, ToolFinished)
        await runtime.do(RevokeGrant(asked.approval_id))
        gate.set()
        again = await runtime.until(run_id, ApprovalRequested, 2)
        await runtime.do(DecideApproval(again.approval_id, granted=False))
        await runtime.ended(run_id)


# --- several at once ---


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
@pytest.mark.parametrize("outcomes", [(True, True), (True, False), (False, True), (False, False)])
async def test_questions_of_a_turn_are_answered_in_any_order_and_each_call_gets_its_own(
    tmp_path: Path, order: tuple[int, int], outcomes: tuple[bool, bool]
) -> None:
    async with open_fake_runtime(tmp_path, _asks("a", "b"), tools=[WRITES]) as runtime:
        run_id, _ = await _asked(runtime, 2)
        asks = await _open(runtime, run_id)
        for place in order:
            await runtime.do(DecideApproval(asks[place].approval_id, outcomes[place]))
            await runtime.gateway.sessions.idle()
        with trio.fail_after(5):
            tape = await runtime.ended(run_id)
    started = {each.call_id for each in tape.of(ToolStarted)}
    assert started == {asks[place].call_id for place in range(2) if outcomes[place]}
    waits = [each for each in tape.of(StatusChange) if each.after is RunState.WAITING]
    assert len(waits) == (2 if outcomes[order[0]] else 1)


async def _open(runtime: Runtime, run_id: RunId) -> list[Approval]:
    return sorted(await runtime.asked(run_id), key=lambda each: each.call_id)


async def test_whoever_decides_is_told_once_it_is_durable_or_that_another_came_first(tmp_path: Path) -> None:
    told: list[PalyraError | None] = []
    async with open_fake_runtime(tmp_path, _asks("w"), tools=[WRITES]) as runtime:
        run_id, asked = await _asked(runtime)
        (approval,) = await _open(runtime, run_id)
        decision = ApprovalDecided(asked.approval_id, "w", "denied", ME.principal)
        for _ in range(2):
            runtime.gateway.approvals.decide(approval, decision, told.append)
        assert told == []
        await runtime.ended(run_id)
    assert told[0] is None
    assert isinstance(told[1], AlreadyDecided)
