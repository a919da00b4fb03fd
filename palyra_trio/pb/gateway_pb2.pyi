from palyra_trio.pb import activity_pb2 as _activity_pb2
from palyra_trio.pb import agents_pb2 as _agents_pb2
from palyra_trio.pb import runs_pb2 as _runs_pb2
from palyra_trio.pb import sessions_pb2 as _sessions_pb2
from palyra_trio.pb import tape_pb2 as _tape_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable
from typing import ClassVar as _ClassVar, Optional as _Optional

DESCRIPTOR: _descriptor.FileDescriptor

class GetHealthRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class GetHealthResponse(_message.Message):
    __slots__ = ("version", "boot_id", "now_ms", "journal_g", "live_runs", "draining", "policy_preset", "policy_hash", "sandbox_tier", "sandbox_report", "paused_by", "paused_because", "addresses", "quic_port", "authority_pem")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    BOOT_ID_FIELD_NUMBER: _ClassVar[int]
    NOW_MS_FIELD_NUMBER: _ClassVar[int]
    JOURNAL_G_FIELD_NUMBER: _ClassVar[int]
    LIVE_RUNS_FIELD_NUMBER: _ClassVar[int]
    DRAINING_FIELD_NUMBER: _ClassVar[int]
    POLICY_PRESET_FIELD_NUMBER: _ClassVar[int]
    POLICY_HASH_FIELD_NUMBER: _ClassVar[int]
    SANDBOX_TIER_FIELD_NUMBER: _ClassVar[int]
    SANDBOX_REPORT_FIELD_NUMBER: _ClassVar[int]
    PAUSED_BY_FIELD_NUMBER: _ClassVar[int]
    PAUSED_BECAUSE_FIELD_NUMBER: _ClassVar[int]
    ADDRESSES_FIELD_NUMBER: _ClassVar[int]
    QUIC_PORT_FIELD_NUMBER: _ClassVar[int]
    AUTHORITY_PEM_FIELD_NUMBER: _ClassVar[int]
    version: str
    boot_id: str
    now_ms: int
    journal_g: int
    live_runs: int
    draining: bool
    policy_preset: str
    policy_hash: str
    sandbox_tier: int
    sandbox_report: _containers.RepeatedScalarFieldContainer[str]
    paused_by: str
    paused_because: str
    addresses: _containers.RepeatedScalarFieldContainer[str]
    quic_port: int
    authority_pem: str
    def __init__(self, version: _Optional[str] = ..., boot_id: _Optional[str] = ..., now_ms: _Optional[int] = ..., journal_g: _Optional[int] = ..., live_runs: _Optional[int] = ..., draining: _Optional[bool] = ..., policy_preset: _Optional[str] = ..., policy_hash: _Optional[str] = ..., sandbox_tier: _Optional[int] = ..., sandbox_report: _Optional[_Iterable[str]] = ..., paused_by: _Optional[str] = ..., paused_because: _Optional[str] = ..., addresses: _Optional[_Iterable[str]] = ..., quic_port: _Optional[int] = ..., authority_pem: _Optional[str] = ...) -> None: ...
