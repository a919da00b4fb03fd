"""One model call: its deltas on the tape, what is tried again, what fails, and how much memory a stream may take."""

from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from palyra_trio.core.messages import ModelReply, ToolCall
from palyra_trio.core.run import RunState
from palyra_trio.core.tape import (
    FinalAnswer,
    ModelDelta,
    ModelTurn,
    ProviderAttempt,
    ProviderError,
    ProviderRequest,
    RunFinished,
    ToolProposed,
)
from palyra_trio.providers.base import ProviderError as Failure
from palyra_trio.runtime.model_call import TURN_TEXT_BYTES
from tests.fakes import CONFIG, ME, SECRET, FakeProvider, Tape, open_fake_runtime, says, scripted

MIB = 1024 * 1024


def _streamed(tape: Tape, turn: int = 1) -> str:
    return "".join(event.text for event in tape.of(ModelDelta) if event.turn == turn)


# --- deltas ---


@pytest.mark.parametrize("size", [1, 3, 7, 1000])
async def test_the_deltas_on_the_tape_are_the_turns_text(tmp_path: Path, size: int) -> None:
    text = "Some text with ünïcödé 🎉, and more of it. " * 20
    deltas = [text[start : start + size] for start in range(0, len(text), size)]
    async with open_fake_runtime(tmp_path, scripted({"deltas": deltas})) as runtime:
        tape = await runtime.run()
    assert _streamed(tape) == tape.one(ModelTurn).text == tape.one(FinalAnswer).text == text


@pytest.mark.parametrize("size", [1, 5, 64])
async def test_a_secret_that_arrives_in_pieces_never_reaches_the_tape(tmp_path: Path, size: int) -> None:
    text = f"the key is {SECRET}, and it is a secret"
    deltas = [text[start : start + size] for start in range(0, len(text), size)]
    async with open_fake_runtime(tmp_path, scripted({"deltas": deltas})) as runtime:
        tape = await runtime.run()
    assert _streamed(tape) == tape.one(ModelTurn).text == "the key is [redacted:openai_key], and it is a secret"


async def test_a_reply_that_was_not_streamed_is_redacted_as_well(tmp_path: Path) -> None:
    provider = FakeProvider([ModelReply(f"the key is {SECRET} \udcff")])
    async with open_fake_runtime(tmp_path, provider) as runtime:
        tape = await runtime.run()
    assert tape.of(ModelDelta) == []
    assert tape.one(FinalAnswer).text == "the key is [redacted:openai_key] \\xff"


async def test_a_calls_arguments_are_redacted_before_they_are_recorded(tmp_path: Path) -> None:
    call = ToolCall("a", "clock.now", {"password": "hunter2", "note": f"use {SECRET}", "n": [1, {"api_key": "x"}]})
    async with open_fake_runtime(tmp_path, FakeProvider(says("", call), says("done"))) as runtime:
        tape = await runtime.run()
    assert tape.one(ToolProposed).call.arguments == {
        "password": "[redacted:password]",
        "note": "use [redacted:openai_key]",
        "n": [1, {"api_key": "[redacted:api_key]"}],
    }


@pytest.mark.parametrize(
    "call",
    [
        ToolCall("a", "clock.now", {"x": "\udcff"}),
        ToolCall("\udcff", "clock\udcff", {"x": 1}),
        ToolCall("a", "clock.now", {"x": 10**400, "y": float("nan")}),
        ToolCall("a", "clock.now", {1: "x"}),  # type: ignore[dict-item]
        ToolCall("a", "clock.now", {"x": object()}),
        ToolCall("a", "clock.now", malformed="\udcff{"),
        ToolCall("", "", {}),
    ],
)
async def test_a_call_that_no_tape_could_hold_is_refused_and_the_run_goes_on(tmp_path: Path, call: ToolCall) -> None:
    async with open_fake_runtime(tmp_path, FakeProvider(says("", call), says("done"))) as runtime:
        tape = await runtime.run()
    assert tape.end == (RunState.DONE, "final_answer")


async def test_arguments_that_are_nested_too_deeply_are_bounded(tmp_path: Path) -> None:
    deep: Any = []
    for _ in range(500):
        deep = [deep]
    async with open_fake_runtime(tmp_path, FakeProvider(says("", ToolCall("a", "x", {"d": deep})), says("ok"))) as it:
        tape = await it.run()
    assert "[redacted:too_deep]" in str(tape.one(ToolProposed).call.arguments)


# --- failures ---


async def test_a_failure_before_the_first_delta_is_tried_again_and_recorded(tmp_path: Path) -> None:
    error = {"kind": "overloaded", "message": f"no room for {SECRET}", "retryable": True, "times": 2}
    async with open_fake_runtime(tmp_path, scripted({"text": "at last", "error": error})) as runtime:
        tape = await runtime.run()
    assert [(event.attempt, event.failure, event.message) for event in tape.of(ProviderAttempt)] == [
        (1, "overloaded", "no room for [redacted:openai_key]"),
        (2, "overloaded", "no room for [redacted:openai_key]"),
    ]
    assert len(tape.of(ProviderRequest)) == 1
    assert tape.end == (RunState.DONE, "final_answer")


