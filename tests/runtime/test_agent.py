"""The loop from a queued run to its last row: turns, limits, the final-answer contract, and what the model is shown."""

from pathlib import Path
from typing import Any

import attrs
import pytest
from trio.testing import MockClock

from palyra_trio.core.agents import AgentSpec, Limits
from palyra_trio.core.chain import digest
from palyra_trio.core.commands import DefineAgent
from palyra_trio.core.context import message_digest
from palyra_trio.core.messages import ModelReply, ToolCall
from palyra_trio.core.run import RunState
from palyra_trio.core.tape import (
    ContextAssembled,
    Correction,
    FinalAnswer,
    Input,
    LimitReached,
    ModelTurn,
    ProviderRequest,
    RoutingDecision,
    RunFinished,
    ToolProposed,
    ToolStarted,
)
from palyra_trio.journal.queries import Reader
from tests.fakes import CONFIG, ME, FakeProvider, Runtime, in_session, limited, open_fake_runtime, says, scripted

CLOCK = ToolCall("", "clock.now")
YES_OR_NO = {"type": "object", "required": ["ok"], "properties": {"ok": {"type": "boolean"}}}


async def _with_agent(runtime: Runtime, provider: FakeProvider, **fields: Any) -> RunFinished:
    spec = AgentSpec("judge", limits=CONFIG.limits, **fields)
    await runtime.do(DefineAgent(spec))
    return (await runtime.run("is it?", provider, agent="judge")).one(RunFinished)


async def test_a_run_goes_from_its_input_through_its_turns_to_its_answer(tmp_path: Path) -> None:
    provider = FakeProvider(says("let me look", CLOCK), says("it is late"))
    async with open_fake_runtime(tmp_path, provider) as runtime:
        tape = await runtime.run("what time is it?")
    assert tape.kinds == [
        "Input", "StatusChange", "RoutingDecision", "ContextAssembled",
        "ProviderRequest", "ModelDelta", "ModelTurn", "ToolProposed", "PolicyDecision", "ToolStarted", "ToolFinished",
        "ProviderRequest", "ModelDelta", "ModelTurn", "FinalAnswer", "RunFinished",
    ]  # fmt: skip
    assert tape.end == (RunState.DONE, "final_answer")
    assert tape.one(FinalAnswer).text == "it is late"
    assert tape.one(FinalAnswer).provider == "fake"
    assert tape.one(RoutingDecision).why == "the test says so"


async def test_an_input_names_who_asked_from_where(tmp_path: Path) -> None:
    async with open_fake_runtime(tmp_path) as runtime:
        tape = await runtime.run("hello")
    event = tape.one(Input)
    assert (event.principal, event.device, event.channel) == (ME.principal, "laptop", "test")
    assert event.workspace == str(tmp_path / "work")


async def test_the_model_is_shown_its_own_calls_and_their_results(tmp_path: Path) -> None:
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "a.txt").write_text("alpha\n")
    provider = FakeProvider(says("look", ToolCall("r", "files.read", {"path": "a.txt"})), says("done"))
    async with open_fake_runtime(tmp_path, provider) as runtime:
        await runtime.run("read a.txt")
    system, user, assistant, tool = provider.requests[1].messages
    assert (system.role, user.text, assistant.text) == ("system", "read a.txt", "look")
    assert assistant.calls[0].call_id == tool.call_id == "r"
    assert "alpha" in tool.text
    assert tuple(each.name for each in provider.requests[1].tools) == runtime.state.tools.names()


async def test_call_ids_that_come_again_in_a_later_turn_are_made_unique(tmp_path: Path) -> None:
    call, like_ours = ToolCall("call_0", "clock.now"), ToolCall("call_0.2.0", "clock.now")
    provider = FakeProvider(says("", call, call, like_ours), says("", call, like_ours), says("done"))
    async with open_fake_runtime(tmp_path, provider) as runtime:
        tape = await runtime.run()
    ids = [event.call.call_id for event in tape.of(ToolProposed)]
    assert len(set(ids)) == 5
    assert tape.end == (RunState.DONE, "final_answer")


