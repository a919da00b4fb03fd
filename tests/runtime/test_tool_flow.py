"""From a proposed call to its outcome: the gate, the person, the order of effects, and what the model is told."""

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from palyra_trio.core.chain import digest
from palyra_trio.core.commands import CancelRun, DecideApproval
from palyra_trio.core.errors import AlreadyDecided, NotFound
from palyra_trio.core.messages import ToolCall
from palyra_trio.core.policy import PathResource, PolicyRules
from palyra_trio.core.run import RunState
from palyra_trio.core.tape import (
    ApprovalDecided,
    ApprovalRequested,
    PolicyDecision,
    StatusChange,
    ToolFinished,
    ToolProposed,
    ToolStarted,
)
from palyra_trio.runtime.tool_flow import excerpt
from palyra_trio.tools.registry import OUTPUT_CAP_CHARACTERS, Plan, ToolResult
from tests.fakes import (
    CONFIG,
    ME,
    SECRET,
    FakeArguments,
    FakeProvider,
    Runtime,
    Tape,
    allowing,
    echo,
    fake_tool,
    limited,
    open_fake_runtime,
    says,
)

READS = fake_tool("fake.read", echo)
WRITES = fake_tool("fake.write", echo, read_only=False)


def _call(name: str, tool: str = "fake.read", **arguments: Any) -> ToolCall:
    return ToolCall(name, tool, arguments or {"value": name})


def _results(provider: FakeProvider, turn: int = 1) -> list[str]:
    return [message.text for message in provider.requests[turn].messages if message.role == "tool"]


# --- order ---


async def test_calls_that_only_read_run_side_by_side_and_return_in_the_order_of_their_proposal(tmp_path: Path) -> None:
    running: set[str] = set()
    all_running, order = trio.Event(), list[str]()
    gates = {name: trio.Event() for name in "abc"}

    async def run(arguments: FakeArguments) -> str:
        running.add(arguments.value)
        if len(running) == 3:
            all_running.set()
        await gates[arguments.value].wait()
        order.append(arguments.value)
        return f"result {arguments.value}"

    provider = FakeProvider(says("", *map(_call, "abc")), says("done"))
    async with open_fake_runtime(tmp_path, provider, tools=[fake_tool("fake.read", run)]) as runtime:
        accepted = await runtime.start()
        with trio.fail_after(5):
            await all_running.wait()
        for name in "cba":
            gates[name].set()
            await wait_all_tasks_blocked(0.01)
        tape = await runtime.ended(accepted.run_id)
    assert order == ["c", "b", "a"]
    assert [event.call_id for event in tape.of(ToolFinished)] == ["c", "b", "a"]
    assert _results(provider) == ["result a", "result b", "result c"]


async def test_a_call_that_changes_something_runs_alone_in_its_place(tmp_path: Path) -> None:
    running: list[str] = []
    seen: dict[str, list[str]] = {}

    async def run(arguments: FakeArguments) -> str:
        running.append(arguments.value)
        await wait_all_tasks_blocked(0.01)
        seen[arguments.value] = sorted(running)
        await wait_all_tasks_blocked(0.01)
        running.remove(arguments.value)
        return arguments.value

    tools = [fake_tool("fake.read", run), fake_tool("fake.write", run, read_only=False)]
    calls = [_call("a"), _call("b"), _call("W", "fake.write"), _call("X", "fake.write"), _call("c"), _call("d")]
    provider = FakeProvider(says("", *calls), says("done"))
    async with open_fake_runtime(tmp_path, provider, tools=tools, config=allowing("fake.*")) as runtime:
        tape = await runtime.run()
    assert seen["a"] == seen["b"] == ["a", "b"]
    assert seen["W"] == ["W"]
    assert seen["X"] == ["X"]
    assert seen["c"] == seen["d"] == ["c", "d"]
    assert _results(provider) == ["a", "b", "W", "X", "c", "d"]
    places = {(type(event).__name__, event.call_id): place for place, event in enumerate(tape.events) if isinstance(event, ToolStarted | ToolFinished)}  # fmt: skip
    assert places["ToolFinished", "b"] < places["ToolStarted", "W"] < places["ToolFinished", "W"]
    assert places["ToolFinished", "W"] < places["ToolStarted", "X"] < places["ToolFinished", "X"]
    assert places["ToolFinished", "X"] < places["ToolStarted", "c"]


