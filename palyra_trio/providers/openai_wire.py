"""Chat completions as data: messages to request JSON, and stream chunks to a reply. Pure both ways.

The wire is what OpenAI documents, read as leniently as the servers that imitate it require: call ids, indexes, usage
and `[DONE]` may be missing, a call may come whole, content may be null. Unknown fields, such as `reasoning_content`,
are ignored. What no server may do is break off: a stream without a finish reason is no reply.
"""

import base64
import json
import re
from collections.abc import Sequence
from typing import Any

import attrs
import msgspec

from palyra_trio.core.messages import (
    Attachment,
    FinishReason,
    Message,
    ModelReply,
    ModelRequest,
    ToolCall,
    ToolDefinition,
    Usage,
)
from palyra_trio.core.text import clean
from palyra_trio.providers.base import ProviderError

DONE = "[DONE]"
_FINISH: dict[str, FinishReason] = {
    "stop": "stop",
    "tool_calls": "tool_calls",
    "function_call": "tool_calls",
    "length": "length",
    "content_filter": "refusal",
}
_NAME_LENGTH = 64
_NOT_IN_A_NAME = re.compile(r"[^a-zA-Z0-9_-]")
_TEXT_TYPES = frozenset({"application/json", "application/xml", "application/yaml", "application/toml"})


# --- the request ---


