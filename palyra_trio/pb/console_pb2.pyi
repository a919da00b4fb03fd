from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Optional as _Optional

DESCRIPTOR: _descriptor.FileDescriptor

class CreateSignInLinkRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class CreateSignInLinkResponse(_message.Message):
    __slots__ = ("url", "expires_ms")
    URL_FIELD_NUMBER: _ClassVar[int]
    EXPIRES_MS_FIELD_NUMBER: _ClassVar[int]
    url: str
    expires_ms: int
    def __init__(self, url: _Optional[str] = ..., expires_ms: _Optional[int] = ...) -> None: ...