async def test_the_intent_is_durable_before_the_effect(tmp_path: Path) -> None:
    found: list[bool] = []

    async def run(arguments: FakeArguments) -> str:
        def started(reader: Any) -> bool:
            (run,) = reader.runs(ME.principal)
            return any(isinstance(row.event(), ToolStarted) for row in reader.tape(f"run:{run.run_id}"))

        found.append(await runtime.gateway.ask(started))
        return "ok"

    provider = FakeProvider(says("", _call("a")), says("done"))
    async with open_fake_runtime(tmp_path, provider, tools=[fake_tool("fake.read", run)]) as runtime:
        await runtime.run()
    assert found == [True]


# --- what is refused without asking ---


@pytest.mark.parametrize(
    ("call", "code", "told"),
    [
        (_call("a", "no.such"), "not_found", "there is no tool 'no.such'"),
        (_call("a", "fake.read", other=1), "invalid_argument", "takes no 'other'"),
        (_call("a", "fake.read", value=1), "invalid_argument", "do not fit its schema"),
        (ToolCall("a", "fake.read", malformed='{"value": '), "invalid_argument", "not a JSON object"),
        (_call("a", "fake.read", value="[redacted:openai_key]"), "invalid_argument", "redacted secret"),
        (_call("a", "fake.read", value=f"use {SECRET}"), "invalid_argument", "redacted secret"),
        (_call("a", "files.read", path="../../etc/passwd"), "workspace_refused", ""),
    ],
)
async def test_a_call_that_cannot_be_is_refused_and_the_model_told_why(
    tmp_path: Path, call: ToolCall, code: str, told: str
) -> None:
    provider = FakeProvider(says("", call), says("done"))
    async with open_fake_runtime(tmp_path, provider, tools=[READS]) as runtime:
        tape = await runtime.run()
    decision = tape.one(PolicyDecision)
    assert (decision.outcome, decision.rule) == ("deny", code)
    assert told in _results(provider)[0]
    assert tape.of(ToolStarted) == []
    assert tape.end == (RunState.DONE, "final_answer")


async def test_a_denied_tool_is_denied_whatever_else_allows_it(tmp_path: Path) -> None:
    config = attrs.evolve(CONFIG, policy=PolicyRules(allow=("fake.*",), deny=("fake.read",)))
    provider = FakeProvider(says("", _call("a")), says("done"))
    async with open_fake_runtime(tmp_path, provider, tools=[READS], config=config) as runtime:
        tape = await runtime.run(allowed_tools=("fake.read",))
    assert tape.one(PolicyDecision).outcome == "deny"


async def test_a_plan_that_breaks_is_a_refusal_and_not_the_end_of_the_run(tmp_path: Path) -> None:
    def plan(_arguments: FakeArguments) -> Plan:
        raise ZeroDivisionError("a bug in the tool")

    provider = FakeProvider(says("", _call("a")), says("done"))
    async with open_fake_runtime(tmp_path, provider, tools=[fake_tool("fake.read", echo, plan=plan)]) as runtime:
        tape = await runtime.run()
    assert (tape.one(PolicyDecision).outcome, tape.one(PolicyDecision).rule) == ("deny", "internal")
    assert tape.end == (RunState.DONE, "final_answer")


async def test_a_mix_of_refused_and_allowed_calls_settles_in_the_order_of_proposal(tmp_path: Path) -> None:
    calls = [_call("a", "no.such"), _call("b"), _call("c", "no.such"), _call("d")]
    provider = FakeProvider(says("", *calls), says("done"))
    async with open_fake_runtime(tmp_path, provider, tools=[READS]) as runtime:
        await runtime.run()
    assert ["no tool" in result for result in _results(provider)] == [True, False, True, False]


# --- what a call returns ---


@pytest.mark.parametrize(
    ("failure", "told", "code"),
    [
        (NotFound("there is no such file", remedy="look first"), "there is no such file (look first)", "not_found"),
        (ValueError("a bug"), "ValueError: a bug", "internal"),
        (ToolResult("not now", "custom"), "not now", "custom"),
    ],
)
async def test_a_call_that_fails_tells_the_model_and_the_run_goes_on(
    tmp_path: Path, failure: Any, told: str, code: str
) -> None:
    async def run(_arguments: FakeArguments) -> ToolResult:
        await trio.lowlevel.checkpoint()
        if isinstance(failure, ToolResult):
            return failure
        raise failure

    provider = FakeProvider(says("", _call("a")), says("done"))
    async with open_fake_runtime(tmp_path, provider, tools=[fake_tool("fake.read", run)]) as runtime:
        tape = await runtime.run()
    assert tape.one(ToolFinished).error == code
    assert told in _results(provider)[0]
    assert tape.end == (RunState.DONE, "final_answer")


