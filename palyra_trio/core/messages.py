"""The conversation as a model sees it, independent of any provider's wire format."""

from typing import Any, Literal

import attrs

Role = Literal["system", "user", "assistant", "tool"]
FinishReason = Literal["stop", "tool_calls", "length", "refusal", "other"]


@attrs.frozen
class Attachment:
    """A file that came with an input. The bytes are the blob `digest` (SHA-256, hex) of the journal."""

    name: str
    media_type: str
    size_bytes: int
    digest: str


@attrs.frozen
class ToolCall:
    """A call that the model proposed.

    `arguments` is the decoded JSON object. When the model's text was no JSON object, `arguments` is empty and
    `malformed` holds the text as it came, so that the call can be refused in words.
    """

    call_id: str
    tool: str
    arguments: dict[str, Any] = attrs.Factory(dict)
    malformed: str = ""


@attrs.frozen
class Message:
    """One message. `calls` belongs to role `assistant`, `call_id` (the call that it answers) to role `tool`."""

    role: Role
    text: str
    calls: tuple[ToolCall, ...] = ()
    call_id: str = ""
    attachments: tuple[Attachment, ...] = ()


@attrs.frozen
class Usage:
    """What a model call cost, as the provider counted it; zero where it did not say."""

    input_tokens: int = 0
    cached_input_tokens: int = 0
    output_tokens: int = 0

    def __add__(self, other: "Usage") -> "Usage":
        return Usage(
            self.input_tokens + other.input_tokens,
            self.cached_input_tokens + other.cached_input_tokens,
            self.output_tokens + other.output_tokens,
        )


@attrs.frozen
class ModelDelta:
    """A piece of the answer's text, as it arrives."""

    text: str


@attrs.frozen
class ModelReply:
    """The whole of one model turn: the text is the concatenation of its deltas."""

    text: str
    calls: tuple[ToolCall, ...] = ()
    finish: FinishReason = "stop"
    usage: Usage = Usage()
    model: str = ""


@attrs.frozen
class ToolDefinition:
    """A tool as it is offered to the model; `parameters` is a JSON Schema object."""

    name: str
    description: str
    parameters: dict[str, Any]


@attrs.frozen
class ModelRequest:
    """What a provider is asked. `attachments` holds the bytes of each attachment by digest."""

    model: str
    messages: tuple[Message, ...]
    tools: tuple[ToolDefinition, ...] = ()
    attachments: dict[str, bytes] = attrs.Factory(dict)
