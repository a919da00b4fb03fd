"""The OpenAI provider against a server that this project did not write: streaming, two tool calls, then the answer."""

from palyra_trio.core.messages import Message, ModelDelta, ModelReply, ModelRequest, ToolDefinition
from palyra_trio.providers.openai import OpenAIProvider, http_client
from tests.interop.foreign_server import ANSWER, MODEL, PROMPT, README, ForeignServer

OBJECT = {"type": "object", "properties": {"path": {"type": "string"}}}
TOOLS = (ToolDefinition("files.list", "List files.", OBJECT), ToolDefinition("files.read", "Read a file.", OBJECT))
RESULTS = {"files.list": "README.md  (51 bytes)", "files.read": f"README.md: lines 1-3 of 3\n{README}"}


async def turn(provider: OpenAIProvider, *messages: Message) -> tuple[list[str], ModelReply]:
    async with provider.stream(ModelRequest(MODEL, messages, TOOLS)) as events:
        *deltas, reply = [event async for event in events]
    assert isinstance(reply, ModelReply)
    assert all(isinstance(delta, ModelDelta) for delta in deltas)
    return [delta.text for delta in deltas], reply


async def test_a_run_of_two_tool_calls_and_a_streamed_answer(foreign: ForeignServer) -> None:
    messages = [Message("system", "Be brief."), Message("user", PROMPT)]
    called = []
    async with http_client() as client:
        provider = OpenAIProvider("openai", foreign.base_url, "sk-none", client)
        deltas, reply = await turn(provider, *messages)
        while reply.calls:
            assert (deltas, reply.finish, len(called) < 2) == ([], "tool_calls", True)
            called += [(call.tool, call.arguments) for call in reply.calls]
            messages.append(Message("assistant", reply.text, reply.calls))
            messages += [Message("tool", RESULTS[call.tool], call_id=call.call_id) for call in reply.calls]
            deltas, reply = await turn(provider, *messages)
    assert called == [("files.list", {"path": "."}), ("files.read", {"path": "README.md", "max_lines": 20})]
    assert (reply.text, reply.finish, reply.model) == (ANSWER, "stop", MODEL)
    assert len(deltas) > 2
    assert "".join(deltas) == ANSWER
    asked = foreign.requests()
    assert [each["matched_rule"] for each in asked] == ["list", "read", "answer"]
    assert all(each["stream"] for each in asked)