async def test_a_call_that_takes_too_long_is_stopped_and_the_run_goes_on(tmp_path: Path, mock_clock: MockClock) -> None:
    stopped = trio.Event()

    async def run(_arguments: FakeArguments) -> str:
        try:
            await trio.sleep_forever()
        finally:
            stopped.set()

    provider = FakeProvider(says("", _call("a"), _call("b", "clock.now")), says("done"))
    async with open_fake_runtime(tmp_path, provider, tools=[fake_tool("fake.read", run)]) as runtime:
        accepted = await runtime.start()
        await runtime.until(accepted.run_id, ToolStarted)
        await wait_all_tasks_blocked(0.01)
        mock_clock.jump(CONFIG.limits.tool_s)
        tape = await runtime.ended(accepted.run_id)
    assert stopped.is_set()
    late = next(event for event in tape.of(ToolFinished) if event.call_id == "a")
    assert (late.error, late.elapsed_ms) == ("timeout", CONFIG.limits.tool_s * 1000)
    assert "longer than its limit of 10 s" in late.text
    assert tape.end == (RunState.DONE, "final_answer")


async def test_output_is_redacted_and_cleaned_before_anybody_sees_it(tmp_path: Path) -> None:
    async def run(_arguments: FakeArguments) -> str:
        await trio.lowlevel.checkpoint()
        return f"key: {SECRET} and \udcff"

    provider = FakeProvider(says("", _call("a")), says("done"))
    async with open_fake_runtime(tmp_path, provider, tools=[fake_tool("fake.read", run)]) as runtime:
        tape = await runtime.run()
    assert tape.one(ToolFinished).text == "key: [redacted:openai_key] and \\xff"
    assert _results(provider) == ["key: [redacted:openai_key] and \\xff"]


async def test_output_beyond_the_excerpt_lies_whole_in_a_blob(tmp_path: Path) -> None:
    output = "begin " + "é" * (OUTPUT_CAP_CHARACTERS * 2) + " end"

    async def run(_arguments: FakeArguments) -> str:
        await trio.lowlevel.checkpoint()
        return output

    provider = FakeProvider(says("", _call("a")), says("done"))
    async with open_fake_runtime(tmp_path, provider, tools=[fake_tool("fake.read", run)]) as runtime:
        tape = await runtime.run()
        finished = tape.one(ToolFinished)
        assert finished.output is not None
        name = finished.output
        assert await runtime.gateway.ask(lambda reader: reader.blob(name)) == output.encode()
    assert (finished.output, finished.size_bytes) == (digest(output.encode()), len(output.encode()))
    assert finished.text == excerpt(output, OUTPUT_CAP_CHARACTERS)
    assert finished.text.startswith("begin ")
    assert finished.text.endswith(" end")
    assert len(_results(provider)[0]) < OUTPUT_CAP_CHARACTERS + 100


def test_an_excerpt_says_how_much_is_missing() -> None:
    text = "x" * (OUTPUT_CAP_CHARACTERS + 10)
    assert f"[… {10} characters left out …]" in excerpt(text, OUTPUT_CAP_CHARACTERS)


# --- asking a person ---

Body = Callable[[Runtime, Any], Awaitable[None]]


async def _asked(folder: Path, body: Body, *calls: ToolCall, **options: Any) -> tuple[Tape, FakeProvider]:
    """Run `calls` until the first question stands, let `body` deal with it, and return the ended run."""
    provider = FakeProvider(says("", *(calls or (_call("w", "fake.write"),))), says("done"))
    async with open_fake_runtime(folder, provider, **{"tools": [READS, WRITES]} | options) as runtime:
        accepted = await runtime.start()
        asked = await runtime.until(accepted.run_id, ApprovalRequested)
        await body(runtime, asked)
        tape = await runtime.ended(accepted.run_id)
    return tape, provider


def _decide(granted: bool, reason: str = "") -> Body:
    async def body(runtime: Runtime, asked: ApprovalRequested) -> None:
        await runtime.do(DecideApproval(asked.approval_id, granted, reason))

    return body


