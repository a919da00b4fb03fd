from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class TapeItem(_message.Message):
    __slots__ = ("run_id", "seq", "kind", "kind_number", "at_ms", "hash", "g", "body", "more")
    RUN_ID_FIELD_NUMBER: _ClassVar[int]
    SEQ_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    KIND_NUMBER_FIELD_NUMBER: _ClassVar[int]
    AT_MS_FIELD_NUMBER: _ClassVar[int]
    HASH_FIELD_NUMBER: _ClassVar[int]
    G_FIELD_NUMBER: _ClassVar[int]
    BODY_FIELD_NUMBER: _ClassVar[int]
    MORE_FIELD_NUMBER: _ClassVar[int]
    run_id: str
    seq: int
    kind: str
    kind_number: int
    at_ms: int
    hash: bytes
    g: int
    body: bytes
    more: bool
    def __init__(self, run_id: _Optional[str] = ..., seq: _Optional[int] = ..., kind: _Optional[str] = ..., kind_number: _Optional[int] = ..., at_ms: _Optional[int] = ..., hash: _Optional[bytes] = ..., g: _Optional[int] = ..., body: _Optional[bytes] = ..., more: _Optional[bool] = ...) -> None: ...

class TapeBatch(_message.Message):
    __slots__ = ("items",)
    ITEMS_FIELD_NUMBER: _ClassVar[int]
    items: _containers.RepeatedCompositeFieldContainer[TapeItem]
    def __init__(self, items: _Optional[_Iterable[_Union[TapeItem, _Mapping]]] = ...) -> None: ...

class ReadTapeRequest(_message.Message):
    __slots__ = ("run_id", "after_seq", "max_rows", "body_offset")
    RUN_ID_FIELD_NUMBER: _ClassVar[int]
    AFTER_SEQ_FIELD_NUMBER: _ClassVar[int]
    MAX_ROWS_FIELD_NUMBER: _ClassVar[int]
    BODY_OFFSET_FIELD_NUMBER: _ClassVar[int]
    run_id: str
    after_seq: int
    max_rows: int
    body_offset: int
    def __init__(self, run_id: _Optional[str] = ..., after_seq: _Optional[int] = ..., max_rows: _Optional[int] = ..., body_offset: _Optional[int] = ...) -> None: ...

class ReadTapeResponse(_message.Message):
    __slots__ = ("run_id", "items", "last_seq", "ended")
    RUN_ID_FIELD_NUMBER: _ClassVar[int]
    ITEMS_FIELD_NUMBER: _ClassVar[int]
    LAST_SEQ_FIELD_NUMBER: _ClassVar[int]
    ENDED_FIELD_NUMBER: _ClassVar[int]
    run_id: str
    items: _containers.RepeatedCompositeFieldContainer[TapeItem]
    last_seq: int
    ended: bool
    def __init__(self, run_id: _Optional[str] = ..., items: _Optional[_Iterable[_Union[TapeItem, _Mapping]]] = ..., last_seq: _Optional[int] = ..., ended: _Optional[bool] = ...) -> None: ...
