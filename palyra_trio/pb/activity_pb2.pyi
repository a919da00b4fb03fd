from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class RecentEventsRequest(_message.Message):
    __slots__ = ("page_size", "page_token")
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    page_size: int
    page_token: str
    def __init__(self, page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class JournalRow(_message.Message):
    __slots__ = ("stream", "seq", "g", "kind", "kind_number", "at_ms", "hash", "body")
    STREAM_FIELD_NUMBER: _ClassVar[int]
    SEQ_FIELD_NUMBER: _ClassVar[int]
    G_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    KIND_NUMBER_FIELD_NUMBER: _ClassVar[int]
    AT_MS_FIELD_NUMBER: _ClassVar[int]
    HASH_FIELD_NUMBER: _ClassVar[int]
    BODY_FIELD_NUMBER: _ClassVar[int]
    stream: str
    seq: int
    g: int
    kind: str
    kind_number: int
    at_ms: int
    hash: bytes
    body: bytes
    def __init__(self, stream: _Optional[str] = ..., seq: _Optional[int] = ..., g: _Optional[int] = ..., kind: _Optional[str] = ..., kind_number: _Optional[int] = ..., at_ms: _Optional[int] = ..., hash: _Optional[bytes] = ..., body: _Optional[bytes] = ...) -> None: ...

class RecentEventsResponse(_message.Message):
    __slots__ = ("rows", "next_page_token")
    ROWS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    rows: _containers.RepeatedCompositeFieldContainer[JournalRow]
    next_page_token: str
    def __init__(self, rows: _Optional[_Iterable[_Union[JournalRow, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class UsageSummaryRequest(_message.Message):
    __slots__ = ("from_ms", "to_ms")
    FROM_MS_FIELD_NUMBER: _ClassVar[int]
    TO_MS_FIELD_NUMBER: _ClassVar[int]
    from_ms: int
    to_ms: int
    def __init__(self, from_ms: _Optional[int] = ..., to_ms: _Optional[int] = ...) -> None: ...

class ToolCallUsage(_message.Message):
    __slots__ = ("tool", "proposed", "succeeded", "failed", "denied_by_policy", "not_approved")
    TOOL_FIELD_NUMBER: _ClassVar[int]
    PROPOSED_FIELD_NUMBER: _ClassVar[int]
    SUCCEEDED_FIELD_NUMBER: _ClassVar[int]
    FAILED_FIELD_NUMBER: _ClassVar[int]
    DENIED_BY_POLICY_FIELD_NUMBER: _ClassVar[int]
    NOT_APPROVED_FIELD_NUMBER: _ClassVar[int]
    tool: str
    proposed: int
    succeeded: int
    failed: int
    denied_by_policy: int
    not_approved: int
    def __init__(self, tool: _Optional[str] = ..., proposed: _Optional[int] = ..., succeeded: _Optional[int] = ..., failed: _Optional[int] = ..., denied_by_policy: _Optional[int] = ..., not_approved: _Optional[int] = ...) -> None: ...

class UsageSummaryResponse(_message.Message):
    __slots__ = ("principal", "runs", "runs_done", "runs_failed", "runs_cancelled", "model_turns", "input_tokens", "cached_input_tokens", "output_tokens", "tool_calls")
    PRINCIPAL_FIELD_NUMBER: _ClassVar[int]
    RUNS_FIELD_NUMBER: _ClassVar[int]
    RUNS_DONE_FIELD_NUMBER: _ClassVar[int]
    RUNS_FAILED_FIELD_NUMBER: _ClassVar[int]
    RUNS_CANCELLED_FIELD_NUMBER: _ClassVar[int]
    MODEL_TURNS_FIELD_NUMBER: _ClassVar[int]
    INPUT_TOKENS_FIELD_NUMBER: _ClassVar[int]
    CACHED_INPUT_TOKENS_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_TOKENS_FIELD_NUMBER: _ClassVar[int]
    TOOL_CALLS_FIELD_NUMBER: _ClassVar[int]
    principal: str
    runs: int
    runs_done: int
    runs_failed: int
    runs_cancelled: int
    model_turns: int
    input_tokens: int
    cached_input_tokens: int
    output_tokens: int
    tool_calls: _containers.RepeatedCompositeFieldContainer[ToolCallUsage]
    def __init__(self, principal: _Optional[str] = ..., runs: _Optional[int] = ..., runs_done: _Optional[int] = ..., runs_failed: _Optional[int] = ..., runs_cancelled: _Optional[int] = ..., model_turns: _Optional[int] = ..., input_tokens: _Optional[int] = ..., cached_input_tokens: _Optional[int] = ..., output_tokens: _Optional[int] = ..., tool_calls: _Optional[_Iterable[_Union[ToolCallUsage, _Mapping]]] = ...) -> None: ...
