"""The two converters: messages to request JSON, and what servers send to one reply."""

import json
from itertools import pairwise
from typing import Any

import attrs
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from palyra_trio.core.chain import canonical_json
from palyra_trio.core.messages import Attachment, Message, ModelReply, ModelRequest, ToolCall, ToolDefinition, Usage
from palyra_trio.providers.base import ProviderError
from palyra_trio.providers.openai_wire import Assembler, decode_chunk, request_body, wire_names
from tests.providers.fake_openai import call_piece, chunk, usage_chunk

TOOLS = (
    ToolDefinition("files.list", "List files.", {"type": "object", "properties": {}}),
    ToolDefinition("files.read", "Read a file.", {"type": "object", "properties": {"path": {"type": "string"}}}),
)
REQUEST = ModelRequest("gpt-test", (Message("user", "hello"),), TOOLS)
READ_CALL = ToolCall("call_1", "files.read", {"path": "a"})


def body(*messages: Message, **fields: Any) -> Any:
    return msgspec.json.decode(request_body(ModelRequest("m", messages, **fields)))


def assemble(*chunks: dict[str, Any], request: ModelRequest = REQUEST) -> tuple[list[str], ModelReply]:
    assembler = Assembler(request)
    deltas = [text for each in chunks if (text := assembler.add(decode_chunk(json.dumps(each))))]
    return deltas, assembler.reply()


# --- the request ---


def test_a_conversation_with_calls_becomes_openai_messages() -> None:
    sent = body(
        Message("system", "Be brief."),
        Message("user", "read a"),
        Message("assistant", "", (READ_CALL,)),
        Message("tool", "text of a", call_id="call_1"),
        Message("assistant", "done"),
        tools=TOOLS,
    )
    assert sent["messages"] == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "read a"},
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [
                {"id": "call_1", "type": "function", "function": {"name": "files_read", "arguments": '{"path": "a"}'}}
            ],
        },
        {"role": "tool", "tool_call_id": "call_1", "content": "text of a"},
        {"role": "assistant", "content": "done"},
    ]
    assert sent["stream"] is True
    assert sent["stream_options"] == {"include_usage": True}
    assert [tool["function"]["name"] for tool in sent["tools"]] == ["files_list", "files_read"]


def test_no_tools_means_no_tools_field() -> None:
    assert "tools" not in body(Message("user", "hi"))


def test_a_malformed_call_is_sent_back_as_json() -> None:
    sent = body(Message("assistant", "", (ToolCall("c", "files.read", malformed='{"path":'),)))
    arguments = sent["messages"][0]["tool_calls"][0]["function"]["arguments"]
    assert json.loads(arguments) == {"malformed": '{"path":'}


def test_tools_whose_wire_names_would_collide_stay_apart() -> None:
    tools = [ToolDefinition(name, "", {}) for name in ("a.b", "a_b", "a-b", "x" * 70, "x" * 80)]
    names = wire_names(tools)
    assert list(names.values()) == [tool.name for tool in tools]
    assert all(len(wire) <= 64 for wire in names)


def test_an_image_becomes_a_data_url_and_a_text_file_is_inlined_under_its_name() -> None:
    files = (
        Attachment("cat.png", "image/png", 3, "d1"),
        Attachment("notes.txt", "text/plain; charset=utf-8", 4, "d2"),
        Attachment("x.json", "application/json", 2, "d3"),
    )
    sent = body(
        Message("user", "look", attachments=files), attachments={"d1": b"\x01\x02\x03", "d2": b"caf\xe9", "d3": b"{}"}
    )
    assert sent["messages"][0]["content"] == [
        {"type": "text", "text": "look\n\n--- notes.txt ---\ncaf\\xe9\n\n--- x.json ---\n{}"},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,AQID"}},
    ]