async def test_an_agent_has_only_its_own_tools(tmp_path: Path) -> None:
    provider = FakeProvider(says("", ToolCall("x", "files.list")), says("done"))
    async with open_fake_runtime(tmp_path) as runtime:
        await _with_agent(runtime, provider, tools=("clock.now",))
    assert [each.name for each in provider.requests[0].tools] == ["clock.now"]
    assert "the agent judge has no tool 'files.list'" in provider.requests[1].messages[-1].text


# --- the final-answer contract ---


async def test_an_answer_that_fits_the_schema_stands(tmp_path: Path) -> None:
    async with open_fake_runtime(tmp_path) as runtime:
        ended = await _with_agent(runtime, FakeProvider(says('{"ok": true}')), answer_schema=YES_OR_NO)
    assert (ended.state, ended.reason) == (RunState.DONE, "final_answer")


async def test_an_answer_that_does_not_fit_is_sent_back_once(tmp_path: Path) -> None:
    provider = FakeProvider(says('{"ok": "yes"}'), says('{"ok": true}'))
    async with open_fake_runtime(tmp_path) as runtime:
        await _with_agent(runtime, provider, answer_schema=YES_OR_NO)
    told = provider.requests[1].messages[-1]
    assert told.role == "user"
    assert "$.ok: 'yes' is not of type 'boolean'" in told.text


@pytest.mark.parametrize("second", ["no JSON", '{"ok": 1}', "[" * 100_000, "1" * 5000, ""])
async def test_a_second_answer_that_does_not_fit_fails_the_run(tmp_path: Path, second: str) -> None:
    provider = FakeProvider(says("maybe"), says(second))
    async with open_fake_runtime(tmp_path) as runtime:
        ended = await _with_agent(runtime, provider, answer_schema=YES_OR_NO)
    assert (ended.state, ended.reason) == (RunState.FAILED, "final_answer_contract")
    assert len(provider.requests) == 2


async def test_an_empty_answer_is_sent_back_once(tmp_path: Path) -> None:
    async with open_fake_runtime(tmp_path) as runtime:
        corrected = await runtime.run("a", FakeProvider(says("  "), says("something")))
        empty = await runtime.run("b", FakeProvider(says(" \n"), says("")))
    assert corrected.end == (RunState.DONE, "final_answer")
    assert "the answer is empty" in corrected.one(Correction).text
    assert empty.end == (RunState.FAILED, "final_answer_contract")


# --- limits ---


async def test_the_turn_limit_ends_a_run_that_would_go_on(tmp_path: Path) -> None:
    async with open_fake_runtime(tmp_path, FakeProvider(says("", CLOCK)), config=limited(turns=3)) as runtime:
        tape = await runtime.run()
    assert tape.end == (RunState.FAILED, "limit_turns")
    assert tape.one(LimitReached) == LimitReached("turns", 3)
    assert len(tape.of(ModelTurn)) == 3
    assert tape.view.unsettled() == ()


async def test_the_tool_call_limit_ends_a_run_before_the_call_beyond_it_runs(tmp_path: Path) -> None:
    provider = FakeProvider(says("", CLOCK, CLOCK))
    async with open_fake_runtime(tmp_path, provider, config=limited(tool_calls=3)) as runtime:
        tape = await runtime.run()
    assert tape.end == (RunState.FAILED, "limit_tool_calls")
    assert tape.one(LimitReached) == LimitReached("tool_calls", 3)
    assert len(tape.of(ToolStarted)) == 2


async def test_the_limit_of_active_time_ends_a_run_that_is_stuck(tmp_path: Path, mock_clock: MockClock) -> None:
    provider = scripted({"text": "thinking", "hang": True})
    async with open_fake_runtime(tmp_path, provider) as runtime:
        accepted = await runtime.start()
        await runtime.until(accepted.run_id, ProviderRequest)
        mock_clock.jump(CONFIG.limits.active_s + 1)
        tape = await runtime.ended(accepted.run_id)
    assert tape.end == (RunState.FAILED, "limit_active_s")
    assert tape.one(LimitReached) == LimitReached("active_s", CONFIG.limits.active_s)


async def test_an_agents_own_limits_hold(tmp_path: Path) -> None:
    spec = AgentSpec("brief", limits=attrs.evolve(Limits(), turns=1))
    async with open_fake_runtime(tmp_path, FakeProvider(says("", CLOCK))) as runtime:
        await runtime.do(DefineAgent(spec))
        tape = await runtime.run(agent="brief")
    assert tape.end == (RunState.FAILED, "limit_turns")


