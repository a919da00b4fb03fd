"""Playing a script: the turn is read off the request, and nothing is kept but the count of errors."""

from collections.abc import Sequence

import pytest
import trio
import trio.testing

from palyra_trio.core.messages import Message, ModelDelta, ModelReply, ModelRequest, ToolCall, Usage
from palyra_trio.providers.base import ProviderError
from palyra_trio.providers.script import Repeat, Script, ScriptedCall, ScriptedError, Turn
from palyra_trio.providers.scripted import ScriptedProvider

USER, ASSISTANT, TOOL = Message("user", "go"), Message("assistant", ""), Message("tool", "done", call_id="c")


def provider(*turns: Turn, loop: bool = False) -> ScriptedProvider:
    return ScriptedProvider(Script(turns, loop), "turns.json")


async def play(player: ScriptedProvider, *messages: Message) -> tuple[list[str], ModelReply]:
    async with player.stream(ModelRequest("turns.json", messages or (USER,))) as events:
        *deltas, reply = [event async for event in events]
    assert isinstance(reply, ModelReply)
    return [delta.text for delta in deltas], reply


async def played_until_error(player: ScriptedProvider) -> tuple[list[str], ProviderError]:
    texts: list[str] = []

    async def read() -> None:
        async with player.stream(ModelRequest("turns.json", (USER,))) as events:
            async for event in events:
                texts.append(event.text)

    with pytest.raises(ProviderError) as caught:
        await read()
    return texts, caught.value


async def test_a_text_is_one_delta_and_the_reply() -> None:
    deltas, reply = await play(provider(Turn("Hello", usage=Usage(1, 0, 2))))
    assert deltas == ["Hello"]
    assert reply == ModelReply("Hello", (), "stop", Usage(1, 0, 2), "turns.json")


async def test_deltas_are_played_as_they_are_written() -> None:
    assert await play(provider(Turn(deltas=("a", "", "b")))) == (["a", "", "b"], ModelReply("ab", model="turns.json"))


async def test_a_turn_of_calls_is_just_the_reply_and_its_ids_are_unique_in_the_run() -> None:
    turn = Turn(calls=(ScriptedCall("files.list"), ScriptedCall("files.read", {"path": "a"})))
    ids: list[str] = []
    messages: Sequence[Message] = (USER, Message("assistant", "earlier run"), USER)
    for _ in range(3):
        deltas, reply = await play(provider(turn, loop=True), *messages)
        assert (deltas, reply.finish) == ([], "tool_calls")
        ids += [call.call_id for call in reply.calls]
        messages = (*messages, ASSISTANT, TOOL, TOOL)
    assert ids == ["call_1_0", "call_1_1", "call_2_0", "call_2_1", "call_3_0", "call_3_1"]


async def test_a_named_call_id_and_finish_are_kept() -> None:
    _, reply = await play(provider(Turn(calls=(ScriptedCall("t", {}, "mine"),), finish="other")))
    assert (reply.calls, reply.finish) == ((ToolCall("mine", "t"),), "other")


async def test_the_turn_is_the_number_of_assistant_messages_after_the_last_user_message() -> None:
    player = provider(Turn("one"), Turn("two"))
    assert (await play(player, USER, ASSISTANT, TOOL))[1].text == "two"
    assert (await play(player, USER, ASSISTANT, TOOL, ASSISTANT, USER))[1].text == "one"


async def test_past_the_last_turn_a_script_fails_or_begins_again() -> None:
    messages = (USER, ASSISTANT, ASSISTANT, ASSISTANT)
    assert (await play(provider(Turn("one"), Turn("two"), loop=True), *messages))[1].text == "two"
    with pytest.raises(ProviderError, match=r"turns\.json has 2 turns, and the run asks for turn 4"):
        await play(provider(Turn("one"), Turn("two")), *messages)


async def test_an_error_comes_after_so_many_deltas_and_so_many_times() -> None:
    error = ScriptedError("overloaded", "no room", retryable=True, retry_after_s=3, after_deltas=1, times=2)
    player = provider(Turn(deltas=("a", "b"), error=error))
    for _ in range(2):
        texts, raised = await played_until_error(player)
        assert texts == ["a"]
        assert (raised.kind, raised.message, raised.retryable, raised.retry_after_s) == (
            "overloaded",
            "no room",
            True,
            3,
        )
    assert (await play(player))[1].text == "ab"


async def test_an_error_beyond_the_last_delta_stands_for_the_reply() -> None:
    texts, _ = await played_until_error(provider(Turn("a", error=ScriptedError("network", "gone", after_deltas=9))))
    assert texts == ["a"]


async def test_pauses_are_before_the_turn_and_between_deltas(autojump_clock: trio.testing.MockClock) -> None:
    await play(provider(Turn(deltas=("a", "b", "c"), pause_s=10, delta_pause_s=1)))
    assert trio.current_time() == pytest.approx(12)


async def test_a_turn_that_hangs_streams_its_text_and_then_waits_until_cancelled(
    autojump_clock: trio.testing.MockClock,
) -> None:
    texts: list[str] = []
    with trio.move_on_after(3600) as scope:
        async with provider(Turn("so far", hang=True)).stream(ModelRequest("m", (USER,))) as events:
            async for event in events:
                texts.append(event.text)
    assert scope.cancelled_caught
    assert texts == ["so far"]


async def test_a_huge_stream_lets_others_run_and_can_be_left_at_any_time() -> None:
    turns_of_others = count = 0

    async def other() -> None:
        nonlocal turns_of_others
        while True:
            turns_of_others += 1
            await trio.lowlevel.checkpoint()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(other)
        async with provider(Turn(repeat=Repeat("0123456789abcdef", 10**12))).stream(
            ModelRequest("m", (USER,))
        ) as events:
            async for event in events:
                assert event == ModelDelta("0123456789abcdef")
                count += 1
                if count == 10_000:
                    break
        nursery.cancel_scope.cancel()
    assert turns_of_others > 100


async def test_the_reply_of_a_repeated_text_leaves_it_to_the_deltas() -> None:
    assert await play(provider(Turn(repeat=Repeat("ab", 3)))) == (["ab"] * 3, ModelReply("", model="turns.json"))


async def test_a_turn_checks_once_for_a_cancel() -> None:
    with trio.CancelScope() as scope:
        scope.cancel()
        await play(provider(Turn("never")))
    assert scope.cancelled_caught
