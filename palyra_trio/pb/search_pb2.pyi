from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class SearchPart(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    SEARCH_PART_UNSPECIFIED: _ClassVar[SearchPart]
    SEARCH_PART_PROMPT: _ClassVar[SearchPart]
    SEARCH_PART_ANSWER: _ClassVar[SearchPart]
    SEARCH_PART_CALL: _ClassVar[SearchPart]
    SEARCH_PART_RESULT: _ClassVar[SearchPart]
SEARCH_PART_UNSPECIFIED: SearchPart
SEARCH_PART_PROMPT: SearchPart
SEARCH_PART_ANSWER: SearchPart
SEARCH_PART_CALL: SearchPart
SEARCH_PART_RESULT: SearchPart

class SearchSessionRequest(_message.Message):
    __slots__ = ("session", "text", "page_size", "page_token")
    SESSION_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    session: str
    text: str
    page_size: int
    page_token: str
    def __init__(self, session: _Optional[str] = ..., text: _Optional[str] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class SearchSessionResponse(_message.Message):
    __slots__ = ("hits", "next_page_token")
    HITS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    hits: _containers.RepeatedCompositeFieldContainer[SearchHit]
    next_page_token: str
    def __init__(self, hits: _Optional[_Iterable[_Union[SearchHit, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class SearchHit(_message.Message):
    __slots__ = ("run_id", "seq", "at_ms", "part", "excerpt", "turn", "call_id", "tool", "proposed_seq")
    RUN_ID_FIELD_NUMBER: _ClassVar[int]
    SEQ_FIELD_NUMBER: _ClassVar[int]
    AT_MS_FIELD_NUMBER: _ClassVar[int]
    PART_FIELD_NUMBER: _ClassVar[int]
    EXCERPT_FIELD_NUMBER: _ClassVar[int]
    TURN_FIELD_NUMBER: _ClassVar[int]
    CALL_ID_FIELD_NUMBER: _ClassVar[int]
    TOOL_FIELD_NUMBER: _ClassVar[int]
    PROPOSED_SEQ_FIELD_NUMBER: _ClassVar[int]
    run_id: str
    seq: int
    at_ms: int
    part: SearchPart
    excerpt: _containers.RepeatedCompositeFieldContainer[SearchPiece]
    turn: int
    call_id: str
    tool: str
    proposed_seq: int
    def __init__(self, run_id: _Optional[str] = ..., seq: _Optional[int] = ..., at_ms: _Optional[int] = ..., part: _Optional[_Union[SearchPart, str]] = ..., excerpt: _Optional[_Iterable[_Union[SearchPiece, _Mapping]]] = ..., turn: _Optional[int] = ..., call_id: _Optional[str] = ..., tool: _Optional[str] = ..., proposed_seq: _Optional[int] = ...) -> None: ...

class SearchPiece(_message.Message):
    __slots__ = ("text", "found")
    TEXT_FIELD_NUMBER: _ClassVar[int]
    FOUND_FIELD_NUMBER: _ClassVar[int]
    text: str
    found: bool
    def __init__(self, text: _Optional[str] = ..., found: _Optional[bool] = ...) -> None: ...
