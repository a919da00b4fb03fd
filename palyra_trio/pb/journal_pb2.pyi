from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable
from typing import ClassVar as _ClassVar, Optional as _Optional

DESCRIPTOR: _descriptor.FileDescriptor

class EraseValueRequest(_message.Message):
    __slots__ = ("tape", "seq", "field", "part", "reason")
    TAPE_FIELD_NUMBER: _ClassVar[int]
    SEQ_FIELD_NUMBER: _ClassVar[int]
    FIELD_FIELD_NUMBER: _ClassVar[int]
    PART_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    tape: str
    seq: int
    field: str
    part: str
    reason: str
    def __init__(self, tape: _Optional[str] = ..., seq: _Optional[int] = ..., field: _Optional[str] = ..., part: _Optional[str] = ..., reason: _Optional[str] = ...) -> None: ...

class EraseValueResponse(_message.Message):
    __slots__ = ("rows", "blobs", "copies", "left_in", "again")
    ROWS_FIELD_NUMBER: _ClassVar[int]
    BLOBS_FIELD_NUMBER: _ClassVar[int]
    COPIES_FIELD_NUMBER: _ClassVar[int]
    LEFT_IN_FIELD_NUMBER: _ClassVar[int]
    AGAIN_FIELD_NUMBER: _ClassVar[int]
    rows: int
    blobs: int
    copies: _containers.RepeatedScalarFieldContainer[str]
    left_in: _containers.RepeatedScalarFieldContainer[str]
    again: bool
    def __init__(self, rows: _Optional[int] = ..., blobs: _Optional[int] = ..., copies: _Optional[_Iterable[str]] = ..., left_in: _Optional[_Iterable[str]] = ..., again: _Optional[bool] = ...) -> None: ...