async def test_a_grant_lets_the_call_run(tmp_path: Path) -> None:
    tape, provider = await _asked(tmp_path, _decide(True))
    assert [(event.before, event.after) for event in tape.of(StatusChange)][1:] == [
        (RunState.RUNNING, RunState.WAITING),
        (RunState.WAITING, RunState.RUNNING),
    ]
    assert tape.one(ApprovalDecided).outcome == "granted"
    assert tape.one(ApprovalDecided).by == ME.principal
    assert _results(provider) == ["w"]


async def test_a_refusal_that_quotes_a_file_is_redacted_before_anybody_sees_it(tmp_path: Path) -> None:
    call = ToolCall("a", "files.edit", {"path": "key.txt", "diff": "@@ -1 +1 @@\n-x\n+y\n"})
    provider = FakeProvider(says("", call), says("done"))
    async with open_fake_runtime(tmp_path, provider) as runtime:
        (runtime.workspace / "key.txt").write_text(f"{SECRET}\n")
        tape = await runtime.run()
    assert "[redacted:openai_key]" in tape.one(PolicyDecision).reason
    assert all(SECRET.encode() not in (row.body or b"") for row in tape.rows)


async def test_a_denial_reaches_the_model_with_its_reason_redacted(tmp_path: Path) -> None:
    tape, provider = await _asked(tmp_path, _decide(False, f"not with {SECRET} \udcff"))
    assert tape.of(ToolStarted) == []
    assert _results(provider) == ["Refused (denied): not with [redacted:openai_key] \\xff"]
    assert tape.end == (RunState.DONE, "final_answer")


async def test_a_question_shows_the_exact_arguments_and_hides_nothing(tmp_path: Path) -> None:
    call = _call("w", "fake.write", value="a\u202eb\u200b")
    tape, _ = await _asked(tmp_path, _decide(False), call)
    prompt = tape.one(ApprovalRequested).prompt
    assert prompt.startswith("fake.write asks: ")
    assert str(tmp_path / "work") in prompt
    assert "a\\u202eb\\u200b" in prompt


async def test_a_question_shows_the_diff_where_there_is_one(tmp_path: Path) -> None:
    call = _call("w", "files.write", path="new.txt", text="one\n")
    tape, _ = await _asked(tmp_path, _decide(True), call)
    assert "+one" in tape.one(ApprovalRequested).prompt
    assert (tmp_path / "work" / "new.txt").read_text() == "one\n"
    assert tape.one(ToolStarted).changes[0].path == "new.txt"


async def test_nobody_answers_in_time(tmp_path: Path, mock_clock: MockClock) -> None:
    async def late(runtime: Runtime, asked: ApprovalRequested) -> None:
        await wait_all_tasks_blocked(0.01)
        mock_clock.jump(CONFIG.approval.expires_s)
        await wait_all_tasks_blocked(0.01)
        with pytest.raises(AlreadyDecided):
            await runtime.do(DecideApproval(asked.approval_id, granted=True))

    tape, provider = await _asked(tmp_path, late)
    assert tape.one(ApprovalDecided).outcome == "expired"
    assert tape.of(ToolStarted) == []
    assert "expired" in _results(provider)[0]


async def test_time_spent_waiting_for_a_person_does_not_count(tmp_path: Path, mock_clock: MockClock) -> None:
    async def slow(runtime: Runtime, asked: ApprovalRequested) -> None:
        await wait_all_tasks_blocked(0.01)
        mock_clock.jump(CONFIG.approval.expires_s - 1)
        await runtime.do(DecideApproval(asked.approval_id, granted=True))

    tape, _ = await _asked(tmp_path, slow, config=limited(active_s=5))
    assert tape.end == (RunState.DONE, "final_answer")


async def test_time_spent_working_counts_before_and_after_a_wait(tmp_path: Path, mock_clock: MockClock) -> None:
    async def work(_arguments: FakeArguments) -> str:
        mock_clock.jump(3)
        await trio.lowlevel.checkpoint()
        return "ok"

    tools = [fake_tool("fake.read", work), fake_tool("fake.write", work, read_only=False)]
    calls = (_call("a"), _call("w", "fake.write"))
    options: dict[str, Any] = {"tools": tools, "config": limited(active_s=5), "now_s": mock_clock.current_time}

    async def once_it_waits(runtime: Runtime, asked: ApprovalRequested) -> None:
        await runtime.gateway.sessions.idle()
        await runtime.do(DecideApproval(asked.approval_id, granted=True))

    tape, _ = await _asked(tmp_path, once_it_waits, *calls, **options)
    assert tape.end == (RunState.FAILED, "limit_active_s")