@pytest.mark.parametrize("blobs", [{"d": b"%PDF"}, {}])
def test_an_attachment_that_cannot_be_sent_is_named(blobs: dict[str, bytes]) -> None:
    message = Message("user", "", attachments=(Attachment("deal.pdf", "application/pdf", 4, "d"),))
    with pytest.raises(ProviderError, match=r"deal\.pdf") as caught:
        body(message, attachments=blobs)
    assert caught.value.kind == "bad_request"


# --- the answer ---


def test_text_arrives_in_deltas_that_add_up_to_the_reply() -> None:
    deltas, reply = assemble(
        chunk({"role": "assistant", "content": ""}),
        chunk({"content": "Hel"}),
        chunk({"content": None, "reasoning_content": "hmm"}),
        chunk({"content": "lo"}),
        chunk({}, "stop"),
        usage_chunk(12, 3, cached=4),
    )
    assert deltas == ["Hel", "lo"]
    assert reply == ModelReply("Hello", (), "stop", Usage(12, 4, 3), "gpt-test")


@given(st.lists(st.integers(min_value=0), max_size=6))
def test_how_arguments_are_fragmented_makes_no_difference(places: list[int]) -> None:
    text = '{"path": "a", "max_lines": 3}'
    edges = sorted({place % len(text) for place in places} | {0, len(text)})
    pieces = [text[start:end] for start, end in pairwise(edges)]
    _, reply = assemble(
        chunk({"tool_calls": [call_piece(0, "", "call_a", "files_list")]}),
        chunk({"tool_calls": [call_piece(1, "", "call_b", "files_read")]}),
        *(chunk({"tool_calls": [call_piece(1, piece)]}) for piece in pieces),
        chunk({}, "tool_calls"),
    )
    assert reply.calls == (
        ToolCall("call_a", "files.list"),
        ToolCall("call_b", "files.read", {"path": "a", "max_lines": 3}),
    )
    assert reply.finish == "tool_calls"


def test_whole_calls_in_one_chunk_with_finish_stop_and_object_arguments_are_calls() -> None:
    whole = {"index": 0, "id": "x", "function": {"name": "files.read", "arguments": {"path": "a"}}}
    _, reply = assemble(chunk({"tool_calls": [whole, call_piece(1, "", "y", "files_list")]}, "stop"))
    assert reply.calls == (ToolCall("x", "files.read", {"path": "a"}), ToolCall("y", "files.list"))
    assert reply.finish == "tool_calls"


def test_calls_without_an_index_or_all_at_index_0_are_told_apart_by_their_ids() -> None:
    first, second = call_piece(0, "{}", "x", "files_list"), call_piece(0, '{"path":"a"}', "y", "files_read")
    same_index = assemble(chunk({"tool_calls": [first]}), chunk({"tool_calls": [second]}), chunk({}, "stop"))[1]
    del first["index"], second["index"]
    no_index = assemble(chunk({"tool_calls": [first, second]}), chunk({}, "stop"))[1]
    assert (
        same_index.calls
        == no_index.calls
        == (
            ToolCall("x", "files.list"),
            ToolCall("y", "files.read", {"path": "a"}),
        )
    )


def test_a_call_without_index_goes_on_in_the_pieces_that_name_nothing() -> None:
    pieces = [
        {"function": {"name": "files_read", "arguments": '{"path"'}},
        {"function": {"arguments": ':"a"}'}},
        {"function": {"name": "files_list", "arguments": "{}"}},
    ]
    _, reply = assemble(*(chunk({"tool_calls": [piece]}) for piece in pieces), chunk({}, "tool_calls"))
    assert [(call.tool, call.arguments) for call in reply.calls] == [("files.read", {"path": "a"}), ("files.list", {})]


def test_missing_and_repeated_call_ids_are_minted_anew_and_the_same_each_time() -> None:
    request = attrs.evolve(REQUEST, messages=(*REQUEST.messages, Message("assistant", "", (READ_CALL,))))
    calls = chunk(
        {
            "tool_calls": [
                call_piece(0, "{}", None, "files_list"),
                call_piece(1, "{}", "call_1", "files_list"),
                call_piece(2, "{}", "new", "files_list"),
                call_piece(3, "{}", "new", "files_list"),
            ]
        },
        "tool_calls",
    )
    first, again = assemble(calls, request=request)[1], assemble(calls, request=request)[1]
    assert [call.call_id for call in first.calls] == ["call_1_0", "call_1_1", "new", "call_1_3"]
    assert first == again