# --- the session's past ---


async def test_the_next_run_of_a_session_is_shown_the_earlier_ones(tmp_path: Path) -> None:
    provider = FakeProvider(says("", ToolCall("c", "clock.now")), says("one"), says("two"))
    async with open_fake_runtime(tmp_path, provider) as runtime:
        first = await runtime.start("first")
        await runtime.ended(first.run_id)
        tape = await runtime.run("second", session=in_session(first))
        await runtime.run("elsewhere")
    assert [(each.role, each.text) for each in provider.requests[2].messages if each.role != "tool"][1:] == [
        ("user", "first"), ("assistant", ""), ("assistant", "one"), ("user", "second"),
    ]  # fmt: skip
    assert tape.one(ContextAssembled).runs == (first.run_id,)
    assert [each.text for each in provider.requests[3].messages[1:]] == ["elsewhere"]


async def test_a_past_beyond_the_budget_is_left_out_oldest_first(tmp_path: Path) -> None:
    config = attrs.evolve(CONFIG, context=attrs.evolve(CONFIG.context, budget_bytes=3000))
    provider = FakeProvider(says("x" * 800))
    async with open_fake_runtime(tmp_path, provider, config=config) as runtime:
        accepted = await runtime.start("0")
        await runtime.ended(accepted.run_id)
        for number in range(1, 5):
            tape = await runtime.run(str(number), session=in_session(accepted))
    context = tape.one(ContextAssembled)
    assert context.omitted_runs + len(context.runs) == 4
    assert context.omitted_runs > 0
    prompts = [each.text for each in provider.requests[-1].messages if each.role == "user"]
    assert prompts == ["0", "1", "2", "3", "4"][context.omitted_runs :]


async def test_a_failed_run_is_part_of_the_past_and_its_open_turn_is_not(tmp_path: Path) -> None:
    provider = FakeProvider(says("", *[ToolCall("", "clock.now")] * 9), says("fine"))
    async with open_fake_runtime(tmp_path, provider) as runtime:
        first = await runtime.start("too much")
        assert (await runtime.ended(first.run_id)).end == (RunState.FAILED, "limit_tool_calls")
        await runtime.run("again", session=in_session(first))
    assert [(each.role, each.text) for each in provider.requests[1].messages[1:]] == [
        ("user", "too much"),
        ("user", "again"),
    ]


# --- what is stored of a request ---


async def test_a_request_is_on_the_tape_as_the_digests_of_its_messages(tmp_path: Path) -> None:
    provider = FakeProvider(says("", CLOCK), says("", CLOCK), says("done"))
    async with open_fake_runtime(tmp_path, provider) as runtime:
        tape = await runtime.run()

        def blobs(reader: Reader) -> tuple[bytes, bytes]:
            return reader.blob(tape.one(ContextAssembled).messages[0]), reader.blob(tape.of(ProviderRequest)[0].tools)

        system, tools = await runtime.gateway.ask(blobs)
    sent: list[str] = list(tape.one(ContextAssembled).messages)
    for request, event in zip(provider.requests, tape.of(ProviderRequest), strict=True):
        sent = [*sent[: event.kept], *event.added]
        assert sent == [message_digest(message) for message in request.messages]
    assert digest(system) == sent[0]
    assert b"clock.now" in tools


async def test_what_a_turn_used_adds_up_in_the_answer(tmp_path: Path) -> None:
    usage = {"input_tokens": 10, "cached_input_tokens": 4, "output_tokens": 2}
    provider = scripted({"calls": [{"tool": "clock.now"}], "usage": usage}, {"text": "done", "usage": usage})
    async with open_fake_runtime(tmp_path, provider) as runtime:
        tape = await runtime.run()
    assert attrs.astuple(tape.one(FinalAnswer).usage) == (20, 8, 4)


async def test_the_model_is_named_as_the_provider_named_it(tmp_path: Path) -> None:
    provider = FakeProvider([ModelReply("hello", model="gpt-x-2026")])
    async with open_fake_runtime(tmp_path, provider) as runtime:
        tape = await runtime.run()
    assert tape.one(FinalAnswer).model == "gpt-x-2026"
