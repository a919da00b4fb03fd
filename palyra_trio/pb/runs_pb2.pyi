from palyra_trio.pb import tape_pb2 as _tape_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class RunState(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    RUN_STATE_UNSPECIFIED: _ClassVar[RunState]
    RUN_STATE_QUEUED: _ClassVar[RunState]
    RUN_STATE_RUNNING: _ClassVar[RunState]
    RUN_STATE_WAITING: _ClassVar[RunState]
    RUN_STATE_DONE: _ClassVar[RunState]
    RUN_STATE_FAILED: _ClassVar[RunState]
    RUN_STATE_CANCELLED: _ClassVar[RunState]

class WhenBusy(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    WHEN_BUSY_UNSPECIFIED: _ClassVar[WhenBusy]
    WHEN_BUSY_FOLLOWUP: _ClassVar[WhenBusy]
    WHEN_BUSY_INTERRUPT: _ClassVar[WhenBusy]
    WHEN_BUSY_REJECT: _ClassVar[WhenBusy]

class GrantScope(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    GRANT_SCOPE_UNSPECIFIED: _ClassVar[GrantScope]
    GRANT_SCOPE_ONCE: _ClassVar[GrantScope]
    GRANT_SCOPE_SESSION: _ClassVar[GrantScope]
    GRANT_SCOPE_TIME: _ClassVar[GrantScope]
RUN_STATE_UNSPECIFIED: RunState
RUN_STATE_QUEUED: RunState
RUN_STATE_RUNNING: RunState
RUN_STATE_WAITING: RunState
RUN_STATE_DONE: RunState
RUN_STATE_FAILED: RunState
RUN_STATE_CANCELLED: RunState
WHEN_BUSY_UNSPECIFIED: WhenBusy
WHEN_BUSY_FOLLOWUP: WhenBusy
WHEN_BUSY_INTERRUPT: WhenBusy
WHEN_BUSY_REJECT: WhenBusy
GRANT_SCOPE_UNSPECIFIED: GrantScope
GRANT_SCOPE_ONCE: GrantScope
GRANT_SCOPE_SESSION: GrantScope
GRANT_SCOPE_TIME: GrantScope

class Run(_message.Message):
    __slots__ = ("run_id", "session_id", "principal", "agent", "workspace", "title", "state", "reason", "boot_id", "created_ms", "updated_ms")
    RUN_ID_FIELD_NUMBER: _ClassVar[int]
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    PRINCIPAL_FIELD_NUMBER: _ClassVar[int]
    AGENT_FIELD_NUMBER: _ClassVar[int]
    WORKSPACE_FIELD_NUMBER: _ClassVar[int]
    TITLE_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    BOOT_ID_FIELD_NUMBER: _ClassVar[int]
    CREATED_MS_FIELD_NUMBER: _ClassVar[int]
    UPDATED_MS_FIELD_NUMBER: _ClassVar[int]
    run_id: str
    session_id: str
    principal: str
    agent: str
    workspace: str
    title: str
    state: RunState
    reason: str
    boot_id: str
    created_ms: int
    updated_ms: int
    def __init__(self, run_id: _Optional[str] = ..., session_id: _Optional[str] = ..., principal: _Optional[str] = ..., agent: _Optional[str] = ..., workspace: _Optional[str] = ..., title: _Optional[str] = ..., state: _Optional[_Union[RunState, str]] = ..., reason: _Optional[str] = ..., boot_id: _Optional[str] = ..., created_ms: _Optional[int] = ..., updated_ms: _Optional[int] = ...) -> None: ...

class Attachment(_message.Message):
    __slots__ = ("name", "media_type", "data")
    NAME_FIELD_NUMBER: _ClassVar[int]
    MEDIA_TYPE_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    name: str
    media_type: str
    data: bytes
    def __init__(self, name: _Optional[str] = ..., media_type: _Optional[str] = ..., data: _Optional[bytes] = ...) -> None: ...

class SessionRef(_message.Message):
    __slots__ = ("session_id", "key", "require_existing")
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    REQUIRE_EXISTING_FIELD_NUMBER: _ClassVar[int]
    session_id: str
    key: str
    require_existing: bool
    def __init__(self, session_id: _Optional[str] = ..., key: _Optional[str] = ..., require_existing: _Optional[bool] = ...) -> None: ...

class StartRun(_message.Message):
    __slots__ = ("text", "run_id", "session", "agent", "model", "workspace", "attachments", "attended", "allowed_tools", "when_busy", "detached")
    TEXT_FIELD_NUMBER: _ClassVar[int]
    RUN_ID_FIELD_NUMBER: _ClassVar[int]
    SESSION_FIELD_NUMBER: _ClassVar[int]
    AGENT_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    WORKSPACE_FIELD_NUMBER: _ClassVar[int]
    ATTACHMENTS_FIELD_NUMBER: _ClassVar[int]
    ATTENDED_FIELD_NUMBER: _ClassVar[int]
    ALLOWED_TOOLS_FIELD_NUMBER: _ClassVar[int]
    WHEN_BUSY_FIELD_NUMBER: _ClassVar[int]
    DETACHED_FIELD_NUMBER: _ClassVar[int]
    text: str
    run_id: str
    session: SessionRef
    agent: str
    model: str
    workspace: str
    attachments: _containers.RepeatedCompositeFieldContainer[Attachment]
    attended: bool
    allowed_tools: _containers.RepeatedScalarFieldContainer[str]
    when_busy: WhenBusy
    detached: bool
    def __init__(self, text: _Optional[str] = ..., run_id: _Optional[str] = ..., session: _Optional[_Union[SessionRef, _Mapping]] = ..., agent: _Optional[str] = ..., model: _Optional[str] = ..., workspace: _Optional[str] = ..., attachments: _Optional[_Iterable[_Union[Attachment, _Mapping]]] = ..., attended: _Optional[bool] = ..., allowed_tools: _Optional[_Iterable[str]] = ..., when_busy: _Optional[_Union[WhenBusy, str]] = ..., detached: _Optional[bool] = ...) -> None: ...

class AttachRun(_message.Message):
    __slots__ = ("run_id", "after_seq")
    RUN_ID_FIELD_NUMBER: _ClassVar[int]
    AFTER_SEQ_FIELD_NUMBER: _ClassVar[int]
    run_id: str
    after_seq: int
    def __init__(self, run_id: _Optional[str] = ..., after_seq: _Optional[int] = ...) -> None: ...

class SendMessage(_message.Message):
    __slots__ = ("start",)
    START_FIELD_NUMBER: _ClassVar[int]
    start: StartRun
    def __init__(self, start: _Optional[_Union[StartRun, _Mapping]] = ...) -> None: ...

class StopRun(_message.Message):
    __slots__ = ("run_id", "reason")
    RUN_ID_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    run_id: str
    reason: str
    def __init__(self, run_id: _Optional[str] = ..., reason: _Optional[str] = ...) -> None: ...

class Decision(_message.Message):
    __slots__ = ("approval_id", "granted", "reason", "scope", "until_ms")
    APPROVAL_ID_FIELD_NUMBER: _ClassVar[int]
    GRANTED_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    SCOPE_FIELD_NUMBER: _ClassVar[int]
    UNTIL_MS_FIELD_NUMBER: _ClassVar[int]
    approval_id: str
    granted: bool
    reason: str
    scope: GrantScope
    until_ms: int
    def __init__(self, approval_id: _Optional[str] = ..., granted: _Optional[bool] = ..., reason: _Optional[str] = ..., scope: _Optional[_Union[GrantScope, str]] = ..., until_ms: _Optional[int] = ...) -> None: ...

class RunStreamRequest(_message.Message):
    __slots__ = ("start", "attach", "message", "cancel", "decision")
    START_FIELD_NUMBER: _ClassVar[int]
    ATTACH_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    CANCEL_FIELD_NUMBER: _ClassVar[int]
    DECISION_FIELD_NUMBER: _ClassVar[int]
    start: StartRun
    attach: AttachRun
    message: SendMessage
    cancel: StopRun
    decision: Decision
    def __init__(self, start: _Optional[_Union[StartRun, _Mapping]] = ..., attach: _Optional[_Union[AttachRun, _Mapping]] = ..., message: _Optional[_Union[SendMessage, _Mapping]] = ..., cancel: _Optional[_Union[StopRun, _Mapping]] = ..., decision: _Optional[_Union[Decision, _Mapping]] = ...) -> None: ...

class Accepted(_message.Message):
    __slots__ = ("run_id", "session_id", "attached", "request_number")
    RUN_ID_FIELD_NUMBER: _ClassVar[int]
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    ATTACHED_FIELD_NUMBER: _ClassVar[int]
    REQUEST_NUMBER_FIELD_NUMBER: _ClassVar[int]
    run_id: str
    session_id: str
    attached: bool
    request_number: int
    def __init__(self, run_id: _Optional[str] = ..., session_id: _Optional[str] = ..., attached: _Optional[bool] = ..., request_number: _Optional[int] = ...) -> None: ...

class Ended(_message.Message):
    __slots__ = ("run_id", "state", "reason", "detail", "last_seq")
    RUN_ID_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    DETAIL_FIELD_NUMBER: _ClassVar[int]
    LAST_SEQ_FIELD_NUMBER: _ClassVar[int]
    run_id: str
    state: RunState
    reason: str
    detail: str
    last_seq: int
    def __init__(self, run_id: _Optional[str] = ..., state: _Optional[_Union[RunState, str]] = ..., reason: _Optional[str] = ..., detail: _Optional[str] = ..., last_seq: _Optional[int] = ...) -> None: ...

class Refused(_message.Message):
    __slots__ = ("request_number", "code", "message", "remedy", "retry_after_ms")
    REQUEST_NUMBER_FIELD_NUMBER: _ClassVar[int]
    CODE_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    REMEDY_FIELD_NUMBER: _ClassVar[int]
    RETRY_AFTER_MS_FIELD_NUMBER: _ClassVar[int]
    request_number: int
    code: str
    message: str
    remedy: str
    retry_after_ms: int
    def __init__(self, request_number: _Optional[int] = ..., code: _Optional[str] = ..., message: _Optional[str] = ..., remedy: _Optional[str] = ..., retry_after_ms: _Optional[int] = ...) -> None: ...

class RunStreamResponse(_message.Message):
    __slots__ = ("accepted", "batch", "ended", "refused")
    ACCEPTED_FIELD_NUMBER: _ClassVar[int]
    BATCH_FIELD_NUMBER: _ClassVar[int]
    ENDED_FIELD_NUMBER: _ClassVar[int]
    REFUSED_FIELD_NUMBER: _ClassVar[int]
    accepted: Accepted
    batch: _tape_pb2.TapeBatch
    ended: Ended
    refused: Refused
    def __init__(self, accepted: _Optional[_Union[Accepted, _Mapping]] = ..., batch: _Optional[_Union[_tape_pb2.TapeBatch, _Mapping]] = ..., ended: _Optional[_Union[Ended, _Mapping]] = ..., refused: _Optional[_Union[Refused, _Mapping]] = ...) -> None: ...

class RouteMessageRequest(_message.Message):
    __slots__ = ("start",)
    START_FIELD_NUMBER: _ClassVar[int]
    start: StartRun
    def __init__(self, start: _Optional[_Union[StartRun, _Mapping]] = ...) -> None: ...

class RouteMessageResponse(_message.Message):
    __slots__ = ("run_id", "session_id", "state", "reason", "detail", "answer", "answer_cut", "last_seq")
    RUN_ID_FIELD_NUMBER: _ClassVar[int]
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    DETAIL_FIELD_NUMBER: _ClassVar[int]
    ANSWER_FIELD_NUMBER: _ClassVar[int]
    ANSWER_CUT_FIELD_NUMBER: _ClassVar[int]
    LAST_SEQ_FIELD_NUMBER: _ClassVar[int]
    run_id: str
    session_id: str
    state: RunState
    reason: str
    detail: str
    answer: str
    answer_cut: bool
    last_seq: int
    def __init__(self, run_id: _Optional[str] = ..., session_id: _Optional[str] = ..., state: _Optional[_Union[RunState, str]] = ..., reason: _Optional[str] = ..., detail: _Optional[str] = ..., answer: _Optional[str] = ..., answer_cut: _Optional[bool] = ..., last_seq: _Optional[int] = ...) -> None: ...

class CancelRunRequest(_message.Message):
    __slots__ = ("run_id", "reason")
    RUN_ID_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    run_id: str
    reason: str
    def __init__(self, run_id: _Optional[str] = ..., reason: _Optional[str] = ...) -> None: ...

class CancelRunResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class TakeUpRunRequest(_message.Message):
    __slots__ = ("run_id",)
    RUN_ID_FIELD_NUMBER: _ClassVar[int]
    run_id: str
    def __init__(self, run_id: _Optional[str] = ...) -> None: ...

class TakeUpRunResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class GetRunRequest(_message.Message):
    __slots__ = ("run_id",)
    RUN_ID_FIELD_NUMBER: _ClassVar[int]
    run_id: str
    def __init__(self, run_id: _Optional[str] = ...) -> None: ...

class GetRunResponse(_message.Message):
    __slots__ = ("run",)
    RUN_FIELD_NUMBER: _ClassVar[int]
    run: Run
    def __init__(self, run: _Optional[_Union[Run, _Mapping]] = ...) -> None: ...

class ListRunsRequest(_message.Message):
    __slots__ = ("session_id", "states", "page_size", "page_token")
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    STATES_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    session_id: str
    states: _containers.RepeatedScalarFieldContainer[RunState]
    page_size: int
    page_token: str
    def __init__(self, session_id: _Optional[str] = ..., states: _Optional[_Iterable[_Union[RunState, str]]] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListRunsResponse(_message.Message):
    __slots__ = ("runs", "next_page_token")
    RUNS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    runs: _containers.RepeatedCompositeFieldContainer[Run]
    next_page_token: str
    def __init__(self, runs: _Optional[_Iterable[_Union[Run, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class GetRunChangesRequest(_message.Message):
    __slots__ = ("run_id",)
    RUN_ID_FIELD_NUMBER: _ClassVar[int]
    run_id: str
    def __init__(self, run_id: _Optional[str] = ...) -> None: ...

class FileChange(_message.Message):
    __slots__ = ("path", "before", "after", "before_mode", "after_mode", "not_kept")
    PATH_FIELD_NUMBER: _ClassVar[int]
    BEFORE_FIELD_NUMBER: _ClassVar[int]
    AFTER_FIELD_NUMBER: _ClassVar[int]
    BEFORE_MODE_FIELD_NUMBER: _ClassVar[int]
    AFTER_MODE_FIELD_NUMBER: _ClassVar[int]
    NOT_KEPT_FIELD_NUMBER: _ClassVar[int]
    path: str
    before: str
    after: str
    before_mode: int
    after_mode: int
    not_kept: bool
    def __init__(self, path: _Optional[str] = ..., before: _Optional[str] = ..., after: _Optional[str] = ..., before_mode: _Optional[int] = ..., after_mode: _Optional[int] = ..., not_kept: _Optional[bool] = ...) -> None: ...

class GetRunChangesResponse(_message.Message):
    __slots__ = ("run_id", "workspace", "changes", "diff", "cut", "notes")
    RUN_ID_FIELD_NUMBER: _ClassVar[int]
    WORKSPACE_FIELD_NUMBER: _ClassVar[int]
    CHANGES_FIELD_NUMBER: _ClassVar[int]
    DIFF_FIELD_NUMBER: _ClassVar[int]
    CUT_FIELD_NUMBER: _ClassVar[int]
    NOTES_FIELD_NUMBER: _ClassVar[int]
    run_id: str
    workspace: str
    changes: _containers.RepeatedCompositeFieldContainer[FileChange]
    diff: str
    cut: bool
    notes: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, run_id: _Optional[str] = ..., workspace: _Optional[str] = ..., changes: _Optional[_Iterable[_Union[FileChange, _Mapping]]] = ..., diff: _Optional[str] = ..., cut: _Optional[bool] = ..., notes: _Optional[_Iterable[str]] = ...) -> None: ...

class UndoRunRequest(_message.Message):
    __slots__ = ("run_id",)
    RUN_ID_FIELD_NUMBER: _ClassVar[int]
    run_id: str
    def __init__(self, run_id: _Optional[str] = ...) -> None: ...

class UndoRunResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class DecideApprovalRequest(_message.Message):
    __slots__ = ("decision",)
    DECISION_FIELD_NUMBER: _ClassVar[int]
    decision: Decision
    def __init__(self, decision: _Optional[_Union[Decision, _Mapping]] = ...) -> None: ...

class DecideApprovalResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...