async def test_the_wait_before_the_next_attempt_is_what_the_server_asked_for_or_grows(
    tmp_path: Path, mock_clock: MockClock
) -> None:
    errors = [
        Failure("rate_limited", "slow down", retryable=True, retry_after_s=7.0),
        Failure("network", "broken", retryable=True),
    ]
    provider = FakeProvider([errors[0]], [errors[1]], says("at last"))
    async with open_fake_runtime(tmp_path, provider, jitter=lambda: 1.0) as runtime:
        accepted = await runtime.start()
        for attempt, wait_s in ((1, 7.0), (2, 2.0)):
            event = await runtime.until(accepted.run_id, ProviderAttempt, attempt)
            assert event.wait_ms == wait_s * 1000
            await wait_all_tasks_blocked(0.01)
            assert len(provider.requests) == attempt
            mock_clock.jump(wait_s)
        tape = await runtime.ended(accepted.run_id)
    assert tape.end == (RunState.DONE, "final_answer")


async def test_the_last_attempt_that_fails_ends_the_run_with_the_failure(tmp_path: Path) -> None:
    provider = FakeProvider([Failure("overloaded", "no room", retryable=True, remedy="come back")])
    async with open_fake_runtime(tmp_path, provider) as runtime:
        tape = await runtime.run()
    assert len(provider.requests) == CONFIG.model.attempts
    assert len(tape.of(ProviderAttempt)) == CONFIG.model.attempts - 1
    assert tape.one(ProviderError) == ProviderError(1, "overloaded", "no room", "come back")
    assert tape.end == (RunState.FAILED, "provider_overloaded")


async def test_what_will_fail_again_is_not_tried_again(tmp_path: Path) -> None:
    provider = FakeProvider([Failure("auth", "the key is wrong")])
    async with open_fake_runtime(tmp_path, provider) as runtime:
        tape = await runtime.run()
    assert len(provider.requests) == 1
    assert tape.end == (RunState.FAILED, "provider_auth")


async def test_a_server_that_asks_to_wait_for_longer_than_the_run_may_take_is_not_waited_for(tmp_path: Path) -> None:
    provider = FakeProvider([Failure("rate_limited", "tomorrow", retryable=True, retry_after_s=1e306)], says("again"))
    async with open_fake_runtime(tmp_path, provider) as runtime:
        tape = await runtime.run()
    assert len(provider.requests) == 1
    assert tape.end == (RunState.FAILED, "provider_rate_limited")


async def test_after_the_first_delta_nothing_is_tried_again(tmp_path: Path) -> None:
    provider = FakeProvider(["half an ", "ans", Failure("network", "broken", retryable=True)], says("again"))
    async with open_fake_runtime(tmp_path, provider) as runtime:
        tape = await runtime.run()
    assert len(provider.requests) == 1
    assert _streamed(tape) == "half an ans"
    assert tape.end == (RunState.FAILED, "provider_network")


async def test_a_stream_that_ends_without_a_reply_is_malformed(tmp_path: Path) -> None:
    async with open_fake_runtime(tmp_path, FakeProvider(["half"])) as runtime:
        tape = await runtime.run()
    assert tape.end == (RunState.FAILED, "provider_malformed")


@pytest.mark.parametrize("at", [0, 1])
async def test_a_provider_with_a_bug_fails_its_run_only_and_tells_no_secret(tmp_path: Path, at: int) -> None:
    steps: list[Any] = ["some text", ValueError(f"a bug with {SECRET} and \udcff")]
    async with open_fake_runtime(tmp_path) as runtime:
        tape = await runtime.run("a", FakeProvider(steps[at:] if at else steps))
        assert (await runtime.run("b")).end == (RunState.DONE, "final_answer")
    assert tape.end == (RunState.FAILED, "internal")
    assert tape.one(RunFinished).detail == "ValueError: a bug with [redacted:openai_key] and \\xff"


async def test_the_stream_is_closed_however_the_call_ends(tmp_path: Path) -> None:
    provider = FakeProvider(["a"], ["b", ValueError("c")], says("d"), ["e", trio.sleep_forever])
    async with open_fake_runtime(tmp_path, provider, left=[RunState.WAITING]) as runtime:
        for _ in range(3):
            await runtime.run()
        assert provider.open_streams == 0
        await runtime.until((await runtime.start()).run_id, ProviderRequest)
    assert provider.open_streams == 0


# --- size ---


def _rss_bytes() -> int:
    return int(Path("/proc/self/statm").read_text("ascii").split()[1]) * 4096


async def test_a_turn_that_is_longer_than_its_bound_is_whole_as_deltas_and_cut_in_its_event(tmp_path: Path) -> None:
    pieces = TURN_TEXT_BYTES // MIB + 2
    provider = scripted({"repeat": {"text": "0123456789abcdef" * (MIB // 16), "times": pieces}})
    async with open_fake_runtime(tmp_path, provider) as runtime:
        tape = await runtime.run()
    assert len(_streamed(tape)) == pieces * MIB
    assert tape.one(ModelTurn).text == _streamed(tape)[:TURN_TEXT_BYTES]


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="counts resident memory in /proc")
async def test_a_stream_of_200_megabytes_takes_little_memory(tmp_path: Path) -> None:
    warm_up = scripted({"repeat": {"text": "0123456789abcdef" * (MIB // 32), "times": 100}})
    stream = scripted({"repeat": {"text": "0123456789abcdef" * (MIB // 32), "times": 400}})
    async with open_fake_runtime(tmp_path, checked=False) as runtime:
        accepted = await runtime.start("a", warm_up)
        await runtime.until(accepted.run_id, RunFinished)
        before = peak = _rss_bytes()
        accepted = await runtime.start("b", stream)
        follower = await runtime.gateway.follow(accepted.run_id, 0, ME)
        streamed = 0
        while rows := await follower.next_rows():
            streamed += sum(len(row.body or b"") for row in rows if row.kind == ModelDelta.kind)
            peak = max(peak, _rss_bytes())
    assert streamed > 200 * MIB
    assert peak - before < 50 * MIB
