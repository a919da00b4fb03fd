"""The offline provider in the loop: one step a turn, and an answer that says what happened and nothing else."""

from collections.abc import Callable

import pytest

from palyra_trio.core.messages import Attachment, Message, ModelReply, ModelRequest, ToolCall, ToolDefinition
from palyra_trio.providers.base import ProviderError
from palyra_trio.providers.offline import CONNECT, OPENING, OfflineProvider, respond

NAMES = ("clock.now", "files.edit", "files.list", "files.read", "files.search", "files.write")
TOOLS = tuple(ToolDefinition(name, "", {}) for name in NAMES)


def request(*messages: Message, tools: tuple[ToolDefinition, ...] = TOOLS) -> ModelRequest:
    return ModelRequest("rules", (Message("system", "Be good."), *messages), tools)


def run(prompt: str, tool: Callable[[ToolCall], str]) -> tuple[list[ToolCall], str]:
    """Return the calls and the answer of a run whose tools answer as `tool` does."""
    messages, calls = [Message("user", prompt)], []
    for _ in range(10):
        reply = respond(request(*messages))
        if not reply.calls:
            return calls, reply.text
        assert (reply.text, reply.finish) == ("", "tool_calls")
        calls += reply.calls
        messages.append(Message("assistant", "", reply.calls))
        messages += [Message("tool", tool(call), call_id=call.call_id) for call in reply.calls]
    raise AssertionError("it never answers")


def test_steps_are_taken_one_a_turn_and_the_answer_holds_their_results() -> None:
    calls, answer = run(
        "list the files here, then read README.md and show the first lines",
        lambda call: {"files.list": "README.md", "files.read": "README.md: lines 1-2 of 9\n# Title\nWords"}[call.tool],
    )
    assert [call.tool for call in calls] == ["files.list", "files.read"]
    assert len({call.call_id for call in calls}) == 2
    assert answer == (
        f"{OPENING}\n\nFiles in this folder:\nREADME.md\n\n"
        "The first 10 lines of README.md:\nREADME.md: lines 1-2 of 9\n# Title\nWords"
    )


@pytest.mark.parametrize(
    "failure",
    [
        "Refused by policy: notes.txt is a secret file",
        "Refused (denied): not today",
        "Error (not_found): there is no notes.txt",
        "Error (timeout): the call took longer than its limit of 600 s",
        "Error (internal): OSError: disk on fire",
    ],
)
def test_a_step_that_fails_is_told_in_words_and_what_follows_is_not_done(failure: str) -> None:
    calls, answer = run(
        "list the files; create notes.txt with milk; read notes.txt; what time is it",
        lambda call: "a.txt" if call.tool == "files.list" else failure,
    )
    assert [call.tool for call in calls] == ["files.list", "files.write"]
    assert "Files in this folder:\na.txt" in answer
    assert f"I could not write notes.txt. {failure}" in answer
    assert answer.endswith("So I did not read notes.txt, nor tell the time.")


def test_a_text_that_speaks_of_errors_is_no_failure() -> None:
    _, answer = run("read log.txt", lambda call: "log.txt: lines 1-1 of 1\nError (disk): full")
    assert "log.txt:\nlog.txt: lines 1-1 of 1\nError (disk): full" in answer


def test_the_last_user_message_counts_and_call_ids_stay_unique_in_a_session() -> None:
    earlier = (Message("user", "what time is it"), Message("assistant", "It is late."))
    (call,) = respond(request(*earlier, Message("user", "list the files"))).calls
    assert (call.tool, call.call_id) == ("files.list", "call_1_0")


def test_an_attachment_is_not_passed_over_in_silence() -> None:
    user = Message("user", "what time is it", attachments=(Attachment("cat.png", "image/png", 1, "d"),))
    reply = respond(request(user, Message("assistant", ""), Message("tool", "noon", call_id="c")))
    assert "I did not look at the attached cat.png" in reply.text


@pytest.mark.parametrize("prompt", ["tell me a joke", "", "\ud800"])
async def test_what_is_not_understood_is_refused_before_any_delta_with_a_way_on(prompt: str) -> None:
    with pytest.raises(ProviderError) as caught:
        async with OfflineProvider().stream(request(Message("user", prompt))) as events:
            await anext(events)
    assert caught.value.kind == "not_understood"
    assert "show me the first 5 lines of FILE" in caught.value.message
    assert caught.value.remedy == CONNECT
    caught.value.message.encode()


def test_a_tool_that_is_not_offered_is_not_asked_for() -> None:
    with pytest.raises(ProviderError, match=r"would need files\.write, which this run is not offered") as caught:
        respond(request(Message("user", "create a.txt"), tools=TOOLS[:1]))
    assert caught.value.kind == "not_understood"


async def test_an_answer_streams_in_several_deltas_that_add_up_to_it() -> None:
    messages = (Message("user", "what time is it"), Message("assistant", ""), Message("tool", "noon", call_id="c"))
    async with OfflineProvider().stream(request(*messages)) as events:
        *deltas, reply = [event async for event in events]
    assert isinstance(reply, ModelReply)
    assert len(deltas) > 1
    assert "".join(delta.text for delta in deltas) == reply.text
    assert (reply.model, reply.finish) == ("rules", "stop")