async def test_a_question_that_nobody_attends_ends_the_run(tmp_path: Path) -> None:
    provider = FakeProvider(says("", _call("r"), _call("w", "fake.write")))
    async with open_fake_runtime(tmp_path, provider, tools=[READS, WRITES]) as runtime:
        tape = await runtime.run(attended=False)
    assert tape.end == (RunState.FAILED, "approval_expired")
    assert tape.one(ApprovalDecided).outcome == "expired"
    assert tape.of(ToolStarted) == []
    assert "--yes-to fake.write" in tape.view.finished.detail  # type: ignore[union-attr]


async def test_what_the_person_allowed_with_the_run_is_not_asked(tmp_path: Path) -> None:
    provider = FakeProvider(says("", _call("w", "fake.write")), says("done"))
    async with open_fake_runtime(tmp_path, provider, tools=[WRITES]) as runtime:
        tape = await runtime.run(attended=False, allowed_tools=("fake.write",))
    assert tape.of(ApprovalRequested) == []
    assert _results(provider) == ["w"]


async def test_a_cancel_while_a_question_stands_withdraws_it(tmp_path: Path) -> None:
    async def cancel(runtime: Runtime, asked: ApprovalRequested) -> None:
        (run,) = await runtime.gateway.ask(lambda reader: reader.runs(ME.principal))
        await runtime.do(CancelRun(run.run_id))
        await runtime.ended(run.run_id)
        with pytest.raises(AlreadyDecided):
            await runtime.do(DecideApproval(asked.approval_id, granted=True))

    tape, _ = await _asked(tmp_path, cancel)
    assert tape.end == (RunState.CANCELLED, "cancelled")
    assert tape.one(ApprovalDecided).outcome == "withdrawn"


async def test_a_second_decision_comes_too_late(tmp_path: Path) -> None:
    refused: list[str] = []

    async def decide(runtime: Runtime, asked: ApprovalRequested, granted: bool) -> None:
        try:
            await runtime.do(DecideApproval(asked.approval_id, granted))
        except AlreadyDecided:
            refused.append("refused")

    async def both(runtime: Runtime, asked: ApprovalRequested) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(decide, runtime, asked, True)
            nursery.start_soon(decide, runtime, asked, False)

    tape, _ = await _asked(tmp_path, both)
    assert refused == ["refused"]
    assert len(tape.of(ApprovalDecided)) == 1