def request_body(request: ModelRequest) -> bytes:
    """Return the JSON body of POST /chat/completions, streaming, with usage asked for.

    Raises ProviderError(bad_request) naming an attachment that this wire cannot carry.
    """
    names = {tool: wire for wire, tool in wire_names(request.tools).items()}
    body: dict[str, Any] = {
        "model": request.model,
        "messages": [_message(message, names, request.attachments) for message in request.messages],
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    if request.tools:
        body["tools"] = [
            {
                "type": "function",
                "function": {
                    "name": names[tool.name],
                    "description": tool.description,
                    "parameters": tool.parameters,
                },
            }
            for tool in request.tools
        ]
    return msgspec.json.encode(body)


def wire_names(tools: Sequence[ToolDefinition]) -> dict[str, str]:
    """Return the tools' names by the names that the wire allows: letters, digits, `_` and `-`, 64 at most."""
    names: dict[str, str] = {}
    for tool in tools:
        wire, number = _wire_name(tool.name), 1
        while wire in names:
            number += 1
            suffix = f"_{number}"
            wire = _wire_name(tool.name)[: _NAME_LENGTH - len(suffix)] + suffix
        names[wire] = tool.name
    return names


def _wire_name(tool: str) -> str:
    return _NOT_IN_A_NAME.sub("_", tool)[:_NAME_LENGTH]


def _message(message: Message, names: dict[str, str], blobs: dict[str, bytes]) -> dict[str, Any]:
    if message.role == "tool":
        return {"role": "tool", "tool_call_id": message.call_id, "content": message.text}
    if message.role != "assistant":
        return {"role": message.role, "content": _content(message, blobs)}
    if not message.calls:
        return {"role": "assistant", "content": message.text}
    calls = [
        {
            "id": call.call_id,
            "type": "function",
            "function": {
                "name": names.get(call.tool) or _wire_name(call.tool),
                # Some servers parse what they are sent back, so a call that was no JSON is quoted inside JSON.
                "arguments": json.dumps({"malformed": call.malformed} if call.malformed else call.arguments),
            },
        }
        for call in message.calls
    ]
    return {"role": "assistant", "content": message.text or None, "tool_calls": calls}


def _content(message: Message, blobs: dict[str, bytes]) -> str | list[dict[str, Any]]:
    text, images = [message.text], []
    for attachment in message.attachments:
        blob = blobs.get(attachment.digest)
        if blob is None:
            raise ProviderError("bad_request", f"the bytes of attachment {attachment.name!r} are missing")
        if attachment.media_type.startswith("image/"):
            url = f"data:{attachment.media_type};base64,{base64.b64encode(blob).decode()}"
            images.append({"type": "image_url", "image_url": {"url": url}})
        else:
            text.append(f"--- {attachment.name} ---\n{_attached_text(attachment, blob)}")
    joined = "\n\n".join(text)
    return [{"type": "text", "text": joined}, *images] if images else joined


def _attached_text(attachment: Attachment, blob: bytes) -> str:
    kind = attachment.media_type.partition(";")[0].strip()
    if not kind.startswith("text/") and kind not in _TEXT_TYPES:
        raise ProviderError(
            "bad_request",
            f"attachment {attachment.name!r} is {attachment.media_type}, which this provider cannot show to a model",
            remedy="attach text or an image",
        )
    return clean(blob.decode("utf-8", "surrogateescape"))


# --- the answer ---


@attrs.frozen
class _Function:
    name: str | None = None
    arguments: str | dict[str, Any] | None = None


@attrs.frozen
class _CallPiece:
    index: int | None = None
    id: str | None = None
    function: _Function | None = None


@attrs.frozen
class _Delta:
    content: str | None = None
    refusal: str | None = None
    tool_calls: tuple[_CallPiece, ...] | None = None


@attrs.frozen
class _Choice:
    delta: _Delta | None = None
    message: _Delta | None = None
    finish_reason: str | None = None


@attrs.frozen
class _CachedTokens:
    cached_tokens: int | None = None


@attrs.frozen
class _Usage:
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    prompt_tokens_details: _CachedTokens | None = None


@attrs.frozen
class Chunk:
    """A `chat.completion.chunk`, or a whole `chat.completion`, which differs in saying `message` for `delta`."""

    choices: tuple[_Choice, ...] | None = None
    usage: _Usage | None = None
    model: str | None = None
    error: Any = None


_decoder = msgspec.json.Decoder(Chunk)


def decode_chunk(data: str | bytes) -> Chunk:
    """Return the chunk that `data` says. Raises ProviderError(malformed) when it is none."""
    try:
        try:
            return _decoder.decode(data)
        except msgspec.ValidationError:
            raise
        except msgspec.DecodeError:
            # msgspec refuses an escaped lone surrogate, which a server emits when it cuts an emoji in two.
            return msgspec.convert(json.loads(data), Chunk)
    except (ValueError, RecursionError) as error:
        raise ProviderError("malformed", f"the server sent what is no chat completion: {clean(str(error))}") from error


@attrs.define
class _PartialCall:
    index: int
    call_id: str = ""
    name: str = ""
    arguments: list[str] = attrs.Factory(list)


class Assembler:
    """Puts one reply together. Call ids are unique within the request: a missing or repeated one is minted anew."""

    def __init__(self, request: ModelRequest) -> None:
        self._names = wire_names(request.tools)
        self._turn = sum(message.role == "assistant" for message in request.messages)
        self._taken = {call.call_id for message in request.messages for call in message.calls}
        self._model = request.model
        self._text: list[str] = []
        self._calls: list[_PartialCall] = []
        self._usage = Usage()
        self._finish = ""
        self._refused = False

    @property
    def complete(self) -> bool:
        """Whether the server has said why it stopped."""
        return bool(self._finish)

    def add(self, chunk: Chunk) -> str:
        """Take a chunk in, and return the text that it adds to the answer."""
        self._model = chunk.model or self._model
        if chunk.usage:
            details = chunk.usage.prompt_tokens_details or _CachedTokens()
            self._usage = Usage(
                chunk.usage.prompt_tokens or 0, details.cached_tokens or 0, chunk.usage.completion_tokens or 0
            )
        if not chunk.choices:
            return ""
        choice = chunk.choices[0]
        self._finish = choice.finish_reason or self._finish
        delta = choice.delta or choice.message or _Delta()
        for piece in delta.tool_calls or ():
            self._add_call(piece)
        self._refused = self._refused or bool(delta.refusal)
        text = clean((delta.content or "") + (delta.refusal or ""))
        if text:
            self._text.append(text)
        return text

    def reply(self) -> ModelReply:
        """Return the whole turn."""
        calls = tuple(self._call(place, call) for place, call in enumerate(sorted(self._calls, key=lambda c: c.index)))
        finish = _FINISH.get(self._finish or "stop", "other")
        if self._refused:
            finish = "refusal"
        elif calls and finish == "stop":  # what several servers say of a turn that calls
            finish = "tool_calls"
        return ModelReply("".join(self._text), calls, finish, self._usage, clean(self._model))

    def _add_call(self, piece: _CallPiece) -> None:
        function = piece.function or _Function()
        call = self._continued(piece, function)
        if call is None:
            call = _PartialCall(len(self._calls) if piece.index is None else piece.index)
            self._calls.append(call)
        call.call_id = call.call_id or piece.id or ""
        call.name = call.name or function.name or ""
        if isinstance(function.arguments, dict):
            call.arguments.append(json.dumps(function.arguments))
        elif function.arguments:
            call.arguments.append(function.arguments)

    def _continued(self, piece: _CallPiece, function: _Function) -> _PartialCall | None:
        """Return the call that a piece goes on with: that of its index, else the latest, unless it names another."""
        if piece.index is not None:
            call = next((call for call in reversed(self._calls) if call.index == piece.index), None)
        else:
            call = self._calls[-1] if self._calls and not (function.name and not piece.id) else None
        other = call is not None and piece.id and call.call_id and piece.id != call.call_id
        return None if other else call

    def _call(self, place: int, call: _PartialCall) -> ToolCall:
        call_id = clean(call.call_id)
        if not call_id or call_id in self._taken:
            call_id = f"call_{self._turn}_{place}"
        self._taken.add(call_id)
        name = clean(call.name)
        text = "".join(call.arguments)
        try:
            arguments = msgspec.json.decode(text, type=dict[str, Any]) if text.strip() else {}
        except (ValueError, RecursionError):
            return ToolCall(call_id, self._names.get(name, name), malformed=clean(text))
        return ToolCall(call_id, self._names.get(name, name), arguments)