@pytest.mark.parametrize(
    "text",
    [
        '{"path":',
        "[1]",
        "3",
        '{"path": "\\ud800"}',
        "{'path': 'a'}",
        '{"a": NaN}',
        f'{{"path": {"[" * 20_000}{"]" * 20_000}}}',
    ],
    ids=range(7),
)
def test_arguments_that_are_no_json_object_are_kept_as_they_came(text: str) -> None:
    _, reply = assemble(chunk({"tool_calls": [call_piece(0, text, "x", "files_read")]}, "tool_calls"))
    assert reply.calls == (ToolCall("x", "files.read", {}, malformed=text),)


def test_a_whole_completion_reads_like_a_stream() -> None:
    message = {
        "role": "assistant",
        "content": None,
        "refusal": None,
        "tool_calls": [call_piece(0, "{}", "x", "files_list")],
    }
    del message["tool_calls"][0]["index"]  # type: ignore[index]
    deltas, reply = assemble(
        {"model": "m", "choices": [{"index": 0, "message": message, "finish_reason": "tool_calls"}], "usage": None}
    )
    assert deltas == []
    assert reply == ModelReply("", (ToolCall("x", "files.list"),), "tool_calls", Usage(), "m")


@pytest.mark.parametrize(
    ("said", "finish"),
    [("stop", "stop"), ("length", "length"), ("content_filter", "refusal"), ("eos", "other"), (None, "stop")],
)
def test_finish_reasons_are_mapped(said: str | None, finish: str) -> None:
    assert assemble(chunk({"content": "a"}, said))[1].finish == finish


def test_a_refusal_is_the_answers_text() -> None:
    deltas, reply = assemble(chunk({"refusal": "I will not."}), chunk({}, "stop"))
    assert (deltas, reply.text, reply.finish) == (["I will not."], "I will not.", "refusal")


def test_a_lone_surrogate_is_spelled_out() -> None:
    assembler = Assembler(REQUEST)
    assert assembler.add(decode_chunk('{"choices":[{"delta":{"content":"a\\ud83d"}}]}')) == "a\\ud83d"
    assert assembler.reply().text == "a\\ud83d"


@pytest.mark.parametrize(
    "data",
    [
        "",
        "hello",
        "[]",
        '{"choices": 3}',
        '{"choices": [{"delta": {"content": 3}}]}',
        "\ud800",
        f'{{"x": {"[" * 20_000}{"]" * 20_000}}}',
        f'{{"error": {"[" * 20_000}',
    ],
    ids=range(8),
)
def test_what_is_no_chunk_is_malformed(data: str) -> None:
    with pytest.raises(ProviderError) as caught:
        decode_chunk(data)
    assert caught.value.kind == "malformed"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)
PIECES = st.fixed_dictionaries(
    {},
    optional={
        "index": st.none() | st.integers(0, 3),
        "id": st.none() | st.sampled_from(["", "x", "y"]),
        "function": st.none()
        | st.fixed_dictionaries(
            {},
            optional={
                "name": st.none() | st.sampled_from(["files_read", "files.list", "other"]),
                "arguments": st.none() | st.text() | st.dictionaries(st.text(), JSON),
            },
        ),
    },
)


@given(st.lists(st.lists(PIECES, max_size=4), max_size=5))
def test_whatever_calls_a_server_makes_up_their_ids_are_unique_and_they_can_be_recorded(turns: list[list[Any]]) -> None:
    _, reply = assemble(*(chunk({"tool_calls": pieces}) for pieces in turns), chunk({}, "tool_calls"))
    ids = [call.call_id for call in reply.calls]
    assert len(set(ids)) == len(ids)
    assert all(ids)
    canonical_json(reply)