KEY_FILE = Plan(resources=(PathResource("id_rsa", exists=True, sensitive="it is a key file"),))
SENSITIVE = fake_tool("fake.secret", echo, capability="fs.read", plan=lambda _: KEY_FILE)


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 2, 0)])
async def test_questions_of_one_turn_stand_together_and_are_decided_in_any_order(
    tmp_path: Path, order: tuple[int, ...]
) -> None:
    async def decide(runtime: Runtime, asked: ApprovalRequested) -> None:
        (run,) = await runtime.gateway.ask(lambda reader: reader.runs(ME.principal))
        await runtime.until(run.run_id, ApprovalRequested, 3)
        rows = await runtime.gateway.ask(lambda reader: [*reader.tape(f"run:{run.run_id}")])
        asks = Tape(tuple(rows)).of(ApprovalRequested)
        for place in order:
            await runtime.do(DecideApproval(asks[place].approval_id, granted=place != 1))
            await wait_all_tasks_blocked(0.005)

    calls = [_call("a", "fake.secret"), _call("r"), _call("b", "fake.secret"), _call("c", "fake.secret")]
    tape, provider = await _asked(tmp_path, decide, *calls, tools=[READS, SENSITIVE])
    assert [result.partition(":")[0] for result in _results(provider)] == ["a", "r", "Refused (denied)", "c"]
    moves = [(event.before, event.after) for event in tape.of(StatusChange)[1:]]
    assert moves == [(RunState.RUNNING, RunState.WAITING), (RunState.WAITING, RunState.RUNNING)] * (len(moves) // 2)
    assert tape.end == (RunState.DONE, "final_answer")


async def test_questions_that_are_decided_all_at_once_leave_one_whole_tape(tmp_path: Path) -> None:
    async def decide(runtime: Runtime, _asked: ApprovalRequested) -> None:
        (run,) = await runtime.gateway.ask(lambda reader: reader.runs(ME.principal))
        await runtime.until(run.run_id, ApprovalRequested, 6)
        rows = await runtime.gateway.ask(lambda reader: [*reader.tape(f"run:{run.run_id}")])
        async with trio.open_nursery() as nursery:
            for place, asked in enumerate(Tape(tuple(rows)).of(ApprovalRequested)):
                nursery.start_soon(runtime.do, DecideApproval(asked.approval_id, granted=place % 2 == 0))

    calls = [_call(str(number), "fake.secret") for number in range(6)]
    tape, provider = await _asked(tmp_path, decide, *calls, tools=[SENSITIVE])
    assert [result.isdigit() for result in _results(provider)] == [True, False] * 3
    assert tape.end == (RunState.DONE, "final_answer")


# --- a run that ends while calls are under way ---


async def test_a_cancel_stops_the_tools_and_says_so_for_each(tmp_path: Path) -> None:
    stopped: list[str] = []

    async def run(arguments: FakeArguments) -> str:
        try:
            await trio.sleep_forever()
        finally:
            stopped.append(arguments.value)

    provider = FakeProvider(says("", *map(_call, "abc")))
    async with open_fake_runtime(tmp_path, provider, tools=[fake_tool("fake.read", run)]) as runtime:
        accepted = await runtime.start()
        await runtime.until(accepted.run_id, ToolStarted, 3)
        await wait_all_tasks_blocked(0.01)
        await runtime.do(CancelRun(accepted.run_id))
        tape = await runtime.ended(accepted.run_id)
    assert sorted(stopped) == ["a", "b", "c"]
    assert [event.error for event in tape.of(ToolFinished)] == ["stopped"] * 3
    assert tape.end == (RunState.CANCELLED, "cancelled")


async def test_a_file_that_changed_since_it_was_shown_is_asked_for_anew_and_shown_as_it_is_now(tmp_path: Path) -> None:
    async def meddle(runtime: Runtime, asked: ApprovalRequested) -> None:
        (tmp_path / "work" / "new.txt").write_text("somebody else's\n")
        await runtime.do(DecideApproval(asked.approval_id, granted=True))
        (run,) = await runtime.gateway.ask(lambda reader: reader.runs(ME.principal))
        again = await runtime.until(run.run_id, ApprovalRequested, 2)
        assert "-somebody else's" in again.prompt
        assert (tmp_path / "work" / "new.txt").read_text() == "somebody else's\n"
        await runtime.do(DecideApproval(again.approval_id, granted=True))

    tape, _ = await _asked(tmp_path, meddle, _call("w", "files.write", path="new.txt", text="mine\n"))
    assert tape.one(ToolFinished).error == ""
    assert [each.outcome for each in tape.of(PolicyDecision)] == ["ask", "ask", "allow"]
    assert (tmp_path / "work" / "new.txt").read_text() == "mine\n"


async def test_every_proposed_call_of_a_finished_run_has_one_outcome(tmp_path: Path) -> None:
    provider = FakeProvider(says("", *map(_call, "abcdef"), _call("g", "no.such"), _call("h")), says("done"))
    async with open_fake_runtime(tmp_path, provider, tools=[READS]) as runtime:
        tape = await runtime.run()
    outcomes = [e.call_id for e in tape.events if isinstance(e, ToolFinished)]
    outcomes += [e.call_id for e in tape.of(PolicyDecision) if e.outcome == "deny"]
    assert sorted(outcomes) == sorted(event.call.call_id for event in tape.of(ToolProposed))


async def test_a_call_that_has_to_be_asked_for_after_all_ends_a_run_that_nobody_attends_as_expired(
    tmp_path: Path,
) -> None:
    fetches = fake_tool("fake.fetch", echo, read_only=False)
    fetches = attrs.evolve(fetches, spec=attrs.evolve(fetches.spec, untrusted_output=True))
    deletes = fake_tool("fake.delete", echo, read_only=False)
    deletes = attrs.evolve(deletes, spec=attrs.evolve(deletes.spec, risk="high"))
    provider = FakeProvider(says("", _call("f", "fake.fetch"), _call("d", "fake.delete")))
    async with open_fake_runtime(tmp_path, provider, tools=[fetches, deletes]) as runtime:
        tape = await runtime.run(attended=False, allowed_tools=("fake.*",))
    assert [each.call_id for each in tape.of(ToolStarted)] == ["f"]  # what it brought makes the other one ask
    assert tape.end == (RunState.FAILED, "approval_expired")
