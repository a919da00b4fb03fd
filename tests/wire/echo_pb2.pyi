from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Optional as _Optional

DESCRIPTOR: _descriptor.FileDescriptor

class Text(_message.Message):
    __slots__ = ("body",)
    BODY_FIELD_NUMBER: _ClassVar[int]
    body: bytes
    def __init__(self, body: _Optional[bytes] = ...) -> None: ...

class Order(_message.Message):
    __slots__ = ("messages", "bytes_each", "together")
    MESSAGES_FIELD_NUMBER: _ClassVar[int]
    BYTES_EACH_FIELD_NUMBER: _ClassVar[int]
    TOGETHER_FIELD_NUMBER: _ClassVar[int]
    messages: int
    bytes_each: int
    together: int
    def __init__(self, messages: _Optional[int] = ..., bytes_each: _Optional[int] = ..., together: _Optional[int] = ...) -> None: ...

class Sum(_message.Message):
    __slots__ = ("messages", "bytes")
    MESSAGES_FIELD_NUMBER: _ClassVar[int]
    BYTES_FIELD_NUMBER: _ClassVar[int]
    messages: int
    bytes: int
    def __init__(self, messages: _Optional[int] = ..., bytes: _Optional[int] = ...) -> None: ...

class Failure(_message.Message):
    __slots__ = ("after_messages", "status", "message", "unexpected")
    AFTER_MESSAGES_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    UNEXPECTED_FIELD_NUMBER: _ClassVar[int]
    after_messages: int
    status: int
    message: str
    unexpected: bool
    def __init__(self, after_messages: _Optional[int] = ..., status: _Optional[int] = ..., message: _Optional[str] = ..., unexpected: _Optional[bool] = ...) -> None: ...
